"""labelme: a json for each picture, with shapes.

labelme's own package brings PyQt5 and onnxruntime; supervision 0.31 reads rectangles and polygons,
the latter as bitmaps, and leaves circles and masks out.
"""
from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from .objects import Thing, bitmap, ellipse, joined, outline, rectangle
from .pictures import Labels, check_stated, reading

SHAPE = ('label', 'points', 'shape_type', 'group_id', 'mask')
HEAD = ('version', 'shapes', 'imagePath', 'imageData', 'imageHeight', 'imageWidth', 'lineColor',
        'fillColor')


def load(path: Path) -> dict:
    """The object in a json file; empty where there is another thing."""
    with reading(path):
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    return content if isinstance(content, dict) else {}


def is_here(root: Path) -> bool:
    """Whether a folder looks like this."""
    return any('shapes' in load(path) for path in sorted(root.rglob('*.json'))[:20])


def pixels(png: bytes) -> np.ndarray:
    """Which pixels a small picture sets: its opaque ones where it is transparent, else not 0."""
    with Image.open(io.BytesIO(png)) as image:
        if 'A' in image.mode or 'transparency' in image.info:
            return np.asarray(image.convert('RGBA'))[..., 3] > 0
        return np.asarray(image.convert('L')) > 0


def _thing(shape: dict, size: tuple[int, int]) -> Thing | None:
    """The object of a shape; None for one without an area."""
    name, kind = str(shape['label']).strip(), shape.get('shape_type') or 'polygon'
    points = [(float(x), float(y)) for x, y in shape['points']]
    if kind in ('polygon', 'oriented_rectangle'):
        return outline(name, points)
    if kind == 'rectangle':
        return rectangle(name, *points[0], *points[-1])
    if kind == 'circle':
        return ellipse(name, *points[0], *[math.dist(points[0], points[1])] * 2)
    if kind == 'mask':
        png = pixels(base64.b64decode(shape['mask']))
        return bitmap(name, png, int(points[0][0]), int(points[0][1]), size)
    return None


def _set(flags: dict | None) -> list:
    return [name for name, value in (flags or {}).items() if value]


def read(root: Path, args) -> Labels:
    """Pictures and objects of the json files below a folder."""
    labels = Labels(args.images or [root])
    for file in sorted(root.rglob('*.json')):
        content = load(file)
        if 'shapes' not in content:
            labels.said['json files of something else dropped'] += 1
            continue
        path = labels.find(str(content.get('imagePath') or file.stem), file.stem, near=file.parent)
        if not path:
            continue
        size = check_stated(path, (content.get('imageWidth'), content.get('imageHeight')), file)
        things = []
        with reading(file):
            flags = dict(content, flags=_set(content.get('flags')))
            labels.drop('a picture', flags.items(), HEAD)
            for shape in content['shapes']:
                labels.drop('an object', dict(
                    shape, flags=_set(shape.get('flags'))).items(), SHAPE)
                if thing := _thing(shape, size):
                    things.append((thing, shape.get('group_id')))
                else:
                    labels.said[f'shapes of type {shape["shape_type"]!r} dropped'] += 1
        labels.add(path, file, things=joined(things, size, labels.said))
    return labels.rest(args.empty)
