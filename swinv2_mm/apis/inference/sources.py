"""What the command line names: files, folders, patterns and cameras, as a list of sources."""
from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from swinv2_mm.datasets.images import LoadImage

LOAD = LoadImage()  # OpenCV by itself crashes on some damaged files
PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv')


class Source(NamedTuple):
    """One input: where it is, what it is, and the name that its results get."""

    place: str  # a path, or the number of a camera
    kind: str  # 'picture', 'video' or 'camera'
    name: str


class Refused(NamedTuple):
    """An input that gives no result, and why."""

    place: str
    reason: str


def read_picture(path: str) -> np.ndarray:
    """(H, W, 3) uint8 BGR, as training reads it. ValueError where it is damaged, or no picture."""
    return LOAD(dict(img_path=path))['img']


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
        found = [(str(file), kind_of(file)) for file in sorted(path.iterdir()) if file.is_file()]
        found = [pair for pair in found if pair[1] in kinds]
        return found, '' if found else f'the folder holds no {" or ".join(kinds)}'
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


def open_video(place: str | int) -> cv2.VideoCapture:
    """A reader of a video file or, given a number, of a camera. ValueError where there is none."""
    reader = cv2.VideoCapture(place)
    if not reader.isOpened():
        reader.release()
        raise ValueError(f'there is no camera {place}' if isinstance(place, int) else
                         'it cannot be opened as a video')
    return reader


def frames(reader: cv2.VideoCapture, limit: int | None = None) -> Iterator[np.ndarray]:
    """The frames of a video, (H, W, 3) uint8 BGR, to its end or to a number of them."""
    count = 0
    while limit is None or count < limit:
        found, frame = reader.read()
        if not found:
            return
        yield frame
        count += 1
