"""What every reader of labels gives: objects, in pixels of the picture as it is decoded.

(0, 0) is the upper left corner of a picture and (width, height) its lower right one; a tool that
counts otherwise is put right by its reader.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from swinv2_mm.utils.errors import UserError


@dataclass
class Thing:
    """One object: its class, its box (x, y, width, height), and its mask as COCO writes it.

    A mask is a list of polygons [x, y, x, y, ...] or run lengths dict(size, counts); None: a box
    alone. `crowd`: neither learnt nor counted.
    """

    kind: str
    box: tuple[float, float, float, float]
    mask: list | dict | None = None
    crowd: bool = False


def rectangle(kind: str, x1: float, y1: float, x2: float, y2: float, **more) -> Thing:
    """The box between two corners, in any order."""
    left, right = sorted((float(x1), float(x2)))
    top, low = sorted((float(y1), float(y2)))
    return Thing(kind, (left, top, right - left, low - top), **more)


def outline(kind: str, points: Iterable[Sequence[float]]) -> Thing:
    """A polygon of (x, y) and the box around it; ValueError for less than three points."""
    points = [(float(x), float(y)) for x, y in points]
    if len(points) < 3:
        raise ValueError(f'a polygon of {len(points)} points')
    xs, ys = zip(*points)
    return rectangle(kind, min(xs), min(ys), max(xs), max(ys),
                     mask=[[round(number, 3) for point in points for number in point]])


def turned(points: Iterable, degrees: float, pivot: Sequence[float]) -> list:
    """Points turned about a pivot, clockwise as seen with y pointing down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    px, py = pivot
    return [(px + (x - px) * cos - (y - py) * sin, py + (x - px) * sin + (y - py) * cos)
            for x, y in points]


def ellipse(kind: str, x: float, y: float, rx: float, ry: float, degrees: float = 0) -> Thing:
    """An ellipse as a polygon of 64 points."""
    angles = [2 * math.pi * i / 64 for i in range(64)]
    points = [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]
    return outline(kind, turned(points, degrees, (x, y)))


def bitmap(kind: str, part: np.ndarray, left: int, top: int, size: tuple[int, int]) -> Thing:
    """An object of the set pixels of `part`, whose corner lies at (left, top).

    What lies outside of the picture of `size` is cut. ValueError where nothing is left.
    """
    whole = np.zeros(size[::-1], bool)
    x, y = max(left, 0), max(top, 0)
    part = part[y - top:max(size[1] - top, 0), x - left:max(size[0] - left, 0)] != 0
    whole[y:y + part.shape[0], x:x + part.shape[1]] = part
    ys, xs = np.nonzero(whole)
    if not len(xs):
        raise ValueError('a mask without a pixel in its picture')
    return rectangle(kind, xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, mask=encode(whole))


def _coco():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(f'Masks need pycocotools, which cannot be imported ({error}): run `pip '
                        'install pycocotools`.') from error
    return mask


def encode(whole: np.ndarray) -> dict:
    """A mask (height, width) as run lengths of COCO."""
    runs = _coco().encode(np.asfortranarray(whole, np.uint8))
    return dict(size=list(runs['size']), counts=runs['counts'].decode())


def decode(mask: list | dict, size: tuple[int, int]) -> np.ndarray:
    """A mask of COCO, drawn: (height, width) of 0 and 1."""
    coco = _coco()
    return coco.decode(coco.merge(coco.frPyObjects(mask, size[1], size[0]))
                       if isinstance(mask, list) else mask)


def joined(things: Iterable[tuple[Thing, object]], size: tuple[int, int],
           said: Counter) -> list[Thing]:
    """Objects of (part, group): masks of one class and group are parts of one object.

    Boxes stay by themselves, as nobody says what a group of them means.
    """
    groups: dict = {}
    for number, (thing, group) in enumerate(things):
        alone = group is None or not thing.mask
        said['groups of boxes dropped'] += group is not None and alone
        groups.setdefault((None, number) if alone else (thing.kind, group), []).append(thing)
    said['masks joined to others of their group'] += sum(len(g) - 1 for g in groups.values())
    return [_union(parts, size) if len(parts) > 1 else parts[0] for parts in groups.values()]


def _union(parts: list[Thing], size: tuple[int, int]) -> Thing:
    x, y = (min(part.box[i] for part in parts) for i in (0, 1))
    x2, y2 = (max(part.box[i] + part.box[i + 2] for part in parts) for i in (0, 1))
    if all(isinstance(part.mask, list) for part in parts):
        mask = [polygon for part in parts for polygon in part.mask]
    else:
        mask = encode(np.maximum.reduce([decode(part.mask, size) for part in parts]))
    return rectangle(parts[0].kind, x, y, x2, y2, mask=mask)
