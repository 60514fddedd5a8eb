"""Supervisely: meta.json, and data sets with img/ and ann/ in folders beside it.

Its rectangles go to the last pixel in, as in its own package, which is not used here: version 6.74
asks for 62 others. Holes of polygons and bitmaps are drawn.
"""
from __future__ import annotations

import base64
import zlib
from pathlib import Path

from .from_labelme import load, pixels
from .objects import Thing, bitmap, decode, encode, outline, rectangle
from .pictures import Labels, check_stated, reading

KNOWN = ('id', 'classId', 'classTitle', 'geometryType', 'points', 'bitmap', 'labelerLogin',
         'createdAt', 'updatedAt', 'shape', 'nnCreated', 'nnUpdated')
LIMIT = 1 << 28  # bytes that a bitmap may unpack to


def is_here(root: Path) -> bool:
    """Whether a folder looks like this."""
    return (root / 'meta.json').is_file() and 'classes' in load(root / 'meta.json')


def _thing(of: dict, size: tuple[int, int]) -> Thing | None:
    """The object of a figure; None for one without an area."""
    name, kind = of['classTitle'], of.get('geometryType') or of.get('shape')
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = of['points']['exterior']
        return rectangle(name, min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1)
    if kind == 'polygon':
        thing = outline(name, of['points']['exterior'])
        if holes := of['points'].get('interior'):
            whole = decode(thing.mask, size)
            for hole in holes:
                whole[decode(outline(name, hole).mask, size) > 0] = 0
            thing.mask = encode(whole)
        return thing
    if kind == 'bitmap':
        packed = base64.b64decode(of['bitmap']['data'])
        if packed[:4] != b'\x89PNG':
            packed = zlib.decompressobj().decompress(packed, LIMIT)
        return bitmap(name, pixels(packed), *map(int, of['bitmap']['origin']), size)
    return None


def read(root: Path, args) -> Labels:
    """Pictures and objects of a project."""
    with reading(root / 'meta.json'):
        classes = [entry['title'] for entry in load(root / 'meta.json')['classes']]
    labels = Labels(args.images or [root], classes)
    for file in sorted(root.rglob('ann/*.json')):
        path = labels.find(file.stem, near=file.parent.parent / 'img')
        if not path:
            continue
        content, things = load(file), []
        with reading(file):
            stated = content.get('size') or {}
            size = check_stated(path, (stated.get('width'), stated.get('height')), file)
            labels.drop('a picture', content.items(), ('size', 'objects', 'customBigData'))
            for figure in content['objects']:
                if thing := _thing(figure, size):
                    things.append(thing)
                    labels.drop('an object', figure.items(), KNOWN)
                else:
                    labels.said[f'shapes of type {figure.get("geometryType")!r} dropped'] += 1
        labels.add(path, file, things=things)
    return labels.rest(args.empty)
