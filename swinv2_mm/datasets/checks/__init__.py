"""What is checked of a config's data before a model is built: one module for each library.

Each has `check(dataset, where, model)`: the config of one data set, the name of its place in the
config, and the config of the model. It raises UserError where training would fail late, or would
train on the wrong thing without failing.
"""
from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

from mmengine.config import Config

MODULES = {'mmdet': 'coco', 'mmseg': 'segmentation', 'mmaction': 'video',
           'mmpretrain': 'classification'}


def check_data(cfg: Config, *splits: str) -> None:
    """Check the data sets of the named splits ('train', 'val', 'test'), on the first rank only."""
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) != '0':
        return  # once is enough
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in datasets_in((loader or {}).get('dataset')):
            check_each(dataset, f'{split}_dataloader', cfg.model, cfg.get('default_scope'))


def check_each(dataset: dict, where: str, model: dict, scope: str | None) -> None:
    """Check one data set by the rules of the library of a default scope; others are let be."""
    if module := MODULES.get(scope):
        importlib.import_module(f'{__name__}.{module}').check(dataset, where, model)


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
        if isinstance(child, (dict, list)):
            yield from class_counts(child, name)


def datasets_in(dataset) -> Iterator[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if dataset is None:
        return
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from datasets_in(part)
