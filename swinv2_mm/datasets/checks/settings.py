"""Whether evaluator, loader and model belong together: known from the config before the first step.

Each rule here is one that a library leaves to the user, and that ends in a wrong number or in a
crash after hours.
"""
from __future__ import annotations

import inspect
from collections.abc import Iterator

from mmengine.registry import MODELS

from . import class_of, kind
from .configured import Run
from .findings import Finding

IGNORED = 255  # by mmseg's heads, metric and padding where nothing else is set
# Heads whose prediction is of the picture's own size, not of the window that they are given.
WHOLE_ONLY = ('MaskFormerHead', 'Mask2FormerHead')


def ignored_numbers(run: Run) -> Iterator[Finding]:
    """Heads, metric and padding leave out one number, or the metric counts what none learnt."""
    if run.scope != 'mmseg':
        return
    places = {place: head.get('ignore_index', IGNORED) for place, head in heads(run.model)
              if 'num_classes' in head}  # others tell depths
    if not places:
        return
    for split in run.tested():
        for metric in run.evaluators(split):
            if kind(metric) == 'IoUMetric':
                places[f'{split}_evaluator'] = metric.get('ignore_index', IGNORED)
    names = {place: f'{place}.ignore_index' for place in places}
    if 'train' in run.splits and run.loader('train'):
        padding = run.model.get('data_preprocessor') or {}
        places['padding'] = padding.get('seg_pad_val', IGNORED)
        names['padding'] = 'model.data_preprocessor.seg_pad_val'
    for split in run.splits:
        if any(dataset.get('reduce_zero_label') for dataset in run.datasets(split)):
            places['zero'] = IGNORED
            names['zero'] = 'what reduce_zero_label makes of 0'
    if len(set(map(str, places.values()))) > 1:
        said = ', '.join(f'{names[place]}={value}' for place, value in places.items())
        number = IGNORED if 'zero' in places else next(iter(places.values()))
        yield Finding('ignored number', 'config', f'leaves out different numbers: {said}',
                      f'set all of them to {number}, or to the number that the maps have for what '
                      'is not labelled')


def heads(model: dict) -> Iterator[tuple[str, dict]]:
    """The heads of a segmentor, each with its place."""
    for name in ('decode_head', 'auxiliary_head'):
        found = model.get(name) or []
        listed = [found] if isinstance(found, dict) else found
        for i, head in enumerate(listed):
            yield (f'model.{name}' if isinstance(found, dict) else f'model.{name}[{i}]'), head


def clip_average(run: Run) -> Iterator[Finding]:
    """mmaction2's heads average over clips: else accuracy is counted along the wrong axis."""
    head = run.model.get('cls_head') or {}
    if run.scope == 'mmaction' and head and _average(head) is None and any(
            kind(metric) == 'AccMetric' for split in run.tested()
            for metric in run.evaluators(split)):
        yield Finding('clip average', 'model.cls_head.average_clips', 'is not set, so that a film '
                      'has a score for each clip and the accuracy is of none',
                      "set it to 'prob'")


def _average(head: dict):
    """How a head averages over clips: as it is told, or by its own default."""
    known = getattr(class_of(head, MODELS), '__init__', None)
    found = inspect.signature(known).parameters.get('average_clips') if known else None
    return head.get('average_clips', getattr(found, 'default', None))


def slide(run: Run) -> Iterator[Finding]:
    """Sliding windows are for heads that predict what they are given, and leave no gaps."""
    test = run.model.get('test_cfg') or {}
    if run.scope != 'mmseg' or test.get('mode') != 'slide':
        return
    for place, head in heads(run.model):
        if kind(head) in WHOLE_ONLY:
            yield Finding('slide', 'model.test_cfg.mode', f"is 'slide', which {kind(head)} at "
                          f'{place} cannot: it predicts maps of the whole picture for each window',
                          "set model.test_cfg to dict(mode='whole'); tools/infer.py --slice N cuts "
                          'large pictures into tiles')
            return
    crop, stride = test.get('crop_size'), test.get('stride')
    if not crop or not stride or any(s > c for s, c in zip(stride, crop)):
        yield Finding('slide', 'model.test_cfg', f"has mode 'slide' with crop_size={crop} and "
                      f'stride={stride}, which do not cover the picture',
                      'set both, with a stride of at most crop_size')


def left_out(run: Run) -> Iterator[Finding]:
    """A split that is scored is scored whole."""
    for split in run.tested():
        loader, place = run.loader(split), f'{split}_dataloader'
        if loader.get('drop_last') and loader.get('batch_size', 1) > 1:
            yield Finding('part of the set', f'{place}.drop_last', 'leaves out the last images of '
                          f'the {split} split, which its metric is then not of',
                          'set it to False')
        wrapper = loader.get('dataset') or {}
        if run.scope == 'mmdet' and (wrapper.get('times', 1) > 1 or 'oversample_thr' in wrapper):
            yield Finding('part of the set', f'{place}.dataset', f'is a {kind(wrapper)}, which '
                          'gives pictures more than once, and what is found twice counts as wrong',
                          'give the data set inside it alone')
        by_file = any(metric.get('ann_file') for metric in run.evaluators(split))
        if by_file and loader.get('num_batch_per_epoch'):
            yield Finding('part of the set', f'{place}.num_batch_per_epoch', f'ends the {split} '
                          'split early, and the metric counts the objects of all its file as '
                          'missed', 'leave it out')
        for dataset in run.datasets(split):
            if by_file and dataset.get('indices') is not None:
                yield Finding('part of the set', f'{place}.dataset.indices', 'leaves out images of '
                              f'the {split} split, whose objects the metric counts as missed',
                              'leave it out, or give loader and metric a file of these images')
            rule = dataset.get('filter_cfg') or {}
            if not dataset.get('test_mode') and (rule.get('filter_empty_gt')
                                                 or rule.get('min_size')):
                yield Finding('part of the set', f'{place}.dataset.filter_cfg', 'leaves out images '
                              f'of the {split} split, with what is found in them', 'set test_mode='
                              f'True of {place}.dataset')


CHECKS = (ignored_numbers, clip_average, slide, left_out)

