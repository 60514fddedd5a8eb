"""Checkpoint files that are whole or not there: written beside, flushed to the disk, then renamed.

Knows of files and their checksums, not of what a checkpoint holds.
"""
from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path

from ..checkpoints.sharded import RUN, damage
from ..checkpoints.torch_files import Refused

POINTER = 'last_checkpoint'  # mmengine's: a text file with the path of the newest checkpoint
NAME = re.compile(r'(?!best_).*?(\d+)\.pth')  # of a checkpoint to go on from; the number counts up
PARTIAL = '.partial'


def partial_name(name: str) -> str:
    """The name under which a file is written before it is whole."""
    return f'.{name}{PARTIAL}'


def publish(partial: Path, path: Path) -> None:
    """Flush a finished file or folder to the disk, then let it appear under its name."""
    for file in [*_files(partial), partial]:
        _flush(file)
    if path.is_dir():  # a folder cannot be renamed onto one that is not empty
        shutil.rmtree(path)
    os.replace(partial, path)
    _flush(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it has its old content or the new one, whole."""
    partial = path.with_name(partial_name(path.name))
    try:
        partial.write_bytes(content)
        publish(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what killed runs left half written."""
    for path in [*folder.glob(partial_name('*.pth')), folder / partial_name(POINTER)]:
        remove(path)


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence; None if it is whole.

    Every byte is read and compared with its checksum: about a second per GB, where torch.load
    itself compares nothing.
    """
    if not path.exists():
        return 'is not there'
    file = path / RUN if path.is_dir() else path
    try:
        if not file.stat().st_size:
            return 'is empty'
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if not damaged and path.is_dir():
            damaged = damage(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return f'is cut off or damaged ({error})'
    except Refused as error:
        return str(error)
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    return f'is damaged: its part {damaged} fails its checksum' if damaged else None


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in a folder that is whole, and what is wrong with those newer than it.

    The one that `last_checkpoint` names goes first, unless another is both newer and further on:
    that of a run killed before it could be named.
    """
    found = sorted((path for path in folder.glob('*.pth') if NAME.fullmatch(path.name)),
                   key=_age, reverse=True)
    faults = []
    if (named := _named(folder)) is not None:
        ahead = [path for path in found if _ahead(path, named)]
        found = [*ahead, named, *(path for path in found if path not in (*ahead, named))]
    for path in found:
        wrong = fault(path)
        if wrong is None:
            return path, faults
        faults.append(f'{path} {wrong}')
    return None, faults


def _named(folder: Path) -> Path | None:
    """The checkpoint that `last_checkpoint` names, also where the folder was moved since."""
    try:
        text = (folder / POINTER).read_text().strip()
    except FileNotFoundError:
        return None
    if not text:  # mmengine's own hook, killed while it wrote
        return None
    moved = folder / Path(text).name
    return moved if moved.exists() else Path(text)


def _ahead(path: Path, named: Path) -> bool:
    same = re.sub(r'\d+', '', path.name) == re.sub(r'\d+', '', named.name)
    return same and _number(path) > _number(named) and _age(path) > _age(named)


def _number(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _files(path: Path) -> list[Path]:
    """The file itself, or those in a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob('*') if file.is_file())
    return [path]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
