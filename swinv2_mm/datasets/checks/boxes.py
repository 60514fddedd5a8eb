"""What is wrong inside COCO annotations, entry by entry; not in the files that they name.

mmdet leaves out boxes without area or outside their image, and objects of categories it does not
know, and says so of none; a NaN goes into the loss.
"""
import math
from collections.abc import Iterator

from .findings import Finding
from .paths import leads_out

SLACK = 1.0  # pixels over the edge that rounding explains


def check_entries(content: dict, path: str, folder: str, root: str) -> Iterator[Finding]:
    """Findings on parsed COCO json: lists of images, annotations, categories, as dicts.

    `folder` is where the names of the images start from, `root` the folder of all data.
    """
    images = {}
    for entry in content['images']:
        yield from _check_image(entry, images, path, folder, root)
    known = set()
    for entry in content['categories']:
        yield from _check_category(entry, known, path)
    seen, with_box = set(), set()
    for entry in content['annotations']:
        findings = list(_check_annotation(entry, images, known, seen, path))
        if all(finding.kind == 'box over the edge' for finding in findings):
            with_box.add(entry['image_id'])
        yield from findings
    if not with_box:
        yield Finding('no boxes', path, f'has {len(images)} images and no box of use')
    elif lacking := len(images) - len(with_box):
        yield Finding('no objects', path, f'has {lacking} of {len(images)} images without a box of '
                      'use')


def _is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_side(value) -> bool:
    return _is_integer(value) and 0 < value and _finite(value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)


def _finite(value) -> bool:
    return abs(value) < 1e9 if isinstance(value, int) else math.isfinite(value)


def _check_category(entry, known: set, path: str) -> Iterator[Finding]:
    """Findings on one entry of `categories`, whose id joins `known`."""
    ident = entry.get('id') if isinstance(entry, dict) else None
    if not _is_integer(ident) or not isinstance(entry.get('name'), str):
        yield Finding('no field', path, 'has a category without a whole number as id and a text as '
                      f'name: {_cut(entry)}')
    elif ident in known:
        yield Finding('id twice', path, f'has two categories of id {ident}')
    else:
        known.add(ident)


def _check_image(entry, images: dict, path: str, folder: str, root: str) -> Iterator[Finding]:
    """Findings on one entry of `images`, which joins `images` by its id where it can be used."""
    if not isinstance(entry, dict) or not _is_integer(entry.get('id')):
        yield Finding('no field', path, f'has an image without a whole number as id: {_cut(entry)}')
        return
    ident = entry['id']
    if ident in images:
        yield Finding('id twice', path, f'has two images of id {ident}')
        return
    images[ident] = entry
    name = entry.get('file_name')
    if not isinstance(name, str) or not name:
        yield Finding('no field', path, f'has an image without file_name, id {ident}')
    elif leads_out(name, folder, root):
        yield Finding('outside the root', path, f'names {name!r}, which leads out of the data')
    for side in ('width', 'height'):
        if not _is_side(entry.get(side)):
            yield Finding('no field', path, f'has an image without a {side} in pixels, id {ident}: '
                          f'{_cut(entry.get(side))}')


def _check_annotation(entry, images: dict, categories: set, seen: set,
                      path: str) -> Iterator[Finding]:
    if not isinstance(entry, dict) or not _is_integer(entry.get('id')):
        yield Finding('no field', path, 'has an annotation without a whole number as id: '
                      f'{_cut(entry)}')
        return
    where = f'annotation {entry["id"]}'
    if entry['id'] in seen:
        yield Finding('id twice', path, f'has two annotations of id {entry["id"]}')
    seen.add(entry['id'])
    image, category = entry.get('image_id'), entry.get('category_id')
    if not _is_integer(image) or image not in images:
        yield Finding('unknown image', path, f'has {where} of the unknown image {_cut(image)}')
        return
    if not _is_integer(category) or category not in categories:
        yield Finding('unknown class', path, f'has {where} of the unknown category '
                      f'{_cut(category)}')
    yield from _check_box(entry, images[image], where, path)
    yield from _check_mask(entry.get('segmentation'), where, path)


def _check_box(entry: dict, image: dict, where: str, path: str) -> Iterator[Finding]:
    box = entry.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        yield Finding('bad box', path, f'has {where} without four finite numbers as bbox: '
                      f'{_cut(box)}')
        return
    area = entry.get('area')
    if not _is_number(area):
        yield Finding('no field', path, f'has {where} without a finite area: {_cut(area)}')
        return
    left, top, wide, high = box
    if wide < 1 or high < 1 or area <= 0:
        yield Finding('empty box', path, f'has {where} with a box of {wide} x {high} pixels and '
                      f'area {area}')
        return
    width, height = image.get('width'), image.get('height')
    if not (_is_side(width) and _is_side(height)):
        return  # said of the image
    if left >= width or top >= height or left + wide <= 0 or top + high <= 0:
        yield Finding('box outside', path, f'has {where} with a box at {_cut(box)}, outside its '
                      f'image of {width} x {height}')
    elif (min(left, top) < -SLACK or left + wide > width + SLACK or top + high > height + SLACK):
        yield Finding('box over the edge', path, f'has {where} with a box at {_cut(box)}, partly '
                      f'outside its image of {width} x {height}')


def _check_mask(mask, where: str, path: str) -> Iterator[Finding]:
    """Polygons of at least three points, or run lengths; none at all is for detection alone."""
    if mask is None or mask == []:
        return
    if isinstance(mask, list):
        sound = all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0
                    and all(map(_is_number, part)) for part in mask)
    else:
        size = mask.get('size') if isinstance(mask, dict) else None
        sound = (isinstance(size, list) and len(size) == 2 and all(map(_is_integer, size))
                 and all(0 < side < 1 << 15 for side in size) and _counts(mask, size))
    if not sound:
        yield Finding('bad mask', path, f'has {where} with a segmentation that cannot be drawn: '
                      f'{_cut(mask)}')


def _counts(mask: dict, size: list) -> bool:
    counts = mask.get('counts')
    if isinstance(counts, list):
        return all(_is_integer(c) and c >= 0 for c in counts) and sum(counts) == math.prod(size)
    return isinstance(counts, (str, bytes)) and len(counts) > 0


def _cut(value) -> str:
    """A value as text, cut off after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
