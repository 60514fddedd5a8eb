"""Parts of killing and resuming: whole files, places in the data, states of random generators."""
import itertools
import os
import random
import re

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook as MMEngineHook
from mmengine.registry import HOOKS
from torch.utils.data import BatchSampler, DataLoader, Dataset

from swinv2_mm.engine import randomness
from swinv2_mm.engine.checkpoints import resume_point
from swinv2_mm.engine.files import POINTER, fault, newest_whole, remove_partial, write_whole


def save(folder, name, age=0):
    """A checkpoint, `age` seconds old."""
    path = folder / name
    torch.save(dict(weights=torch.randn(500), meta=dict(iter=3)), path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_a_file_has_its_old_content_until_it_has_all_of_the_new(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    write_whole(path, b'old')
    for place in ('fsync', 'replace'):
        with monkeypatch.context() as patch:
            patch.setattr(os, place, lambda *_: (_ for _ in ()).throw(OSError(28, 'full')))
            with pytest.raises(OSError, match='full'):
                write_whole(path, b'new')
        assert path.read_bytes() == b'old'
        assert [file.name for file in tmp_path.iterdir()] == ['file']
    write_whole(path, b'new')
    assert path.read_bytes() == b'new'


def test_a_file_cut_anywhere_or_with_any_damaged_weight_is_found_out(tmp_path):
    path = save(tmp_path, 'iter_3.pth')
    content = path.read_bytes()
    assert fault(path) is None
    for length in [0, 1, 100, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        assert re.match('is empty' if length == 0 else 'is cut off or damaged', fault(path))
    weights = tmp_path / 'iter_5.pth'
    torch.save(dict(weights=torch.ones(500)), weights)
    content = weights.read_bytes()
    start = content.index(np.ones(500, np.float32).tobytes())
    for place in (start, start + 777, start + 1999):
        damaged = bytearray(content)
        damaged[place] ^= 1
        weights.write_bytes(damaged)
        assert 'fails its checksum' in fault(weights)
    assert fault(tmp_path / 'iter_9.pth') == 'is not there'


def test_the_newest_whole_checkpoint_is_found_and_damaged_ones_are_named(tmp_path):
    assert newest_whole(tmp_path) == (None, [])
    files = [save(tmp_path, f'iter_{i}.pth', age=10 - i) for i in (1, 2, 3)]
    save(tmp_path, 'best_mIoU_iter_4.pth')  # has no optimizer
    assert newest_whole(tmp_path) == (files[2], [])  # without a pointer, by age
    (tmp_path / POINTER).write_text(str(files[1]))
    assert newest_whole(tmp_path)[0] == files[2]  # killed before it was named
    os.utime(files[2], (0, 0))
    assert newest_whole(tmp_path)[0] == files[1]  # left over from an earlier, longer run
    (tmp_path / POINTER).write_text(f'/elsewhere/{files[1].name}')
    assert newest_whole(tmp_path)[0] == files[1]  # the folder was moved
    (tmp_path / POINTER).write_text('')  # mmengine's own hook, killed
    os.utime(files[2])
    files[2].write_bytes(files[2].read_bytes()[:-100])
    found, faults = newest_whole(tmp_path)
    assert found == files[1] and len(faults) == 1 and faults[0].startswith(f'{files[2]} is cut off')


def test_resuming_from_what_is_damaged_says_what_else_there_is(tmp_path):
    assert resume_point(tmp_path) is None
    whole, broken = save(tmp_path, 'iter_1.pth', age=9), save(tmp_path, 'iter_2.pth')
    broken.write_bytes(b'')
    assert resume_point(tmp_path) == str(whole)
    with pytest.raises(ValueError, match=f'{broken} is empty: resume from {whole}'):
        resume_point(tmp_path, str(broken))
    whole.unlink()
    with pytest.raises(ValueError, match=f'must be whole, got {broken} is empty'):
        resume_point(tmp_path)


def test_what_killed_runs_left_half_written_is_removed_and_nothing_else(tmp_path):
    kept = save(tmp_path, 'iter_1.pth')
    (tmp_path / '.iter_2.pth.partial').write_bytes(b'half')
    (tmp_path / '.last_checkpoint.partial').write_bytes(b'/half/a/na')
    (tmp_path / '.hidden').write_bytes(b'of the user')
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.hidden', kept.name]


class Numbers(Dataset):
    """Samples that draw from all generators, as augmentation does."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return [index, random.random(), np.random.rand(), float(torch.rand(()))]

    def get_data_info(self, index):
        return dict(width=1 + index % 3, height=2)


def aspect(sampler, size):
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    return AspectRatioBatchSampler(sampler, size)


SAMPLERS = {
    'endless': lambda: BatchSampler(InfiniteSampler(Numbers(), seed=3), 4, False),
    'by epochs': lambda: BatchSampler(DefaultSampler(Numbers(), seed=3), 4, False),
    'by aspect ratio': lambda: aspect(DefaultSampler(Numbers(), seed=3), 4),
    'endless, by aspect ratio': lambda: aspect(InfiniteSampler(Numbers(), seed=3), 4),
}


def passes(batches, epoch=0):
    """Batches on and on, epoch after epoch, with their places."""
    while True:
        yield from ((list(batch), batch.place) for batch in batches)
        epoch += 1
        batches.sampler.set_epoch(epoch)


@pytest.mark.parametrize('make', SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize('done', [0, 1, 2, 3, 5, 7])
def test_after_a_skip_the_batches_are_those_that_would_have_come(make, done):
    expected = list(itertools.islice(passes(randomness.NumberedBatches(make())), done, done + 8))
    batches = randomness.NumberedBatches(make())
    epoch = batches.skip(done)
    assert list(itertools.islice(passes(batches, epoch), 8)) == expected
    assert batches.indices(expected[2][1]) == expected[2][0]


def loader(workers=0, seed=3, first=0):
    loader = DataLoader(Numbers(), batch_size=2, num_workers=workers, collate_fn=list,
                        sampler=DefaultSampler(Numbers(), seed=0))
    batches = randomness.number_batches(loader, seed, rank=0)
    batches.skip(first)
    return loader


def test_a_sample_is_augmented_alike_in_any_worker_and_after_any_start():
    torch.manual_seed(1)
    expected = list(loader())
    drawn = [value for batch in expected for sample in batch for value in sample[1:]]
    assert len(set(drawn)) == len(drawn)  # no two draws agree
    torch.manual_seed(2)
    random.seed(2)
    assert list(loader()) == expected
    assert list(loader(first=2)) == expected[2:]
    assert list(loader(workers=2)) == expected
    other = list(loader(seed=4))
    assert [s[0] for b in other for s in b] == [s[0] for b in expected for s in b]
    assert not set(drawn) & {value for batch in other for sample in batch for value in sample[1:]}


def draws():
    return [random.random(), random.gauss(0, 1), *np.random.rand(2), np.random.randn(),
            float(torch.rand(()))]


def test_loading_leaves_the_generators_of_training_alone():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    iterator = iter(loader())  # draws one number, whoever iterates
    before = randomness.states()
    list(iterator)
    for key, value in randomness.states().items():
        assert torch.equal(value, before[key]), key


def test_generators_go_on_from_where_a_file_found_them(tmp_path):
    draws()  # leaves half a pair of normal numbers behind in python's and numpy's generators
    torch.save(randomness.states(), tmp_path / 'states.pth')
    expected = draws()
    draws()
    randomness.restore(torch.load(tmp_path / 'states.pth', weights_only=True))
    assert draws() == expected


def test_the_hook_is_found_by_its_scope_and_mmengines_stays_what_it_was():
    hook = HOOKS.build(dict(type='swinv2_mm.CheckpointHook', interval=5))
    assert isinstance(hook, MMEngineHook) and type(hook).__module__.startswith('swinv2_mm.')
    assert type(HOOKS.build(dict(type='CheckpointHook'))) is MMEngineHook
