"""Strategies of sharded training: what they take from a config, shard, write and refuse."""
import re
import threading
import types
from collections import deque

import pytest
import torch
from helpers import ROOT, paired
from mmengine.logging import MessageHub
from mmengine.registry import STRATEGIES
from test_optimizer import SMALL, Detector, build
from torch.distributed import checkpoint as dcp

from swinv2_mm import SwinTransformerV2
from swinv2_mm.engine import strategies
from swinv2_mm.engine.checkpoints import CheckpointHook
from swinv2_mm.engine.reading import read_run
from swinv2_mm.utils import versions
from swinv2_mm.utils.errors import UserError

PAGE = (ROOT / 'docs' / 'scale.md').read_text()
NEW = pytest.mark.skipif(not versions.can('full sharding'), reason='full sharding needs torch 2.6')


@pytest.fixture
def one_process(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    torch.distributed.init_process_group(
        'gloo', rank=0, world_size=1, init_method=f'file://{tmp_path}/store')
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def prepared(one_process, tmp_path):
    """A strategy in one process, with a model and a momentum; it writes while training goes on."""
    strategy = STRATEGIES.build(dict(
        type='swinv2_mm.FSDPStrategy', work_dir=str(tmp_path),
        env_kwargs=dict(launcher='pytorch', dist_cfg=dict(backend='gloo'))))
    strategy.build_logger(log_level='ERROR')
    strategy.prepare(Detector(SwinTransformerV2(SMALL)), optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9)), dispatch_kwargs=dict(max_iters=9))
    return strategy


@pytest.fixture
def slow(monkeypatch):
    """Lets files be written, once it is set."""
    go, write = threading.Event(), dcp.FileSystemWriter.write_data

    def write_data(self, *args):
        go.wait(60)
        return write(self, *args)
    monkeypatch.setattr(dcp.FileSystemWriter, 'write_data', write_data)
    yield go
    go.set()


def whole(value):
    return getattr(value, 'full_tensor', lambda: value)()


def test_every_strategy_that_the_page_names_is_registered():
    names = set(re.findall(r'strategy\.type=(swinv2_mm\.\w+)', PAGE))
    assert names == {f'swinv2_mm.{kind}Strategy' for kind in ('Zero', 'FSDP')}
    assert all(STRATEGIES.get(name).__module__ == strategies.__name__ for name in names)


def test_blocks_and_mergings_are_units_of_full_sharding():
    model = Detector(SwinTransformerV2('nano'))
    units = strategies._units(model)
    kinds = [type(unit).__name__ for unit in units]
    assert kinds == 8 * ['Block'] + 3 * ['PatchMerging']
    giant = SwinTransformerV2(dict(embed_dims=4, depths=(6,), num_heads=(1,), extra_norm_every=6),
                              out_indices=(0,))
    last = strategies._units(giant)[-1]
    assert type(last.norm3).__name__ == 'LayerNorm'  # the extra norm goes with its block


@pytest.mark.parametrize('kind', ['FullyShardedDataParallel',
                                  pytest.param('fully_shard', marks=NEW)])
def test_sharded_parameters_have_their_shapes_or_are_refused(one_process, kind):
    """Flat pieces would all go without weight decay."""
    model = Detector(SwinTransformerV2(SMALL))
    if kind == 'FullyShardedDataParallel':  # what mmengine's own strategy uses
        flat = torch.distributed.fsdp.FullyShardedDataParallel(
            model, use_orig_params=True, device_id=torch.device('cpu'))
        with pytest.raises(ValueError, match=r"strategy.type='swinv2_mm.FSDPStrategy'"):
            build(flat)
        return
    expected = build(model, layer_decay_rate=0.5).optimizer.param_groups
    torch.distributed.fsdp.fully_shard(model)
    found = build(model, layer_decay_rate=0.5).optimizer.param_groups
    for group, other in paired(found, expected):
        assert group['names'] == other['names']
        assert group['weight_decay'] == other['weight_decay']


def test_an_older_torch_is_told_which_one_shards(monkeypatch):
    monkeypatch.setattr(versions, 'TORCH', (2, 5))
    with pytest.raises(UserError, match=r'Full sharding needs torch 2\.6 or newer, .*ZeroStrategy'):
        STRATEGIES.build(dict(type='swinv2_mm.FSDPStrategy'))


@NEW
def test_weights_may_change_while_they_are_written(prepared, slow, tmp_path):
    model, folder = prepared.model, tmp_path / 'iter_3.pth'
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared.save_checkpoint(str(folder), extra_ckpt=dict(meta=dict(iter=3, epoch=0)))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    assert not (folder / '.metadata').exists()
    slow.set()
    prepared.writing()
    found = read_run(folder)
    assert found['meta']['iter'] == 3
    for name, value in before.items():
        assert torch.equal(found['state_dict'][name], whole(value))


@NEW
def test_a_folder_is_named_when_it_is_whole_and_a_fault_ends_the_run(prepared, slow, tmp_path):
    strategy, hub = prepared, MessageHub.get_instance('sharded')
    runner = types.SimpleNamespace(
        strategy=strategy, message_hub=hub, work_dir=str(tmp_path), _resume=False, _load_from=None,
        logger=strategy.logger, save_checkpoint=lambda folder, name, meta, **_: (
            strategy.save_checkpoint(f'{folder}/{name}', extra_ckpt=dict(meta=meta))))
    hook = CheckpointHook(by_epoch=False, interval=1, max_keep_ckpts=1)
    hook.out_dir, hook.whole, hook.seed = str(tmp_path), True, 0
    hook.keep_ckpt_ids = deque(maxlen=1)
    hook.file_backend = types.SimpleNamespace(join_path=lambda *parts: '/'.join(parts))

    def save(step):
        hook._save_checkpoint_with_step(runner, step, dict(epoch=0, iter=step))

    def there():
        return sorted(path.name for path in tmp_path.glob('iter_*')), (
            tmp_path / 'last_checkpoint').exists()
    save(1)
    assert there() == ([], False)
    slow.set()
    save(2)  # waits for the first
    hook._finish(runner)
    assert there() == (['iter_2.pth'], True)
    (tmp_path / '.iter_3.pth.partial').write_text('in the way')
    strategy.save_checkpoint = lambda *_, **__: None
    strategy.writing = lambda: strategies.Path(tmp_path / 'iter_2.pth' / 'run.pth' / 'x').touch()
    save(3)
    with pytest.raises(OSError, match='iter_3.pth could not be written to .*: Not a directory; '
                                      'one of iteration 2 is there'):
        hook._finish(runner)
    assert there() == (['iter_2.pth'], True)


@NEW
def test_a_head_of_another_size_is_left_and_the_rest_loaded(prepared, tmp_path):
    folder = tmp_path / 'iter_1.pth'
    prepared.save_checkpoint(str(folder), extra_ckpt=dict(meta=dict(iter=1, epoch=0)))
    prepared.writing()
    saved = read_run(folder)['state_dict']
    other = Detector(SwinTransformerV2(SMALL))
    other.head = torch.nn.Linear(8, 5)
    torch.distributed.fsdp.fully_shard(other)
    prepared.model = other
    for source in (folder, tmp_path / 'plain.pth'):
        if source != folder:
            torch.save(dict(state_dict={f'module.{k}': v for k, v in saved.items()}), source)
        with torch.no_grad():
            for value in other.parameters():
                value.fill_(7)
        prepared.load_checkpoint(str(source))
        for name, value in other.state_dict().items():
            assert ((whole(value) == 7).all() if 'head' in name
                    else torch.equal(whole(value), saved[name])), name
