"""CVAT for images 1.1: an annotations.xml, with the pictures in images/ or elsewhere.

Of what reads it, datumaro 1.13 brings pandas, pyarrow and sixteen more and knows no ellipse,
labelformat 0.1 reads boxes alone and as if not turned, and cvat-sdk asks a server.
"""
from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from swinv2_mm.utils.errors import UserError

from .objects import Thing, bitmap, ellipse, joined, outline, rectangle, turned
from .pictures import SPLITS, Labels, check_stated, reading

KNOWN = ('label', 'source', 'xtl', 'ytl', 'xbr', 'ybr', 'points', 'rotation', 'z_order', 'group_id',
         'cx', 'cy', 'rx', 'ry', 'rle', 'left', 'top', 'width', 'height')


def _files(root: Path) -> list[Path]:
    files = [root] if root.suffix == '.xml' else sorted(root.rglob('*.xml'))
    return [path for path in files if '<annotations>' in path.open(errors='replace').read(2000)]


def is_here(root: Path) -> bool:
    """Whether a folder or file looks like this."""
    return bool(_files(root))


def _thing(shape: ElementTree.Element, size: tuple[int, int]) -> Thing | None:
    """The object of a shape; None for one without an area."""
    of, name = shape.attrib, shape.attrib['label']
    degrees = float(of.get('rotation', 0))
    if shape.tag == 'box':
        x1, y1, x2, y2 = (float(of[side]) for side in ('xtl', 'ytl', 'xbr', 'ybr'))
        if degrees % 180 == 0:
            return rectangle(name, x1, y1, x2, y2)
        corners = (x1, y1), (x2, y1), (x2, y2), (x1, y2)
        return outline(name, turned(corners, degrees, ((x1 + x2) / 2, (y1 + y2) / 2)))
    if shape.tag == 'polygon':
        return outline(name, [pair.split(',') for pair in of['points'].split(';')])
    if shape.tag == 'ellipse':
        return ellipse(name, *(float(of[key]) for key in ('cx', 'cy', 'rx', 'ry')), degrees)
    if shape.tag == 'mask':  # runs along its rows, the first of them not set
        runs = [int(run) for run in of['rle'].split(',')]
        wide, high = int(of['width']), int(of['height'])
        if sum(runs) != wide * high or sum(runs) > size[0] * size[1]:
            raise ValueError(f'runs of {sum(runs)} pixels in a mask of {wide} x {high}')
        part = np.repeat(np.arange(len(runs)) % 2, runs).reshape(high, wide)
        return bitmap(name, part, int(of['left']), int(of['top']), size)
    return None


def _things(image: ElementTree.Element, size: tuple[int, int], labels: Labels) -> list[Thing]:
    """The objects of a picture, what lies below first."""
    found = []
    for shape in sorted(image, key=lambda shape: int(shape.get('z_order', 0))):
        thing = _thing(shape, size)
        if thing is None:
            labels.said[f'shapes of type {shape.tag!r} dropped'] += 1
            continue
        labels.said['turned boxes taken as polygons'] += shape.tag == 'box' and bool(thing.mask)
        labels.drop('an object', shape.attrib.items(), KNOWN)
        labels.drop('the attributes', ((part.get('name'), part.text) for part in shape), ())
        group = shape.get('group_id')
        found.append((thing, None if group in (None, '', '0') else group))
    return joined(found, size, labels.said)


def read(root: Path, args) -> Labels:
    """Pictures and objects of the xml files; `root` is one of them or their folder."""
    labels = Labels(args.images or [root if root.is_dir() else root.parent])
    for file in _files(root):
        with reading(file):
            tree = ElementTree.parse(file).getroot()
        if tree.find('track') is not None:
            raise UserError(f'{file} is "CVAT for video", whose pictures are frames of a film: '
                            'export the task as "CVAT for images 1.1", with its images.')
        labels.classes += [name.text for name in tree.iterfind('meta/*/labels/label/name')
                           if name.text not in labels.classes]
        for image in tree.iterfind('image'):
            where = f'{file}, image {image.get("name")!r},'
            path = labels.find(image.get('name', ''))
            if path:
                size = check_stated(path, (image.get('width'), image.get('height')), where)
                with reading(where):
                    things = _things(image, size, labels)
                labels.add(path, where, things=things,
                           split=SPLITS.get(str(image.get('subset')).lower(), ''))
    return labels.rest(args.empty)
