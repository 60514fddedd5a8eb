"""What convert.py and publish.py share: errors in one sentence, and output files in one piece."""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import swinv2_mm
from swinv2_mm import ARCHS
from swinv2_mm.checkpoints import pretrained_windows, to_native, windows_of_name
from swinv2_mm.checkpoints.beside import windows_beside
from swinv2_mm.checkpoints.read import Contents, read_contents
from swinv2_mm.checkpoints.transfer import arch_of, resolved
from swinv2_mm.utils.errors import UserError

# Of each stage: window, and normaliser, which may be 0 for the window in use.
Windows = list[tuple[tuple[int, ...], tuple[int, ...]]]


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Errors of the package are whole sentences already: show them without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def read(source: str, ema: bool = False) -> Contents:
    """A checkpoint's contents, or UserError."""
    with sentences():
        return read_contents(source, ema)


def windows_in(contents: Contents, source: str) -> tuple[Windows | None, str]:
    """Windows that a checkpoint was trained with and where that is said; None if it is not."""
    with sentences():
        if found := pretrained_windows(contents.state):
            return found, 'by its tables'
    if written := contents.metadata.get('swinv2_windows'):
        try:
            return [(tuple(w), tuple(n)) for w, n in json.loads(written)], 'by its metadata'
        except (ValueError, TypeError) as error:
            raise UserError(f'The metadata swinv2_windows of {source} must be a list of [window, '
                            f'normaliser] per stage, got {written[:60]!r}: remove or correct '
                            'it.') from error
    with sentences():
        found = windows_beside(source, arch_of(to_native(contents.state)))
    if found:
        return found, 'by the config.json beside it'
    found = windows_of_name(source)
    return (found, 'by its name') if found else (None, 'nothing in the file or its name says')


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--window-size', type=_list, metavar='W,W,W,W', help='window of each stage '
                        'in the training, for an input that does not tell')
    parser.add_argument('--pretrained-window-sizes', type=_list, metavar='N,N,N,N', help='windows '
                        'that normalised its positions, if others (default: --window-size)')


def _list(text: str) -> list[int]:
    if not re.fullmatch(r'[1-9]\d*(,[1-9]\d*)*', text):
        raise argparse.ArgumentTypeError(f'takes one number per stage, such as 16,16,16,8, got '
                                         f'{text!r}')
    return [int(number) for number in text.split(',')]


def settle_windows(args, contents: Contents) -> tuple[Windows | None, str]:
    """Windows of the training, and who says so; the arguments may not contradict the file."""
    found, said = windows_in(contents, args.input)
    if args.window_size is None:
        if args.pretrained_window_sizes:
            raise UserError('--pretrained-window-sizes must come with --window-size, got it alone: '
                            'give both.')
        return found, said
    pretrained = args.pretrained_window_sizes or args.window_size
    if len(pretrained) != len(args.window_size):
        raise UserError('--pretrained-window-sizes must have as many entries as --window-size, got '
                        f'{pretrained} and {args.window_size}: give one per stage.')
    if any(value.ndim == 5 for value in contents.state.values()):
        raise UserError('--window-size is for image models, and the file is of a video model: '
                        'leave it out.')
    given = [((w, w), (n, n)) for w, n in zip(args.window_size, pretrained)]
    if found and given != resolved(found):
        raise UserError(f'The windows must be those of the file, {show(found)} {said}, got '
                        f'{show(given)}: leave --window-size out.')
    return given, 'as given'


def sides(value: tuple[int, ...]) -> int | list[int]:
    """8 for (8, 8), [16, 12] for (16, 12)."""
    return value[0] if len(set(value)) == 1 else list(value)


def show(windows: Windows) -> str:
    """Windows as the settings of a model."""
    window, normaliser = ([sides(entry[i]) for entry in windows] for i in (0, 1))
    return f'window_size={window}, pretrained_window_sizes={normaliser}'


def record_of(windows: Windows | None, prefix: str = '') -> dict[str, torch.Tensor]:
    """The tensor by which a file of this package tells its windows: (2, stages, sides)."""
    if not windows:
        return {}
    return {f'{prefix}pretrained_windows': torch.tensor(
        [[entry[i] for entry in windows] for i in (0, 1)])}


def arch_name(arch: dict) -> str | None:
    """The key of ARCHS that these sizes have; None for others."""
    return next((name for name, known in ARCHS.items() if known._asdict() == arch), None)


def metadata_of(arch: dict, windows: Windows | None, layout: str) -> dict[str, str]:
    """What a safetensors file carries beside its tensors, so that it explains itself."""
    found = {'format': 'pt', 'swinv2_mm': swinv2_mm.__version__, 'layout': layout,
             'arch': arch_name(arch) or 'unnamed', 'arch_sizes': json.dumps(arch)}
    if windows:
        found['swinv2_windows'] = json.dumps(windows)
        found['window_size'] = json.dumps([sides(window) for window, _ in windows])
        found['pretrained_window_sizes'] = json.dumps([sides(n) for _, n in windows])
    return found


def write_whole(path: Path, write: Callable[[Path], None],
                name: Callable[[Path], Path] | None = None) -> Path:
    """`write` a file beside `path`, then rename it to `path`, or to what `name` makes of it.

    A run that fails leaves what is at `path` as it was; one that is killed outright leaves a
    `.NAME.partial-*` file there too, safe to delete.
    """
    if path.is_dir() or not path.parent.is_dir():
        fault = 'is a folder' if path.is_dir() else f'is to lie in {path.parent}, which is none'
        raise UserError(f'The output must be a file in a folder that is there, and {path} {fault}: '
                        'give another path or make the folder.')
    part = path.with_name(f'.{path.stem}.partial-{os.getpid()}{path.suffix}')
    try:
        write(part)
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)  # safetensors writes for the owner alone
        with part.open('rb+') as file:
            os.fsync(file.fileno())
        final = name(part) if name else path
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)
    return final


def save(state: dict[str, Tensor], path: Path, metadata: dict[str, str], key: str = '') -> None:
    """A safetensors or a torch file, by the ending of its name; in the latter under `key`.

    Raises UserError where it cannot be written.
    """
    state = {name: value.clone(memory_format=torch.contiguous_format)
             for name, value in state.items()}  # parts of a larger one would bring it along
    try:
        if path.suffix == '.safetensors':
            _save_safetensors(state, path, metadata)
        else:
            torch.save({key: state, 'meta': metadata} if key else state, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        raise UserError(f'{path.parent} must take the file, and writing it failed '
                        f'({str(error).splitlines()[0]}): make room or give another path; nothing '
                        'was changed.') from error


def _save_safetensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError as error:
        raise UserError('Writing .safetensors needs the package safetensors, which is not '
                        'installed: pip install safetensors, or write .pth.') from error
    try:
        save_file(state, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error

