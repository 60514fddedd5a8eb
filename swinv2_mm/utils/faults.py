"""What is wrong with the bytes of an image file, told before they are decoded; and a common count.

Some decoders fill what a cut-off JPEG lacks with grey, and all take what memory a header asks for:
both without a word. So bytes are looked at first, which takes 0.04 ms for a photo.
"""
from __future__ import annotations

import io
import logging
import struct
import zlib
from typing import NamedTuple

import torch
from mmengine.logging import print_log

MAX_PIXELS = 100_000_000  # 300 MB of 8-bit RGB; the largest photo of COCO, ADE20K, ImageNet is less
FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF', 'PPM', 'JPEG2000', 'AVIF')
STARTS = (b'\xff\xd8\xff', b'\x89PNG', b'GIF8', b'BM', b'RIFF', b'II*\0', b'MM\0*')
SIGNATURE = b'\x89PNG\r\n\x1a\n'
ANIMATION = (b'acTL', b'fcTL', b'fdAT')  # names of the parts of a PNG that hold one
# First bytes of what is often found under the name of an image -> what it is.
OTHERS = {
    b'<!DOCTYPE': 'a web page', b'<html': 'a web page', b'version https://git-lfs': 'a Git LFS '
    'pointer, fetch the file', b'%PDF': 'a PDF', b'PK\x03\x04': 'a zip archive', b'\x1f\x8b':
    'gzip', b'\x93NUMPY': 'a numpy array', b'<?xml': 'XML', b'<svg': 'an SVG drawing',
    b'\x00\x00\x00\x18ftypmp4': 'a video', b'\x00\x00\x00\x20ftypisom': 'a video',
    b'\x00\x00\x00\x1cftypisom': 'a video', b'%!PS': 'PostScript'}


class Fault(NamedTuple):
    """One finding: what kind it is, and the rest of the sentence 'FILE ...'."""

    kind: str
    text: str


def image_fault(content: bytes, max_pixels: int = MAX_PIXELS) -> Fault | None:
    """What makes an image file unfit for training, from its header and its end; None for nothing.

    A file that passes may still fail to decode. `max_pixels` bounds width times height, and so the
    memory of decoding to 3 bytes a pixel.
    """
    if not content:
        return Fault('empty', 'is empty')
    if not content.strip(b'\0'):
        return Fault('zeros', f'holds {len(content)} zero bytes and nothing else')
    image = open_image(content)
    if isinstance(image, Fault):
        return image
    width, height = image.size
    if width * height > max_pixels:
        return Fault('huge', f'has {width} x {height} pixels, more than max_pixels={max_pixels:,}')
    if is_cut_off(content, image.format):
        return _cut_off(content, image.format)
    return None


def _cut_off(content: bytes, kind: str) -> Fault:
    return Fault('truncated', f'is cut off: {len(content)} bytes of {kind} without their end')


def map_fault(content: bytes) -> Fault | None:
    """What keeps a sound image file from being a map of classes; None for nothing."""
    image = open_image(content)
    if image.mode in ('1', 'L', 'P'):
        return None
    if image.mode not in ('I', 'I;16', 'I;16B', 'I;16L', 'F'):
        return Fault('map in colour', f'must hold one number a pixel, the class, and holds '
                     f'{image.mode}: save it as a grey picture, or one with a colour table')
    low, high = image.getextrema()
    if low < 0 or high > 255:
        return Fault('map of 16 bits', f'holds numbers from {low} to {high}, and a map is cut to 8 '
                     'bits')
    return None


