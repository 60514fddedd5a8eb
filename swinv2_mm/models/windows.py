"""Window geometry on channels-last maps, for images and videos alike.

Shapes are tuples: S = (H, W) or (T, H, W). Letters in shape comments, here and in the other
model files: B batch, S spatial sizes, C channels, h heads, d channels of a head, N tokens in a
window, W windows in a map.

    size, window  --plan-->  Layout  --to_windows-->  (B, W, N, C)  --from_windows-->  (B, *S, C)

Everything here is a pure function. A `Layout` is worked out once per stage and map size and then
handed to every block of that stage.
"""
from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils import versions

Size = tuple[int, ...]

# Logit added between tokens that only the cyclic shift brought together. It is the constant of the
# official code and not -inf, because the released weights were trained with it and their logits
# reach 116 (scale 100 times a cosine, plus a bias of up to 16).
SEAM = -100.0


class Group(NamedTuple):
    """Windows of a map that need the same mask.

    index: (W_g,) int64, which of the W windows; None where the group is all of them.
    mask: (N, N) float, added to the logits of (query, key); None where nothing is masked.
    """

    index: Tensor | None
    mask: Tensor | None


class Layout(NamedTuple):
    """How a map of real `size` is cut into windows of `window`, after a cyclic shift by `shift`.

    `padded` is `size` rounded up to whole windows; `groups` cover every window exactly once: one
    for each product of `runs`, which cut each side of the grid of windows into neighbours.
    """

    size: Size
    padded: Size
    window: Size
    shift: Size
    groups: tuple[Group, ...]
    runs: tuple[tuple[slice, ...], ...]


class Part(NamedTuple):
    """Some of the windows of a batch that need the same mask, for work on a few at a time.

    count: windows n.
    area: places N in each.
    rows: (R,) int64, their real tokens, as rows of the map seen as (B * prod(S), C).
    places: (R,) int64, where these stand among the n * N places; None where every place is taken,
        each by the row of its own number.
    mask: (N, N) float, added to the logits; None where nothing is masked.
    """

    count: int
    area: int
    rows: Tensor
    places: Tensor | None
    mask: Tensor | None


def fit_window(size: Size, window: Size, shift: Size) -> tuple[Size, Size]:
    """Window and shift that a map of `size` really gets, side by side.

    A side no longer than the window is covered by one window: the window shrinks to it and there
    is nothing to shift. This is the rule of the official code, applied to each side on its own.
    """
    fitted = tuple(min(s, w) for s, w in zip(size, window))
    return fitted, tuple(0 if s <= w else k for s, w, k in zip(size, window, shift))


def plan(size: Size, window: Size, shift: Size, like: Tensor) -> Layout:
    """Work out the layout of a map of `size`, with masks in the dtype and device of `like`."""
    window, shift = fit_window(size, window, shift)
    padded = tuple(math.ceil(s / w) * w for s, w in zip(size, window))
    # torch.compile goes through a cache, warning of it
    find = _regions.__wrapped__ if versions.is_compiling() else _regions
    regions, indices, runs = find(size, window, shift, like.device)
    if len(indices) == 1:
        return Layout(size, padded, window, shift, (Group(None, _mask(regions[0], like)),), runs)
    groups = tuple(Group(i, _mask(r, like)) for r, i in zip(regions, indices))
    return Layout(size, padded, window, shift, groups, runs)


