"""Frames of a film by their numbers: those that a player shows, in its order, turned as marked.

What FFmpeg's decoder gives from the first packet on, within the edit list, is the film. To read a
part of it, decoding has to start at a keyframe, and which frame comes out there is not to be had
from a seek: containers seek inexactly, frames are stored in another order than they are shown, and
some are not shown at all. So each packet of a film is looked at once, undecoded, and numbered by
its time stamp (`film_index`). On reading, each packet carries its place in the file through the
decoder, and every frame that comes out must be the next one of that list. Where time stamps cannot
be trusted, or a frame is not the next one, the film is decoded once to be numbered.
"""
from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from . import film_index
from .film_reader import VERSION, Reader

from av.video.reformatter import VideoReformatter  # isort: skip - the reader says who is missing

INDEXES = film_index.Store()


class Astray(Exception):
    """Another frame came out than the index says."""


class Film:
    """A film that is open: `len(film)` frames, `film.read([3, 5])`, `for frame in film.frames()`.

    Args:
        source: path of a file, or its bytes.
        form: FFmpeg's name of the order of colours in a frame, 'rgb24' or 'bgr24'.
        threads: for the decoder; data loaders have a process for each core.

    Raises:
        ValueError: it cannot be opened, has no pictures; later on, it breaks off, or is to be
            turned by other than quarter turns.
    """

    def __init__(self, source: str | bytes, form: str = 'rgb24', threads: int = 1):
        self.reader, self.form = Reader(source, threads), form
        self.index = self.turn = None
        self.reformat = VideoReformatter().reformat

    def close(self) -> None:
        """Give the file back."""
        self.reader.container.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __len__(self) -> int:
        """How many frames are shown."""
        return len(self.times)

    @property
    def times(self) -> np.ndarray:
        """When each frame is shown, (N,) seconds from the first one."""
        return self._indexed().times

    @property
    def fps(self) -> float:
        """Frames a second, on average over the film."""
        if len(self) < 2:
            return self.reader.rate
        found = (len(self) - 1) / self.times[-1]
        return self.reader.rate if abs(found / self.reader.rate - 1) < 0.01 else found

    @property
    def turned(self) -> str:
        """How frames that have been read were turned, in words; '' where they were not."""
        transposed, rows, columns = self.turn or (False, 1, 1)
        if transposed != (rows == columns):  # a turn and nothing else
            degrees = 0 if rows == 1 else 180
            degrees = (90 if rows == 1 else 270) if transposed else degrees
            return f'turned by {degrees} degrees' if degrees else ''
        return 'mirrored'

    def at(self, numbers: np.ndarray) -> np.ndarray:
        """The frames that are shown when these would be, were all of them evenly spaced."""
        if not film_index.gaps_of(self.times)[1].any():
            return numbers
        shown = np.searchsorted(self.times, numbers / self.fps + 1e-6, side='right') - 1
        return np.clip(shown, 0, len(self) - 1)

    def _indexed(self) -> film_index.Index:
        """The index: the one that is kept, of this file at this time, or a new one."""
        local = isinstance(self.reader.source, str)
        if self.index is None and local:
            self.index = INDEXES.get(self.reader.source)
        if self.index is None:
            self._set(film_index.stamped(self.reader) or film_index.counted(self.reader))
        return self.index

    def _set(self, index: film_index.Index) -> None:
        if not len(index.times):
            raise ValueError('it has no frames')
        self.index = index
        if isinstance(self.reader.source, str):
            INDEXES.put(self.reader.source, index)

    def read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Frames (H, W, 3) uint8 by their numbers, each an array of its own.

        Raises:
            IndexError: there is no such frame. Where the film turned out to have fewer than it
                was thought to have, `len` has changed.
            ValueError: the film breaks off before it.
        """
        try:
            return self._read(numbers)
        except Astray:  # from now on, each frame is reached from the first one
            self._set(film_index.counted(self.reader, only_first=True))
        try:
            return self._read(numbers)
        except Astray as error:
            raise ValueError('it is decoded otherwise each time') from error

    def _read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        index, found, frames, place = self._indexed(), {}, None, 0
        for number in sorted(set(map(int, numbers))):
            if not 0 <= number < len(self):
                raise IndexError(f'it has {len(self)} frames, number {number} was asked for')
            key = np.flatnonzero(index.starts <= number)[-1]
            if frames is None or index.starts[key] > place:
                frames = self._from_key(key, index)
            for place, frame in frames:
                if place == number:
                    found[number] = self._picture(frame)
                    break
            else:
                raise Astray
        pictures = []
        for number in map(int, numbers):  # transforms may change a picture in place
            pictures.append(found[number])
            found[number] = found[number].copy() if len(numbers) > len(found) else found[number]
        return pictures

    def _from_key(self, key: int, index: film_index.Index) -> Iterator[tuple]:
        """(number, frame) from a keyframe on. Astray where one is not the next of the index."""
        known = (index.ranks >= 0).any()
        following = index.starts[key]
        for place, frame in self.reader.decoded(self.reader.from_place(index.keys[key], index)):
            if known and (place is None or key and frame.is_corrupt):
                raise Astray
            number = index.ranks[place] if known else following
            if number < following and key:
                continue  # shown before the keyframe, and decoded without what it rests on
            if number != following:
                raise Astray
            yield following, frame
            following += 1

    def frames(self) -> Iterator[np.ndarray]:
        """All frames (H, W, 3) uint8, from the first one on; needs no index."""
        for _, frame in self.reader.decoded(enumerate(self.reader.from_start())):
            yield self._picture(frame)

    def _picture(self, frame) -> np.ndarray:
        if self.turn is None:
            self.turn = _turn(frame)
            self.size = self.reader.size if all(self.reader.size) else (frame.width, frame.height)
        threads = dict(threads=1) if VERSION >= 17 else {}
        picture = self.reformat(frame, *self.size, format=self.form, **threads).to_ndarray()
        transposed, rows, columns = self.turn
        if transposed:
            picture = picture.transpose(1, 0, 2)
        return np.ascontiguousarray(picture[::rows, ::columns])


def _turn(frame) -> tuple[bool, int, int]:
    """How a frame is to be turned: whether rows and columns change places, then their steps.

    ValueError for other angles than quarter turns.
    """
    data = frame.side_data.get('DISPLAYMATRIX')
    # x' = a x + c y, y' = b x + d y, to be shown at (x', y')
    a, b, _, c, d = struct.unpack('=5i', bytes(data)[:20]) if data is not None else (1, 0, 0, 0, 1)
    if max(abs(b), abs(c)) <= 0.02 * min(abs(a), abs(d)):
        return False, -1 if d < 0 else 1, -1 if a < 0 else 1
    if max(abs(a), abs(d)) <= 0.02 * min(abs(b), abs(c)):
        return True, -1 if b < 0 else 1, -1 if c < 0 else 1
    degrees = abs(round(math.degrees(math.atan2(b, a))))
    raise ValueError(f'it is to be turned by {degrees} degrees when shown, and only quarter turns '
                     'can be done')
