"""Writing labels as the configs read them: COCO json, or maps of classes."""
from __future__ import annotations

import colorsys
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from swinv2_mm.datasets.synthetic.whole_set import write_json
from swinv2_mm.utils.errors import UserError

from .objects import decode
from .pictures import Labels, Picture

UNLABELLED = 255


def _palette(count: int) -> list[list[int]]:
    """As many colours, each far from those before it."""
    hues = ((0.6180339887 * i % 1, 0.55 + 0.4 * (i // 7 % 2)) for i in range(count))
    return [[round(255 * part) for part in colorsys.hsv_to_rgb(hue, depth, 0.9)]
            for hue, depth in hues]


def _splits(labels: Labels, ending: str = '') -> dict[str, list[tuple[str, Picture]]]:
    """(name in one folder, picture) of each split that has some.

    A name is the picture's own, or its path where two would differ in their endings or in the case
    of letters only: their maps would be one file.
    """
    stems = Counter(picture.path.stem.lower() for picture in labels.pictures)
    found: dict[str, list] = {}
    for split in ('train', 'val', 'test'):
        for picture in (picture for picture in labels.pictures if picture.split == split):
            twice = stems[picture.path.stem.lower()] > 1
            name = picture.source.replace('/', '__') if twice else picture.path.name
            name = f'{Path(name).stem}{ending}' if ending else name
            found.setdefault(split, []).append((name, picture))
    names = Counter(name.lower() for pairs in found.values() for name, _ in pairs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError('Pictures must keep different names in one folder, two would be '
                        f'{twice[0]}: rename one.')
    return found


def write_coco(labels: Labels, folder: Path) -> list[str]:
    """SPLIT.json and images/ in `folder`; a line on each split."""
    (folder / 'images').mkdir()
    numbers = {name: number for number, name in enumerate(labels.classes, 1)}
    lines = []
    for split, pairs in _splits(labels).items():
        images, objects = [], []
        for number, (name, picture) in enumerate(pairs, 1):
            shutil.copyfile(picture.path, folder / 'images' / name)
            images.append(dict(id=number, file_name=name, width=picture.size[0],
                               height=picture.size[1]))
            for thing in picture.things:
                area = (float(decode(thing.mask, picture.size).sum()) if thing.mask
                        else round(thing.box[2] * thing.box[3], 3))
                objects.append(dict(
                    id=len(objects) + 1, image_id=number, category_id=numbers[thing.kind],
                    bbox=list(thing.box), area=area, iscrowd=int(thing.crowd),
                    **(dict(segmentation=thing.mask) if thing.mask else {})))
        write_json(folder / f'{split}.json', dict(
            images=images, annotations=objects,
            categories=[dict(id=number, name=name) for name, number in numbers.items()]))
        lines.append(f'{split}: {len(pairs)} pictures, {len(objects)} objects, '
                     f'{sum("segmentation" in entry for entry in objects)} with a mask')
    return lines


def _drawn(picture: Picture, numbers: dict[str, int], rest: int) -> np.ndarray:
    """The map of a picture's objects, later ones over earlier ones; crowds are not labelled."""
    found = np.full(picture.size[::-1], rest, np.uint8)
    for thing in picture.things:
        number = UNLABELLED if thing.crowd else numbers[thing.kind]
        found[decode(thing.mask, picture.size) > 0] = number
    return found


def write_maps(labels: Labels, folder: Path, rest: str) -> list[str]:
    """img_dir/SPLIT, ann_dir/SPLIT and classes.json; a line on each split.

    `rest` is the class of pixels outside of all objects; '': they are not labelled. Pictures are
    saved as PNG where their endings differ, as mmsegmentation reads one ending a set.
    """
    if not any(picture.map for picture in labels.pictures) and rest:
        labels.classes = [rest, *(name for name in labels.classes if name != rest)]
    numbers = {name: number for number, name in enumerate(labels.classes)}
    endings = {picture.path.suffix for picture in labels.pictures}
    ending = endings.pop() if len(endings) == 1 else '.png'
    lines = []
    for split, pairs in _splits(labels, ending).items():
        for part in ('img_dir', 'ann_dir'):
            (folder / part / split).mkdir(parents=True)
        held: Counter = Counter()
        for name, picture in pairs:
            _copy(picture.path, folder / 'img_dir' / split / name, labels)
            found = (picture.map() if picture.map
                     else _drawn(picture, numbers, numbers.get(rest, UNLABELLED)))
            held.update(np.unique(found).tolist())
            Image.fromarray(found).save((folder / 'ann_dir' / split / name).with_suffix('.png'))
        lines.append(f'{split}: {len(pairs)} pictures, with ' + ', '.join(
            f'{name} in {held[number]}' for name, number in numbers.items()))
    (folder / 'classes.json').write_text(json.dumps(dict(
        classes=labels.classes, palette=labels.palette or _palette(len(numbers)),
        img_suffix=ending), indent=1))
    return lines


def _copy(source: Path, target: Path, labels: Labels) -> None:
    if source.suffix == target.suffix:
        shutil.copyfile(source, target)
        return
    import mmcv  # as training decodes it: turned as its EXIF says
    mmcv.imwrite(mmcv.imread(str(source)), str(target))
    labels.said['pictures saved as PNG, as mmsegmentation reads one ending'] += 1
