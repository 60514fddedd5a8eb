"""What tools/train.py brings to anyone's config: an end at NaN, and memory that is kept."""
import multiprocessing
import resource
from types import SimpleNamespace

import pytest
import torch
from helpers import LIBRARIES
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from swinv2_mm.apis import launch, train

ARGS = SimpleNamespace(resume=None, amp=False, auto_scale_lr=False, no_validate=False, seed=None,
                       deterministic=False)


class Explodes(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=(inputs * self.weight).exp().mean())


def hooks(**settings):
    cfg = Config(dict(work_dir='w', **settings))
    train.apply(ARGS, cfg)
    return [hook['type'] for hook in cfg.custom_hooks]


def test_what_watches_for_nan_is_added_once_and_not_against_the_config():
    assert 'swinv2_mm.NumericsHook' in hooks()
    assert 'swinv2_mm.NumericsHook' in hooks(default_hooks=dict(timer=dict(type='IterTimerHook')))
    own = dict(numerics=dict(type='swinv2_mm.NumericsHook', policy='stop'))
    assert 'swinv2_mm.NumericsHook' not in hooks(default_hooks=own)
    assert 'swinv2_mm.NumericsHook' not in hooks(default_hooks=dict(numerics=None))
    assert hooks(custom_hooks=[own['numerics']]).count('swinv2_mm.NumericsHook') == 1


def test_a_run_of_a_config_without_our_hooks_ends_when_its_loss_is_nan(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    train.apply(ARGS, cfg)
    runner = Runner(
        Explodes(), str(tmp_path), train_dataloader=DataLoader(
            [dict(inputs=torch.ones(1))] * 60, batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=1), custom_hooks=cfg.custom_hooks,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=100.0, maximize=True)),
        experiment_name='nan')
    with pytest.raises(ValueError, match='the loss is inf.*lower the learning rate'):
        runner.train()
    assert runner.model.weight.isfinite().all()


def faults(keep, queue):
    """Pages that the system hands over while 64 MiB are used and freed eight times."""
    if keep and not launch.keep_memory():
        queue.put(None)
        return
    for _ in range(2):
        torch.ones(16 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(16 << 20)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def test_memory_that_training_frees_is_used_again():
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LIBRARIES)
    found = []
    for keep in (False, True):
        queue = context.SimpleQueue()
        process = context.Process(target=faults, args=(keep, queue))
        process.start()
        found.append(queue.get())
        process.join()
    if found[1] is None:
        pytest.skip('memory is kept where the C library is glibc')
    pages = 8 * (64 << 20) // resource.getpagesize()
    # A place that none of the rounds before took may still cost one of the eight.
    assert found[1] < pages / 4, found