def open_image(content: bytes):
    """The PIL image of a header, nothing decoded; or a Fault where there is none."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        return Fault('huge', f'has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels')
    except Exception as error:  # noqa: BLE001 - parsers of headers raise what they like
        came = next((what for start, what in OTHERS.items() if content.startswith(start)), None)
        if came:
            return Fault('wrong type', f'is {came}, not an image')
        kind = {b'WEBP': 'WEBP', b'avif': 'AVIF'}.get(content[8:12])
        if kind and is_cut_off(content, kind):  # these two are parsed to their end at once
            return _cut_off(content, kind)
        if content.startswith(STARTS):
            return Fault('broken header', 'starts as an image and goes on as none')
        if isinstance(error, Image.UnidentifiedImageError):
            return Fault('wrong type', f'is no image of a known format, it starts with '
                         f'{content[:12]!r}')
        return Fault('broken header', f'has a broken header ({one_line(error)})')


def is_cut_off(content: bytes, kind: str) -> bool:
    """Whether the end that a format asks for is missing; False for formats that have none."""
    if kind in ('JPEG', 'MPO'):
        # Before the scan an embedded preview may hold an end of its own; inside it 0xFF is followed
        # by 0. A photo may be followed by other things, so that its end is not always the last.
        return not content.endswith(b'\xff\xd9') and content.find(b'\xff\xd9', _scan(content)) < 0
    if kind == 'PNG':
        return content.rfind(b'IEND\xaeB`\x82') < 0
    if kind == 'GIF':
        return not content.rstrip(b'\0').endswith(b';')
    if kind in ('WEBP', 'AVIF', 'BMP'):
        return len(content) < _stated_length(content, kind)
    return False


def _scan(content: bytes) -> int:
    """Where the compressed numbers of a JPEG start."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2:place + 4], 'big')
        if marker == 0xDA:
            return place + 2 + length
        place += 1 if marker == 0xFF else 2 + length  # 0xFF may be repeated before a marker
    return place


def _stated_length(content: bytes, kind: str) -> int:
    """How long a file must be by what is written in it; the length it has where that is not."""
    if kind == 'WEBP':  # RIFF, the length of what follows
        return 8 + struct.unpack_from('<I', content, 4)[0]
    if kind == 'BMP':
        start, header, width, height, _, bits, coded = struct.unpack_from('<IIiiHHI', content, 10)
        plain = header >= 40 and not coded
        return start + (abs(width) * bits + 31) // 32 * 4 * abs(height) if plain else 0
    place, end = 0, len(content)  # AVIF: boxes, each with its length
    while place + 8 <= end:
        length = struct.unpack_from('>I', content, place)[0]
        if length < 8:
            return end
        place += length
    return place


def still(content: bytes) -> bytes:
    """A PNG without its animation, which leaves its first picture; any other file as it is.

    OpenCV 4.12 crashes on damaged animations, so a file that may have one is walked through first;
    ValueError where its parts do not fit together.
    """
    if not content.startswith(SIGNATURE) or not any(name in content for name in ANIMATION):
        return content
    parts, place = [SIGNATURE], len(SIGNATURE)
    while place < len(content):
        length, name = struct.unpack_from('>I4s', content.ljust(place + 8, b'\0'), place)
        end = place + 12 + length
        if content[end - 4:end] != zlib.crc32(content[place + 4:end - 4]).to_bytes(4, 'big'):
            raise ValueError(f'part {name!r} of an animated PNG is damaged')
        if name not in ANIMATION:
            parts.append(content[place:end])
        place = end
        if name == b'IEND':
            break
    return b''.join(parts)


def one_line(error: Exception, length: int = 200) -> str:
    """What an error says, in one short line; its kind where it says nothing."""
    return ' '.join(str(error).split())[:length] or type(error).__name__


class Tally:
    """Bad files met so far, over all workers of a data loader; ValueError beyond a limit.

    Each file counts once, however often it is drawn. Workers share one table of flags, a byte for
    each hash of a name, so that of 100 bad files less than one is expected to hide behind another.
    A copy made by `copy.deepcopy` counts for itself.
    """

    SLOTS = 1 << 20

    def __init__(self, limit: int, who: str):
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ValueError(f'limit must be a number of files, at least 0, got {limit!r}: give 0 '
                             'to stop at the first bad one.')
        self.limit, self.who = limit, who
        self.flags = torch.zeros(self.SLOTS, dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return int(self.flags.count_nonzero())

    def add(self, name: str, reason: str) -> None:
        """Name a bad file in a warning, once; ValueError where it is one too many."""
        slot = zlib.crc32(str(name).encode('utf-8', 'surrogateescape')) % self.SLOTS
        if self.flags[slot]:
            return
        self.flags[slot] = 1
        count = len(self)
        if count > self.limit:
            raise ValueError(
                f'At most {self.limit} training files may be bad (limit of {self.who}), and '
                f'{name} is number {count}, it {reason}: list all by `python '
                'tools/dataset/check.py CONFIG` and mend them or take them out, or raise limit.')
        print_log(f'{name} {reason}; another takes its place; bad files so far: {count} of at '
                  f'most {self.limit}', logger='current', level=logging.WARNING)
