"""Whether what scores a split fits what it scores: the metric, the order and the place of pictures.

Each rule is of the config alone: what it tells would end a run at its first validation, or give a
number of something else.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

from mmengine.registry import METRICS, MODELS

from . import by_epoch, class_of, kind, steps_in
from .configured import METRIC_OF_COCO, Run
from .findings import Finding

USUAL = {'mmdet': 'CocoMetric', 'mmseg': 'IoUMetric', 'mmpretrain': 'Accuracy',
         'mmaction': 'AccMetric'}  # library -> its common metric
ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')
# Steps that move what is in a picture, of which the truth of a test set knows nothing.
MOVES = ('RandomFlip', 'RandomCrop', 'RandomRotate', 'RandomAffine', 'RandomShift', 'RandomMosaic',
         'Mosaic', 'CachedMosaic', 'MixUp', 'CachedMixUp', 'CopyPaste', 'Expand',
         'MinIoURandomCrop', 'CutOut', 'RandomErasing')
SIZES = ('Resize', 'FixScaleResize', 'RandomResize', 'RandomChoiceResize', 'FixShapeResize')
OF_SEVERAL = ('mean_average_precision', 'mmit_mean_average_precision')  # labels, of a film
AS_LOADED = ('VOCMetric', 'OpenImagesMetric')  # take the boxes that the pipeline gives
MASKS = re.compile('mask|solo|yolact|panoptic|inst|detins', re.I)


def other_task(run: Run) -> Iterator[Finding]:
    """A metric of the library of the model, of what this model predicts."""
    model = class_of(run.model, MODELS)
    own = getattr(model, '__module__', '').partition('.')[0]
    for split in run.tested():
        for metric in run.evaluators(split):
            place, name = f'{split}_evaluator', kind(metric)
            library = getattr(class_of(metric, METRICS), '__module__', '').partition('.')[0]
            if own in USUAL and library in USUAL and own != library:
                yield Finding('other task', place, f'is {name} of {library}, which cannot score '
                              f'what {kind(run.model)} of {own} predicts',
                              f"set one of {own}, such as dict(type='{USUAL[own]}')")
            elif name == 'AccMetric' and any(
                    dataset.get('multi_class') for dataset in run.datasets(split)) and not set(
                        _listed(metric.get('metric_list'))) & set(OF_SEVERAL):
                yield Finding('other task', f'{place}.metric_list', 'counts one label a film, '
                              'where multi_class of the data set gives several',
                              f'set it to {OF_SEVERAL[0]!r}')
            elif name in METRIC_OF_COCO and 'segm' in asked(metric) and not _predicts_masks(
                    run.model):
                yield Finding('other task', f'{place}.metric', "asks for 'segm', and "
                              f'{kind(run.model)} without a mask_head predicts no masks',
                              "set metric='bbox'")


def asked(metric: dict) -> list[str]:
    """What a metric of COCO is asked for."""
    return _listed(metric.get('metric'))


def _listed(names) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])


def _predicts_masks(model: dict) -> bool:
    if 'roi_head' in model:
        return any(part.get('mask_head') for part in steps_in(model['roi_head']))
    return bool(MASKS.search(str(dict(model) | dict(data_preprocessor=None))))


def best(run: Run) -> Iterator[Finding]:
    """What chooses the best checkpoint is one of the numbers that the evaluator gives."""
    metrics = run.evaluators('val') if 'val' in run.splits else []
    if not metrics or 'type' in (run.cfg.get('val_cfg') or {}) or run.one_each('val'):
        return  # a loop or evaluator of its own gives names of its own
    given = {metric.get('prefix') or getattr(class_of(metric, METRICS), 'default_prefix', '?')
             for metric in metrics}
    if '?' in given or any('task_metrics' in metric for metric in metrics):
        return  # numbers of names that are not known from here
    hook = (run.cfg.get('default_hooks') or {}).get('checkpoint') or {}
    names = hook.get('save_best') or []
    coco = {task for metric in metrics if kind(metric) in METRIC_OF_COCO for task in asked(metric)}
    for name in [names] if isinstance(names, str) else names:
        prefix, _, last = name.rpartition('/')
        task = re.match('(bbox|segm)_mAP', last) if prefix == 'coco' else None
        if name == 'auto' or (prefix or None) in given and not (
                task and coco and task[1] not in coco):
            continue
        gives = sorted(f'{prefix}/...' if prefix else 'names without a /' for prefix in given)
        yield Finding('other task', 'default_hooks.checkpoint.save_best', f'is {name!r}, which '
                      f'val_evaluator does not give ({", ".join(gives)}'
                      + (f' of {", ".join(sorted(coco))}' if coco else '') + ')',
                      "set it to 'auto' (the first number), or to one that it gives")


def endless(run: Run) -> Iterator[Finding]:
    """What is gone through once ends: a split that is scored, and an epoch."""
    for split in run.splits:
        loop = run.cfg.get('train_cfg') or {}
        name = kind(run.loader(split).get('sampler') or {})
        if name not in ENDLESS or split == 'train' and not (loop and by_epoch(loop)):
            continue
        cure = f"set it to dict(type='DefaultSampler', shuffle={split == 'train'})"
        yield Finding('endless', f'{split}_dataloader.sampler', f'is {name}, which never ends, and '
                      f'so neither does {"an epoch" if split == "train" else f"the {split} split"}',
                      cure + (", or train by dict(type='IterBasedTrainLoop', max_iters=...)"
                              if split == 'train' else ''))


def moved(run: Run) -> Iterator[Finding]:
    """Pictures of a split that is scored stay as their truth has them."""
    if run.scope not in ('mmdet', 'mmseg'):
        return
    for split in run.tested():
        for dataset in run.datasets(split):
            steps = [step for step in dataset.get('pipeline') or []
                     if isinstance(step, dict) and 'transforms' not in step]
            place = f'{split}_dataloader.dataset.pipeline'
            names = [kind(step) for step in steps]
            loaded = next((i for i, name in enumerate(names)
                           if name in ('LoadAnnotations', 'LoadMap')), len(names))
            for i, step in enumerate(steps):
                if run.scope == 'mmseg' and kind(step) == 'RandomFlip' and i < loaded:
                    continue  # whose results mmseg flips back, beside a map that stayed
                if kind(step) in MOVES and step.get('prob', step.get('flip_prob', 1)):
                    yield Finding('moved', place, f'has {kind(step)}, which moves what is in a '
                                  'picture, and its truth stays', 'take this step out')
            if set(SIZES) & set(names[loaded:]) and any(
                    kind(metric) in AS_LOADED for metric in run.evaluators(split)):
                yield Finding('moved', place, 'resizes boxes that were loaded before, where the '
                              'metric compares them with those in the picture as it was',
                              'put LoadAnnotations after the steps that resize')


def unloaded(run: Run) -> Iterator[Finding]:
    """A head that learns masks is given them."""
    roi = run.model.get('roi_head')
    if run.scope != 'mmdet' or not isinstance(roi, dict) or not roi.get('mask_head'):
        return
    for dataset in run.datasets('train') if 'train' in run.splits else ():
        loads = [step for step in steps_in(dataset.get('pipeline'))
                 if kind(step) == 'LoadAnnotations']
        if loads and not any(step.get('with_mask') for step in loads):
            yield Finding('no masks', 'train_dataloader.dataset.pipeline', 'loads no masks, which '
                          'model.roi_head.mask_head learns from', 'set with_mask=True of '
                          'LoadAnnotations, or model.roi_head.mask_head=None')


CHECKS = (other_task, best, unloaded, endless, moved)
