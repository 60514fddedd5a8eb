"""Files that a library passes over or takes for something else, without a word.

mmseg lists one ending, as it is written; mmpretrain some endings, and each folder as a class, a
hidden one too; and a name with another system's separator is the name of no file.
"""
from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice

from swinv2_mm.utils.errors import UserError

from .findings import Finding

IMAGES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp', '.gif', '.jp2',
          '.jfif', '.jpe', '.heic', '.heif', '.avif', '.jxl', '.tga', '.dng')
SYSTEM = {'__MACOSX', '@eaDir', '__pycache__', '$RECYCLE.BIN', 'System Volume Information',
          'lost+found'}  # folders that systems and tools make of their own
MOST = 500_000  # files of a folder that are looked at: a second or two
MMPRETRAIN = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # in any case


def is_hidden(name: str) -> bool:
    """Whether a folder of this name is none of the data's."""
    return name.startswith('.') or name in SYSTEM


def check_hidden(names: Iterable[str], folder: str, effect: str) -> None:
    """Raise UserError for the first name, relative to `folder`, in a hidden folder."""
    for name in names:
        parts = name.replace(os.sep, '/').split('/')
        hidden = next((i for i, part in enumerate(parts) if is_hidden(part)
                       and part not in ('.', '..')), None)
        if hidden is not None:
            place = os.path.join(folder, *parts[:hidden + 1])
            raise UserError(f'{folder} must hold the data alone, and {place} is a folder that '
                            f'another program made, {effect}: take away {parts[hidden]!r}.')


def images_in(folder: str) -> Iterator[str]:
    """Paths of the images below a folder by the ends of their names, hidden ones left out."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (os.path.join(place, name) for name in sorted(names)
                    if name.lower().endswith(IMAGES) and not name.startswith('.'))


def endings(folder: str, is_listed: Callable[[str], bool], allowed: str,
            cure: str) -> Generator[Finding, None, int]:
    """Images that the library does not list, by the ends of their names; returns how many it does.

    Args:
        folder: of the images.
        is_listed: whether it lists a path.
        allowed: what it lists, for the sentence.
        cure: what to do.
    """
    count, others = 0, []
    for path in islice(images_in(folder), MOST):
        count += 1
        if not is_listed(path):
            others.append(path)
    if others:
        shown = ', '.join(os.path.relpath(path, folder) for path in others[:3])
        yield Finding('left out', folder, f'holds {len(others)} of {count} images that do not end '
                      f'in {allowed} ({shown}{", ..." * (len(others) > 3)}) and are left out',
                      cure, len(others))
    return count - len(others)


def missing(names: list[str], folder: str, listed_in: str, where: str) -> Iterator[Finding]:
    """Names in a list that are no files, told once for all of them."""
    there = {place: _names_in(os.path.join(folder, place))
             for place in {os.path.dirname(name) for name in names}}
    lost = [name for name in names if os.path.basename(name) not in there[os.path.dirname(name)]]
    if not lost:
        return
    cure = f'put them there, or set data_root and data_prefix of {where}.dataset'
    if near := _meant(lost[0], folder):
        form = next((form for form in ('NFC', 'NFD')
                     if unicodedata.normalize(form, lost[0]) == near), None)
        cure = (f'write {near!r} for {lost[0]!r}, and so on, or set data_prefix of {where}.dataset '
                'to where these names start from') if form is None else (
            f'write accents as the files have them, unicodedata.normalize({form!r}, name) in '
            'Python')
    yield Finding('missing', listed_in, f'names {len(names)} images, and {len(lost)} of them are '
                  f'no files in {folder or "."}, the first is {lost[0]!r}{backslash(lost[0])}',
                  cure, len(lost))


def backslash(name: str) -> str:
    """The word on a name with Windows' separator; empty for others."""
    return ' (a \\ in a name is no separator here: write /)' if '\\' in name else ''


def _names_in(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or '.'))
    except OSError:
        return set()


def _plain(name: str) -> str:
    """A name whatever its case, and however its accents are written: macOS writes two signs."""
    return unicodedata.normalize('NFC', name).lower()


def _meant(name: str, folder: str) -> str | None:
    """A file whose name is the same but for separators, folders before it, or its case."""
    plain = name.replace('\\', '/')
    for tried in (plain, os.path.basename(plain)):
        place, last = os.path.split(tried)
        names = _names_in(os.path.join(folder, place))
        found = last if last in names else next(
            (other for other in sorted(names) if _plain(other) == _plain(last)), None)
        if found and '..' not in place:
            return os.path.join(place, found)
    return None
