"""What tools/train.py and tools/test.py share: reading a config, checking it, ending in a sentence.

Import it before torch: it sets an environment default that is read when torch starts.
"""
import argparse
import difflib
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

# Idle OpenMP threads shall spin for microseconds before they sleep, not for milliseconds: on two
# cores shared with other busy processes, a step of 8 demo images took 6 to 11 s with OpenMP's
# ACTIVE waiting and 1.8 s without. On idle cores one of 4 takes 0.50 s so, 0.67 s without spinning.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '3000')

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device

from swinv2_mm.utils.errors import UserError, outside_fault


class Options(DictAction):
    """mmengine's KEY=VALUE arguments, with a sentence for one that is not."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE, got {value!r}: put = between the '
                             'name of a setting and its value, without spaces.')
        super().__call__(parser, namespace, values, option_string)


def override(cfg: Config, options: dict) -> None:
    """Merge settings KEY: VALUE into a config, in place.

    A name that is not there is a new setting, but one that a name beside it resembles closely is
    taken for a slip, which mmengine would add without a word and nothing would ever read. Where
    there is a `type`, its constructor knows better, and says so itself.
    """
    for key in options:
        beside, names = cfg._cfg_dict, key.split('.')
        for depth, name in enumerate(names):
            if isinstance(beside, list | tuple):
                if not name.isdigit() or int(name) >= len(beside):
                    break  # mmengine has a sentence for it
                beside = beside[int(name)]
            elif not isinstance(beside, dict):
                break  # so it has for a setting below a number or None
            elif name in beside:
                beside = beside[name]
            elif 'type' not in beside and (meant := _slip_of(name, beside)):
                there = '.'.join([*names[:depth], meant])
                raise UserError(
                    f'--cfg-options {key}: the config has {there!r} and nothing of the name '
                    f'{name!r}: mend it, or put a new setting so named into a config file.')
            else:
                break
    cfg.merge_from_dict(options)


def _slip_of(name: str, names) -> str | None:
    """The one of `names` that `name` seems to be a slip of; layer1 is none of layer2."""
    near = difflib.get_close_matches(name, map(str, names), n=1, cutoff=0.88)
    return near[0] if near and re.sub(r'\d', '', near[0]) != re.sub(r'\d', '', name) else None


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints '
                        '(default: work_dirs/NAME_OF_THE_CONFIG)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config, for example '
                        'train_dataloader.batch_size=4 model.backbone.window_size="[16,16,16,8]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torchrun's predecessor passes this one.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """The config with the shared arguments applied."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise UserError(f'There is no config at {args.config!r}: give the path of a config file, '
                        'such as configs/det/swinv2_t_cascade.py.')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    override(cfg, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        _distribute_on_cpu(cfg)
    return cfg


def _distribute_on_cpu(cfg: Config) -> None:
    """Do here what mmengine does for GPUs only: start the process group, tell DDP its device."""
    backend = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend')
    if backend != 'gloo':
        raise UserError(f'Processes on a machine without a GPU must talk by gloo, got {backend!r}: '
                        'add --cfg-options env_cfg.dist_cfg.backend=gloo.')
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)


def run(main: Callable[[], None]) -> None:
    """Call main(); on an error end with a non-zero status and one sentence as the last line."""
    status = None
    try:
        main()
    except SystemExit as end:  # stopped as asked
        status = end.code
    except KeyboardInterrupt:
        sys.exit('Interrupted.')
    except Exception as error:  # noqa: BLE001 - whatever it is, it must end in a sentence
        if not isinstance(error, UserError):
            traceback.print_exc()
        sys.exit(f'Error: {_sentence(error)}')
    _leave_group()
    if status is not None:
        sys.exit(status)


def _leave_group() -> None:
    """End the threads of the process group while Python still runs.

    One of gloo's that lets go of a tensor while Python ends aborts the process: its exit status is
    then that of a crash, after all has gone well.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # the wrapper of the model holds the group as well
        torch.distributed.destroy_process_group()


def _sentence(error: Exception) -> str:
    """What an error says, in one line."""
    if sentence := outside_fault(error):
        return sentence
    # str() of a KeyError puts quotes around its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A data loader's worker puts its own traceback into the message; the reason comes last.
    last = lines[-1] if lines else 'no message; see above'
    if isinstance(error, UserError):
        return last
    if image := re.search(r'failed to load image: (.+)', last):  # said by mmcv
        return (f'failed to load image {image[1]}: it cannot be decoded, so replace the file or '
                'take it out of the annotations.')
    name = f'{type(error).__name__}: '
    return name + last.removeprefix(name)
