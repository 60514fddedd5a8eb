"""What the first pictures of a data set show of all of them: their depth, and their sizes."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import kind, steps_in
from .findings import Finding

FIRST = 8  # pictures that are decoded
HEADERS = 2000  # pictures whose header is read, evenly spread: a second
PLAIN = ('LoadImageFromFile', 'LoadImage', 'LoadAnnotations', 'LoadMap', 'PackSegInputs', 'Resize',
         'LoadImageFromNDArray')
DEEP = ('I', 'I;16', 'I;16B', 'I;16L', 'I;16N')


def depth(paths: list[str], pipeline, where: str) -> Iterator[Finding]:
    """Pictures of 16 bits that would be black: their numbers fill the lower bits alone."""
    steps = list(steps_in(pipeline))
    load = next((s for s in steps if kind(s) in ('LoadImageFromFile', 'LoadImage')), None)
    if load is None or load.get('color_type', 'color') == 'unchanged':
        return
    for path in paths[::max(1, len(paths) // FIRST)][:FIRST]:
        if (most := highest(path)) is not None and most < 1 << 13:
            yield Finding('dark', path, f'holds numbers up to {most} of the 65535 that 16 bits '
                          f'have: cut to 8 bits, as {where} reads it, {most >> 8} is the highest',
                          'save it with 8 bits, its numbers scaled to 0 to 255')
            return  # one says it of all


def highest(path: str) -> int | None:
    """The highest number of a picture of 16 bits; None for any other, or none."""
    try:
        with Image.open(path) as image:
            if image.mode not in DEEP or image.width * image.height > 1 << 26:
                return None
            return int(np.asarray(image).max())
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def sizes(paths: list[str], pipeline, batch_size: int, where: str) -> Iterator[Finding]:
    """Pictures of several sizes in one batch, which mmseg cannot stack when it tests."""
    steps = list(steps_in(pipeline))
    if batch_size < 2 or any(kind(step) not in PLAIN for step in steps):
        return
    found = Counter()
    for path in paths[::max(1, len(paths) // HEADERS)]:
        if size := _size(path):
            for step in steps:
                size = _resized(size, step) if kind(step) == 'Resize' else size
            found[size] += 1
    if len(found) > 1:
        (first, _), (second, _) = found.most_common(2)
        yield Finding('sizes in a batch', f'{where}.batch_size', f'is {batch_size} where pictures '
                      f'leave the pipeline in {len(found)} sizes, such as {first} and {second} '
                      '(width, height), which cannot be stacked',
                      'set it to 1, or Resize all to one size (keep_ratio=False)')


def _size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _resized(size: tuple[int, int], step: dict) -> tuple[int, int]:
    from mmcv.image.geometric import rescale_size

    scale = step.get('scale')
    if scale is None:
        factor = step.get('scale_factor') or 1
        factor = factor if isinstance(factor, (tuple, list)) else (factor, factor)
        return int(size[0] * factor[0] + .5), int(size[1] * factor[1] + .5)
    if step.get('keep_ratio'):
        return rescale_size(size, tuple(scale) if not isinstance(scale, (int, float)) else scale)
    return tuple(scale) if not isinstance(scale, int) else (scale, scale)
