"""Whole checkpoints of runs, optimizer and logs included, read without running anything in them.

mmengine reads them by torch.load, which runs what a file asks for: before torch 2.6 always, later
where the safe way fails. And numpy 1 and 2 call the same functions numpy.core and numpy._core, so
that a file of one is refused, or not understood, beside the other. Here either is read.
"""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader

from ..checkpoints.read import locate, refusal
from ..checkpoints.sharded import is_sharded, read_sharded
from ..checkpoints.torch_files import STAND_INS, Refused, read_torch_file

NUMBERS = re.compile('[biufU][0-9]+')  # the types of numpy's that a log may have, and text
STATISTICS = ('min', 'max', 'current', 'mean')


def _statistic(owner, name: str):
    """What a log asks `getattr` for: its own ways to sum up, and nothing else."""
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise ValueError(f'asks for {name!r} of {owner!r}')
    return getattr(owner, name)


def _dtype(name: str, *copied: bool) -> np.dtype:
    """A dtype of numbers or text: those of objects could hold anything."""
    if not NUMBERS.fullmatch(name):
        raise ValueError(f'asks for the dtype {name!r}')
    return np.dtype(name)


def _known() -> dict[str, object]:
    """Names in the checkpoint of a run -> what they mean here."""
    multiarray = np.core.multiarray if np.__version__ < '2' else np._core.multiarray
    found = {**STAND_INS, 'builtins.getattr': _statistic, 'numpy.dtype': _dtype,
             'numpy.ndarray': np.ndarray,
             'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer}
    for name in ('_reconstruct', 'scalar'):
        for core in ('core', '_core'):
            found[f'numpy.{core}.multiarray.{name}'] = getattr(multiarray, name)
    # weights_only=True sets the state of objects of types that it knows
    found.update((f'numpy.dtypes.{code}', type(np.dtype(code))) for code in '?bhilqBHILQefdU')
    return found


def read_run(source: str | Path, map_location=None) -> dict:
    """What `torch.save` or a sharded run wrote, tensors on `map_location`.

    Logs are mmengine's HistoryBuffer.

    Raises:
        FileNotFoundError, OSError: no such file, or a URL that cannot be fetched.
        ValueError: a file that is damaged, or that asks for anything but tensors, plain values and
            logs.
    """
    path = locate(Path(source).expanduser() if '://' not in str(source) else source)
    try:
        if is_sharded(path):
            return read_sharded(path, optimizer=True, known=_known(), map_location=map_location)
        return read_torch_file(path, known=_known(), map_location=map_location)
    except Refused as error:
        raise refusal(path, error) from error


def read_safely() -> None:
    """Let mmengine, in this process, read checkpoints by `read_run`: of paths and of URLs."""
    for prefix in ('', 'http://', 'https://'):
        CheckpointLoader.register_scheme(prefix, read_run, force=True)
