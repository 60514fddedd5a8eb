"""Segmentations of COCO json: whether they can be drawn, and where they lie, in little memory.

A polygon is a list of numbers, of which COCO's training set has fifty million. So each is looked at
when it is parsed and only what the checks need is kept of it.
"""
from __future__ import annotations

import math
from typing import NamedTuple

KEPT = 2000  # run-length codes that are kept to be drawn; after them, one in a hundred


class Mask(NamedTuple):
    """A segmentation: `sound` or not; the box (x1, y1, x2, y2) around polygons; run lengths.

    `size` is (height, width) of run lengths, `runs` those that are kept. `text` shows one that is
    not sound.
    """

    sound: bool
    box: tuple | None = None
    size: tuple | None = None
    runs: object = None
    text: str = ''


class Slim:
    """An object_hook for json that puts a Mask, or None, in the place of each segmentation."""

    def __init__(self):
        self.seen = 0

    def __call__(self, entry: dict) -> dict:
        if 'image_id' in entry:
            entry['segmentation'] = self.mask(entry.get('segmentation'))
        return entry

    def mask(self, value) -> Mask | None:
        """What is kept of a segmentation; None where there is none."""
        if value is None or value == [] or isinstance(value, Mask):
            return value or None
        if isinstance(value, list):
            return _polygons(value)
        size = value.get('size') if isinstance(value, dict) else None
        if not (isinstance(size, list) and len(size) == 2 and all(map(_is_integer, size))
                and all(0 < side < 1 << 15 for side in size) and _counts(value, size)):
            return Mask(False, text=cut(value))
        self.seen += 1
        kept = self.seen <= KEPT or self.seen % 100 == 0
        return Mask(True, size=tuple(size), runs=value['counts'] if kept else None)


def _polygons(parts: list) -> Mask:
    left = top = math.inf
    right = low = -math.inf
    try:
        for part in parts:
            if len(part) < 6 or len(part) % 2 or not math.isfinite(sum(part)):
                return Mask(False, text=cut(parts))
            xs, ys = part[::2], part[1::2]
            left, top = min(left, min(xs)), min(top, min(ys))
            right, low = max(right, max(xs)), max(low, max(ys))
    except (TypeError, OverflowError):
        return Mask(False, text=cut(parts))
    return Mask(True, box=(left, top, right, low))


def _is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _counts(mask: dict, size: list) -> bool:
    counts = mask.get('counts')
    if isinstance(counts, list):
        return all(_is_integer(c) and c >= 0 for c in counts) and sum(counts) == math.prod(size)
    return isinstance(counts, (str, bytes)) and len(counts) > 0


def inside(box: tuple, other: tuple, slack: float = 2.0) -> float:
    """The share of a box that lies in another, grown by `slack` pixels; boxes (x1, y1, x2, y2)."""
    wide = min(box[2], other[2] + slack) - max(box[0], other[0] - slack)
    high = min(box[3], other[3] + slack) - max(box[1], other[1] - slack)
    area = max(box[2] - box[0], 1e-6) * max(box[3] - box[1], 1e-6)
    return max(wide, 0) * max(high, 0) / area if wide > 0 and high > 0 else 0.0


def lengths(code: str | bytes) -> list[int]:
    """The run lengths that a compressed code holds: COCO's rule, as no library looks at their sum.

    A number is groups of 5 bits, lowest first, each a character from '0' on; bit 6 says that more
    follow, the highest bit of the last is the sign; from the fourth on, it is what is added to the
    number two before.
    """
    runs, value, bits = [], 0, 0
    for number in code.encode() if isinstance(code, str) else code:
        number -= 48
        value |= (number & 31) << bits
        bits += 5
        if not number & 32:
            value -= (1 << bits) if number & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return runs


def drawn(mask: Mask, turned: bool = False) -> tuple | None:
    """The box (x1, y1, x2, y2) around kept run lengths, `turned` read row by row; None if empty.

    ValueError for a code of another number of pixels, of which pycocotools makes what it likes.
    """
    import numpy as np
    from pycocotools import mask as masks

    height, width = mask.size
    if not isinstance(mask.runs, list) and sum(lengths(mask.runs)) != height * width:
        raise ValueError(f'codes {sum(lengths(mask.runs))} pixels')
    runs = dict(size=[height, width], counts=mask.runs)
    if isinstance(mask.runs, list):
        runs = masks.frPyObjects(runs, height, width)
    picture = masks.decode(runs)
    if turned:
        picture = picture.flatten(order='F').reshape(height, width)
    ys, xs = np.nonzero(picture)
    if not len(xs):
        return None
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def cut(value) -> str:
    """A value as text, cut off after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
