"""Whether a file's objects, taken together, can teach what the config asks of them.

Each rule looks for a mistake of whole files, such as a converter makes: one odd object is left to
the checks of single entries.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

from . import masks
from .boxes import SLACK, Objects
from .findings import Finding

SAMPLE = 500  # run-length codes that are drawn: a second
WITH_MASK = 'with_mask=True of the pipeline'
MOST = 0.5  # of the objects: a rule of the file, not an accident
MANY = 0.3  # of the boxes leave their image, and none does when read in another way


def find(objects: Objects, names: dict, path: str, where: str, wanted) -> Iterator[Finding]:
    """Findings on the objects of one file; `names` are {category id: class} of the config."""
    yield from _lacking(objects, path)
    yield from _crowds(objects, names, path, wanted)
    yield from _classes(objects, names, path, where)
    yield from _needed_masks(objects, names, path, where, wanted)
    yield from _turned_boxes(objects, path)
    yield from _no_boxes_of_coco(objects, path)
    for finding in (*_sizes_of_runs(objects, path), *_masks_and_boxes(objects, path)):
        if objects.masked or finding.kind == 'mask off its box':
            yield finding


def _shown(idents: list) -> str:
    first = ', '.join(str(ident) for ident in idents[:3])
    return f'annotation {first}' if len(idents) == 1 else (
        f'annotations {first}' + (', ...' if len(idents) > 3 else ''))


def _lacking(objects: Objects, path: str) -> Iterator[Finding]:
    if objects.lacking['id above 0']:
        yield Finding('ids from 0', path, 'numbers its annotations from 0', 'they are numbered '
                      'from 1 in memory; number from 1 for tools that do not')
    for key, value in (('iscrowd', '0'), ('area', 'that of the mask or box')):
        if number := objects.lacking[key]:
            yield Finding(f'no {key}', path, f'has {number} objects without {key}',
                          f'{value} is taken', number)


def _crowds(objects: Objects, names: dict, path: str, wanted) -> Iterator[Finding]:
    crowds = sum(objects.crowds[ident] for ident in names)
    count = crowds + sum(objects.of_use[ident] for ident in names)
    cure = ('set iscrowd to 0 where it is one object (CVAT writes 1 for brush and SAM masks, as '
            'they are run lengths)')
    if crowds and crowds == count:
        yield Finding('nothing to learn', path, f'has iscrowd 1 in all {count} objects, which '
                      'mmdet neither learns nor counts', cure, count)
    elif crowds * 4 > count:
        yield Finding('crowds', path, f'has iscrowd 1 in {crowds} of {count} objects, which mmdet '
                      'neither learns nor counts', cure, crowds)


def _classes(objects: Objects, names: dict, path: str, where: str) -> Iterator[Finding]:
    if where != 'train_dataloader' or not objects.of_use:
        return  # rare classes are missing from many a validation set
    absent = [name for ident, name in names.items() if not objects.of_use[ident]]
    if absent and len(absent) == len(names):
        yield Finding('nothing to learn', path, f'has {sum(objects.of_use.values())} objects, and '
                      f'none of the classes {", ".join(map(repr, absent[:5]))}',
                      'set classes to those that have objects, or another ann_file')
    elif absent:
        yield Finding('absent class', path, f'has no object of {len(absent)} of {len(names)} '
                      f'classes: {", ".join(map(repr, absent[:5]))}'
                      + (', ...' if len(absent) > 5 else ''),
                      'they cannot be learnt; add examples, or take them out', len(absent))


def _needed_masks(objects: Objects, names: dict, path: str, where: str,
                  wanted) -> Iterator[Finding]:
    need = wanted.masks(where)
    lacking = [ident for ident, category, left_out in objects.no_mask
               if category in names and not (left_out and need == WITH_MASK)]
    if need and lacking:
        yield Finding('no masks', path, f'has no segmentation in {_shown(lacking)}, '
                      f'{len(lacking)} of {objects.count} objects, and {need} needs one',
                      'draw them, take these objects out, or use a model without masks',
                      len(lacking))


def _turned_boxes(objects: Objects, path: str) -> Iterator[Finding]:
    if turned := objects.turned:
        yield Finding('turned box', path, f'has {len(turned)} boxes with an angle, the first '
                      f'annotation {turned[0][0]} of {turned[0][1]:g} degrees, which COCO boxes '
                      'cannot hold: they are read as if not turned', 'write the box around the '
                      'turned one, or export polygons', len(turned))


# What boxes may be instead of (x, y, width, height), as (x1, y1, x2, y2) each.
READINGS: dict[str, tuple[str, Callable]] = {
    'corners (x1, y1, x2, y2)': (
        'write width x2 - x1 and height y2 - y1', lambda a, b, c, d, w, h: (a, b, c, d)),
    'centres (cx, cy, width, height)': (
        'write x = cx - width / 2 and y = cy - height / 2',
        lambda a, b, c, d, w, h: (a - c / 2, b - d / 2, a + c / 2, b + d / 2)),
    'rows before columns (y, x, height, width)': (
        'write x, y, width, height', lambda a, b, c, d, w, h: (b, a, b + d, a + c)),
}


def _no_boxes_of_coco(objects: Objects, path: str) -> Iterator[Finding]:
    """Boxes that leave their images as they are, and do not when they are read in another way."""
    boxes = objects.boxes
    if boxes and all(0 <= value <= 1 for _, box, *_ in boxes for value in box):
        yield Finding('not x, y, w, h', path, f'has {len(boxes)} boxes of numbers from 0 to 1: '
                      'fractions of the image', 'multiply them by its width and height', len(boxes))
        return
    over = sum(not _fits(_as_coco(*box, 0, 0), width, height)
               for _, box, width, height, *_ in boxes)
    by_area = _area_of_corners(boxes)
    for name, (cure, read) in READINGS.items():
        fits = all(_fits(read(*box, width, height), width, height)
                   for _, box, width, height, *_ in boxes)
        area = by_area and name.startswith('corners')
        if fits and (over >= max(MANY * len(boxes), 2) or area):
            why = (f'{over} of {len(boxes)} leave their image' if not area else
                   'their area is that between the corners')
            yield Finding('not x, y, w, h', path, f'has boxes that seem to be {name}: {why}, and '
                          'read so, none does' if not area else
                          f'has boxes that seem to be {name}: {why}', cure, len(boxes))
            return


def _as_coco(a, b, c, d, w, h) -> tuple:
    return a, b, a + c, b + d


def _fits(box: tuple, width: int, height: int) -> bool:
    left, top, right, low = box
    return (left >= -SLACK and top >= -SLACK and right <= width + SLACK and low <= height + SLACK
            and right > left and low > top)


def _area_of_corners(boxes: list) -> bool:
    """Whether the stated areas of boxes without masks are those between corners, of all boxes."""
    stated = [(box, area) for _, box, _, _, area, mask in boxes if area and mask is None]
    apart = [(box, area) for box, area in stated
             if abs(area - box[2] * box[3]) > 0.02 * area + 2]
    return bool(apart) and len(apart) > MOST * len(boxes) and all(
        abs(area - (box[2] - box[0]) * (box[3] - box[1])) <= 0.02 * area + 2
        for box, area in stated)


def _sizes_of_runs(objects: Objects, path: str) -> Iterator[Finding]:
    wrong = [(ident, mask.size, (height, width)) for ident, _, width, height, _, mask
             in objects.boxes if mask and mask.size and mask.size != (height, width)]
    if wrong:
        ident, came, right = wrong[0]
        why = ' (width before height)' if came == right[::-1] else ''
        yield Finding('turned mask', path, f'has run lengths of another size than their image in '
                      f'{_shown([w[0] for w in wrong])}, {len(wrong)} in all: size {list(came)}'
                      f'{why} where the image has [height, width] = {list(right)}',
                      'encode the masks anew, as pycocotools.mask.encode does', len(wrong))


def _masks_and_boxes(objects: Objects, path: str) -> Iterator[Finding]:
    """Masks most of which lie outside the boxes of their own objects."""
    drawn = [(ident, box, mask) for ident, box, _, _, _, mask in objects.boxes
             if mask and mask.sound and mask.box]
    off = [(ident, mask.box, _as_coco(*box, 0, 0)) for ident, box, mask in drawn
           if masks.inside(mask.box, _as_coco(*box, 0, 0)) < MOST]
    swapped = [entry for entry in off if masks.inside(
        (entry[1][1], entry[1][0], entry[1][3], entry[1][2]), entry[2]) > 0.9]
    yield from _off(off, len(drawn), len(swapped), 'seem to be y before x', path)
    runs = [(ident, mask, _as_coco(*box, 0, 0)) for ident, box, width, height, _, mask
            in objects.boxes if mask and mask.runs is not None and mask.size == (height, width)]
    runs, bad = runs[::max(1, len(runs) // SAMPLE)], {}
    off = []
    for ident, mask, box in runs:
        try:
            found = masks.drawn(mask)
        except ValueError as error:
            bad[ident] = str(error)
            continue
        if found and masks.inside(found, box) < MOST:
            off.append((ident, mask, box))
    if bad:
        yield Finding('bad mask', path, f'has run lengths of another number of pixels than their '
                      f'size in {_shown(list(bad))}, {len(bad)} of {len(runs)} that were drawn '
                      f'(the first {next(iter(bad.values()))})', 'encode the masks anew, as '
                      'pycocotools.mask.encode does', len(bad))
    turned = [entry for entry in off if (found := masks.drawn(entry[1], turned=True))
              and masks.inside(found, entry[2]) > 0.9]
    yield from _off(off, len(runs), len(turned), 'seem to be written row by row, where COCO goes '
                    'column by column', path)


def _off(off: list, count: int, turned: int, why: str, path: str) -> Iterator[Finding]:
    if not off:
        return
    text = (f'has masks that lie outside the boxes of their objects in '
            f'{_shown([entry[0] for entry in off])}, {len(off)} of {count}')
    if turned > MOST * len(off) and len(off) > MOST * count:
        yield Finding('turned mask', path, f'{text}: they {why}', 'encode the masks anew', len(off))
    else:
        yield Finding('mask off its box', path, text, '', len(off))
