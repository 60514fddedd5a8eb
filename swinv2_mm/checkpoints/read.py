"""Reading checkpoints: `read_checkpoint(source)` gives a state dict and runs nothing in the file.

Files are untrusted: torch reads them with weights_only=True, or safetensors does, and what is
returned are finite numbers in float32 and nothing else.
"""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.parse import unquote, urlparse

import torch
from mmengine.logging import print_log
from torch import Tensor

from . import safe_files
from .sharded import is_sharded, read_sharded
from .torch_files import ZIP, Refused, read_torch_file
from .wrappers import few, unwrap

# A folder is read by the first kind of file that is in it.
KINDS = ('*.safetensors.index.json', '*.safetensors', '*.pth', '*.pt', '*.bin')
GENERIC = {'model', 'pytorch_model', 'checkpoint', 'weights'}  # file names that many models share

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PARAMETERS = ('weight', 'bias', 'logit_scale', 'mask_token', 'absolute_pos_embed')
SMALL = 64 << 20  # bytes by which tensors may outgrow their file

STARTS = {  # what is often met where a checkpoint should be -> what it is, and what to do
    b'version https://git-lfs': ('is a Git LFS pointer', 'fetch the file with git lfs pull'),
    b'<!doctype html': ('is a web page', 'download the file itself'),
    b'<html': ('is a web page', 'download the file itself'),
    b'\x89HDF': ('is an HDF5 file', 'convert it to safetensors in the framework that made it'),
}


class Contents(NamedTuple):
    """What a checkpoint holds, and what had to be said or done about it."""

    state: dict[str, Tensor]
    metadata: dict[str, str]  # text: of a safetensors file, or of mmengine's `meta`
    notes: list[str]


def read_checkpoint(source: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """The state dict in a file, a folder or at a URL, without running code from it.

    Args:
        source: a torch file, zipped or of the format before torch 1.6; a safetensors file; the
            index json of a sharded one; a folder that holds one of these; the folder that a
            sharded run saved; or the URL of a file, which torch.hub's cache keeps.
        ema: take the averaged weights that are kept beside the others. mmengine keeps them in
            their place: its `state_dict` is averaged either way.

    Returns:
        name -> tensor on the CPU, floats as float32, wrappers and `module.` taken off. Those of a
        zipped torch file are mapped from it: replace such a file, do not write into it.

    Raises:
        FileNotFoundError: no such file, or a shard is missing.
        ValueError: a file that is damaged, asks for code, or holds no state dict of finite numbers.
        OSError: a URL that cannot be fetched, or a file that may not be read.
    """
    state, _, notes = read_contents(source, ema)
    for note in notes:
        print_log(note, 'current')
    return state


def read_contents(source: str | Path, ema: bool = False) -> Contents:
    """`read_checkpoint` with metadata and notes, which are returned instead of logged."""
    path = locate(source)
    try:
        content, metadata = _read_file(path)
        state, notes = unwrap(content, path, ema)
        # Mapped, float32 is copied once, straight into the model. What must be converted is read
        # instead, so that each tensor's memory is free as soon as its copy is there.
        if any(value.dtype in FLOATS[1:] for value in state.values()):
            del content, state
            content, metadata = _read_file(path, mapped=False)
            state, notes = unwrap(content, path, ema)
    except Refused as error:
        raise refusal(path, error) from error
    del content  # so that each tensor is freed as soon as its float32 copy is there
    notes += _tidy(state, path)
    return Contents(state, metadata, notes)


def refusal(path: Path, error: Refused) -> ValueError:
    """The whole sentence about a file that was refused."""
    return ValueError(f'{path} must be a torch file of tensors and plain values or a safetensors '
                      f'file, and it {error}: {error.advice}.')


def read_metadata(source: str | Path) -> dict[str, str]:
    """The text that a safetensors file carries beside its tensors; {} for other files."""
    path = locate(source)
    if path.suffix != '.safetensors':
        return {}
    try:
        return safe_files.read_metadata(path)
    except Refused as error:
        raise refusal(path, error) from error


def locate(source: str | Path) -> Path:
    """The file that a path, folder or URL stands for; a URL's is downloaded unless it was before.

    Raises FileNotFoundError, OSError, or ValueError for a folder without or with several.
    """
    if '://' in str(source):
        return _download(str(source))
    path = Path(source)
    if path.is_dir() and not is_sharded(path):
        return _in_folder(path)
    if not path.exists():
        raise FileNotFoundError(f'There is no checkpoint at {str(source)!r}: give the path of a '
                                'file, a folder with one file, or a URL.')
    return path


def _in_folder(folder: Path) -> Path:
    for kind in KINDS:
        files = sorted(path for path in folder.glob(kind) if path.is_file())
        if len(files) > 1:
            raise ValueError(f'A folder must hold one checkpoint, and {folder} holds {len(files)} '
                             f'({", ".join(f.name for f in files[:4])}): give the path of one.')
        if files:
            return files[0]
    raise FileNotFoundError(f'There is no checkpoint in the folder {folder}, which must hold one '
                            f'of {", ".join(KINDS)}: give the path of a file.')


def _download(url: str) -> Path:
    """The file of a URL, in torch.hub's cache and under torch.hub's name for it."""
    parts = urlparse(url)
    name = unquote(parts.path).rpartition('/')[2]
    if parts.scheme not in ('http', 'https', 'file') or name in ('', '.', '..') or '\0' in name:
        raise ValueError(f'A checkpoint URL must be http, https or file and name a file, got '
                         f'{url!r}: give the address of the file itself.')
    if Path(name).stem in GENERIC:  # torch.hub would take one model's file for another's
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}'
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except (OSError, URLError) as error:
            raise OSError(f'{url} could not be read ({error}): check it, or download the file '
                          'elsewhere and give its path.') from error
    return path


