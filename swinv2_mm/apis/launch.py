"""What the tools that take a config share: their arguments, and reading it with them applied."""
from __future__ import annotations

import argparse
import ctypes
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device

from swinv2_mm.apis import overrides
from swinv2_mm.checkpoints.sharded import is_sharded
from swinv2_mm.engine.reading import read_safely
from swinv2_mm.utils import versions
from swinv2_mm.utils.errors import UserError, check_file


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints '
                        '(default: work_dirs/NAME_OF_THE_CONFIG)')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config, for example '
                        'train_dataloader.batch_size=4 model.backbone.window_size="[16,16,16,8]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torchrun's predecessor passes this one.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


# Of glibc's malloc.h: when to give memory back, how much more to ask for, how many blocks to map.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_memory() -> bool:
    """Let this process reuse what it frees, where its C library is glibc; returns whether it does.

    By default each activation of a CPU is mapped anew, and the system clears its pages.
    """
    libc = ctypes.CDLL(None) if sys.platform == 'linux' else None
    if not hasattr(libc, 'gnu_get_libc_version'):
        return False
    for setting, value in ((M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28), (M_MMAP_MAX, 0)):
        libc.mallopt(setting, value)
    return True


def load_config(args: argparse.Namespace) -> Config:
    """The config with the shared arguments applied."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise UserError(f'There is no config at {args.config!r}: give the path of a config file, '
                        'such as configs/det/swinv2_t_cascade.py.')
    read_safely()
    if get_device() == 'cpu':
        keep_memory()
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if cfg.get('compile'):
        versions.require('torch.compile of this backbone', 'take `compile` out of the config')
    overrides.override(cfg, args.cfg_options, testing=hasattr(args, 'checkpoint'),
                       rules=overrides.overruled(vars(args)))
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        _distribute_on_cpu(cfg)
    _count_present(cfg)
    return cfg


def check_checkpoint(path: str) -> None:
    """Raise UserError unless `path` is a file, the folder of a sharded run, or a URL."""
    if not is_sharded(path):
        check_file(path, 'checkpoint', 'give the path of a .pth file')


def _count_present(cfg: Config) -> None:
    """Add the hook that keeps absent classes out of averages, which our configs have."""
    kind, custom = 'swinv2_mm.PresentClasses', list(cfg.get('custom_hooks') or [])
    hooks = [*(cfg.get('default_hooks') or {}).values(), *custom]
    if not any(hook and hook.get('type') == kind for hook in hooks):
        cfg.custom_hooks = [*custom, dict(type=kind)]


def _distribute_on_cpu(cfg: Config) -> None:
    """Do here what mmengine does for GPUs only: start the process group, tell DDP its device."""
    backend = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend')
    if backend != 'gloo':
        raise UserError(f'Processes on a machine without a GPU must talk by gloo, got {backend!r}: '
                        'add --cfg-options env_cfg.dist_cfg.backend=gloo.')
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
