"""Safetensors files, single and sharded: every claim of a header is checked before it is used.

Format: 8 bytes of header length, little endian; a JSON header of name -> dtype, shape and
data_offsets, and `__metadata__` of strings; then the numbers, without gaps.
https://github.com/huggingface/safetensors, section Format.
"""
import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .pickles import Refused

MOST_JSON = 4 << 20  # bytes of a header or index; 40,000 tensors fit. Parsed it takes up to 30x
DTYPES = dict(F64=torch.float64, F32=torch.float32, F16=torch.float16, BF16=torch.bfloat16,
              I64=torch.int64, I32=torch.int32, I16=torch.int16, I8=torch.int8, U8=torch.uint8,
              BOOL=torch.bool)


class Entry(NamedTuple):
    """One tensor of a file: its bytes are `begin` to `end` of what follows the header."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises Refused for a header that does not describe it."""
    with path.open('rb') as file:
        entries, metadata = _read_header(file, path.stat().st_size)
        state = {}
        for entry in entries:
            data = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
            if len(data) and file.readinto(data.numpy()) < len(data):
                raise Refused('is cut off')
            state[entry.name] = data.view(entry.dtype).reshape(entry.shape)
    return state, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without its tensors. Raises as `read_safetensors`."""
    with path.open('rb') as file:
        return _read_header(file, path.stat().st_size)[1]


def _read_header(file, size: int) -> tuple[list[Entry], dict[str, str]]:
    """Entries in the order of their bytes, and the metadata; `file` ends up at the first byte."""
    length = int.from_bytes(file.read(8), 'little')
    if size < 8 or length > size - 8:
        raise Refused(f'declares a header of {length:,} bytes and is {size:,} long')
    header = _parse(file.read(min(length, MOST_JSON + 1)))
    metadata = header.pop('__metadata__', {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Refused('has metadata that are not all text')
    entries = [_entry(name, entry) for name, entry in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    place = 0
    for entry in entries:
        if entry.begin != place:
            fault = 'overlaps another' if entry.begin < place else 'leaves a gap before it'
            raise Refused(f'has a tensor {entry.name[:60]!r} that {fault}')
        place = entry.end
    if place != size - 8 - length:
        raise Refused(f'declares {place:,} bytes of numbers and holds {size - 8 - length:,}')
    return entries, metadata


def _entry(name: str, entry) -> Entry:
    """A header's line about one tensor, checked on its own."""
    known = isinstance(entry, dict) and set(entry) == {'dtype', 'shape', 'data_offsets'}
    if not known or not isinstance(entry['dtype'], str) or entry['dtype'] not in DTYPES:
        kind = entry.get('dtype') if isinstance(entry, dict) else entry
        raise Refused(f'describes {name[:60]!r} by the dtype {str(kind)[:20]!r}, where it must '
                      f'be one of {", ".join(DTYPES)}, with a shape and data_offsets')
    shape, offsets = entry['shape'], entry['data_offsets']
    numbers = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    if not numbers or len(shape) > 8 or any(
            type(n) is not int or not 0 <= n < 1 << 62 for n in shape + offsets):
        raise Refused(f'gives {name[:60]!r} a shape or data_offsets that are not counts')
    dtype = DTYPES[entry['dtype']]
    nbytes = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    if offsets[1] - offsets[0] != nbytes:
        raise Refused(f'gives {name[:60]!r} {offsets[1] - offsets[0]:,} bytes, where its shape '
                      f'and dtype take {nbytes:,}')
    return Entry(name, dtype, tuple(shape), *offsets)


def _parse(text: bytes) -> dict:
    """JSON of an object without repeated keys."""
    if len(text) > MOST_JSON:
        raise Refused(f'has more than {MOST_JSON >> 20} MB of JSON')
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused(f'has JSON that cannot be read ({type(error).__name__})') from error
    if not isinstance(content, dict):
        raise Refused('has JSON that is not an object')
    return content


def _unique(pairs: list) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise Refused('has JSON that names a key twice')
    return content


def read_index(path: Path) -> dict[str, str]:
    """The weight_map of a shard index: tensor name -> name of a file beside the index."""
    with path.open('rb') as file:
        names = _parse(file.read(MOST_JSON + 1)).get('weight_map')
    if not isinstance(names, dict) or not names or not all(
            isinstance(name, str) for name in names.values()):
        raise Refused('is a shard index without a weight_map of tensor names to file names')
    return names


def shard_path(index: Path, name: str) -> Path:
    """The file of one shard, which must lie beside the index, links followed.

    A download cache keeps index and shards as links into one folder, hence not simply no links.
    """
    path = index.parent / name
    plain = name not in ('', '.', '..') and not set(name) & set('/\\\0')
    if not plain or path.resolve().parent not in (index.resolve().parent, index.parent.resolve()):
        raise Refused(f'names a shard {name[:80]!r} that is not in its own folder')
    if not path.is_file():
        raise FileNotFoundError(f'{index} names the shard {name[:80]!r}, which is not beside it: '
                                'download that file too.')
    return path


def read_shards(index: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of all shards of an index; what a shard holds is what the index says.

    Raises Refused, and FileNotFoundError for a shard that is missing.
    """
    names = read_index(index)
    paths = {name: shard_path(index, name) for name in dict.fromkeys(names.values())}
    state, metadata = {}, {}
    for name, path in paths.items():
        try:
            shard, notes = read_safetensors(path)
        except Refused as error:
            raise Refused(f'has a shard {name!r} that {error}') from error
        wanted = {key for key, place in names.items() if place == name}
        if wanted != set(shard):
            key = min(wanted ^ set(shard))
            raise Refused(f'has a shard {name!r} that disagrees with it on {key[:60]!r}')
        state |= shard
        metadata |= notes
    return state, metadata
