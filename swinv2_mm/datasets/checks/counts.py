"""How many classes the parts of a model tell apart, where that is no more than a number of them."""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from . import class_counts, kind, nodes
from .configured import Run
from .findings import Finding
from .settings import heads

# Heads whose softmax has one class more, of none of the others; and names that begin like theirs.
WITH_BACKGROUND = ('MaskFormer', 'Mask2Former', 'SideAdapterCLIP')
MENDS = 'swinv2_mm.utils.mmseg_loss'  # what mmsegmentation 1.2 lacks, once it is imported
SEVERAL = ('MultiLabel', 'CSRA', 'MultiTask')  # heads of mmpretrain with a sigmoid for each class


def top_k(run: Run) -> Iterator[Finding]:
    """Top-k of no more classes than there are, in metrics and in heads that count accuracy."""
    counts = [n for _, n in class_counts(run.model) if isinstance(n, int)]
    if not counts:
        return
    for split in run.tested():
        for metric in run.evaluators(split):
            for place, node in nodes(metric, f'{split}_evaluator'):
                if kind(node) == 'Accuracy':
                    yield from _top_k(node.get('topk', (1,)), _of_task(run, place) or min(counts),
                                      f'{place}.topk', strict=True)
                elif kind(node) == 'AccMetric':
                    options = (node.get('metric_options') or {}).get('top_k_accuracy') or {}
                    yield from _top_k(options.get('topk', (1, 5)), min(counts),
                                      f'{place}.metric_options.top_k_accuracy.topk', strict=False)
    for place, head in nodes(run.model, 'model') if 'train' in run.splits else ():
        if head.get('cal_acc') and isinstance(head.get('num_classes'), int):
            yield from _top_k(head.get('topk', (1,)), head['num_classes'], f'{place}.topk',
                              strict=True)


def _of_task(run: Run, place: str) -> int | None:
    """The classes of the task whose metric is at a place inside a MultiTasksMetric."""
    task = re.search(r'\.task_metrics\.([^.\[]+)', place)
    heads_of = (run.model.get('head') or {}).get('task_heads') or {}
    return (heads_of.get(task[1]) or {}).get('num_classes') if task else None


def _top_k(asked, count: int, place: str, strict: bool) -> Iterator[Finding]:
    asked = (asked,) if isinstance(asked, int) else tuple(asked)
    left = tuple(k for k in asked if k < count) or (1,)
    if strict and max(asked) > count:
        yield Finding('top-k', place, f'asks for {asked} of {count} classes, so that the first '
                      'accuracy would stop the run', f'set it to {left}')
    elif max(asked) >= count > 1:
        yield Finding('trivial top-k', place, f'asks for {asked} of {count} classes: the last is '
                      'always 100 %', f'set it to {left}')


def class_weights(run: Run) -> Iterator[Finding]:
    """A list of class weights has one for each class that its loss tells apart."""
    if 'train' in run.splits:
        yield from _class_weights(run.model, 'model', None, ())
        yield from _ignored_pixels(run)


def _class_weights(node, place: str, count, allowed: tuple) -> Iterator[Finding]:
    if isinstance(node, (list, tuple)):
        for i, part in enumerate(node):
            yield from _class_weights(part, f'{place}[{i}]', count, allowed)
    if not isinstance(node, dict):
        return
    own = _own_count(node)
    if own is not None:
        count, allowed = own, _lengths(node, own)
    weights = node.get('class_weight')
    if isinstance(weights, (list, tuple)) and count and len(weights) not in allowed:
        right = max(allowed)
        more = ' and 0.1 for none of them' if right > count else ''
        yield Finding('class weights', f'{place}.class_weight', f'has {len(weights)} numbers for '
                      f'{count} classes', f'write {right} numbers: one for each class{more}')
    for key, part in node.items():
        if key not in ('rpn_head', 'semantic_head'):
            yield from _class_weights(part, f'{place}.{key}', count, allowed)


def _own_count(node: dict) -> int | None:
    if 'num_things_classes' in node:
        return node['num_things_classes'] + node.get('num_stuff_classes', 0)
    count = node.get('num_classes')
    return count if isinstance(count, int) else None


def _lengths(head: dict, count: int) -> tuple[int, ...]:
    """How many classes the losses of a head tell apart."""
    if kind(head).startswith(WITH_BACKGROUND) or 'num_things_classes' in head:
        return (count + 1,)
    if 'bbox' in kind(head).lower() or 'roi_feat_size' in head or 'bbox_coder' in head:
        return (count, count + 1)
    out = head.get('out_channels')
    return (count, out) if isinstance(out, int) and kind(head) != 'FCNMaskHead' else (count,)


