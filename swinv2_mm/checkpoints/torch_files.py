"""Files of `torch.save`: checked from the outside, then read with weights_only=True."""
import io
import mmap
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ..utils import versions
from . import pickles
from .pickles import Refused

ZIP = b'PK\x03\x04'
LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'  # a pickle of torch's own magic number
MOST_DIRECTORY = 8 << 20  # bytes of a zip directory: room for 100,000 tensors

STAND_INS = {**dict.fromkeys(pickles.SKIPPED, pickles.Skipped),
             **dict.fromkeys(pickles.DICTS, OrderedDict)}


def read_torch_file(path: Path, mapped: bool = False, known: Mapping[str, object] = STAND_INS,
                    map_location='cpu') -> object:
    """What torch.load(path, weights_only=True) gives.

    Objects that mmengine, timm and the official code save beside the weights come out as
    `pickles.Skipped`, unless `known` says what their names mean.
    With `mapped`, tensors of a zipped file are not read but mapped from it.
    Raises Refused, with a part of a sentence, for any file that is damaged,
    asks for code, or would take more memory than its size; none of it has run by then.
    """
    with path.open('rb') as file:
        zipped = file.read(len(ZIP)) == ZIP
        file.seek(0)
        (_check_zip if zipped else _check_legacy)(file)
    try:
        return versions.load(path, known, map_location, mapped and zipped)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever a damaged file provokes
        # The rest of torch's message is advice on how to run the code in such a file.
        first = str(error).partition('\n')[0].partition('. ')[0]
        raise Refused(f'is damaged ({type(error).__name__} {first})') from error


def _check_zip(file: BinaryIO) -> None:
    """The directory first: sizes in it are claims, and compressed entries can be bombs."""
    size = file.seek(0, io.SEEK_END)
    start = _directory_start(file, size)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise Refused(f'is cut off or damaged ({error})') from error
    if archive.start_dir != start:
        raise Refused('has a zip directory that is not where its end says')
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) < len(archive.infolist()):
        raise Refused('holds two zip entries of one name')
    if any(e.compress_type or e.flag_bits & 1 or e.compress_size != e.file_size
           for e in entries.values()):
        raise Refused('holds compressed or encrypted zip entries, which torch never writes')
    claimed = sum(entry.file_size for entry in entries.values())
    if claimed > size:
        raise Refused(f'claims to hold {claimed:,} bytes and is {size:,} long')
    storages = _check_pickle(archive, entries)
    root = next(iter(entries)).partition('/')[0]
    for key, nbytes in storages.items():
        entry = entries.get(f'{root}/data/{key}')
        if entry is None or entry.file_size != nbytes:
            held = 'none' if entry is None else f'{entry.file_size:,}'
            raise Refused(f'needs {nbytes:,} bytes of numbers as {key[:40]!r} and holds {held}')


def _directory_start(file: BinaryIO, size: int) -> int:
    """Where the zip directory starts by its end record; no comment may follow that record.

    Layout: PKWARE APPNOTE 4.3.14 to 4.3.16.
    """
    file.seek(max(size - 42, 0))
    tail = file.read(42)
    if tail[-22:-18] != b'PK\x05\x06':
        raise Refused('is a zip archive without its end, so it is cut off or damaged')
    length, start = struct.unpack('<II', tail[-10:-2])
    if tail[:4] == b'PK\x06\x07':  # the locator of a 64-bit end record
        place, = struct.unpack('<Q', tail[8:16])
        file.seek(min(place, size))
        record = file.read(56)
        if record[:4] != b'PK\x06\x06' or len(record) < 56:
            raise Refused('has a zip directory that is not where its end says')
        length, start = struct.unpack('<QQ', record[40:56])
    if length > MOST_DIRECTORY:
        raise Refused(f'has a zip directory of {length:,} bytes')
    file.seek(0)
    return start


def _check_pickle(archive: zipfile.ZipFile, entries: dict) -> dict[str, int]:
    """Bytes by key of the storages that the archive's pickle needs."""
    root = next(iter(entries), '').partition('/')[0]
    if f'{root}/constants.pkl' in entries:
        raise Refused('is a TorchScript program and not a state dict',
                      'save the state dict of the loaded program')
    entry = entries.get(f'{root}/data.pkl')
    if entry is None:
        raise Refused('is a zip archive without the data.pkl that torch.save writes')
    try:
        with archive.open(entry) as stream:
            return pickles.follow(io.BytesIO(stream.read()))[1]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise Refused(f'is cut off or damaged ({error})') from error


def _check_legacy(file: BinaryIO) -> None:
    """The format before torch 1.6: five pickles, then each block of numbers after its length."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        legacy = stream[:len(LEGACY)] == LEGACY
        if not legacy and stream[:1] != b'\x80':
            raise Refused(f'starts with {stream[:8]!r} and is no file of torch.save')
        if not legacy:
            pickles.follow(stream)
            raise Refused('is a bare pickle, which torch.save did not write',
                          'save its state dict with torch.save')
        for _ in range(3):  # magic number, protocol version, sizes of the system
            pickles.follow(stream)
        _, storages = pickles.follow(stream)
        keys, _ = pickles.follow(stream)
        if type(keys) is not list or sorted(keys, key=str) != sorted(storages):
            raise Refused('lists other blocks of numbers than its tensors need')
        needed = sum(8 + nbytes for nbytes in storages.values())
        if stream.tell() + needed > len(stream):
            raise Refused(f'needs {needed:,} bytes of numbers and holds '
                          f'{len(stream) - stream.tell():,}, so it is cut off')
