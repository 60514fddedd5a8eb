"""What the first pictures of a data set show of all of them: their depth, and their sizes."""
from __future__ import annotations

import copy
from collections.abc import Iterator

import cv2
import numpy as np
from mmengine.registry import DATASETS
from PIL import Image

from . import kind, steps_in
from .findings import Finding

FIRST = 8  # pictures that are decoded
HEADERS = 2000  # pictures whose header is read, evenly spread: a second
FULL = 1 << 14  # numbers of 16 bits below this leave a quarter of the range, 6 bits of 8


def depth(paths: list[str], pipeline, where: str) -> Iterator[Finding]:
    """Pictures of 16 bits that would be black: their numbers fill the lower bits alone."""
    steps = list(steps_in(pipeline))
    load = next((s for s in steps if kind(s) in ('LoadImageFromFile', 'LoadImage')), None)
    if load is None or load.get('color_type', 'color') == 'unchanged':
        return
    deep = {path: most for path in chosen(paths) if (most := highest(path)) is not None}
    most = max(deep.values(), default=FULL)
    if most < FULL:
        yield Finding('dark', next(iter(deep)), f'and others of its set hold numbers up to {most} '
                      f'of the 65535 that 16 bits have: cut to 8 bits, as {where} reads them, '
                      f'{most >> 8} is the highest',
                      'save them with 8 bits, their numbers scaled to 0 to 255')


def chosen(paths: list[str]) -> list[str]:
    """The pictures that are decoded, evenly spread."""
    return paths[::max(1, len(paths) // FIRST)][:FIRST]


def highest(path: str) -> int | None:
    """The highest number of a picture of 16 bits; None for any other, or none."""
    try:
        with Image.open(path) as image:
            if image.format not in ('PNG', 'TIFF', 'PPM') or image.width * image.height > 1 << 26:
                return None
        with open(path, 'rb') as file:
            content = np.frombuffer(file.read(), np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, cv2.error):
        return None
    return int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else None


def sizes(pairs: list[dict], pipeline, batch_size: int, where: str) -> Iterator[Finding]:
    """Pictures of several sizes in one batch, which mmseg cannot stack when it tests.

    One picture of each size, `pairs` of a data set's own list, goes through its own `pipeline`.
    """
    if batch_size < 2:
        return
    kinds = {}
    for pair in pairs[::max(1, len(pairs) // HEADERS)]:
        if size := _size(pair['img_path']):
            kinds.setdefault(size, pair)
    found = {}
    for pair in list(kinds.values())[:FIRST] if len(kinds) > 1 else ():
        try:
            inputs = pipeline(copy.deepcopy(pair))['inputs']
        except Exception:  # noqa: BLE001 - a bad file, or step, which other checks are of
            return
        inputs = inputs[0] if isinstance(inputs, list) else inputs
        found[tuple(inputs.shape[-2:])] = pair['img_path']
    if len(found) > 1:
        first, second = list(found)[:2]
        yield Finding('sizes in a batch', f'{where}.batch_size', f'is {batch_size} where pictures '
                      f'leave the pipeline in several sizes, such as {first} of {found[first]} and '
                      f'{second} of {found[second]} (height, width), which cannot be stacked',
                      'set it to 1, or Resize all to one size (keep_ratio=False)')


def grids(pairs: list[dict], dataset: dict, where: str) -> Iterator[Finding]:
    """Maps that a test pipeline cuts or resizes, where results are of the picture as it was."""
    pair = next((p for p in pairs if _size(p['img_path']) == _size(p['seg_map_path'])), None)
    try:
        pipeline = DATASETS.build(dict(dataset) | dict(lazy_init=True)).pipeline
        sample = pipeline(copy.deepcopy(pair))['data_samples']
        truth = tuple(sample.gt_sem_seg.data.shape[-2:])
    except Exception:  # noqa: BLE001 - a bad file, another kind of truth, or augmented tests
        return
    if truth != (size := tuple(sample.metainfo.get('ori_shape', truth))[:2]):
        yield Finding('moved', f'{where}.dataset.pipeline', f'makes maps of {truth} (height, '
                      f'width) for pictures of {size}, to which results are resized',
                      'put LoadAnnotations after the steps that resize or cut')


def _size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
