"""What a runner must know of an exported model: the json beside the file, and the runner itself."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

from mmengine.config import Config

from swinv2_mm.apis.inference import models, numbers

from . import runner, steps
from .graphs import Pixels, padded

TASKS = {'mmdet': 'det', 'mmseg': 'seg', 'mmpretrain': 'cls', 'mmaction': 'video'}
RESIZES = ('Resize', 'ResizeEdge')
# Steps of a test pipeline that leave the pixels as they are.
HARMLESS = ('Load', 'Pack', 'CenterCrop', 'Collect')


def facts(cfg: Config, model: Pixels, size: tuple[int, int]) -> dict:
    """What the json says; `resize` is how the test pipeline of the config comes to a size."""
    scope = cfg.get('default_scope')
    classes, palette = models.classes_of(cfg, scope)
    mean, std = (None if value is None else value.flatten().tolist()
                 for value in (model.mean, model.std))
    fill = mean or [0.0] * model.model.backbone.in_channels
    found = dict(
        task=TASKS[scope], outputs=model.outputs, classes=classes, palette=palette,
        size=list(size), dtype=model.kind,
        input=f'image: {model.kind} ' + (
            '(batch, views, 3, time, height, width), 0 to 255, in the order of mmaction2'
            if model.step == 'clips' else '(batch, 3, height, width), 0 to 255, blue first'),
        normalisation=dict(inside=True, rgb=model.flip, mean=mean, std=std),
        fill=fill if model.flip else fill[::-1], resize=resize(cfg))
    if model.step == 'boxes':
        found.update(model.finder.settings, category_ids=numbers.of_categories(cfg, classes),
                     padded=padded(model.model, size))
    elif scope == 'mmseg':
        found.update(map_numbers=numbers.of_maps(cfg, classes), suffixes=numbers.suffixes_of(cfg))
    if model.step == 'threshold':
        found['threshold'] = float(steps.head_of(model.model).threshold)
    if scope == 'mmpretrain':
        found['one_label'] = model.step == 'softmax'
    return found


def resize(cfg: Config) -> dict | None:
    """How pictures come to the size of the file; None where a step is not known here."""
    steps = [step for step in cfg.test_dataloader.dataset.pipeline
             if not str(step['type']).rpartition('.')[2].startswith(HARMLESS)]
    if any(str(step['type']) not in RESIZES for step in steps) or len(steps) > 1:
        return None
    step = steps[0] if steps else {}
    found = dict(how='fit', interpolation=step.get('interpolation', 'bilinear'),
                 backend=step.get('backend', 'cv2'))
    if step.get('type') == 'ResizeEdge':
        if step.get('edge', 'short') != 'short':
            return None
        return dict(found, how='edge', edge=step['scale'])
    keeps = step.get('keep_ratio') or 'scale_factor' in step or not step
    if keeps and isinstance(step.get('scale'), (tuple, list)):
        found['scale'] = list(step['scale'])
    elif keeps and isinstance(step.get('scale_factor', 1.0), (int, float)):
        found['factor'] = step.get('scale_factor', 1.0)
    return found if keeps else dict(found, how='stretch')


def write(path: Path, found: dict, batch: int | str) -> list[Path]:
    """The json beside a file for `batch` pictures, and the runner beside both; their paths."""
    described, example = path.with_suffix('.json'), path.with_name('runner.py')
    text = json.dumps(dict(found, batch=batch), indent=1, ensure_ascii=False)
    described.write_text(text, encoding='utf-8')
    shutil.copyfile(runner.__file__, example)
    return [described, example]
