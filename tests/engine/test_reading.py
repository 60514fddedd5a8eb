"""Checkpoints of runs: read whole, whichever numpy wrote them, and nothing in them is run."""
import os
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch.utils.data import DataLoader, TensorDataset

from swinv2_mm.engine.reading import read_run, read_safely


@pytest.fixture
def file(tmp_path):
    """A checkpoint as mmengine writes it, its log full of numpy's numbers."""
    hub = MessageHub('reading')
    for value in (1.0, 2.0, 6.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', np.float64(0.5))
    hub.update_info('seen', np.array([1, 2, 3]))
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = tmp_path / 'iter_3.pth'
    torch.save(dict(state_dict=layer.state_dict(), optimizer=optimizer.state_dict(),
                    message_hub=hub.state_dict(), meta=dict(iter=3)), path)
    return path


def renamed(path, old, new):
    """A copy of a checkpoint whose pickle asks for `new` wherever it asked for `old`."""
    copy = path.with_name(f'renamed_{path.name}')
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, 'w') as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith('data.pkl'):
                content = content.replace(old, new)
            target.writestr(entry.filename, content)
    return copy


@pytest.mark.parametrize('written', [b'cnumpy.core.', b'cnumpy._core.'], ids=['numpy 1', 'numpy 2'])
def test_logs_of_either_numpy_come_back_as_they_were(file, written):
    here = b'cnumpy.core.' if np.__version__ < '2' else b'cnumpy._core.'
    content = read_run(renamed(file, here, written))
    log = content['message_hub']['log_scalars']['train/loss']
    assert type(log) is HistoryBuffer and log.mean() == 3 and log.statistics('max') == 6
    found = content['message_hub']['runtime_info']
    assert found['best'] == 0.5 and found['seen'].tolist() == [1, 2, 3]
    plain = torch.load(file, weights_only=False)
    assert content['meta'] == plain['meta']
    for name, tensor in plain['state_dict'].items():
        assert torch.equal(content['state_dict'][name], tensor)
    for name, value in plain['optimizer']['state'][0].items():
        assert torch.equal(content['optimizer']['state'][0][name], value)


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        for parameter in self.parameters():
            torch.nn.init.ones_(parameter)

    def forward(self, x, mode='loss'):
        return dict(loss=self.layer(x).square().mean())


def logged(folder, steps, load_from=None):
    """Logged losses of a run, which may go on from a checkpoint."""
    runner = Runner(
        Line(), str(folder), DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=2),
        train_cfg=dict(by_epoch=False, max_iters=steps), load_from=load_from,
        resume=load_from is not None, optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=dict(type='LinearLR', start_factor=0.1, end=5, by_epoch=False),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        experiment_name=f'{folder}_{steps}'.replace('/', '_'), log_level='ERROR')
    runner.message_hub.update_info('best', np.float64(0.5))
    runner.train()
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()


@pytest.mark.parametrize('written', [b'cnumpy.core.', b'cnumpy._core.'], ids=['numpy 1', 'numpy 2'])
def test_a_run_of_either_numpy_goes_on_as_if_it_had_not_been_moved(written, tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    read_safely()
    whole = logged(tmp_path / 'whole', 4)
    logged(tmp_path / 'moved', 2)
    here = b'cnumpy.core.' if np.__version__ < '2' else b'cnumpy._core.'
    file = renamed(tmp_path / 'moved' / 'iter_2.pth', here, written)
    assert written in file.read_bytes()
    assert len(set(whole)) == 4 and logged(tmp_path / 'moved', 4, str(file)) == whole


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_asks_for_code_is_refused_before_it_runs(tmp_path):
    evil = Evil()
    evil.folder = str(tmp_path / 'made')
    torch.save(dict(state_dict={}, message_hub=evil), tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r"asks for 'posix.mkdir', which is code"):
        read_run(tmp_path / 'evil.pth')
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('old, new', [
    (b'X\x03\x00\x00\x00max', b'X\x03\x00\x00\x00mro'),  # of HistoryBuffer, by getattr
    (b'X\x02\x00\x00\x00f8', b'X\x02\x00\x00\x00O8')])
def test_what_a_log_may_ask_for_ends_with_its_own_numbers(file, old, new):
    changed = renamed(file, old, new)
    assert changed.read_bytes() != file.read_bytes()
    with pytest.raises(ValueError, match='damaged'):
        read_run(changed)


def test_mmengine_s_own_loader_reads_so_once_it_is_told(file, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: pytest.fail('torch.load unasked'))
    read_safely()
    with pytest.raises(FileNotFoundError, match='There is no checkpoint'):
        CheckpointLoader.load_checkpoint(str(file.with_name('other.pth')))
    monkeypatch.undo()
    read_safely()
    content = CheckpointLoader.load_checkpoint(str(file), map_location='cpu')
    assert content['meta'] == dict(iter=3)
