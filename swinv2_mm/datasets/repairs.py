"""COCO annotations whose meaning is beyond doubt, set right in memory where mmdet reads them.

The files stay as they are. mmdet's data sets and its CocoMetric read by one class, so that what is
repaired here is repaired for both:

- annotation ids that start at 0 are numbered from 1: pycocotools takes match number 0 for "no
  match", and so counts the object of id 0 as missed (pycocotools/cocoeval.py, `dtm` and `gtm`);
- a missing `iscrowd` is 0, as COCO's own "single object";
- numbers of images, categories and objects that a table wrote as 1.0 are whole;
- a missing `area` is that of the mask, or of the box where there is no mask, as COCO defines it.

And the package lvis, 0.5.3, scores with numpy 1.24 or newer, and panopticapi is not needed.
"""
from __future__ import annotations

import functools
from importlib.util import find_spec
from types import SimpleNamespace

from . import panoptic
from .checks.masks import Slim

WHOLE = frozenset(('id', 'image_id', 'category_id', 'iscrowd', 'width', 'height'))


def install() -> None:
    """Let mmdet's reader of COCO json repair what it reads, from now on in this process."""
    from mmdet.datasets.api_wrappers import COCO

    panoptic.install()
    if find_spec('lvis'):
        _mend_lvis()

    if getattr(COCO.createIndex, 'repairs', False):
        return
    index = COCO.createIndex

    @functools.wraps(index)
    def repaired(self) -> None:
        repair(self.dataset)
        index(self)

    repaired.repairs = True
    COCO.createIndex = repaired


def _mend_lvis() -> None:
    """Give lvis the name np.float, which numpy dropped; in its one module that asks for it."""
    import lvis.eval
    import numpy as np
    if lvis.eval.np is np:
        lvis.eval.np = SimpleNamespace(**{**vars(np), 'float': float})


def repair(content: dict) -> dict:
    """Set right, in place, what is beyond doubt in parsed COCO json; returns it."""
    entries = content.get('annotations') or []
    for part in (entries, content.get('images') or [], content.get('categories') or []):
        for entry in part:
            for key in WHOLE.intersection(entry):
                if type(entry[key]) is float and entry[key].is_integer():
                    entry[key] = int(entry[key])
    if any(entry.get('id') == 0 for entry in entries):
        for number, entry in enumerate(entries, 1):
            entry['id'] = number
    sizes = None
    for entry in entries:
        if entry.get('iscrowd') is None:
            entry['iscrowd'] = 0
        if entry.get('area') is None and entry.get('bbox'):
            sizes = sizes or {image['id']: (image.get('height'), image.get('width'))
                              for image in content.get('images', [])}
            entry['area'] = _area(entry, sizes.get(entry.get('image_id')))
    return content


def _area(entry: dict, size: tuple[int, int] | None) -> float:
    """The area of an object in pixels: of its mask where it has one."""
    mask = entry.get('segmentation')
    if not mask or not size or None in size or not Slim().mask(mask).sound:
        return entry['bbox'][2] * entry['bbox'][3]
    from pycocotools import mask as masks
    runs = masks.frPyObjects(mask, *size) if isinstance(mask, list) or isinstance(
        mask['counts'], list) else mask
    return float(masks.area(masks.merge(runs) if isinstance(runs, list) else runs))
