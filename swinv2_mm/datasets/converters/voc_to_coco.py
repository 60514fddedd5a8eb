"""Make COCO json of boxes in the format of Pascal VOC: python tools/dataset/voc_to_coco.py ROOT.

    python tools/dataset/voc_to_coco.py BCCD_Dataset/BCCD --out data/bccd

reads ROOT/ImageSets/Main/SPLIT.txt, ROOT/Annotations/NAME.xml and ROOT/JPEGImages/NAME.*, and
writes OUT/SPLIT.json and OUT/images/. VOC counts pixels from 1 and takes the last one in; boxes
come out as x, y, width, height from 0. Boxes without an area, and objects of other classes than
--classes, are left out and counted.
"""
from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from swinv2_mm.datasets.synthetic.whole_set import build, run, write_json
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp')


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
    """Names of the images of a split, each once, without ending."""
    path = root / 'ImageSets' / 'Main' / f'{split}.txt'
    if not path.is_file():
        raise UserError(f'There is no list at {str(path)!r}: give the folder that holds ImageSets, '
                        'or other --splits.')
    found = [line.split()[0] for line in path.read_text(encoding='utf-8').splitlines()
             if line.strip()]
    for name, count in Counter(found).items():
        if count > 1 or Path(name).name != name:
            raise UserError(f'{path} must name each image once and without a folder, got {name!r}.')
    return found


def objects(root: Path, name: str) -> list[tuple[str, list[float]]]:
    """(class, [x, y, width, height]) of each object of an image."""
    path = root / 'Annotations' / f'{name}.xml'
    try:
        found = []
        for thing in ElementTree.parse(path).iter('object'):
            left, top, right, bottom = (float(thing.findtext(f'bndbox/{side}'))
                                        for side in ('xmin', 'ymin', 'xmax', 'ymax'))
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            found.append((thing.findtext('name').strip(), box))
    except (OSError, ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f'{path} must be a VOC annotation with a name and four numbers for each '
                        f'object, it gives "{error}": mend it or take {name} off the '
                        'list.') from None
    return found


def image_of(root: Path, name: str) -> tuple[Path, int, int]:
    """File of an image, its width and height."""
    for ending in (*ENDINGS, *(ending.upper() for ending in ENDINGS)):
        path = root / 'JPEGImages' / f'{name}{ending}'
        if path.is_file():
            try:
                with Image.open(path) as image:
                    return path, *image.size
            except OSError as error:
                raise UserError(f'{path} must be an image, it gives "{error}": replace it or take '
                                f'{name} off the list.') from None
    raise UserError(f'There is no image {name}.jpg or the like in {str(root / "JPEGImages")!r}: '
                    f'take {name} off the list.')


def convert(root: Path, listed: list[str], classes: list[str],
            images: Path) -> tuple[dict, Counter]:
    """The json of some images, which are copied to `images`; and what was left out, by reason."""
    numbers = {name: i + 1 for i, name in enumerate(classes)}
    content = dict(images=[], annotations=[],
                   categories=[dict(id=i, name=name) for name, i in numbers.items()])
    left_out = Counter()
    for number, name in enumerate(listed, 1):
        path, width, height = image_of(root, name)
        shutil.copyfile(path, images / path.name)
        content['images'].append(dict(id=number, file_name=path.name, width=width, height=height))
        for kind, box in objects(root, name):
            if kind not in numbers or min(box[2:]) <= 0:
                left_out['without an area' if kind in numbers else f'of class {kind}'] += 1
                continue
            content['annotations'].append(dict(
                id=len(content['annotations']) + 1, image_id=number, category_id=numbers[kind],
                bbox=box, area=box[2] * box[3], iscrowd=0))
    return content, left_out


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    if args.out.exists():
        raise UserError(f'--out must be a new folder, {args.out} is there: choose another --out.')
    listed = {split: names(args.root, split) for split in args.splits}
    classes = args.classes or sorted({kind for split in listed.values() for name in split
                                      for kind, _ in objects(args.root, name)})

    def fill(folder: Path) -> str:
        (folder / 'images').mkdir()
        said = []
        for split, some in listed.items():
            content, left_out = convert(args.root, some, classes, folder / 'images')
            write_json(folder / f'{split}.json', content)
            gone = ''.join(f', {count} {why} left out' for why, count in sorted(left_out.items()))
            said.append(f'{split}: {len(some)} images, {len(content["annotations"])} boxes{gone}')
        return '\n'.join(said)

    print(f'classes {classes}\n{build(args.out.resolve(), fill)}\nwrote {args.out}')


def cli() -> None:
    """The command line of this tool."""
    run('voc_to_coco.py', lambda: entry.run(main))
