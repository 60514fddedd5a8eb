"""What is checked of a config and its data before a model is built: the one place that decides.

tools/train.py, tools/test.py and tools/dataset/check.py call `findings` on the resolved config, so
that none of them knows more than another:

    settings.py         evaluator, loader and model belong together
    truth.py            metric and loader read the same, the splits mean the same classes
    coco.py, ...        one module for each library: the data set, its lists, classes and labels
      boxes.py          one entry of COCO json after another
      teaching.py       all objects of a file together
"""
from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Iterator

from mmengine.config import Config

from swinv2_mm.utils.errors import UserError

from .findings import KINDS, Finding

MODULES = {'mmdet': 'coco', 'mmseg': 'segmentation', 'mmaction': 'video',
           'mmpretrain': 'classification'}


def check_data(cfg: Config, *splits: str) -> None:
    """Check what the named splits ('train', 'val', 'test') will use; UserError for what is wrong.

    Warnings are printed, one line a kind and file. Once is enough: the first rank does it. Every
    rank reads COCO json as datasets/repairs.py says from then on.
    """
    if cfg.get('default_scope') == 'mmdet':
        from swinv2_mm.datasets import repairs
        repairs.install()
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) != '0':
        return
    found = list(dict.fromkeys(findings(cfg, splits)))
    _print_warnings([finding for finding in found if finding.level == 'warning'])
    errors = [finding for finding in found if finding.level == 'error']
    if not errors:
        return
    for other in errors[1:10]:
        print(f'Also wrong: {other.sentence}', flush=True)
    if len(errors) > 10:
        print(f'Also wrong: {len(errors) - 10} more; `python tools/dataset/check.py CONFIG` lists '
              'all.', flush=True)
    raise UserError(errors[0].sentence)


def _print_warnings(found: list[Finding]) -> None:
    firsts, counts = {}, Counter()
    for finding in found:
        key = finding.kind, finding.where
        firsts.setdefault(key, finding)
        counts[key] += 1
    for key, first in firsts.items():
        if counts[key] > 1:
            print(f'Warning: {counts[key]} times {first.kind!r} ({KINDS[first.kind][0]}), the '
                  f'first: {first.sentence}', flush=True)
        elif first.kind != 'no objects':
            print(f'Warning: {first.sentence}', flush=True)


def findings(cfg: Config, splits: tuple[str, ...], cache: dict | None = None) -> Iterator[Finding]:
    """All that is wrong or worth a word before a run of these splits; pictures are not opened.

    `cache` takes the json files that were read: {path: content}.
    """
    from . import settings, truth
    from .configured import Run

    run = Run(cfg, tuple(splits), {} if cache is None else cache)
    for split in splits:
        for dataset in run.datasets(split):
            yield from of_dataset(run, dataset, split)
    for check in (*truth.CHECKS, *settings.CHECKS):
        yield from check(run)


def of_dataset(run, dataset: dict, split: str) -> Iterator[Finding]:
    """Findings on one data set by the rules of its library; others are let be."""
    if module := MODULES.get(run.scope):
        where = f'{split}_dataloader'
        find = importlib.import_module(f'{__name__}.{module}').find
        try:
            yield from find(dataset, where, run.cfg['model'], run.wanted(split))
        except UserError as error:
            yield Finding('set-up', where, str(error))


def steps_in(pipeline) -> Iterator[dict]:
    """The steps of a pipeline, also those inside others."""
    if isinstance(pipeline, dict):
        yield pipeline
        pipeline = pipeline.get('transforms') or []
    for step in pipeline or []:
        yield from steps_in(step)


def kind(node: dict) -> str:
    """The name of a type without its scope."""
    return str(node.get('type')).rpartition('.')[2]


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
