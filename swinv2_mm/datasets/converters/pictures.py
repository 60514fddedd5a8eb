"""The pictures that labels are of, each once, and what is dropped on the way."""
from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zlib import error as ZlibError

from PIL import Image
from yaml import YAMLError

from swinv2_mm.utils.errors import UserError

from .objects import Thing

ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
ORIENTATION = 0x112  # the EXIF tag
SPLITS = dict(train='train', training='train', val='val', valid='val', validation='val',
              test='test', testing='test')


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Turn what goes wrong with labels into one sentence that names their place."""
    try:
        yield
    except UserError:
        raise
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError,
            OverflowError, SyntaxError, YAMLError, ZlibError) as error:
        text = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise UserError(f'{where} cannot be read as labels, it gives "{text}": mend it, or take it '
                        'away.') from None


def shown_size(path: Path) -> tuple[tuple[int, int], bool]:
    """(width, height) as the picture is decoded, and whether its EXIF lays it on its side."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return (image.size[::-1] if turned else image.size), turned
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f'{path} must be an image, it gives "{error}": replace it, or take its '
                        'label away.') from None


def check_stated(path: Path, stated: Iterable, where: object) -> tuple[int, int]:
    """The size of a picture; UserError where its labels were drawn on one of another size.

    `stated` is what the labels say; a side that is 0 or no number says nothing.
    """
    shown, turned = shown_size(path)
    try:
        stated = tuple(int(float(side)) for side in stated)
    except (TypeError, ValueError):
        return shown
    if min(stated) > 0 and stated != shown:
        why = (', which its EXIF turns: its labels were drawn on it as stored; save it without EXIF'
               if turned and stated == shown[::-1] else
               ': its labels were drawn on another picture; take that one, or correct the size')
        raise UserError(f'{where} must be of the picture as it is decoded, it says {stated[0]} x '
                        f'{stated[1]} and {path.name} has {shown[0]} x {shown[1]}{why}.')
    return shown


@dataclass
class Picture:
    """A file, its place below the folder it came from, its (width, height), and what is in it."""

    path: Path
    source: str
    size: tuple[int, int]
    things: list[Thing] = field(default_factory=list)
    split: str = ''  # where the labels say it
    map: object = None  # a function that gives the classes of its pixels, uint8 (height, width)


class Labels:
    """All that was read of some folders of pictures, and `said`: what is dropped, how often."""

    def __init__(self, folders: Iterable[Path], classes: Iterable[str] = ()):
        self.folders = list(folders)
        self.paths: dict[Path, str] = {}  # file -> its path below its folder
        self.by_name: dict[str, list[Path]] = {}
        for folder in self.folders:
            for path in sorted(folder.rglob('*')):
                if path.suffix.lower() in ENDINGS and path.is_file() and path not in self.paths:
                    self.paths[path] = path.relative_to(folder).as_posix()
                    for key in {path.name, path.stem}:
                        self.by_name.setdefault(key, []).append(path)
        self.pictures: list[Picture] = []
        self.where: dict[Path, object] = {}
        self.classes, self.palette = list(classes), None
        self.said: Counter = Counter()

    def find(self, *names: str, near: Path | None = None) -> Path | None:
        """The picture of one of some names, which may lack an ending; those in `near` come first.

        One that is not there is counted. UserError where several are as good.
        """
        found = next((path for name in names if (path := self._find(name, near))), None)
        self.said['labels without their picture dropped'] += found is None
        return found

    def _find(self, name: str, near: Path | None) -> Path | None:
        name = name.replace('\\', '/')
        for folder in [near, *self.folders] if near else self.folders:
            path = Path(os.path.normpath(folder / name))
            if path in self.paths:
                return path
        found = self.by_name.get(name.rpartition('/')[2], [])
        found = ([path for path in found if path.parent == near]
                 or [path for path in found if self.paths[path].endswith(f'/{name}')] or found)
        if len(found) > 1:
            raise UserError(f'{name!r} must be the name of one picture, it is that of '
                            f'{self.paths[found[0]]} and {self.paths[found[1]]}: rename one, or '
                            'give one folder by --images.')
        return found[0] if found else None

    def drop(self, of: str, values: Iterable[tuple[str, object]], known: Iterable[str]) -> None:
        """Count the fields that say something and have no place here."""
        self.said.update(f'field {key!r} of {of} dropped' for key, value in values
                         if key not in known and value not in (None, '', '0', 'false', [], {}))

    def add(self, path: Path, where: object, stated: Iterable = (0, 0),
            things: Iterable[Thing] = (), split: str = '') -> Picture:
        """Note a picture with its objects, which are cut at its edges; `where` for messages."""
        if path in self.where:
            raise UserError(f'A picture must have its labels once, {path} has them in '
                            f'{self.where[path]} and {where}: take one away.')
        self.where[path] = where
        source = self.paths[path]
        split = split or next((SPLITS[part] for part in source.lower().split('/')[:-1]
                               if part in SPLITS), '')
        picture = Picture(path, source, check_stated(path, stated, where), split=split)
        with reading(where):
            picture.things = [thing for thing in things if self._fits(thing, picture.size)]
        self.pictures.append(picture)
        return picture

    def _fits(self, thing: Thing, size: tuple[int, int]) -> bool:
        """Cut a box at the edges of its picture; whether anything is left."""
        x, y, wide, high = thing.box
        if not math.isfinite(x + y + wide + high):
            raise ValueError(f'a box of {thing.box}')
        x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + wide, size[0]), min(y + high, size[1])
        if x2 <= x1 or y2 <= y1:
            self.said['objects without an area in their picture dropped'] += 1
            return False
        # Half a pixel is what rounding explains.
        self.said['boxes over the edge of their picture cut'] += (
            max(x1 - x, y1 - y, x + wide - x2, y + high - y2) > 0.5)
        thing.box = tuple(round(number, 3) for number in (x1, y1, x2 - x1, y2 - y1))
        return True

    def rest(self, keep: bool) -> Labels:
        """All that was read; pictures without labels come along as empty ones if `keep`."""
        for path in self.paths:
            if path not in self.where:
                self.said['pictures without labels ' + (
                    'kept, as showing nothing' if keep else 'dropped (--empty keeps them)')] += 1
                if keep:
                    self.add(path, path)
        return self
