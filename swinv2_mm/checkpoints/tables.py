"""Position tables as other code saves them beside the weights, and what they tell of windows."""
import math

import torch
from torch import Tensor

Sides = tuple[int, ...]
Windows = list[tuple[Sides, Sides]]  # of each stage: the window, and what normalises its offsets


def position_table(window: Sides, normaliser: Sides) -> Tensor:
    """`relative_coords_table` of the official code: (1, 2 h - 1, 2 w - 1, 2) in float32.

    sign(x) log2(1 + |x|) / log2(8) with x = 8 offset / (n - 1), the paper's eq. 4 as its code has
    it; in float32 step by step, so that the values are those of the released files.
    """
    sides = [torch.arange(1 - w, w, dtype=torch.float32) / max(n - 1, 1)
             for w, n in zip(window, normaliser)]
    x = torch.stack(torch.meshgrid(*sides, indexing='ij'), dim=-1)[None] * 8
    return x.sign() * torch.log2(x.abs() + 1) / 3


def position_index(window: Sides) -> Tensor:
    """`relative_position_index`: (N, N) int64, row of the flattened table for each pair."""
    places = torch.stack(torch.meshgrid(*map(torch.arange, window), indexing='ij')).flatten(1)
    index = torch.zeros(1, dtype=torch.int64)
    for place, w in zip(places, window):
        index = index * (2 * w - 1) + place[:, None] - place[None] + w - 1
    return index


def largest(window: int, normaliser: int) -> float:
    """The largest input of the position network along a side; 1.0566 where both are equal."""
    return math.log2(1 + 8 * (window - 1) / max(normaliser - 1, 1)) / 3


def read_table(table: Tensor) -> tuple[Sides, Sides]:
    """(window, normaliser) of a `relative_coords_table` in any floating dtype.

    A side of the table is 2 w - 1, and its largest entry is `largest(w, n)`. Where the dtype is
    too coarse to tell a normaliser from the window, it is taken for the window.

    Raises ValueError for a tensor that is no such table.
    """
    if not table.is_floating_point() or table.ndim < 3 or table.shape[-1] != table.ndim - 2:
        raise ValueError('A relative_coords_table must be (1, 2 h - 1, 2 w - 1, 2) of floats, got '
                         f'{tuple(table.shape)} of {table.dtype}: the file is damaged; use '
                         'another copy.')
    window = tuple((side + 1) // 2 for side in table.shape[1:-1])
    greatest = table.flatten(0, -2).amax(0)
    return window, tuple(_normaliser(w, value) for w, value in zip(window, greatest))


def _normaliser(window: int, value: Tensor) -> int:
    if window == 1 or value == torch.tensor(largest(window, window)).to(value):
        return window
    number = 8 * (window - 1) / (2 ** (3 * value.double().item()) - 1) + 1 if value > 0 else 0
    if not 1.5 < number < 1e4:  # nan compares false
        raise ValueError('The largest entry of a relative_coords_table must be log2(1 + 8 (w - 1) '
                         f'/ (n - 1)) / 3 for a window n, got {value.item()} for w = {window}: '
                         'the file is damaged; use another copy.')
    return round(number)
