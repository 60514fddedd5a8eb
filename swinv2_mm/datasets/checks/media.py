"""One file of a data set, read as training would read it: all that is wrong or unusual about it."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from swinv2_mm.utils.faults import (
    MAX_PIXELS,
    OTHERS,
    image_fault,
    map_fault,
    one_line,
    open_image,
    still,
)

from .findings import Finding

TINY = 8  # pixels; an image of fewer is mostly a mistake
ENDINGS = {'.jpg': ('JPEG', 'MPO'), '.jpeg': ('JPEG', 'MPO'), '.png': ('PNG',), '.bmp': ('BMP',),
           '.webp': ('WEBP',), '.tif': ('TIFF',), '.tiff': ('TIFF',), '.gif': ('GIF',),
           '.ppm': ('PPM',), '.pgm': ('PPM',), '.jp2': ('JPEG2000',), '.avif': ('AVIF',)}
ORIENTATION = 0x0112  # the EXIF tag
DEEP = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')


def check_image(path: str, stated: tuple | None = None, max_pixels: int = MAX_PIXELS,
                **_) -> list[Finding]:
    """Findings on an image; `stated` is the (width, height) that annotations give it."""
    content = _content(path)
    if isinstance(content, Finding):
        return [content]
    fault = image_fault(content, max_pixels)
    if fault:
        return [Finding(fault.kind, path, fault.text)]
    pixels = _decoded(path, content)
    if isinstance(pixels, Finding):
        return [pixels]
    return [Finding(kind, path, text) for kind, text in
            [*_size(pixels, stated), *_unusual(path, content), *_dull(pixels)]]


def check_map(path: str, image: str, allowed: tuple, rule: dict, max_pixels: int = MAX_PIXELS,
              **_) -> list[Finding]:
    """Findings on a map: `allowed` numbers as trained, `rule` says how numbers become those."""
    content = _content(path)
    if isinstance(content, Finding):
        return [content]
    fault = image_fault(content, max_pixels)
    try:
        fault = fault or map_fault(content)
        numbers = None if fault else np.asarray(open_image(content))
    except Exception as error:  # noqa: BLE001
        return [Finding('undecodable', path, f'cannot be decoded ({one_line(error)})')]
    if fault:
        return [Finding(fault.kind, path, fault.text)]
    findings = []
    other = _content(image)
    size = None if isinstance(other, Finding) else _true_size(other, max_pixels)
    if size and size != numbers.shape:
        findings.append(Finding('other size', path, 'has {1} x {0} pixels where its image has '
                                '{3} x {2}'.format(*numbers.shape, *size)))
    found = np.unique(numbers).astype(np.int64)
    wrong = found[~np.isin(as_trained(found, **rule), allowed)]
    if len(wrong):
        shown = ', '.join(map(str, wrong[:10].tolist())) + (', ...' if len(wrong) > 10 else '')
        findings.append(Finding('unknown class', path, f'holds {shown}, which is no class'))
    return findings


def as_trained(numbers: np.ndarray, reduce_zero_label: bool = False,
               label_map: dict | None = None) -> np.ndarray:
    """Numbers in a file -> in training: mmseg's rules, with -1 for what 8 bits cannot hold."""
    trained = np.where((numbers < 0) | (numbers > 255), -1, numbers)
    if reduce_zero_label:
        trained = np.where(np.isin(trained, (0, 255)), 255, trained - 1)
    table = label_map or {}
    return np.array([table.get(number, number) for number in trained.tolist()])


def _true_size(content: bytes, max_pixels: int) -> tuple[int, int] | None:
    """(height, width) as decoded, EXIF turned; None where there is none."""
    if image_fault(content, max_pixels):
        return None
    pixels = _decoded('', content)
    return None if isinstance(pixels, Finding) else pixels.shape[:2]


def _content(path: str) -> bytes | Finding:
    if os.path.isdir(path):
        return Finding('missing', path, 'is a folder')
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, 'strerror', None) or one_line(error)
        return Finding('missing', path, f'cannot be read ({why})')


def _decoded(path: str, content: bytes) -> np.ndarray | Finding:
    import mmcv
    try:
        pixels = mmcv.imfrombytes(still(content))  # as training does
    except Exception as error:  # noqa: BLE001
        return Finding('undecodable', path, f'cannot be decoded ({one_line(error)})')
    return Finding('undecodable', path, 'cannot be decoded') if pixels is None else pixels


def _size(pixels: np.ndarray, stated: tuple | None):
    height, width = pixels.shape[:2]
    if stated and tuple(stated) != (width, height):
        yield 'other size', (f'has {width} x {height} pixels where the annotations say '
                             f'{stated[0]} x {stated[1]}')
    if min(width, height) < TINY:
        yield 'tiny', f'has {width} x {height} pixels'


def _unusual(path: str, content: bytes):
    """What the header says that not every reader takes alike."""
    image = open_image(content)
    ending = Path(path).suffix.lower()
    if image.format not in ENDINGS.get(ending, (image.format,)):
        yield 'misnamed', f'is a {image.format} file'
    if image.mode == 'CMYK':
        yield 'cmyk', 'has the colours of print, CMYK'
    deep_png = image.format == 'PNG' and content[24] == 16  # the bits of a number, in its header
    if image.mode in DEEP or deep_png:
        yield 'deep', f'has numbers of more than 8 bits (mode {image.mode})'
    if image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in image.info:
        yield 'alpha', f'has a transparent part (mode {image.mode})'
    if getattr(image, 'n_frames', 1) > 1 and image.format not in ('MPO', 'TIFF'):
        yield 'animated', f'holds {image.n_frames} pictures'
    if image.format == 'TIFF' and getattr(image, 'n_frames', 1) > 1:
        yield 'animated', f'holds {image.n_frames} pages'
    turned = _orientation(image)
    if turned not in (None, 1):
        yield 'rotated', f'is to be turned when shown (EXIF orientation {turned})'


def _orientation(image) -> int | None:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged EXIF data turns nothing, and hides nothing else
        return None


def _dull(pixels: np.ndarray):
    if (pixels == pixels[:1, :1]).all():
        yield 'blank', 'shows one colour and nothing else'


def type_of(content: bytes) -> str | None:
    """What the first bytes of a file say that it is, where that is no image or video."""
    return next((what for start, what in OTHERS.items()
                 if content.startswith(start) and what != 'a video'), None)
