"""What is checked of a config and its data before a model is built: the one place that decides.

tools/train.py, tools/test.py and tools/dataset/check.py call `findings` on the resolved config, so
that none of them knows more than another:

    settings.py         evaluator, loader and model belong together
    scored.py           the metric scores what the model predicts, and pictures as they are
    course.py           a training has steps, rates, checkpoints and validation
    unread.py           names of the config that nothing reads
    counts.py           so do all numbers of classes
    truth.py            metric and loader read the same, the splits mean the same classes
    coco.py, ...        one module for each library: the data set, its lists, classes and labels
      boxes.py          one entry of COCO json after another
      teaching.py       all objects of a file together
    stored.py           what took long, until its files change
    inventory.py        all files, each with the check it needs, and the lists line by line
"""
from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from swinv2_mm.utils.errors import UserError

from .findings import KINDS, Finding

MODULES = {'mmdet': ('coco', 'listed'), 'mmseg': ('segmentation',), 'mmaction': ('video',),
           'mmpretrain': ('classification',)}


FEW = 3  # warnings of a kind that are printed one by one


def check_data(cfg: Config, *splits: str) -> None:
    """Check what the named splits ('train', 'val', 'test') will use; UserError for what is wrong.

    Warnings are printed, many of a kind as one line. Once is enough: the first rank does it. Every
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
    kinds: dict = {}
    for finding in found:
        kinds.setdefault(finding.kind, []).append(finding)
    for name, some in kinds.items():
        if len(some) > FEW:
            print(f'Warning: {len(some)} times {name!r} ({KINDS[name][0]}), the first: '
                  f'{some[0].sentence}', flush=True)
        elif name != 'no objects':
            for finding in some:
                print(f'Warning: {finding.sentence}', flush=True)


def findings(cfg: Config, splits: tuple[str, ...], cache: dict | None = None) -> Iterator[Finding]:
    """All that is wrong or worth a word before a run of these splits; pictures are not opened.

    `cache` takes the json files that were read: {path: content}.
    """
    from . import counts, course, scored, settings, stored, unread
    from .configured import Run

    run = Run(cfg, tuple(splits), {} if cache is None else cache)
    if run.scope == 'mmaction':
        importlib.import_module('swinv2_mm.utils.compat')  # else mmaction2 does not import
    with DefaultScope.overwrite_default_scope(run.scope or 'mmengine'):
        # Folders of maps and of classes may change without their times: those are read again.
        found = stored.found(run, lambda: _of_data(run)) if run.scope == 'mmdet' else _of_data(run)
        for module in (settings, scored, counts, course, unread):
            for check in module.CHECKS:
                found = [*found, *check(run)]
    yield from found


def _of_data(run) -> list[Finding]:
    from . import truth
    found = [finding for split in run.splits for dataset in run.datasets(split)
             for finding in of_dataset(run, dataset, split)]
    return found + [finding for check in truth.CHECKS for finding in check(run)]


def of_dataset(run, dataset: dict, split: str) -> Iterator[Finding]:
    """Findings on one data set by the rules of its library; others are let be."""
    where, said = f'{split}_dataloader', False
    for key in dataset.get('metainfo') or {}:
        if str(key).lower() == 'classes' != key:
            yield Finding('set-up', where, f'metainfo.{key} of {where}.dataset is read by nothing: '
                          'write classes.')
            return
    for module in MODULES.get(run.scope, ()):
        find = importlib.import_module(f'{__name__}.{module}').find
        try:
            yield from find(dataset, where, run.cfg['model'], run.wanted(split))
        except UserError as error:
            said = True
            yield Finding('set-up', where, str(error))
    if run.scope in MODULES:
        yield from _of_lists(run, dataset, where, said)


def _of_lists(run, dataset: dict, where: str, said: bool) -> Iterator[Finding]:
    """What is wrong with the lists of one data set, line by line; `said`: they cannot be read."""
    from . import inventory
    try:
        for item in inventory.of_dataset(dataset, where, run.cfg['model'], run.scope, run.cache,
                                         others=False):
            if isinstance(item, Finding):
                yield item
    except Exception as error:  # noqa: BLE001 - libraries raise what they like
        if not said:
            yield Finding('set-up', where, f'The data of {where}.dataset cannot be listed '
                          f'({type(error).__name__}: {error}): mend its settings.')


def steps_in(pipeline) -> Iterator[dict]:
    """The steps of a pipeline, also those inside others."""
    if isinstance(pipeline, dict):
        yield pipeline
        pipeline = pipeline.get('transforms') or []
    for step in pipeline or []:
        yield from steps_in(step)


def kind(node: dict) -> str:
    """The name of a type without its scope; configs in plain Python have classes as types."""
    found = node.get('type')
    return found.__name__ if isinstance(found, type) else str(found).rpartition('.')[2]


def class_of(node: dict, registry=DATASETS) -> type | None:
    """The class of a data set, or another, by the default scope; None where there is none."""
    if not isinstance(node.get('type'), str):
        return node.get('type')
    with warnings.catch_warnings(), registry.switch_scope_and_registry(None) as found:
        warnings.simplefilter('ignore')  # of optional packages, as a library is imported for it
        return found.get(node['type'])


def by_epoch(loop: dict) -> bool:
    """Whether mmengine trains by epochs under this train_cfg."""
    return 'max_epochs' in loop or kind(loop) == 'EpochBasedTrainLoop' or loop.get(
        'by_epoch', False)


def class_counts(node, place: str = 'model') -> Iterator[tuple[str, int]]:
    """Every num_classes under a model's config, but of heads that have their own sense of it.

    A region proposal head tells object from none, HTC's semantic head knows COCO's stuff as well,
    STDC's tells edges, and one that is asked in words counts those.
    """
    if isinstance(node, dict):
        if 'num_classes' in node and kind(node) not in ('STDCHead', 'GroundingDINOHead'):
            yield place, node['num_classes']
        children = [(f'{place}.{key}', value) for key, value in node.items()
                    if key not in ('rpn_head', 'semantic_head')]
    else:
        children = [(f'{place}[{i}]', value) for i, value in enumerate(node)]
    for name, child in children:
        if isinstance(child, (dict, list)):
            yield from class_counts(child, name)


def nodes(node, place: str) -> Iterator[tuple[str, dict]]:
    """All dicts inside a config, each with its place."""
    if isinstance(node, dict):
        yield place, node
    parts = [(f'{place}.{key}', value) for key, value in node.items()] if isinstance(
        node, dict) else [(f'{place}[{i}]', value) for i, value in enumerate(node)]
    for name, part in parts:
        if isinstance(part, (dict, list, tuple)):
            yield from nodes(part, name)


def datasets_in(dataset) -> Iterator[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if dataset is None:
        return
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from datasets_in(part)
