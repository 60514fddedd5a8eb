"""Checks of constructor arguments: plain values in, tuples out; a broken rule is one sentence."""
from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from .windows import Size


def integer(name: str, value, low: int, high: float = math.inf) -> int:
    """`value` as an int in [low, high], else ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        span = f'at least {low}' if high == math.inf else f'from {low} to {high}'
        raise ValueError(f'{name} must be an integer {span}, got {value!r}.')
    return int(value)


def rate(name: str, value) -> float:
    """`value` as a float in [0, 1), else ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f'{name} must be a number in [0, 1), got {value!r}.')
    return float(value)


def sides(name: str, value, ndim: int, low: int) -> Size:
    """An int, or a tuple of `ndim` ints -> `ndim` ints, each at least `low`."""
    if not isinstance(value, tuple):
        return (integer(name, value, low),) * ndim
    if len(value) != ndim:
        letters = {2: '(h, w)', 3: '(t, h, w)'}[ndim]
        raise ValueError(f'{name} as a tuple must be the {ndim} sides {letters}, got {value!r}; '
                         'a list gives one entry per stage.')
    return tuple(integer(f'each side of {name}', side, low) for side in value)


def per_stage(name: str, value, stages: int, ndim: int, low: int) -> list[Size]:
    """An int, a tuple of sides, or a list of either with one entry per stage -> sides per stage."""
    if not isinstance(value, list):
        return [sides(name, value, ndim, low)] * stages
    if len(value) != stages:
        raise ValueError(f'{name} as a list must have one entry for each of the {stages} stages, '
                         f'got {len(value)}: {value!r}; a tuple gives the sides of one window.')
    return [sides(f'{name}[{i}]', entry, ndim, low) for i, entry in enumerate(value)]


def indices(name: str, value: Sequence[int], stages: int) -> tuple[int, ...]:
    """A rising sequence of stage numbers, at least one."""
    entries = tuple(value) if isinstance(value, Sequence) else (value,)
    entries = tuple(integer(f'each of {name}', i, 0, stages - 1) for i in entries)
    if not entries or sorted(set(entries)) != list(entries):
        raise ValueError(f'{name} must name one or more of the {stages} stages, each once and in '
                         f'rising order, got {value!r}.')
    return entries


def switches(name: str, value: bool | Sequence[bool], stages: int) -> list[bool]:
    """A bool, or a sequence of one bool per stage -> one bool per stage."""
    entries = list(value) if isinstance(value, Sequence) else [value] * stages
    if len(entries) != stages or not all(isinstance(entry, bool) for entry in entries):
        raise ValueError(f'{name} must be one bool, or one for each of the {stages} stages, '
                         f'got {value!r}.')
    return entries


def check_filled(backbone, before: dict[str, int]) -> None:
    """Raise ValueError where mmengine's `Pretrained` left weights at random.

    It leaves out what has another name or shape, and says so among hundreds of lines. `before` are
    the versions of the parameters, which writing to one counts up. Output norms of earlier stages
    may lack: no file but those of this package has them.
    """
    settings = backbone.init_cfg
    settings = [settings] if isinstance(settings, dict) else settings or []
    given = next((s for s in settings if str(s.get('type')).rpartition('.')[2] == 'Pretrained'), {})
    last = f'norm{len(backbone.layers) - 1}.'
    left = [name for name, value in backbone.named_parameters() if value._version == before[name]
            and (name.startswith(last) or not name.startswith('norm'))]
    if given and left:
        raise ValueError(
            f'init_cfg of type Pretrained must fill all of the backbone, and {given["checkpoint"]} '
            f'leaves {len(left)} of its {len(before)} tensors at random, such as {left[0]}: set '
            "type='swinv2_mm.PretrainedSwinV2', which knows the names of all layouts.")
