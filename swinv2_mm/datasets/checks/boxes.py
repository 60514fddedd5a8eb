"""What is wrong inside COCO annotations, entry by entry; not in the files that they name.

mmdet leaves out boxes without area or outside their image, and objects of categories it does not
know, and says so of none; a NaN goes into the loss.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import masks
from .findings import Finding
from .masks import cut
from .paths import leads_out

SLACK = 1.0  # pixels over the edge that rounding explains
ANGLES = frozenset(('rotation', 'angle', 'theta'))  # names of fields
NUMBERS = 'write whole numbers, no text'
LEFT_OUT = ('empty box', 'box outside')  # by mmdet, without a word


@dataclass
class Objects:
    """What a file's annotations come to, for the checks that look at all of them together."""

    masked: bool = True  # whether masks are used
    images: dict = field(default_factory=dict)  # id -> entry
    sizes: dict = field(default_factory=dict)  # id -> (width, height), None where not known
    of_use: Counter = field(default_factory=Counter)  # category id -> objects that mmdet learns
    crowds: Counter = field(default_factory=Counter)  # category id -> iscrowd 1
    lacking: Counter = field(default_factory=Counter)  # field -> objects without it
    no_mask: list = field(default_factory=list)  # (id, category id, left out) without a mask
    turned: list = field(default_factory=list)  # (id, degrees) of turned boxes
    boxes: list = field(default_factory=list)  # (id, box, width, height, area, mask) of each

    @property
    def count(self) -> int:
        """All objects with a sound box in a listed image."""
        return len(self.boxes)


def check_entries(content: dict, path: str, folder: str, root: str,
                  objects: Objects | None = None) -> Iterator[Finding]:
    """Findings on parsed COCO json: lists of images, annotations, categories, as dicts.

    `folder` is where the names of the images start from, `root` the folder of all data. `objects`
    is filled. Segmentations may be as parsed, or a Mask each.
    """
    objects = Objects() if objects is None else objects
    for entry in content['images']:
        yield from _check_image(entry, objects, path, folder, root)
    known = set()
    for entry in content['categories']:
        yield from _check_category(entry, known, path)
    if 'annotations' not in content:
        return
    seen, with_box, slim = set(), set(), masks.Slim()
    for entry in content['annotations']:
        found = list(_check_annotation(entry, objects, known, seen, slim, path))
        if all(finding.kind == 'box over the edge' for finding in found):
            with_box.add(entry['image_id'])
        yield from found
    if not with_box:
        yield Finding('no boxes', path, f'has {len(objects.images)} images and no box of use')
    elif lacking := len(objects.images) - len(with_box):
        yield Finding('no objects', path, f'has {lacking} of {len(objects.images)} images without '
                      'a box of use')


def _is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) or (
        isinstance(value, float) and value.is_integer())  # as tables write it; repairs.py


def _text_of(value, known) -> bool:
    """Whether a value is the text of one of the numbers in `known`."""
    return isinstance(value, str) and value.isdecimal() and int(value) in known


def _is_side(value) -> bool:
    return _is_integer(value) and 0 < value and _finite(value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)


def _are_numbers(values: list) -> bool:
    """As _is_number of each, faster: a training set has millions."""
    return not [v for v in values if type(v) not in (int, float) or not -1e9 < v < 1e9]


def _finite(value) -> bool:
    return abs(value) < 1e9 if isinstance(value, int) else math.isfinite(value)


def _check_category(entry, known: set, path: str) -> Iterator[Finding]:
    """Findings on one entry of `categories`, whose id joins `known`."""
    ident = entry.get('id') if isinstance(entry, dict) else None
    if not _is_integer(ident) or not isinstance(entry.get('name'), str):
        yield Finding('no field', path, 'has a category without a whole number as id and a text as '
                      f'name: {cut(entry)}')
    elif ident in known:
        yield Finding('id twice', path, f'has two categories of id {ident}')
    else:
        known.add(ident)


def _check_image(entry, objects: Objects, path: str, folder: str, root: str) -> Iterator[Finding]:
    """Findings on one entry of `images`, which joins them by its id where it can be used."""
    images = objects.images
    if not isinstance(entry, dict) or not _is_integer(entry.get('id')):
        yield Finding('no field', path, f'has an image without a whole number as id: {cut(entry)}',
                      NUMBERS)
        return
    ident = entry['id']
    if ident in images:
        yield Finding('id twice', path, f'has two images of id {ident}')
        return
    images[ident] = entry
    sides = entry.get('width'), entry.get('height')
    objects.sizes[ident] = sides if all(map(_is_side, sides)) else None
    name = entry.get('file_name')
    if not isinstance(name, str) or not name:
        yield Finding('no field', path, f'has an image without file_name, id {ident}')
    elif leads_out(name, folder, root):
        yield Finding('outside the root', path, f'names {name!r}, which leads out of the data')
    for side in ('width', 'height'):
        if not _is_side(entry.get(side)):
            yield Finding('no field', path, f'has an image without a {side} in pixels, id {ident}: '
                          f'{cut(entry.get(side))}')


