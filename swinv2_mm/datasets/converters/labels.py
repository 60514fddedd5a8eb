"""Make COCO json, or maps of classes, of labels as tools write them: swinv2-mm labels FOLDER.

    swinv2-mm labels cells --out data/cells

reads what labelImg, YOLO, labelme, CVAT, Label Studio or Supervisely wrote, or pictures with masks,
and writes OUT/SPLIT.json and OUT/images/, or (--to seg) OUT/img_dir/, OUT/ann_dir/ and
OUT/classes.json. Everything that is dropped, cut or changed is counted in what it prints.
"""
from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from swinv2_mm.datasets.synthetic.whole_set import build, run
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

from . import splits, writing
from .pictures import Labels

FORMATS = {name: f'from_{name.replace("-", "_")}' for name in (
    'labelimg', 'yolo', 'labelme', 'cvat', 'label-studio', 'supervisely', 'masks')}


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(':')[0])
    parser.add_argument('root', type=Path, metavar='FOLDER',
                        help='what the tool wrote: a folder, or the xml, json or yaml in it')
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--format', choices=FORMATS, help='which tool wrote it (is looked for)')
    parser.add_argument('--to', choices=('det', 'seg'),
                        help='COCO json, or maps of classes (det; seg for masks)')
    parser.add_argument('--images', type=Path, nargs='+', metavar='FOLDER',
                        help='where the pictures are (below the labels)')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='names of numbers, in their order; or the classes to keep (all)')
    parser.add_argument('--val', type=float, default=0.2, help='share to validate on (0.2)')
    parser.add_argument('--test', type=float, default=0.0, help='share to test on (0)')
    parser.add_argument('--seed', type=int, default=0, help='another seed, another split (0)')
    parser.add_argument('--group', metavar='REGEX',
                        help='pictures in whose path it finds the same stay in one split; the word '
                        '`folder`: those of a folder')
    parser.add_argument('--resplit', action='store_true', help='do not keep splits of the labels')
    parser.add_argument('--empty', action='store_true',
                        help='keep pictures without labels, as showing nothing')
    parser.add_argument('--masks', type=Path, metavar='FOLDER', help='where the masks are')
    parser.add_argument('--mask-suffix', default='', metavar='TEXT',
                        help='end of the name of a mask, less the ending, that its picture lacks')
    parser.add_argument('--palette', type=Path, metavar='FILE', help='names and colours of masks')
    parser.add_argument('--ignore', nargs='+', default=['__ignore__'], metavar='NAME',
                        help='classes that are not labelled (255 in maps; __ignore__ of labelme)')
    parser.add_argument('--rest', default='background', metavar='NAME',
                        help="class of pixels outside of all objects, of --to seg (background); '' "
                        'leaves them unlabelled')
    return parser.parse_args(argv)


def _reader(args):
    """The module that reads the folder, which it names or looks like."""
    if not args.root.exists():
        raise UserError(f'There is no folder or file at {str(args.root)!r}: give what the labels '
                        'are in.')
    modules = {name: importlib.import_module(f'{__package__}.{module}')
               for name, module in FORMATS.items()}
    found = [args.format] if args.format else [
        name for name, module in modules.items() if module.is_here(args.root)]
    if len(found) != 1:
        raise UserError(f'{args.root} must look like one of {", ".join(FORMATS)}, it looks like '
                        f'{" and like ".join(found) or "none"}: say which by --format.')
    return found[0], modules[found[0]]


def _choose(labels: Labels, keep: list[str] | None, ignore: list[str], masks: bool) -> None:
    """Leave out objects of other classes than `keep`, and boxes where maps are to be drawn.

    Ignored objects stay unlabelled in maps, where they may hide others; else they are left out.
    """
    things = [thing for picture in labels.pictures for thing in picture.things]
    there = dict.fromkeys([*labels.classes, *sorted({thing.kind for thing in things})])
    for name in {*ignore} & {*there}:
        del there[name]
    if missing := [name for name in keep or [] if name not in there]:
        raise UserError(f'--classes must be classes of the labels, {missing} are none of '
                        f'{list(there)}: correct them.')
    labels.classes = keep or list(there)
    for picture in labels.pictures:
        for thing in picture.things:
            thing.crowd |= masks and thing.kind in ignore
        kept = [thing for thing in picture.things if thing.crowd or thing.kind in labels.classes]
        labels.said['objects of other classes dropped'] += len(picture.things) - len(kept)
        picture.things = [thing for thing in kept if thing.mask or not masks]
        labels.said['boxes dropped, as a map needs masks'] += len(kept) - len(picture.things)


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    if args.out.exists():
        raise UserError(f'--out must be a new folder, {args.out} is there: choose another --out.')
    if not (0 <= args.val and 0 <= args.test and args.val + args.test < 1):
        raise UserError(f'--val and --test must be shares that leave some to train on, got '
                        f'{args.val} and {args.test}: give 0.2 for a fifth.')
    name, module = _reader(args)
    maps = name == 'masks' or args.to == 'seg'
    if maps and args.to == 'det':
        raise UserError('Masks of classes do not tell one object from another, got --to det: leave '
                        'it out, or draw objects.')
    labels = module.read(args.root, args)
    _choose(labels, args.classes, args.ignore, masks=maps)
    if not labels.pictures or not (name == 'masks' or any(p.things for p in labels.pictures)):
        said = ','.join(_said(labels).split('\n'))
        raise UserError(f'{args.root} must hold objects that can be taken, read as {name} it has '
                        f'{len(labels.pictures)} pictures and none ({said.strip()}): correct the '
                        'folder, --format, --images or --to.')
    splits.assign(labels.pictures, args.val, args.test, args.seed, args.group, args.resplit)

    def fill(folder: Path) -> str:
        return '\n'.join(writing.write_maps(labels, folder, args.rest) if maps
                         else writing.write_coco(labels, folder))

    lines = build(args.out.resolve(), fill)
    print(f'{name}: classes {labels.classes}\n{lines}\n{_said(labels)}\nwrote {args.out}; next: '
          f'swinv2-mm new {"seg" if maps else "det"} {args.out}')


def _said(labels: Labels) -> str:
    counts = sorted((+labels.said).items())
    return '\n'.join(f'  {count} {what}' for what, count in counts) or '  nothing dropped'


def cli() -> None:
    """The command line of this tool."""
    run('labels', lambda: entry.run(main))