def _ignored_pixels(run: Run) -> Iterator[Finding]:
    """mmsegmentation 1.2 looks up the weight of pixels to ignore as well, and fails there."""
    if run.scope != 'mmseg' or MENDS in sys.modules or not _has_mmseg_1_2():
        return
    for place, head in heads(run.model):
        losses = head.get('loss_decode') or []
        for loss in [losses] if isinstance(losses, dict) else losses:
            if loss.get('class_weight'):
                yield Finding('class weights', f'{place}.loss_decode', 'has class_weight, with '
                              'which mmsegmentation 1.2 fails at pixels to ignore', 'add '
                              f"custom_imports = dict(imports=['{MENDS}']) to the config, or "
                              f'--cfg-options {place}.loss_decode.class_weight=None')


def _has_mmseg_1_2() -> bool:
    try:
        return metadata.version('mmsegmentation').startswith('1.2.')
    except metadata.PackageNotFoundError:
        return False


def one_class(run: Run) -> Iterator[Finding]:
    """Where one class is all there is, its loss is 0 or its metric 100, whatever is learnt."""
    if run.scope == 'mmseg':
        for place, head in heads(run.model):
            if head.get('num_classes') == 1:
                yield Finding('one class', f'{place}.num_classes', 'is 1, and in a map of one '
                              'class there is nothing to tell apart', 'set 2, with '
                              "classes=('background', ...) and maps of 0 and 1, in all data sets "
                              'and heads')
            losses = head.get('loss_decode') or {}
            if head.get('out_channels') == 1 and any(
                    kind(loss) in ('CrossEntropyLoss', 'None') and not loss.get('use_sigmoid')
                    for loss in ([losses] if isinstance(losses, dict) else losses)):
                yield Finding('one class', f'{place}.out_channels', 'is 1 under a softmax, which '
                              'has nothing to tell apart in one channel', f'set {place}.'
                              'loss_decode.use_sigmoid=True, or leave out_channels out')
    elif run.scope in ('mmpretrain', 'mmaction'):
        for place, count in class_counts(run.model):
            if count == 1 and 'head' in place and not _sigmoid(run.model, place):
                yield Finding('one class', f'{place}.num_classes', 'is 1 under a softmax, whose '
                              'loss is always 0 and whose accuracy is 100',
                              'name a second class, of all that is not the first')


def _sigmoid(model: dict, place: str) -> bool:
    node = model
    for name in place.split('.')[1:]:
        node = node.get(name, {}) if isinstance(node, dict) else {}
    loss = node.get('loss') or node.get('loss_cls') or {}
    return bool(loss.get('use_sigmoid')) or 'BCE' in kind(loss) or bool(
        node.get('multi_class')) or kind(node).startswith(SEVERAL)


def things(run: Run) -> Iterator[Finding]:
    """Things and stuff of mmdet's MaskFormer family make up the classes, in head and fusion alike.

    The fusion head reads rows of scores by its own count: another one names every object wrongly.
    """
    if run.scope != 'mmdet':
        return
    from .truth import classes_of
    for split in run.splits:
        names = {found for dataset in run.datasets(split) if (found := classes_of(run, dataset))}
        for place, node in nodes(run.model, 'model'):
            if 'num_things_classes' not in node or len(names) != 1:
                continue
            count, stuff = len(next(iter(names))), node.get('num_stuff_classes', 53)
            if node['num_things_classes'] + stuff != count:
                yield Finding('things and stuff', place, f'has num_things_classes='
                              f'{node["num_things_classes"]} and num_stuff_classes={stuff} for '
                              f'{count} classes of the {split} split', 'set both there, in '
                              'panoptic_head and in panoptic_fusion_head: '
                              f'{count} and 0 where objects alone are labelled')


def of_mixtures(run: Run) -> Iterator[Finding]:
    """Mixed labels of mmpretrain have as many numbers as the head."""
    pre, model = run.cfg.get('data_preprocessor') or {}, run.model
    mixed = (model.get('train_cfg') or {}).get('augments') or pre.get('batch_augments')
    if run.scope != 'mmpretrain' or 'data_preprocessor' in model or not mixed:
        return  # that of the model is looked at with all of it
    counts = [n for place, n in class_counts(model) if 'head' in place]
    if 'train' in run.splits and counts and pre.get('num_classes', counts[0]) != counts[0]:
        yield Finding('set-up', 'config', 'data_preprocessor.num_classes must be the number of '
                      f'classes of the head, {counts[0]}, for mixed labels, got '
                      f'{pre["num_classes"]}: set it in the config.')


CHECKS = (top_k, class_weights, one_class, things, of_mixtures)