def _check_annotation(entry, objects: Objects, categories: set, seen: set, slim: masks.Slim,
                      path: str) -> Iterator[Finding]:
    if not isinstance(entry, dict) or not _is_integer(entry.get('id')):
        yield Finding('no field', path, 'has an annotation without a whole number as id: '
                      f'{cut(entry)}', NUMBERS)
        return
    ident = entry['id']
    where = f'annotation {ident}'
    if ident in seen:
        yield Finding('id twice', path, f'has two annotations of id {ident}')
    seen.add(ident)
    image, category = entry.get('image_id'), entry.get('category_id')
    if _text_of(image, objects.images) or _text_of(category, categories):
        yield Finding('no field', path, f'has {where} with image_id {image!r} and category_id '
                      f'{category!r}, where ids of images and categories are numbers', NUMBERS)
        return
    if not _is_integer(image) or image not in objects.images:
        yield Finding('unknown image', path, f'has {where} of the unknown image {cut(image)}')
        return
    known = _is_integer(category) and category in categories
    if not known:
        yield Finding('unknown class', path, f'has {where} of the unknown category '
                      f'{cut(category)}')
    crowd = entry.get('iscrowd')
    if crowd is None:
        objects.lacking['iscrowd'] += 1
    elif crowd not in (0, 1):  # '0' would count as a crowd
        yield Finding('no field', path, f'has {where} with iscrowd {cut(crowd)}, neither 0 nor 1')
    mask = slim.mask(entry.get('segmentation'))
    if mask and not mask.sound and objects.masked:
        yield Finding('bad mask', path, f'has {where} with a segmentation that cannot be drawn: '
                      f'{mask.text}')
    box = list(_check_box(entry, objects, where, path))
    yield from box
    if known and not any(finding.level == 'error' for finding in box):
        _count(entry, objects, mask, left_out=any(f.kind in LEFT_OUT for f in box))


def _check_box(entry: dict, objects: Objects, where: str, path: str) -> Iterator[Finding]:
    box = entry.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        yield Finding('bad box', path, f'has {where} without four finite numbers as bbox: '
                      f'{cut(box)}')
        return
    left, top, wide, high = box
    area = entry.get('area')
    if area is None:
        area = wide * high
    if not _is_number(area):
        yield Finding('no field', path, f'has {where} without a finite area: {cut(area)}')
        return
    if wide < 1 or high < 1 or area <= 0:
        yield Finding('empty box', path, f'has {where} with a box of {wide} x {high} pixels and '
                      f'area {area}')
        return
    if not (size := objects.sizes[entry['image_id']]):
        return  # said of the image
    width, height = size
    if left >= width or top >= height or left + wide <= 0 or top + high <= 0:
        yield Finding('box outside', path, f'has {where} with a box at {cut(box)}, outside its '
                      f'image of {width} x {height}')
    elif (min(left, top) < -SLACK or left + wide > width + SLACK or top + high > height + SLACK):
        yield Finding('box over the edge', path, f'has {where} with a box at {cut(box)}, partly '
                      f'outside its image of {width} x {height}')


def _count(entry: dict, objects: Objects, mask, left_out: bool) -> None:
    """Enter an object with a sound box."""
    ident = entry['id']
    if entry.get('area') is None:
        objects.lacking['area'] += 1
    if ident == 0:
        objects.lacking['id above 0'] += 1
    if degrees := _angle(entry):
        objects.turned.append((ident, degrees))
    if size := objects.sizes[entry['image_id']]:
        objects.boxes.append((ident, entry['bbox'], *size, entry.get('area'), mask))
    category = entry.get('category_id')
    if mask is None:
        objects.no_mask.append((ident, category, left_out))
    if not left_out and not entry.get('ignore'):
        (objects.crowds if entry.get('iscrowd') == 1 else objects.of_use)[category] += 1


def _angle(entry: dict) -> float:
    """By how many degrees tools say that a box is turned; 0 where they do not."""
    for place in (entry, entry.get('attributes')):
        for key in ANGLES.intersection(place) if isinstance(place, dict) else ():
            value = place[key]
            if isinstance(value, (int, float)) and _is_number(value) and value % 180:
                return value
    return 0
