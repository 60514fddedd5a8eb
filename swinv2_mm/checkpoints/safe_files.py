"""Safetensors files, single and sharded, by the package safetensors."""
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from .torch_files import Refused


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """The file, by safetensors; Refused for one that it cannot read, or where it is missing."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise Refused('needs the package safetensors, which is not installed here',
                      'run `pip install safetensors`') from error
    try:
        with safe_open(path, 'pt') as file:
            yield file
    except SafetensorError as error:
        raise Refused(f'is cut off or damaged ({str(error).splitlines()[0][:150]})') from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises Refused for a header that does not describe it."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without its tensors. Raises as `read_safetensors`."""
    with _opened(path) as file:
        return file.metadata() or {}


def read_index(path: Path) -> dict[str, str]:
    """The weight_map of a shard index: tensor name -> name of a file beside the index."""
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refused(f'has JSON that cannot be read ({type(error).__name__})') from error
    names = index.get('weight_map') if isinstance(index, dict) else None
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
