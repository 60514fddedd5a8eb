"""Folders of pictures and of masks, one mask a picture: colours with a palette, or plain numbers.

Colours and names come from --palette: labelmap.txt (CVAT: `name:r,g,b::`), a csv of name,r,g,b
(class_dict.csv), a text of `r g b name` (CamVid's label_colors.txt), or a json {name: [r, g, b]}.
Masks of numbers need names alone: --classes in the order of the numbers, or class_names.txt. Number
255 is what is not labelled, and so is every colour of a name in --ignore.
"""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from swinv2_mm.utils.errors import UserError

from .pictures import Labels, reading

PICTURES = ('JPEGImages', 'images', 'imgs', 'img')
MASKS = ('SegmentationClass', 'masks', 'mask', 'labels', 'annotations')
PALETTES = ('labelmap.txt', 'class_dict.csv', 'label_colors.txt', 'palette.json')
ROWS = (r'([^#:]+?):(\d+),(\d+),(\d+):.*', r'([^,]+?),\s*(\d+),\s*(\d+),\s*(\d+).*',
        r'(?=\d+\s+\d+\s+\d+\s+(.+))(\d+)\s+(\d+)\s+(\d+)\s.*')  # name, red, green, blue
UNLABELLED = 255


def _first(root: Path, names: tuple, args_value=None) -> Path | None:
    return args_value or next((root / name for name in names if (root / name).exists()), None)


def is_here(root: Path) -> bool:
    """Whether a folder looks like this."""
    masks = _first(root, MASKS)
    return bool(_first(root, PICTURES) and masks and next(masks.rglob('*.png'), None))


def read_palette(path: Path) -> dict[str, tuple[int, int, int]]:
    """Name -> colour, in the order of the file."""
    with reading(path):
        text = path.read_text(encoding='utf-8-sig')
        if path.suffix == '.json':
            rows = [(name, *colour) for name, colour in json.loads(text).items()]
        else:
            rows = [match.groups() for line in text.splitlines() for row in ROWS
                    if (match := re.fullmatch(row, line.strip()))]
        colours = {name: tuple(map(int, colour)) for name, *colour in rows}
        if not colours or any(len(c) != 3 or not 0 <= min(c) <= max(c) <= 255
                              for c in colours.values()):
            raise ValueError('no name and three numbers up to 255 for each class')
        if len({*colours.values()}) < len(colours):
            raise ValueError('two classes of one colour')
    return colours


def _coloured(path: Path, numbers: dict[tuple, int]) -> np.ndarray:
    """The map of a mask in colours; UserError for one that is not in the palette."""
    with Image.open(path) as image:
        keys = np.asarray(image.convert('RGB')).astype(np.int32) @ [65536, 256, 1]
    known = np.full(1 << 24, -1, np.int16)
    for (r, g, b), number in numbers.items():
        known[r * 65536 + g * 256 + b] = number
    found = known[keys]
    if found.min() < 0:
        key, share = int(keys[found < 0][0]), (found < 0).mean()
        raise UserError(f'{path} must hold the colours of the palette, it has ({key >> 16}, '
                        f'{key >> 8 & 255}, {key & 255}) and others at {share:.1%} of its pixels: '
                        'add the colour, or save masks without smoothing, as PNG.')
    return found.astype(np.uint8)


def _numbered(path: Path, count: int) -> np.ndarray:
    """The map of a mask of numbers."""
    with Image.open(path) as image:
        if image.mode not in ('1', 'L', 'P', 'I;16', 'I'):
            raise UserError(f'{path} is in colours ({image.mode}), whose names nothing gives: give '
                            'them by --palette.')
        found = np.array(image).astype(np.int64)
    over = sorted({*np.unique(found).tolist()} - {*range(count), UNLABELLED})
    if over:
        raise UserError(f'{path} must hold the numbers of {count} classes, from 0, or 255, it has '
                        f'{over[:5]}: name all classes, or give --palette for colours.')
    return found.astype(np.uint8)


def read(root: Path, args) -> Labels:
    """Pictures with the function that makes the map of each."""
    masks = _first(root, MASKS, args.masks)
    folders = args.images or [_first(root, PICTURES)]
    if not masks or not folders[0]:
        raise UserError(f'{root} must hold a folder of pictures ({", ".join(PICTURES)}) and one of '
                        f'masks ({", ".join(MASKS)}): give them by --images and --masks.')
    palette, listed = _first(root, PALETTES, args.palette), root / 'class_names.txt'
    colours = read_palette(palette) if palette and not args.classes else {}
    names = [name for name in colours if name not in args.ignore] or args.classes or (
        listed.read_text(encoding='utf-8-sig').split('\n') if listed.is_file() else [])
    names = [name for name in map(str.strip, names) if name and name != '__ignore__']
    if not 0 < len(names) <= UNLABELLED:
        raise UserError(f'The masks of {str(root)!r} need names of 1 to 255 classes, got '
                        f'{len(names)}: give --palette, or --classes in the order of the numbers.')
    numbers = {colour: names.index(name) if name in names else UNLABELLED
               for name, colour in colours.items()}
    labels = Labels(folders, names)
    labels.palette = [colours[name] for name in names] if colours else None
    for mask in sorted(masks.rglob('*.png')):
        path = labels.find(mask.stem.removesuffix(args.mask_suffix))
        if path:
            with reading(mask), Image.open(mask) as image:
                stated = image.size
            picture = labels.add(path, mask, stated)
            picture.map = (lambda mask=mask: _coloured(mask, numbers) if colours
                           else _numbered(mask, len(names)))
    return labels.rest(False)