def _read_file(path: Path, mapped: bool = True) -> tuple[object, dict[str, str]]:
    """What a file holds, and its metadata. Raises Refused, OSError."""
    if path.is_dir():
        content = read_sharded(path)
        return content, _texts(content)
    with path.open('rb') as file:
        head = file.read(64)
    if not head:
        raise Refused('is empty')
    for start, answer in STARTS.items():
        if head.lower().startswith(start.lower()):
            raise Refused(*answer)
    if path.suffix == '.json':
        return safe_files.read_shards(path)
    if not head.startswith(ZIP) and (path.suffix == '.safetensors' or head[8:9] == b'{'):
        return safe_files.read_safetensors(path)
    content = read_torch_file(path, mapped)
    return content, _texts(content)


def _texts(content) -> dict[str, str]:
    """What is text in mmengine's `meta`."""
    meta = content.get('meta') if isinstance(content, dict) else None
    return {key: value for key, value in meta.items() if isinstance(value, str)
            and isinstance(key, str)} if isinstance(meta, dict) else {}


def _tidy(state: dict[str, Tensor], path: Path) -> list[str]:
    """Check every tensor and bring floats to float32, in place; notes on what was converted."""
    for key, value in state.items():
        if reason := _fault(key, value):
            raise ValueError(f'{path} must hold dense numbers, floats for weights, and its '
                             f'{key[:80]!r} {reason}: save model.float().state_dict() on the CPU.')
    views = {_view(value): value.numel() * 4 for value in state.values()}
    total, size = sum(views.values()), _size(path)
    if total > 2 * size + SMALL:
        raise ValueError(f'{path} must hold its tensors one by one, and {len(views)} of them share '
                         f'memory: as float32 they take {total:,} bytes for a file of {size:,}; '
                         'save clones of them.')
    converted, copies = {}, {}
    for key in state:
        value = state[key] = state[key].detach()
        if value.dtype in FLOATS[1:]:
            converted.setdefault(value.dtype, []).append(key)
            view = _view(value)
            if view not in copies:
                copies[view] = value.float()
            state[key] = copies[view]
        del value
        if state[key].is_floating_point() and not _finite(state[key]):
            raise ValueError(f'{path} must hold finite numbers, and its {key[:80]!r} holds NaN or '
                             'infinity (or numbers beyond float32): take a file from before '
                             'training diverged.')
    return [f'{path}: {len(keys)} tensors converted from {str(dtype).removeprefix("torch.")} to '
            f'float32 ({few(keys)}).' for dtype, keys in converted.items()]


def _fault(key: str, value: Tensor) -> str:
    """What keeps a tensor from being taken, in words; empty where nothing does."""
    if value.layout != torch.strided or value.is_quantized or value.device.type != 'cpu':
        return 'is sparse, quantized or without data'
    if value.dtype not in FLOATS and (value.is_floating_point() or value.is_complex()):
        return f'is of {value.dtype}'
    if not value.is_floating_point() and key.endswith(PARAMETERS):
        return f'is of {value.dtype}'
    stored = value.untyped_storage().nbytes()
    if value.numel() * value.element_size() > stored:
        return f'repeats {stored:,} bytes of numbers {value.numel():,} times over'
    if value.dtype in FLOATS[1:] and stored > value.numel() * value.element_size() + SMALL:
        return f'is a small part of {stored:,} bytes of numbers'
    return ''


def _view(value: Tensor) -> tuple:
    """Equal for two tensors that are the same part of the same memory."""
    return value.data_ptr(), value.dtype, value.shape, value.stride()


def _finite(value: Tensor) -> bool:
    """Without the temporaries of torch.isfinite, which would take more memory than the file."""
    return not value.numel() or all(bound.isfinite() for bound in value.aminmax())


def _size(path: Path) -> int:
    """Bytes of a file, or of all shards of an index or a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    if path.suffix != '.json':
        return path.stat().st_size
    return sum((path.parent / name).stat().st_size
               for name in set(safe_files.read_index(path).values()))
