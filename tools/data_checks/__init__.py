"""What is checked of a config's data before a model is built: one module for each library.

Each has `check(dataset, where, model)`: the config of one data set, the name of its place in the
config, and the config of the model. It raises UserError where training would fail late, or would
train on the wrong thing without failing.
"""
import importlib
import os
from collections.abc import Iterator

from mmengine.config import Config

MODULES = {'mmdet': 'coco', 'mmseg': 'segmentation', 'mmaction': 'video',
           'mmpretrain': 'classification'}


def check_data(cfg: Config, *splits: str) -> None:
    """Check the data sets of the named splits ('train', 'val', 'test'), on the first rank only."""
    module = MODULES.get(cfg.get('default_scope'))
    if module is None or os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) != '0':
        return  # once is enough
    check = importlib.import_module(f'{__name__}.{module}').check
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in _datasets((loader or {}).get('dataset')):
            check(dataset, f'{split}_dataloader', cfg.model)


def class_counts(node, place: str = 'model') -> Iterator[tuple[str, int]]:
    """Every num_classes under a model's config, but of heads that have their own sense of it.

    A region proposal head tells object from none, HTC's semantic head knows COCO's stuff as well.
    """
    if isinstance(node, dict):
        if 'num_classes' in node:
            yield place, node['num_classes']
        children = [(f'{place}.{key}', value) for key, value in node.items()
                    if key not in ('rpn_head', 'semantic_head')]
    else:
        children = [(f'{place}[{i}]', value) for i, value in enumerate(node)]
    for name, child in children:
        if isinstance(child, dict | list):
            yield from class_counts(child, name)


def _datasets(dataset) -> Iterator[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if dataset is None:
        return
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from _datasets(part)
