"""Whether evaluator, loader and model belong together: known from the config before the first step.

Each rule here is one that a library leaves to the user, and that ends in a wrong number or in a
crash after hours.
"""
from __future__ import annotations

from collections.abc import Iterator

from . import class_counts, kind
from .configured import Run
from .findings import Finding

IGNORED = 255  # by mmseg's heads, metric and padding where nothing else is set
# Heads whose prediction is of the picture's own size, not of the window that they are given.
WHOLE_ONLY = ('MaskFormerHead', 'Mask2FormerHead')
WITH_BACKGROUND = ('MaskFormerHead', 'Mask2FormerHead')  # their softmax has one class more


def ignored_numbers(run: Run) -> Iterator[Finding]:
    """Heads, metric and padding leave out one number, or the metric counts what none learnt."""
    if run.scope != 'mmseg':
        return
    places = {place: head.get('ignore_index', IGNORED) for place, head in heads(run.model)}
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
    if len(set(places.values())) > 1:
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


def top_k(run: Run) -> Iterator[Finding]:
    """Top-k of no more classes than there are."""
    count = min((n for _, n in class_counts(run.model) if isinstance(n, int)), default=None)
    if count is None:
        return
    for split in run.tested():
        for metric in run.evaluators(split):
            place = f'{split}_evaluator'
            if kind(metric) == 'Accuracy':
                yield from _top_k(metric.get('topk', (1,)), count, f'{place}.topk', strict=True)
            elif kind(metric) == 'AccMetric':
                options = (metric.get('metric_options') or {}).get('top_k_accuracy') or {}
                yield from _top_k(options.get('topk', (1, 5)), count,
                                  f'{place}.metric_options.top_k_accuracy.topk', strict=False)


def _top_k(asked, count: int, place: str, strict: bool) -> Iterator[Finding]:
    asked = (asked,) if isinstance(asked, int) else tuple(asked)
    left = tuple(k for k in asked if k < count) or (1,)
    if strict and max(asked) > count:
        yield Finding('top-k', place, f'asks for {asked} of {count} classes, so that the first '
                      'validation would stop', f'set it to {left}')
    elif max(asked) >= count > 1:
        yield Finding('trivial top-k', place, f'asks for {asked} of {count} classes: the last is '
                      'always 100 %', f'set it to {left}')


def clip_average(run: Run) -> Iterator[Finding]:
    """mmaction2's heads average over clips: else accuracy is counted along the wrong axis."""
    head = run.model.get('cls_head') or {}
    if run.scope == 'mmaction' and head and head.get('average_clips') is None and any(
            kind(metric) == 'AccMetric' for split in run.tested()
            for metric in run.evaluators(split)):
        yield Finding('clip average', 'model.cls_head.average_clips', 'is not set, so that a film '
                      'has a score for each clip and the accuracy is of none',
                      "set it to 'prob'")


def class_weights(run: Run) -> Iterator[Finding]:
    """A list of class weights has one for each class that its loss tells apart."""
    yield from _class_weights(run.model, 'model', None, ())


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
    if kind(head) in WITH_BACKGROUND or 'num_things_classes' in head:
        return (count + 1,)
    if 'bbox' in kind(head).lower() or 'roi_feat_size' in head or 'bbox_coder' in head:
        return (count, count + 1)
    out = head.get('out_channels')
    return (count, out) if isinstance(out, int) and kind(head) != 'FCNMaskHead' else (count,)


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


def one_class(run: Run) -> Iterator[Finding]:
    """A softmax over one class is 1 whatever the model does."""
    if run.scope == 'mmseg':
        for place, head in heads(run.model):
            losses = head.get('loss_decode') or {}
            losses = [losses] if isinstance(losses, dict) else losses
            if head.get('num_classes') == 1 and kind(head) not in WITH_BACKGROUND and not all(
                    loss.get('use_sigmoid') for loss in losses
                    if 'Cross' in kind(loss) or not loss):
                yield Finding('one class', f'{place}.num_classes', 'is 1 under a softmax, whose '
                              'loss is always 0', "set 2, with a class such as 'background' for "
                              'all else')
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
    return bool(loss.get('use_sigmoid')) or 'BCE' in kind(loss) or node.get('multi_class', False)


def left_out(run: Run) -> Iterator[Finding]:
    """A split that is scored is scored whole."""
    for split in run.tested():
        loader, place = run.loader(split), f'{split}_dataloader'
        if loader.get('drop_last') and loader.get('batch_size', 1) > 1:
            yield Finding('part of the set', f'{place}.drop_last', 'leaves out the last images of '
                          f'the {split} split, which its metric is then not of',
                          'set it to False')
        for dataset in run.datasets(split):
            rule = dataset.get('filter_cfg') or {}
            if not dataset.get('test_mode') and (rule.get('filter_empty_gt')
                                                 or rule.get('min_size')):
                yield Finding('part of the set', f'{place}.dataset.filter_cfg', 'leaves out images '
                              f'of the {split} split, with what is found in them', 'set test_mode='
                              f'True of {place}.dataset')


def schedule(run: Run) -> Iterator[Finding]:
    """Rates that decay do so until the training ends."""
    loop = run.cfg.get('train_cfg') or {}
    by_epoch = 'max_epochs' in loop or loop.get('by_epoch', False)
    last = loop.get('max_epochs') or loop.get('max_iters')
    rates = run.cfg.get('param_scheduler') or []
    rates = [rates] if isinstance(rates, dict) else rates
    if 'train' not in run.splits or not last or not isinstance(rates, (list, tuple)):
        return
    rates = [rate for rate in rates if rate.get('by_epoch', True) == by_epoch]
    ends = [rate.get('end') or rate.get('begin', 0) + rate['T_max'] if 'T_max' in rate
            else rate.get('end') for rate in rates if kind(rate) in (
                'CosineAnnealingLR', 'PolyLR', 'LinearLR')]
    if not ends or None in ends or len(ends) < len(rates) or max(ends) >= last:
        return
    if kind(rates[ends.index(max(ends))]) == 'LinearLR':
        return  # a warm-up, and a constant rate after it
    unit = 'epochs' if by_epoch else 'iterations'
    yield Finding('schedule', 'param_scheduler', f'ends after {max(ends)} of {last} {unit}: the '
                  'rate stays at its lowest from there', f'set end (and T_max) to {last}')


CHECKS = (ignored_numbers, top_k, clip_average, class_weights, slide, one_class, left_out,
          schedule)

