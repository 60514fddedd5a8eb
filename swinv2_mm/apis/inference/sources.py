"""What the command line names: files, folders, patterns and cameras, as a list of sources."""
from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from swinv2_mm.datasets.checks.inventory import VIDEOS
from swinv2_mm.datasets.checks.passed_over import IMAGES as PICTURES
from swinv2_mm.datasets.images import LoadImage
from swinv2_mm.utils.faults import MAX_PIXELS


class Source(NamedTuple):
    """One input: where it is, what it is, and the name that its results get."""

    place: str  # a path, or the number of a camera
    kind: str  # 'picture', 'video' or 'camera'
    name: str


class Refused(NamedTuple):
    """An input that gives no result, and why."""

    place: str
    reason: str


class Load(LoadImage):
    """The reader of training, as OpenCV by itself crashes on some damaged files; bare reasons."""

    def _refuse(self, name: str, reason: str, error: Exception | None = None) -> None:
        raise ValueError(f'it {reason}') from error


def read_picture(path: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """(H, W, 3) uint8 BGR, as training reads it.

    Args:
        path: of the file.
        max_pixels: at most, width times height.

    Raises:
        ValueError: it is damaged, no picture, or too large; its message is the reason.
    """
    return Load(max_pixels=max_pixels)(dict(img_path=path))['img']


def find(words: list[str], kinds: tuple[str, ...]) -> tuple[list[Source], list[Refused]]:
    """The inputs that words name, each once and in their order, and those that give none.

    A word is a file, a folder (its files of the given kinds, sorted, not those in folders inside
    it), a pattern such as `photos/**/*.jpg`, or the number of a camera.
    """
    places, refused = {}, []  # a dict keeps the order, and each place once
    for word in words:
        found, reason = _places(word, kinds)
        places.update(dict.fromkeys(found))
        if reason:
            refused.append(Refused(word, reason))
    return _named(places), refused


def _places(word: str, kinds: tuple[str, ...]) -> tuple[list[tuple[str, str]], str]:
    """(path, kind) of all that one word names; a reason where that is nothing."""
    path = Path(word)
    if path.is_dir():
        # A link that leads nowhere is an input that cannot be read, rather than none.
        found = [(str(file), kind_of(file)) for file in sorted(path.iterdir())
                 if file.is_file() or not file.exists()]
        found = [pair for pair in found if pair[1] in kinds]
        return found, '' if found else f'the folder holds no {" or ".join(kinds)}'
    if path.exists() and not path.is_file():
        return [], 'it is no file'  # reading from a pipe could wait for ever
    if path.exists():
        # A name without a known ending is taken for a picture, and said to be none if it is none.
        return [(word, kind_of(path) or 'picture')], ''
    if word.isascii() and word.isdigit():
        return [(word, 'camera')], ''
    if '://' in word:
        return [], 'addresses are not fetched, give a file'
    if glob.has_magic(word):
        found = [(file, kind_of(Path(file))) for file in sorted(glob.glob(word, recursive=True))]
        found = [pair for pair in found if pair[1] in kinds]
        return found, '' if found else f'the pattern matches no {" or ".join(kinds)}'
    return [], 'there is no such file'


def kind_of(path: Path) -> str:
    """'picture' or 'video' by the ending of a name, '' for another ending."""
    suffix = path.suffix.lower()
    return 'picture' if suffix in PICTURES else 'video' if suffix in VIDEOS else ''


def _named(places) -> list[Source]:
    """Sources with names that differ: the stem of the file, with a number where it is taken."""
    taken, sources = set(), []
    for place, kind in places:
        stem = f'camera{place}' if kind == 'camera' else Path(place).stem
        name, number = stem, 2
        # The map of x is x_map.png, and must not be the picture of an input called x_map.
        while {name, f'{name}_map', name.removesuffix('_map')} & taken:
            name, number = f'{stem}-{number}', number + 1
        taken.add(name)
        sources.append(Source(place, kind, name))
    return sources


class Camera:
    """Frames of a camera as long as one asks: what `films.Film` is for a file.

    Raises:
        ValueError: there is no such camera.
    """

    def __init__(self, number: int):
        self.reader = cv2.VideoCapture(number)
        if not self.reader.isOpened():
            self.close()
            raise ValueError(f'there is no camera {number}')
        self.fps = self.reader.get(cv2.CAP_PROP_FPS) or 25.0

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds from the first one, (H, W, 3) uint8 BGR) of each."""
        for count in itertools.count():
            found, frame = self.reader.read()
            if not found:
                return
            yield count / self.fps, frame

    def close(self) -> None:
        """Give the camera back."""
        self.reader.release()


def open_film(path: str, max_pixels: int = MAX_PIXELS):
    """A film (`films.Film`), BGR, its frames as training reads them. ValueError where it is none.

    Args:
        path: of the file.
        max_pixels: of a frame at most, width times height.
    """
    try:
        from swinv2_mm.datasets.films import Film  # PyAV is needed for films only
    except ImportError as error:
        raise ValueError(str(error)) from error
    film = Film(path, 'bgr24')
    width, height = film.reader.size
    if width * height > max_pixels:
        film.close()
        raise ValueError(f'it has {width} x {height} pixels, more than max_pixels={max_pixels:,}')
    return film


def frames(source: Camera | object, limit: int | None = None) -> Iterator[tuple]:
    """(seconds, frame) of a film or camera, to its end or to a number of them.

    ValueError where a film breaks off.
    """
    if isinstance(source, Camera):
        yield from itertools.islice(source.frames(), limit)
        return
    times, count = source.times[:limit].tolist(), 0
    for time, frame in zip(times, source.frames()):
        yield time, frame
        count += 1
    if count < len(times):
        raise ValueError(f'it breaks off: {count} of {len(times)} frames are there')
