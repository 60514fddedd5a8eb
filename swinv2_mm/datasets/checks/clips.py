"""One video of a data set, read to its end as training reads it: what is wrong or unusual in it."""
from __future__ import annotations

import os
from collections.abc import Iterator

from swinv2_mm.utils.faults import MAX_PIXELS, one_line, open_image

from .findings import Finding
from .media import type_of


def check_video(path: str, span: int = 1, max_pixels: int = MAX_PIXELS, quick: bool = False,
                **_) -> list[Finding]:
    """Findings on a video; `span` is how many frames a clip spans. `quick` reads both ends only."""
    fault = _not_a_file(path)
    found = [fault] if fault else _read(path, span, max_pixels, quick)
    return [Finding(kind, path, text) for kind, text in found]


def _not_a_file(path: str) -> tuple[str, str] | None:
    if os.path.isdir(path):
        return 'missing', 'is a folder'
    try:
        with open(path, 'rb') as file:
            start = file.read(1 << 16)
    except (OSError, ValueError) as error:
        return 'missing', f'cannot be read ({getattr(error, "strerror", None) or one_line(error)})'
    if not start:
        return 'empty', 'is empty'
    if not start.strip(b'\0'):
        return 'zeros', 'starts with nothing but zero bytes'
    if what := type_of(start):
        return 'wrong type', f'is {what}, not a video'
    image = open_image(start)
    if hasattr(image, 'format') and image.format != 'GIF':
        return 'wrong type', f'is an image ({image.format}), not a video'
    return None


def _cut_off(path: str) -> tuple[str, str] | None:
    """An mp4 is boxes with lengths, its index ('moov') among them."""
    size, names = os.path.getsize(path), []
    with open(path, 'rb') as file:
        place = 0
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            length, name = int.from_bytes(head[:4], 'big'), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], 'big')
            if length < 8 or not name.isascii():
                return None
            names.append(name)
            place += length
    if names[:1] == [b'ftyp'] and (place > size or b'moov' not in names):
        return 'truncated', f'is cut off: {size} bytes of a video without its index'
    return None


def _read(path: str, span: int, max_pixels: int, quick: bool) -> Iterator[tuple[str, str]]:
    """By the reader of training, and what the head of the file says against it."""
    from swinv2_mm.datasets.films import Film
    try:
        film = Film(path)
    except ValueError as error:
        yield _cut_off(path) or ('wrong type', f'is no video that can be read ({error})')
        return
    with film:
        width, height = film.reader.size
        if width * height > max_pixels:
            yield 'huge', (f'has {width} x {height} pixels, more than max_pixels={max_pixels:,}')
            return
        try:
            count = len(film)
            if quick:
                film.read([0, count - 1])
            else:
                _read_all(film, count)
        except ValueError as error:
            yield _kind_of(str(error)), f'cannot be read to its end ({error})'
            return
        yield from _unusual(film, span)


def _read_all(film, count: int) -> None:
    """Every frame once. ValueError where the film breaks off."""
    found = sum(1 for _ in film.frames())
    if found != count:
        raise ValueError(f'it breaks off: {found} of {count} frames are there')


def _kind_of(reason: str) -> str:
    kinds = {'it breaks off': 'truncated', 'it has no frames': 'no frames'}
    return next((kind for start, kind in kinds.items() if reason.startswith(start)), 'undecodable')


def _unusual(film, span: int) -> Iterator[tuple[str, str]]:
    from swinv2_mm.datasets.film_index import gaps_of
    count, stated = len(film), film.reader.stream.frames
    # In mp4 and mov, some that are stated may lie outside the edit list.
    if stated > 0 and abs(stated - count) > 1 and 'mov' not in film.reader.kind:
        yield 'frame count', f'states {stated} frames and has {count}'
    if film.turned:
        yield 'rotated', f'is to be {film.turned} when shown'
    gaps, odd = gaps_of(film.times)
    if odd.any():
        yield 'variable rate', (f'has frames {gaps.min():.3f} to {gaps.max():.3f} seconds apart, '
                                f'{odd.sum()} of {len(gaps)} unlike the rest')
    if count < span:
        yield 'short', f'has {count} frames, fewer than the {span} that a clip spans'
