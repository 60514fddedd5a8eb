"""Make COCO json of boxes in the format of Pascal VOC: python tools/dataset/voc_to_coco.py ROOT.

    python tools/dataset/voc_to_coco.py BCCD_Dataset/BCCD --out data/bccd

reads ROOT/ImageSets/Main/SPLIT.txt, ROOT/Annotations/NAME.xml and ROOT/JPEGImages/NAME.*, and
writes OUT/SPLIT.json and OUT/images/. VOC counts pixels from 1 and takes the last one in; boxes
come out as x, y, width, height from 0, and `difficult` ones as crowds, which neither training nor
AP counts. Boxes without an area, and objects of other classes than --classes, are left out and
counted, and so are fields that COCO has no place for.
"""
from __future__ import annotations

import argparse
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from swinv2_mm.datasets.synthetic.whole_set import build, run, write_json
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

from .pictures import ENDINGS, check_stated

ABOUT_FILE = ('object', 'size', 'folder', 'filename', 'path', 'source', 'owner')


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(':')[0])
    parser.add_argument('root', type=Path, help='folder with Annotations, ImageSets, JPEGImages')
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--splits', nargs='+', default=['train', 'val', 'test'], metavar='SPLIT',
                        help='lists of ImageSets/Main (train val test)')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='classes in the order of their numbers (default: all, by alphabet)')
    return parser.parse_args(argv)


def names(root: Path, split: str) -> list[str]:
    """Names of the images of a split, each once, without ending.

    A line is a name, which may hold blanks, or a name and the flag 1, 0 or -1 of VOC's class lists.
    """
    path = root / 'ImageSets' / 'Main' / f'{split}.txt'
    if not path.is_file():
        raise UserError(f'There is no list at {str(path)!r}: give the folder that holds ImageSets, '
                        'or other --splits; without lists, tools/dataset/labels.py reads it.')
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    found = [_name(root, line.strip()) for line in lines if line.strip()]
    for name, count in Counter(found).items():
        if count > 1 or Path(name).name != name or '\\' in name:
            raise UserError(f'{path} must name each image once and without a folder, got {name!r}: '
                            'correct the list.')
    return found


def _name(root: Path, line: str) -> str:
    """The reading of a line that has an annotation; the first where none has."""
    plain = re.sub(r'\s+(-1|0|1)$', '', line)
    readings = [line, plain, *(str(Path(name).with_suffix('')) for name in (line, plain)
                               if Path(name).suffix.lower() in ENDINGS)]
    there = (name for name in readings if (root / 'Annotations' / f'{name}.xml').is_file())
    return next(there, plain)


def annotation(root: Path, name: str) -> ElementTree.Element:
    """The parsed annotation of an image."""
    path = root / 'Annotations' / f'{name}.xml'
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise _no_annotation(path, name, error) from None


def corners(tree: ElementTree.Element) -> Iterator[tuple]:
    """(class, its four numbers, is difficult, names of what COCO has no place for) of each object.

    ValueError for one without a class or a number.
    """
    for thing in tree.iter('object'):
        try:
            box = [float(thing.findtext(f'bndbox/{side}'))
                   for side in ('xmin', 'ymin', 'xmax', 'ymax')]
            kind, difficult = thing.findtext('name').strip(), is_set(thing.find('difficult'))
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        lost = [part.tag for part in thing
                if part.tag not in ('name', 'bndbox', 'difficult') and is_set(part)]
        yield kind, box, difficult, lost


def objects(root: Path, name: str, tree: ElementTree.Element) -> Iterator[tuple]:
    """As `corners` has them, with [x, y, width, height] counted from 0 for the numbers."""
    try:
        for kind, (left, top, right, bottom), difficult, lost in corners(tree):
            yield kind, [left - 1, top - 1, right - left + 1, bottom - top + 1], difficult, lost
    except ValueError as error:
        raise _no_annotation(root / 'Annotations' / f'{name}.xml', name, error) from None


