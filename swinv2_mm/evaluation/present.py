"""Metrics that count what is there: no class without a sample, no sample without a label.

The libraries average over all classes of the config. One that the data hold no sample of counts as
0 in mmpretrain's recall, precision, F1 and mAP, in mmaction2's mean class accuracy and, once a
pixel is taken for it, in mmseg's IoU: a perfect model of two classes of three has a recall of 66.7,
and the best checkpoint is chosen by it. A class that is there and never found, on the other hand,
drops out of mmseg's F-score and precision, which are then too high. A line without a label counts
as wrong in mmaction2.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from ..registry import HOOKS
from .maps import write_renumbered


@HOOKS.register_module()
class PresentClasses(Hook):
    """Let the metrics of validation and test leave out classes that the data hold no sample of.

    What is left out is named in the log, by each metric. Metrics that are not known to need it are
    as they were.
    """

    def before_val(self, runner: Runner) -> None:
        mend_all(runner.val_loop.evaluator.metrics)

    def before_test(self, runner: Runner) -> None:
        mend_all(runner.test_loop.evaluator.metrics)


def mend_all(metrics: Sequence) -> None:
    """Mend each metric of an evaluator, in place, once; also those inside a MultiTasksMetric."""
    for metric in metrics:
        for inner in getattr(metric, '_metrics', {}).values():
            mend_all(inner if isinstance(inner, (list, tuple)) else [inner])
        if not getattr(metric, 'counts_present', False):
            metric.counts_present = True
            for mend in _mends_of(type(metric)):
                mend(metric)


def _mends_of(kind: type) -> list[Callable]:
    """What is to be done to metrics of a class; one that counts in a way of its own is let be."""
    libraries = {base.__name__: base.__module__.partition('.')[0] for base in kind.__mro__}
    return [mend for library, name, method, mend in MENDS if libraries.get(name) == library
            and getattr(kind, method).__module__.startswith(f'{library}.')]


def _say(metric, there: np.ndarray) -> None:
    """Name, in the log, the classes that a metric leaves out; `there`: (C,) bool."""
    names = (getattr(metric, 'dataset_meta', None) or {}).get('classes') or range(len(there))
    left = [str(name) for name, found in zip(names, there) if not found]
    if left:
        shown = ', '.join(left[:10]) + (', ...' if len(left) > 10 else '')
        MMLogger.get_current_instance().warning(
            f'{type(metric).__name__}: {len(left)} of {len(there)} classes have no sample here and '
            f'are left out of its means: {shown}')


def _mean(values: torch.Tensor, there: torch.Tensor, average: str | None) -> torch.Tensor:
    """The mean over the classes that are there; NaN in the place of the others without a mean."""
    if average == 'macro':
        return values[there].mean()
    return torch.where(there, values, values.new_tensor(float('nan')))


def _scores(metric) -> None:
    """mmpretrain's precision, recall, F1 and support, of one label or several."""
    original = type(metric).calculate
    signature = inspect.signature(original)

    def calculate(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        average = bound.arguments['average']
        if average == 'micro':
            return original(*args, **kwargs)
        bound.arguments['average'] = None
        found = original(*bound.args, **bound.kwargs)
        several = isinstance(found, list)  # one for each threshold
        rows = found if several else [found]
        _say(metric, (rows[0][3] > 0).numpy())
        rows = [(*(_mean(values, row[3] > 0, average) for values in row[:3]),
                 row[3].sum() if average else row[3]) for row in rows]
        return rows if several else rows[0]

    metric.calculate = calculate


def _average_precision(metric) -> None:
    """mmpretrain's mean average precision."""
    original = type(metric).calculate

    def calculate(pred, target, average='macro'):
        there = (torch.as_tensor(target) == 1).any(dim=0)
        _say(metric, there.numpy())
        return _mean(original(pred, target, None), there, average)

    metric.calculate = calculate


def _areas(metric) -> None:
    """mmseg's IoU, accuracy, Dice, F-score, precision and recall."""
    original = type(metric).total_area_to_metrics

    def to_metrics(intersect, union, pred_label, label, metrics=('mIoU',), nan_to_num=None, beta=1):
        there = (label > 0).numpy()
        _say(metric, there)
        found = original(intersect, union, pred_label, label, metrics, None, beta)
        for name, values in found.items():
            if name != 'aAcc':
                # 0 / 0 of a class that is there: nothing of it was found.
                values = np.where(there, np.nan_to_num(values), np.nan)
                found[name] = values if nan_to_num is None else np.nan_to_num(
                    values, nan=nan_to_num)
        return found

    metric.total_area_to_metrics = to_metrics


def _actions(metric) -> None:
    """mmaction2's accuracies: the mean over classes that are there, of films with a label."""
    compute, calculate = metric.compute_metrics, metric.calculate

    def compute_labelled(results: list) -> dict:
        kept = _labelled(metric, results, 'label')
        return compute(kept) if kept else {}

    def calculate_present(preds, labels) -> dict:
        found = calculate(preds, labels)
        if 'mean1' in found:
            labels = np.asarray(labels)
            right = np.argmax(preds, axis=1) == labels
            classes = np.unique(labels)
            there = np.isin(np.arange(len(preds[0])), classes)
            _say(metric, there)
            found['mean1'] = np.mean([right[labels == label].mean() for label in classes])
        return found

    metric.compute_metrics, metric.calculate = compute_labelled, calculate_present


def _confusion(metric) -> None:
    """mmaction2's confusion matrix, of films with a label."""
    compute = metric.compute_metrics

    def compute_labelled(results: list) -> dict:
        kept = _labelled(metric, results, 'gt_label')
        return compute(kept) if kept else {}

    metric.compute_metrics = compute_labelled


def _labelled(metric, results: list, key: str) -> list:
    """The results whose sample has a label; the others are counted in the log.

    A line of a list without a label has -1, or a vector of zeros where lines have several.
    """
    kept = [result for result in results if _has_label(result[key])]
    if len(kept) < len(results):
        MMLogger.get_current_instance().warning(
            f'{type(metric).__name__}: {len(results) - len(kept)} of {len(results)} samples have '
            'no label and are left out')
    return kept


def _has_label(label) -> bool:
    label = np.asarray(label)
    return bool(label.any()) if label.size > 1 else bool((label >= 0).all())


# Library, class of a metric or of a parent of it, the method that counts, and what mends it.
MENDS: tuple[tuple[str, str, str, Callable], ...] = (
    ('mmpretrain', 'SingleLabelMetric', 'calculate', _scores),
    ('mmpretrain', 'MultiLabelMetric', 'calculate', _scores),
    ('mmpretrain', 'AveragePrecision', 'calculate', _average_precision),
    ('mmseg', 'IoUMetric', 'total_area_to_metrics', _areas),
    ('mmseg', 'IoUMetric', 'process', write_renumbered),
    ('mmaction', 'AccMetric', 'calculate', _actions),
    ('mmaction', 'ConfusionMatrix', 'compute_metrics', _confusion),
)
