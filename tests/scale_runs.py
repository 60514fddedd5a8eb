"""Runs of a tiny Cascade Mask R-CNN in one and two processes, for tests of sharded training.

Image 2 s + r of the data is what rank r of 2 gets at step s, and what a single process gets as
half r of step s when it accumulates gradients over two iterations.
"""
import functools
import gc
import importlib
import multiprocessing
import os
from pathlib import Path

import faulty_runs
import torch
from config_checks import build
from conftest import awaken
from helpers import LIBRARIES, make_shapes
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from yapf.yapflib import yapf_api

from swinv2_mm.engine.reading import read_safely

PLAIN = {}
DDP = dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None))
ZERO = dict(runner_type='FlexibleRunner', strategy=dict(type='swinv2_mm.ZeroStrategy'))
FSDP = dict(runner_type='FlexibleRunner', strategy=dict(type='swinv2_mm.FSDPStrategy'))
TWO_HALVES = dict(optim_wrapper=dict(accumulative_counts=2))
CLIP = dict(optim_wrapper=dict(clip_grad=dict(max_norm=0.5)))


class Watch(Hook):
    """Seeds the random numbers of an image alike in all runs; keeps what is logged."""

    def __init__(self):
        self.losses, self.norms = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        torch.manual_seed(runner.iter * runner.world_size + runner.rank)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        if 'train/grad_norm' in runner.message_hub.log_scalars:
            self.norms.append(runner.message_hub.get_scalar('train/grad_norm').current())


def prepare(data):
    """Sixteen small images, and weights to start from that are awake."""
    make_shapes(data / 'scenes', train=16, val=1, size=(64, 64))
    faulty_runs.prepare(data, ['det'])
    torch.manual_seed(0)
    model = build(detector(data))
    model.init_weights()
    awaken(model.backbone)
    torch.save(dict(state_dict=model.state_dict()), data / 'start.pth')


def detector(data):
    """The config of the tiny detector, with two stages: sharding takes a while for each shape."""
    cfg = Config.fromfile(data / 'det.py')
    cfg.model.backbone.update(
        arch=dict(embed_dims=8, depths=(1, 1), num_heads=(1, 2)), out_indices=(0, 1),
        drop_path_rate=0.0)
    cfg.model.neck.in_channels = [8, 16]
    return cfg


def config(data, iters, *settings, resume=None, save=None):
    """The tiny detector, an image at a time, without random flips, clipping and schedule."""
    cfg = detector(data)
    for stage in cfg.model.train_cfg.rcnn:
        stage.sampler.num = 16
    cfg.train_dataloader.update(
        batch_size=1, sampler=dict(type='InfiniteSampler', shuffle=False))
    cfg.train_dataloader.dataset.pipeline[2].prob = 0.0
    cfg.optim_wrapper.pop('clip_grad')
    cfg.pop('custom_hooks')
    cfg.merge_from_dict(dict(
        val_cfg=None, val_dataloader=None, val_evaluator=None, test_cfg=None, test_dataloader=None,
        test_evaluator=None, param_scheduler=None, train_cfg=dict(max_iters=iters),
        optim_wrapper=dict(optimizer=dict(lr=2e-4)), randomness=dict(seed=0),
        log_level='ERROR', env_cfg=dict(dist_cfg=dict(backend='gloo')),
        load_from=str(resume or data / 'start.pth'), resume=resume is not None,
        default_hooks=dict(checkpoint=dict(
            interval=save or -1, save_last=False, save_best=None))))
    for part in settings:
        cfg.merge_from_dict(part)
    return cfg


def work(rank, world, data, jobs):
    """In process `rank` of `world`: run each of {name: config} and write what is measured.

    With 'float64' in its name, a model is built and trained in that."""
    torch.set_num_threads(1)
    gc.freeze()  # libraries are no garbage, for which each data set looks
    read_safely()  # as tools/train.py does
    yapf_api.FormatCode = lambda text, **_: (text, False)  # most of the time of so small a run
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(world))
    torch.distributed.init_process_group(
        'gloo', rank=rank, world_size=world, init_method=f'file://{data}/store{world}{next(iter(jobs))}')
    boxes = importlib.import_module('mmcv.ops.nms').ext_module  # knows float32 alone
    boxes.nms = functools.partial(_as_floats, boxes.nms)
    for name, cfg in jobs.items():
        torch.set_default_dtype(torch.float64 if 'float64' in name else torch.float32)
        distributed = world > 1 or 'runner_type' in cfg
        cfg.launcher = 'pytorch' if distributed else 'none'
        cfg.work_dir, cfg.experiment_name = str(data / name), f'{name}_{os.getpid()}'
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        watch = Watch()
        runner.register_hook(watch, priority='LOWEST')  # after what restores random states
        runner.train()
        torch.save(dict(losses=watch.losses, norms=watch.norms, **measure(runner)),
                   data / f'{name}.{rank}.pth')


def _as_floats(function, *tensors, **settings):
    return function(*(value.float() for value in tensors), **settings)


def measure(runner):
    """Bytes of weights and of the optimizer's state here, its groups, and the whole weights."""
    optimizer = runner.optim_wrapper.optimizer
    if hasattr(optimizer, 'optim'):  # ZeRO's: the state is in the one inside
        held = [*optimizer.optim.state.values(), *optimizer.state.values()]
    else:
        held = optimizer.state.values()
    model = getattr(runner.model, 'module', runner.model)
    weights = {name: getattr(value, 'full_tensor', lambda value=value: value)()
               for name, value in model.state_dict().items()}

    def size(value):
        return getattr(value, 'to_local', lambda: value)().nbytes
    return dict(
        weight_bytes=sum(map(size, runner.model.parameters())),
        state_bytes=sum(size(v) for state in held for v in state.values() if v.ndim),
        groups=[{key: group[key] for key in ('names', 'lr', 'weight_decay', 'lr_scale')}
                for group in optimizer.param_groups],
        weights=weights)


def run(world, data, **jobs):
    """{name: [what each rank measured]} of configs run in `world` processes."""
    multiprocessing.get_context('forkserver').set_forkserver_preload(LIBRARIES)
    torch.multiprocessing.start_processes(
        work, (world, data, jobs), nprocs=world, start_method='forkserver')
    return {name: [torch.load(Path(data) / f'{name}.{rank}.pth', weights_only=False)
                   for rank in range(world)] for name in jobs}