def cut(layout: Layout, batch: int, tokens: int, device: torch.device) -> list[Part]:
    """Share out the windows of `batch` maps in parts of at most `tokens` tokens, or one window."""
    area = math.prod(layout.window)
    count = max(1, tokens // area)
    rows = _rows(layout.size, layout.window, layout.shift, batch, count, device)
    return [Part(*part, group.mask)
            for group, share in zip(layout.groups, rows) for part in share]


def to_windows(x: Tensor, layout: Layout) -> Tensor:
    """(B, *S, C) -> (B, W, N, C): pad right and bottom, shift cyclically, cut."""
    # The padding comes before the shift. The other way round, windows would pair tokens from
    # opposite ends of the map without the mask knowing.
    if layout.padded != layout.size:
        ends = [(0, p - s) for s, p in zip(layout.size, layout.padded)]
        x = F.pad(x, [0, 0, *itertools.chain.from_iterable(reversed(ends))])
    if any(layout.shift):
        x = torch.roll(x, [-k for k in layout.shift], _axes(layout))
    return partition(x, layout.window)


def from_windows(windows: Tensor, layout: Layout) -> Tensor:
    """(B, W, N, C) -> (B, *S, C): the inverse of `to_windows`."""
    x = merge(windows, layout.window, layout.padded)
    if any(layout.shift):
        x = torch.roll(x, layout.shift, _axes(layout))
    if layout.padded != layout.size:
        x = x[(slice(None), *(slice(s) for s in layout.size))]
    return x


def to_groups(windows: Tensor, layout: Layout) -> list[Tensor]:
    """(B, W, ...) -> (B, W_g, ...) of each group, by slices of the grid.

    Not by its index: of that, torch 2.11 compiles C++ for a CPU that names a variable too early.
    """
    if len(layout.groups) == 1:
        return [windows]
    grid = windows.unflatten(1, [p // w for p, w in zip(layout.padded, layout.window)])
    return [grid[(slice(None), *place)].flatten(1, len(place))
            for place in itertools.product(*layout.runs)]


def from_groups(parts: list[Tensor], layout: Layout) -> Tensor:
    """(B, W_g, ...) of each group -> (B, W, ...): the inverse of `to_groups`."""
    if len(parts) == 1:
        return parts[0]
    places = itertools.product(*layout.runs)
    parts = [x.unflatten(1, [run.stop - run.start for run in place])
             for x, place in zip(parts, places)]
    for axis in reversed(range(len(layout.runs))):  # the last side runs fastest
        count = len(layout.runs[axis])
        parts = [torch.cat(parts[i:i + count], 1 + axis) for i in range(0, len(parts), count)]
    return parts[0].flatten(1, len(layout.runs))


def partition(x: Tensor, window: Size) -> Tensor:
    """(B, *S, C) -> (B, W, N, C), each side of S a multiple of the window's; row-major."""
    batch, *size, channels = x.shape
    sides = itertools.chain.from_iterable((s // w, w) for s, w in zip(size, window))
    x = x.reshape(batch, *sides, channels)  # (B, S0/w0, w0, S1/w1, w1, ..., C)
    ndim = len(window)
    grid, inside = range(1, 2 * ndim, 2), range(2, 2 * ndim + 1, 2)
    x = x.permute(0, *grid, *inside, 2 * ndim + 1)
    return x.reshape(batch, -1, math.prod(window), channels)


def merge(windows: Tensor, window: Size, size: Size) -> Tensor:
    """(B, W, N, C) -> (B, *S, C): the inverse of `partition`."""
    batch, _, _, channels = windows.shape
    ndim = len(window)
    grid = [s // w for s, w in zip(size, window)]
    x = windows.reshape(batch, *grid, *window, channels)  # (B, S0/w0, ..., w0, ..., C)
    pairs = itertools.chain.from_iterable((1 + a, 1 + ndim + a) for a in range(ndim))
    return x.permute(0, *pairs, 2 * ndim + 1).reshape(batch, *size, channels)


def pairs(table: Tensor, window: Size) -> Tensor:
    """A number for each offset (h, *(2w - 1)) -> for each query and key of a window (h, N, N)."""
    for axis, w in enumerate(window, start=1):
        table = table.unfold(axis, w, 1)  # at place i, key j from the last: offset i - j
    tokens = math.prod(window)
    return table.flip([*range(-len(window), 0)]).reshape(len(table), tokens, tokens)


def _axes(layout: Layout) -> tuple[int, ...]:
    return tuple(range(1, 1 + len(layout.size)))


def _mask(region: Tensor | None, like: Tensor) -> Tensor | None:
    """(N,) region of each token -> (N, N) additive mask; padding is region -1."""
    if region is None:
        return None
    seam = region[:, None] != region[None, :]
    mask = torch.zeros(seam.shape, dtype=like.dtype, device=like.device)
    # A window always holds a real token (padding is shorter than a window), so no row is all -inf.
    return mask.masked_fill(seam, SEAM).masked_fill((region < 0)[None, :], -math.inf)


@lru_cache(maxsize=64)  # the entries are W + P * N integers: small enough to keep
@torch.inference_mode(False)  # an evaluation may come first, and training must be able to use them
def _regions(size: Size, window: Size, shift: Size, device: torch.device):
    """Distinct patterns of regions among the windows of a map, at most 3 a side.

    Returns (regions, indices, runs): per pattern the (N,) region of each token, or None where
    all are one; per pattern the (W_g,) windows that show it; and per side the runs of windows whose
    products these are.
    """
    axes = [_axis_patterns(s, w, k) for s, w, k in zip(size, window, shift)]
    grid = [sum(len(members) for _, members in axis) for axis in axes]
    number = torch.arange(math.prod(grid)).view(grid)
    regions, indices = [], []
    for combination in itertools.product(*axes):
        labels = [pattern for pattern, _ in combination]
        region = [_combine(token) for token in itertools.product(*labels)]
        regions.append(torch.tensor(region, device=device) if any(region) else None)
        indices.append(number[torch.meshgrid(
            *(torch.tensor(members) for _, members in combination), indexing='ij')].flatten())
    # Windows alike on a side are neighbours: the seam and the padding are at its end.
    runs = tuple(tuple(slice(members[0], members[-1] + 1) for _, members in axis) for axis in axes)
    return regions, [index.to(device) for index in indices], runs


@lru_cache(maxsize=64)  # the entries are at most 2 B * prod(S) integers: one or two MB
@torch.inference_mode(False)  # an evaluation may come first, and training must be able to use them
def _rows(size: Size, window: Size, shift: Size, batch: int, count: int, device: torch.device):
    """All of a `Part` but its mask, for each group the windows by `count` at a time."""
    padded = tuple(math.ceil(s / w) * w for s, w in zip(size, window))
    layout = Layout(size, padded, window, shift, (), ())
    tokens = math.prod(size)
    numbers = torch.arange(1, tokens + 1).view(1, *size, 1)  # from 1: padding comes as 0
    numbers = to_windows(numbers, layout)[0, :, :, 0] - 1  # (W, N), -1 for padding
    _, indices, _ = _regions(size, window, shift, torch.device('cpu'))
    found = []
    for index in indices:
        group = torch.stack([numbers[index] + b * tokens for b in range(batch)])  # (B, W_g, N)
        real = (numbers[index] >= 0).expand_as(group)
        pieces = zip(group.flatten(0, 1).split(count), real.flatten(0, 1).split(count))
        found.append([
            (*rows.shape, rows[taken].to(device),
             None if taken.all() else taken.flatten().nonzero()[:, 0].to(device))
            for rows, taken in pieces])
    return found


def _axis_patterns(size: int, window: int, shift: int) -> list[tuple[tuple[int, ...], list[int]]]:
    """Patterns of one side: [(region of each of `window` places, [windows that show it])].

    Region 0 is the ordinary one, 1 the tokens that the shift brought round, -1 padding.
    """
    padded = math.ceil(size / window) * window
    patterns: dict[tuple[int, ...], list[int]] = {}
    for first in range(0, padded, window):
        places = range(first, first + window)
        regions = tuple(-1 if (p + shift) % padded >= size else int(p >= padded - shift)
                        for p in places)
        patterns.setdefault(regions, []).append(first // window)
    return list(patterns.items())


def _combine(regions: tuple[int, ...]) -> int:
    """Region of a token from its region on each side: padding wins, else a number in base 2."""
    return -1 if min(regions) < 0 else sum(r << a for a, r in enumerate(regions))
