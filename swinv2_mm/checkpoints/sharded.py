"""Checkpoints of sharded runs: a folder in which each process has written its own part.

    iter_1000.pth/
        .metadata          which part of which tensor lies where; of torch.distributed.checkpoint
        __0_0.distcp ...   the parts, each as torch.save writes a tensor
        run.pth            all that is no tensor of the model or its optimizer, as torch.save has it

torch reads `.metadata` by a pickle that may run code, and asks the same of entries that are no
tensors. Here it may hold names, numbers and places alone, and every entry is a tensor.
"""
from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..utils import versions
from .torch_files import STAND_INS, Refused, read_torch_file, refused

METADATA, RUN = '.metadata', 'run.pth'
STATE = 'state_dict.'  # before the name of a tensor of the model
OPTIMIZER = re.compile(r'optimizer\.(\d+)\.(\w+)')  # number of a parameter, kind of its state


def is_sharded(path: str | Path) -> bool:
    """Whether this is a folder that a sharded run wrote."""
    return '://' not in str(path) and (Path(path) / METADATA).is_file()


def read_metadata(folder: Path):
    """torch's Metadata of a folder: names and shapes of tensors, and the places of their parts.

    Raises Refused, with a part of a sentence, where it is damaged or asks for anything else.
    """
    versions.require('a sharded checkpoint', 'read it there, or train without sharding')
    from torch.distributed.checkpoint import filesystem, metadata

    known = {f'{metadata.__name__}.{name}': getattr(metadata, name) for name in (
        'Metadata', 'MetadataIndex', 'StorageMeta', 'TensorStorageMetadata', 'TensorProperties',
        'ChunkStorageMetadata', '_MEM_FORMAT_ENCODING')}
    known[f'{filesystem.__name__}._StorageInfo'] = filesystem._StorageInfo
    known['pathlib.PosixPath'] = known['pathlib._local.PosixPath'] = _text  # of who saved it
    try:
        with (folder / METADATA).open('rb') as file:
            found = versions.restricted_pickle(known).load(file)
        tensors, places = found.state_dict_metadata.values(), found.storage_data.values()
        if not all(isinstance(value, metadata.TensorStorageMetadata) for value in tensors):
            raise ValueError('an entry is no tensor')
        if any(Path(place.relative_path).name != place.relative_path for place in places):
            raise ValueError('a part lies elsewhere')
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises whatever comes of it
        raise refused(error) from error
    return found


def reader(folder: Path):
    """torch's reader of a folder, for `torch.distributed.checkpoint.load`, with safe metadata."""
    from torch.distributed.checkpoint import FileSystemReader

    class Reader(FileSystemReader):
        def read_metadata(self, *args, **kwargs):
            return read_metadata(folder)

    return Reader(folder)


def read_sharded(folder: Path, optimizer: bool = False, known: Mapping[str, object] = STAND_INS,
                 map_location='cpu') -> dict:
    """The checkpoint that one process would have written: whole tensors under plain names.

    With `optimizer`, its state too, as torch.optim has it. `known`: see `read_torch_file`.
    Raises Refused, OSError.
    """
    content = read_torch_file(folder / RUN, known=known, map_location=map_location)
    state, values = {}, {}
    for name, size, chunks in _parts(folder, lambda name: optimizer or name.startswith(STATE)):
        whole = _whole(name, size, chunks).to(map_location)
        if match := OPTIMIZER.fullmatch(name):
            values.setdefault(int(match[1]), {})[match[2]] = whole
        else:
            state[name[len(STATE):]] = whole
    content['state_dict'] = state
    if optimizer and 'optimizer' in content:
        content['optimizer']['state'] = dict(sorted(values.items()))
    return content


def damage(folder: Path) -> str | None:
    """Which part of a folder is not what was written there; None if all is whole."""
    for name, _, chunks in _parts(folder, lambda name: True):
        for _, stream in chunks:
            with zipfile.ZipFile(stream) as archive:
                if archive.testzip():
                    return name
    return None


Chunk = tuple[tuple[int, ...], io.BytesIO]  # offsets and bytes of a part of a tensor


def _parts(folder: Path, wanted) -> Iterator[tuple[str, torch.Size, Iterator[Chunk]]]:
    """Name and shape of each wanted tensor, and its parts."""
    found = read_metadata(folder)
    places = {(index.fqn, tuple(index.offset or ())): place
              for index, place in found.storage_data.items()}

    def chunks(name: str, value) -> Iterator[Chunk]:
        for chunk in value.chunks:
            place = places.get((name, tuple(chunk.offsets)))
            if place is None:
                raise Refused(f'is damaged: a part of {name} has no place')
            with (folder / place.relative_path).open('rb') as file:
                file.seek(place.offset)
                yield tuple(chunk.offsets), io.BytesIO(file.read(place.length))

    for name, value in found.state_dict_metadata.items():
        if wanted(name):
            yield name, value.size, chunks(name, value)


def _whole(name: str, size: torch.Size, chunks: Iterator[Chunk]) -> Tensor:
    """A tensor of its parts."""
    try:
        parts = [(offsets, versions.load(stream, {}))
                 for offsets, stream in chunks]
        if len(parts) == 1 and parts[0][1].shape == size:
            return parts[0][1]
        if sum(part.numel() for _, part in parts) != size.numel():
            raise ValueError('parts do not fill it')
        whole = parts[0][1].new_empty(size)
        for offsets, part in parts:
            whole[tuple(slice(o, o + s) for o, s in zip(offsets, part.shape))] = part
        return whole
    except (OSError, Refused):
        raise
    except Exception as error:  # torch raises whatever a damaged file provokes
        raise Refused(f'is cut off or damaged ({name}: {error})'[:300]) from error


def _text(*parts: str) -> str:
    return '/'.join(parts)
