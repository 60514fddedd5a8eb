"""Which windows weights were trained with: a tensor beside them that every load is held to.

`pretrained_windows` in a state dict is (3, stages, sides): the sides of each stage's window; what
positions are divided by, where 0 is the window in use; and what that was set to, which is 0 also
where the training found it (`PositionsHook`). Files of before have two rows. It is no buffer of the
model but made from its settings, so that nothing can move, average or forget it, and it goes
wherever tensors go: through mmengine's checkpoints, other formats, and dicts of a user's own.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .windows import Size

NAME = 'pretrained_windows'
Record = list  # of (window, normaliser, what it was set to) per stage


def tensor(*rows: Sequence[Size]) -> Tensor:
    """The record as it is saved: windows, normalisers, settings."""
    return torch.tensor([[list(sides) for sides in row] for row in rows], device='cpu')


def read(state: dict, prefix: str, stages: int, ndim: int) -> Record | None:
    """The record beside the weights of a backbone of this size; None where there is none.

    A file may hold anything, and be of another size, which the shapes of its weights tell.
    """
    found = state.get(prefix + NAME)
    if (not isinstance(found, Tensor) or found.is_meta or found.is_floating_point()
            or found.shape[1:] != (stages, ndim) or len(found) not in (2, 3)
            or found[0].min() < 1 or found[1:].min() < 0):
        return None
    windows, normalisers, as_set = (*found.tolist(), found[1].tolist())[:3]
    return [tuple(map(tuple, stage)) for stage in zip(windows, normalisers, as_set)]


def used(windows: Size, normalisers: Size) -> Size:
    """What each side's positions are divided by: 0 is the window in use."""
    return tuple(n or w for w, n in zip(windows, normalisers))


def settle(record: Record, windows: Sequence[Size],
           given: Sequence[Size] | None) -> list[Size]:
    """pretrained_window_sizes by which positions mean what they meant in the training.

    Args:
        record: of the weights.
        windows: of the model, per stage.
        given: its pretrained_window_sizes; None takes all from the record.

    Raises:
        ValueError: what is given means something else.
    """
    given = given or [(None,) * len(window) for window in windows]
    settled = [tuple(_side(*side) for side in zip(*stage))
               for stage in zip(windows, given, *zip(*record))]
    for i, found in enumerate(settled):
        if None in found:
            theirs, normaliser, _ = record[i]
            raise ValueError(
                'The model must normalise relative positions as its weights were trained, by '
                f'{used(theirs, normaliser)} in stage {i}, and would do so by '
                f'{used(windows[i], given[i])}: set pretrained_window_sizes='
                f'{[_wanted(*stage) for stage in zip(settled, record)]}.')
    return settled


def _side(window: int, given: int | None, theirs: int, normaliser: int, as_set: int) -> int | None:
    """One side of `settle`; None where what is given means something else."""
    if window == theirs and not given and not (as_set and given == 0):
        return normaliser  # the model as it was trained
    if given is None:
        return normaliser or theirs
    return (given or window) if (given or window) == (normaliser or theirs) else None


def _wanted(found: Size, stage: tuple[Size, Size, Size]) -> int | Size:
    """What to write for a stage; time stays as it is, where that is right."""
    sides = used(*stage[:2])
    time = [side if kept is None else kept for kept, side in zip(found[:-2], sides)]
    sides = (*time, *sides[-2:])
    return sides[0] if len(set(sides)) == 1 else sides
