"""YOLO: a text file for each picture, a line for each object, in fractions of width and height.

A line is `class x y w h`, the centre of a box and its sides, or `class x1 y1 x2 y2 x3 y3 ...`, a
polygon; a sixth number after a box is a score. Names come from `names` of a yaml, which also gives
the splits, or from classes.txt (labelImg, Label Studio) or obj.names (CVAT, darknet).

supervision 0.31 reads this too, but draws every polygon as a full bitmap (1 MB an object of a photo
of a million pixels), counts nothing of what it drops, and brings av, matplotlib, requests and scipy
for a line that is split at its blanks.
"""
from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

from swinv2_mm.utils.errors import UserError

from .objects import Thing, outline, rectangle
from .pictures import SPLITS, Labels, reading, shown_size

LINE = re.compile(r'\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*')
NAMES = ('classes.txt', 'obj.names', 'labels/classes.txt', '_darknet.labels')


def is_here(root: Path) -> bool:
    """Whether a folder or file looks like this."""
    return bool(_settings(root)[1]) or any((root / name).is_file() for name in NAMES)


def _settings(root: Path) -> tuple[Path, dict]:
    """The yaml that holds `names`, the file given or one in the folder, and its content."""
    files = sorted(root.glob('*.y*ml'), key=lambda path: path.stem != 'data') or [root]
    for path in files:
        if path.suffix in ('.yaml', '.yml'):
            with reading(path):
                content = yaml.safe_load(path.read_text(encoding='utf-8-sig'))
            if isinstance(content, dict) and content.get('names'):
                return path, content
    return root, {}


def _names(root: Path, settings: dict, given: list[str] | None) -> dict[int, str]:
    """Number -> name of the classes."""
    names = settings.get('names') or given or next((
        (root / name).read_text(encoding='utf-8-sig').split('\n') for name in NAMES
        if (root / name).is_file()), None)
    if not names:
        raise UserError('The names of YOLO classes must be in data.yaml, classes.txt or obj.names, '
                        f'and {str(root)!r} has none of them: put one there, or give the names by '
                        '--classes in the order of their numbers.')
    rows = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(number): str(name).strip() for number, name in sorted(rows) if str(name).strip()}


def _splits(file: Path, settings: dict, labels: Labels) -> dict[Path, str]:
    """Picture, or folder of pictures -> the split that the yaml gives it, '' where it gives two."""
    bases = [file.parent / str(settings.get('path') or ''), file.parent]
    found: dict[Path, str] = {}
    for key in SPLITS:
        entries = settings.get(key) or []
        for entry in [entries] if isinstance(entries, str) else entries:
            place = _place(entry, bases)
            labels.said[f'{key} of {file.name}, which is not there, dropped'] += place is None
            lines = ([place] if place is None or place.is_dir() else
                     [_place(line, [place.parent, *bases]) for line in
                      place.read_text(encoding='utf-8-sig').splitlines() if line.strip()])
            found.update((line, SPLITS[key] if found.get(line, SPLITS[key]) == SPLITS[key] else '')
                         for line in lines if line)
    return found


def _place(entry: str, bases: list[Path]) -> Path | None:
    """A path of a yaml or a list; roboflow writes `../train` and means `train`."""
    entry = entry.strip()
    places = [base / name for name in (entry, entry.removeprefix('../'), entry.partition('/')[2])
              for base in bases if name]
    return next((place.resolve() for place in places if place.exists()), None)


def label_of(path: Path, root: Path) -> Path | None:
    """The labels of a picture: in labels/ where it lies in images/, beside it, or in labels/."""
    text = path.with_suffix('.txt')
    head, images, tail = text.as_posix().rpartition('/images/')
    places = [Path(f'{head}/labels/{tail}')] if images else []
    places += [text, root / 'labels' / text.name]
    return next((place for place in places if place.is_file()), None)


def _thing(line: str, size: tuple[int, int], names: dict, points: int, labels: Labels) -> Thing:
    kind, *values = map(float, line.split())
    if kind not in names or max(map(abs, values)) > 2 or not math.isfinite(sum(values)):
        raise ValueError(f'{line[:60]!r} is no class of {len(names)} and fractions of the sides')
    name, count = names[int(kind)], len(values)
    if count > 5 and count % 2 == 0 and not (points and count == 4 + points):
        return outline(name, [(x * size[0], y * size[1])
                              for x, y in zip(values[::2], values[1::2])])
    if count not in (4, 5, 4 + points) or min(values[2:4]) < 0:
        raise ValueError(f'{line[:60]!r} is neither a box nor a polygon')
    labels.said['keypoints of boxes dropped' if count > 5 else 'scores dropped'] += count > 4
    x, y, w, h = (value * size[i % 2] for i, value in enumerate(values[:4]))
    return rectangle(name, x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def read(root: Path, args) -> Labels:
    """Pictures and objects; `root` is the folder, or its yaml."""
    file, settings = _settings(root)
    root = root if root.is_dir() else root.parent
    names = _names(root, settings, args.classes)
    labels = Labels(args.images or [root], names.values())
    splits = _splits(file, settings, labels)
    points = math.prod(settings.get('kpt_shape') or [0])
    found = {path: label_of(path, root) for path in labels.paths}
    if not any(found.values()):
        raise UserError(f'No picture below {str(root)!r} has a label file: YOLO puts it beside the '
                        'picture, or in labels/ for images/: give the folder that holds both, or '
                        '--images.')
    for path, label in found.items():
        split = next((splits[place] for place in (path.resolve(), *path.resolve().parents)
                      if place in splits), None)
        if splits and split is None:
            labels.said[f'pictures that {file.name} does not list dropped'] += 1
            continue
        things, size = [], shown_size(path)[0]
        if label:
            with reading(label):
                things = [_thing(line, size, names, points, labels) for line in
                          label.read_text(encoding='utf-8-sig').splitlines() if line.strip()]
        else:  # as YOLO takes it
            labels.said['pictures without labels kept, as showing nothing'] += 1
        labels.add(path, label or path, things=things, split=split or '')
    used = set(found.values())
    unused = (path for path in root.rglob('*.txt') if path not in used and any(
        LINE.fullmatch(line) for line in path.read_text(errors='replace').splitlines()[:1]))
    labels.said['labels without their picture dropped'] += sum(1 for _ in unused)
    return labels
