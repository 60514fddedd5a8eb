"""One video of a data set, read to its end: all that is wrong or unusual about it."""
from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from swinv2_mm.utils.faults import MAX_PIXELS, one_line, open_image

from .findings import Finding
from .media import type_of

CHUNK = 8  # frames decoded at a time: a bound of memory
UNEVEN = 0.5  # by how much of the usual distance two frames may lie closer or further


def check_video(path: str, span: int = 1, max_pixels: int = MAX_PIXELS, quick: bool = False,
                **_) -> list[Finding]:
    """Findings on a video; `span` is how many frames a clip spans. `quick` reads both ends only."""
    fault = _not_a_file(path) or _not_a_video(path, max_pixels)
    if fault:
        return [Finding(fault[0], path, fault[1])]
    return [Finding(kind, path, text) for kind, text in _by_decord(path, span, quick)]


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


def _not_a_video(path: str, max_pixels: int) -> tuple[str, str] | None:
    """By OpenCV, from the head of the file."""
    reader = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not reader.isOpened():
            cut = _cut_off(path)
            return cut or ('wrong type', 'is no video with a known format, or has no pictures')
        width, height = (int(reader.get(which)) for which in (
            cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > max_pixels:
            return 'huge', (f'has {width} x {height} pixels, more than max_pixels='
                            f'{max_pixels:,}')
    finally:
        reader.release()
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


def _by_decord(path: str, span: int, quick: bool):
    """As training reads it, by decord, and what the head of the file says against it."""
    import decord
    try:
        reader = decord.VideoReader(path, num_threads=1)
        count = len(reader)
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        yield 'undecodable', f'cannot be opened (decord says: {one_line(error)})'
        return
    if count < 1:
        yield 'no frames', 'has no frames'
        return
    stated, turned = _head(path)
    numbers = [0, count - 1] if quick else range(count)
    for start in range(0, len(numbers), CHUNK):
        try:
            reader.get_batch(list(numbers[start:start + CHUNK]))
        except Exception as error:  # noqa: BLE001
            why = f'(decord says: {one_line(error, 120)})'
            if turned:
                yield 'undecodable', (f'is to be turned by {turned} degrees, which decord cannot: '
                                      f'save it turned, or read it by pyav {why}')
            else:
                yield 'truncated', f'breaks off at frame {numbers[start]} of {count} {why}'
            return
    if stated > 0 and abs(stated - count) > 1 and Path(path).suffix.lower() != '.gif':
        yield 'frame count', f'states {stated} frames and has {count}'
    if turned:
        yield 'rotated', f'is to be turned by {turned} degrees when shown'
    yield from _times(reader, count)
    if count < span:
        yield 'short', f'has {count} frames, fewer than the {span} that a clip spans'


def _head(path: str) -> tuple[int, int]:
    """How many frames the head of a file states, and by how many degrees they are to be turned."""
    reader = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    stated = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    turned = int(reader.get(cv2.CAP_PROP_ORIENTATION_META))
    reader.release()
    return stated, turned % 360


def _times(reader, count: int):
    if count < 3:
        return
    starts = np.asarray(reader.get_frame_timestamp(list(range(count))))[:, 0]
    gaps = np.diff(starts)
    usual = np.median(gaps)
    odd = np.abs(gaps - usual) > UNEVEN * abs(usual) + 1e-3
    if odd.any():
        yield 'variable rate', (f'has frames {gaps.min():.3f} to {gaps.max():.3f} seconds apart, '
                                f'{odd.sum()} of {len(gaps)} unlike the rest')
