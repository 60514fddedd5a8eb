"""What tools/train.py and tools/test.py share: reading a config, checking it, ending in a sentence.

Import it before torch: it sets an environment default that is read when torch starts.
"""
import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

# Idle OpenMP threads shall spin for microseconds before they sleep, not for milliseconds: on two
# cores shared with other busy processes, a step of 8 demo images took 6 to 11 s with OpenMP's
# ACTIVE waiting and 1.8 s without. On idle cores one of 4 takes 0.50 s so, 0.67 s without spinning.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '3000')

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device


class UserError(ValueError):
    """A mistake in what the user gave; its message is all that needs to be shown."""


class Options(DictAction):
    """mmengine's KEY=VALUE arguments, with a sentence for one that is not."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE, got {value!r}: put = between the '
                             'name of a setting and its value, without spaces.')
        super().__call__(parser, namespace, values, option_string)


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
    cfg.merge_from_dict(args.cfg_options)
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


def check_file(path: str, what: str, hint: str) -> None:
    """Raise UserError unless `path` is a file or a URL, which is the reader's to check."""
    if '://' not in path and not Path(path).is_file():
        raise UserError(f'There is no {what} at {path!r}: {hint}.')


def check_data(cfg: Config, *splits: str) -> None:
    """Check COCO annotations against the classes of the data set and the heads of the model.

    mmdet numbers labels by the order of the categories in the file, whatever the order of
    `classes`: a class list in another order would train, and name every result wrongly.
    """
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) != '0':
        return  # once is enough
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in _datasets((loader or {}).get('dataset')):
            if str(dataset.get('type')).rpartition('.')[2] == 'CocoDataset':
                _check_coco(dataset, f'{split}_dataloader', cfg.model)


def _datasets(dataset) -> Iterator[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if dataset is None:
        return
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from _datasets(part)


def _check_coco(dataset: dict, where: str, model: dict) -> None:
    path = os.path.join(dataset.get('data_root') or '', dataset['ann_file'])
    check_file(path, 'annotation file', f'put the data there, or set data_root and ann_file of '
               f'{where}.dataset')
    names = _category_names(path)
    classes = (dataset.get('metainfo') or {}).get('classes') or _coco_classes()
    if isinstance(classes, str):
        raise UserError(f'metainfo.classes of {where}.dataset must be a tuple of names, got the '
                        f'string {classes!r}: write ({classes!r},).')
    expected = tuple(name for name in names if name in classes)
    if tuple(classes) != expected:
        raise UserError(
            f'metainfo.classes of {where}.dataset must be categories of {path} in the order of '
            f'that file, got {_short(classes)} where the file has {_short(names)}: set '
            f'classes={_short(expected or tuple(names))}.')
    for place, count in _class_counts(model, 'model'):
        if count != len(classes):
            raise UserError(f'{place}.num_classes must be the number of classes of the data, '
                            f'{len(classes)}, got {count}: set it in the config.')


def _category_names(path: str) -> list[str]:
    try:
        content = json.loads(Path(path).read_bytes())
        came = _fault(content)
    except ValueError as error:
        came = f'text that is not json ({error})'
    if came:
        raise UserError(f'{path} is not COCO json: it must be an object with the lists images, '
                        f'annotations and categories, got {came}: convert the annotations to COCO '
                        'format first.')
    return [category['name'] for category in content['categories']]


def _fault(content) -> str:
    """What keeps parsed json from being COCO's, in words; empty where nothing does."""
    if not isinstance(content, dict):
        return type(content).__name__
    lacking = [key for key in ('images', 'annotations', 'categories')
               if not isinstance(content.get(key), list)]
    if lacking:
        return f'an object without {" and ".join(lacking)}'
    named = all(isinstance(c, dict) and 'name' in c for c in content['categories'])
    return '' if named else 'a category without a name'


def _coco_classes() -> tuple[str, ...]:
    from mmdet.datasets import CocoDataset
    return CocoDataset.METAINFO['classes']


def _short(names) -> str:
    names = tuple(names)
    return str(names) if len(names) <= 12 else f'{str(names[:12])[:-1]}, ... {len(names)} in all)'


def _class_counts(node, place: str) -> Iterator[tuple[str, int]]:
    """Every num_classes under a model's config; a region proposal head has its own sense of it."""
    if isinstance(node, dict):
        if 'num_classes' in node:
            yield place, node['num_classes']
        children = [(f'{place}.{key}', value) for key, value in node.items() if key != 'rpn_head']
    else:
        children = [(f'{place}[{i}]', value) for i, value in enumerate(node)]
    for name, child in children:
        if isinstance(child, dict | list):
            yield from _class_counts(child, name)


def run(main: Callable[[], None]) -> None:
    """Call main(); on an error end with a non-zero status and one sentence as the last line."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('Interrupted.')
    except Exception as error:  # noqa: BLE001 - whatever it is, it must end in a sentence
        if not isinstance(error, UserError):
            traceback.print_exc()
        sys.exit(f'Error: {_sentence(error)}')


def _sentence(error: Exception) -> str:
    """What an error says, in one line."""
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