def is_set(part: ElementTree.Element | None) -> bool:
    """Whether a field says anything: it has parts, or a text other than no, 0 or unspecified."""
    text = '' if part is None else (part.text or '').strip().lower()
    return part is not None and (len(part) > 0 or text not in (
        '', '0', '0.0', 'no', 'false', 'unspecified', 'unknown', 'none'))


def _no_annotation(path: Path, name: str, error: Exception) -> UserError:
    return UserError(f'{path} must be a VOC annotation with a name and four numbers for each '
                     f'object, it gives "{error}": mend it or take {name} off the list.')


def image_of(root: Path, name: str, tree: ElementTree.Element) -> tuple[Path, int, int]:
    """File of an image, its width and height as it is decoded: turned as its EXIF says."""
    path = _file_of(root, name, tree)
    stated = [tree.findtext(f'size/{side}') for side in ('width', 'height')]
    return path, *check_stated(path, stated, f'Annotations/{name}.xml')


def _file_of(root: Path, name: str, tree: ElementTree.Element) -> Path:
    named = (tree.findtext('filename') or '').strip().replace('\\', '/').rpartition('/')[2]
    endings = (*ENDINGS, *(ending.upper() for ending in ENDINGS))
    for file in (*(f'{name}{ending}' for ending in endings), named):
        if file and (root / 'JPEGImages' / file).is_file():
            return root / 'JPEGImages' / file
    raise UserError(f'There is no image {name}.jpg or the like in {str(root / "JPEGImages")!r}: '
                    f'take {name} off the list.')


def convert(root: Path, listed: list[str], classes: list[str],
            images: Path) -> tuple[dict, Counter]:
    """The json of some images, which are copied to `images`; and what happened, how often."""
    numbers = {name: i + 1 for i, name in enumerate(classes)}
    content = dict(images=[], annotations=[],
                   categories=[dict(id=i, name=name) for name, i in numbers.items()])
    said = Counter()
    for number, name in enumerate(listed, 1):
        tree = annotation(root, name)
        path, width, height = image_of(root, name, tree)
        shutil.copyfile(path, images / path.name)
        said.update(f'images with {part.tag!r}, which is not carried over' for part in tree
                    if part.tag not in ABOUT_FILE and is_set(part))
        content['images'].append(dict(id=number, file_name=path.name, width=width, height=height))
        for kind, box, difficult, lost in objects(root, name, tree):
            if kind not in numbers or min(box[2:]) <= 0:
                why = 'without an area' if kind in numbers else f'of class {kind}'
                said[f'{why} left out'] += 1
                continue
            said['difficult (iscrowd 1)'] += difficult
            said.update(f'boxes with {field!r}, which is not carried over' for field in lost)
            content['annotations'].append(dict(
                id=len(content['annotations']) + 1, image_id=number, category_id=numbers[kind],
                bbox=box, area=box[2] * box[3], iscrowd=int(difficult)))
    return content, +said


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    if args.out.exists():
        raise UserError(f'--out must be a new folder, {args.out} is there: choose another --out.')
    listed = {split: names(args.root, split) for split in args.splits}
    classes = args.classes or sorted({
        kind for split in listed.values() for name in split
        for kind, *_ in objects(args.root, name, annotation(args.root, name))})

    def fill(folder: Path) -> str:
        (folder / 'images').mkdir()
        said = []
        for split, some in listed.items():
            content, counts = convert(args.root, some, classes, folder / 'images')
            write_json(folder / f'{split}.json', content)
            rest = ''.join(f', {count} {what}' for what, count in sorted(counts.items()))
            said.append(f'{split}: {len(some)} images, {len(content["annotations"])} boxes{rest}')
        return '\n'.join(said)

    print(f'classes {classes}\n{build(args.out.resolve(), fill)}\nwrote {args.out}')


def cli() -> None:
    """The command line of this tool."""
    run('voc_to_coco.py', lambda: entry.run(main))
