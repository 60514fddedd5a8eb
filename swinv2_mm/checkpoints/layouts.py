"""From any public layout of a SwinV2 checkpoint to native names, and back; see `libraries`.

>>> from swinv2_mm.checkpoints import from_native, read_checkpoint, to_native
>>> state = read_checkpoint('swinv2_tiny_patch4_window8_256.pth')  # official
>>> timm = from_native(to_native(state), 'timm')
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from torch import Tensor

from .libraries import BUFFER, CHANGES, LAYOUTS, OTHERS, WEIGHT, Layout
from .names import Step, translate
from .tables import Windows, position_index, position_table


def detect_layout(state: Iterable[str]) -> str:
    """The key of LAYOUTS that the names of a state dict show.

    Raises ValueError where they are of no SwinV2, or of Swin V1 or swinv2_cr, or of two layouts.
    """
    return _take_apart(list(state), None)[0]


def plan(state: Iterable[str], layout: str | None = None) -> list[Step]:
    """What `to_native` does, step by step, in the order of the file; reads names only.

    Raises as `detect_layout` does, and KeyError for a layout that is not in LAYOUTS.
    """
    return list(_plan(tuple(state), layout))


@lru_cache(maxsize=4)  # loading asks for the plan of one file several times
def _plan(names: tuple[str, ...], layout: str | None) -> list[Step]:
    layout, prefix, names = _take_apart(list(names), layout)
    steps = [_judge(step) for step in _number_last(translate(names, LAYOUTS[layout].rows))]
    _refuse_mixed(layout, steps)
    return [step._replace(sources=tuple(_full_name(name, prefix) for name in step.sources))
            for step in steps]


def plan_back(native: Iterable[str], layout: str, prefix: str | None = None) -> list[Step]:
    """What `from_native` does to weights, step by step; `dropped` has no place in the layout."""
    table, native = _table(layout), list(native)
    last = str(_last_stage(native))
    rows = [row._replace(ours=row.ours.replace('{last}', last)) for row in table.rows]
    prefix = table.prefix if prefix is None else prefix
    return [step._replace(targets=tuple(_full_name(name, prefix) for name in step.targets))
            for step in translate(native, rows, back=True)]


def to_native(state: dict[str, Tensor], layout: str | None = None) -> dict[str, Tensor]:
    """Weights under native names; buffers and what belongs to no SwinV2 are left out.

    `head`, `mask_token` and `decoder.0` are kept. `plan` tells what is left out. Values are not
    copied but where tensors are joined or permuted.

    Raises as `detect_layout` does, and KeyError for a layout that is not in LAYOUTS.
    """
    return _carry_out(state, plan(state, layout), back=False)


def from_native(native: dict[str, Tensor], layout: str, windows: Windows | None = None,
                prefix: str | None = None) -> dict[str, Tensor]:
    """The inverse of `to_native`: weights as the library of `layout` saves them.

    Args:
        native: weights under native names; output norms of earlier stages, and what else has no
            place in the layout, are left out (`plan_back` tells).
        layout: a key of LAYOUTS.
        windows: as `transfer.pretrained_windows` gives them; with these the buffers are added that
            the library saves (official, SimMIM, torchvision, mmpretrain) and asks for in a strict
            load. Masks are not: they depend on the size of the input.
        prefix: goes before the names of the backbone; that of the library's classifier if None.
    """
    state = _carry_out(native, plan_back(native, layout, prefix), back=True)
    if windows and LAYOUTS[layout].buffers:
        buffers = dict(_buffers(native, layout, windows))
        state |= _carry_out(buffers, plan_back(buffers, layout, prefix), back=True)
    return state


def few(names: Iterable[str], count: int = 4) -> str:
    """The first names, and how many more there are, for a message."""
    names = list(names)
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(map(str, names[:count])) + more


def _table(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise KeyError(f'layout must be one of {", ".join(LAYOUTS)}, got {layout!r}.')
    return LAYOUTS[layout]


def _take_apart(full: list[str], layout: str | None) -> tuple[str, str, list[str]]:
    """The layout of a file, its prefix, and its names: less the prefix, or after a slash."""
    for pattern, what in OTHERS:
        if any(re.search(pattern, name) for name in full):
            raise ValueError(f'The checkpoint is {what}.')
    found = {}
    for key, table in (LAYOUTS if layout is None else {layout: _table(layout)}).items():
        prefix = _prefix(full, table.marker)
        if prefix is None or table.marker in found:
            continue
        names = [name.removeprefix(prefix) if name.startswith(prefix) else f'/{name}'
                 for name in full]
        if layout or (_any(table.sign, names) and not (table.without and
                                                       _any(table.without, names))):
            found[table.marker] = key, prefix, names
    if not found or not _any(r'\.logit_scale$', full):
        raise ValueError('The checkpoint must be of a SwinV2 in one of the layouts '
                         f'{", ".join([layout] if layout else LAYOUTS)}, got the keys '
                         f'{few(full)}: use such a file.')
    if len(found) > 1:
        keys = ' and '.join(key for key, _, _ in found.values())
        raise ValueError(f'The checkpoint must be in one layout, got names of {keys}: keep the '
                         'names of one.')
    return next(iter(found.values()))


def _prefix(names: list[str], marker: str) -> str | None:
    """What stands before the marker; None where it is not there."""
    found = [name.removesuffix(marker) for name in names if f'.{name}'.endswith(f'.{marker}')]
    usual = [prefix for prefix in ('', 'backbone.') if prefix in found]
    if len(found) > 1 and not usual:
        raise ValueError(f'The checkpoint must hold one backbone, got {len(found)} under '
                         f'{few(found)}: keep the names under one of them.')
    return (usual or found or [None])[0]


def _any(pattern: str, names: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for name in names)


def _full_name(name: str, prefix: str) -> str:
    return name[1:] if name.startswith('/') else prefix + name


def _last_stage(native: Iterable[str]) -> int:
    stages = [re.match(r'layers\.(\d+)\.blocks\.', name) for name in native]
    return max((int(stage[1]) for stage in stages if stage), default=0)


def _number_last(steps: list[Step]) -> list[Step]:
    last = str(_last_stage(target for step in steps for target in step.targets))
    return [step._replace(targets=tuple(t.replace('{last}', last) for t in step.targets))
            for step in steps]


def _judge(step: Step) -> Step:
    """The step, if it makes weights of a SwinV2."""
    if step.targets and all(map(WEIGHT.fullmatch, step.targets)):
        return step
    if step.targets and BUFFER.fullmatch(step.targets[0]):
        return step._replace(change='buffer')
    return Step(step.sources, (), 'dropped')


def _refuse_mixed(layout: str, steps: list[Step]) -> None:
    """ValueError for a file with names of two layouts, or two sources for one weight."""
    weights = [(step.sources[0], target) for step in steps if step.change in CHANGES
               for target in step.targets]
    last = _last_stage(target for _, target in weights)
    made: dict[str, str] = {}
    for source, target in weights:
        merge = re.match(r'layers\.(\d+)\.downsample', target)
        if merge and int(merge[1]) >= max(last, 1):
            made[target] = 'merging at the other end of the stages'
        if target in made:
            raise ValueError(f'The checkpoint must be in one layout, got {source} beside '
                             f'{made[target]} in one of {layout}: keep the names of one.')
        made[target] = source
    left = [step.sources[0] for step in steps if step.change == 'dropped']
    left = [name for name in left if not name.startswith('/')]
    for other, table in LAYOUTS.items():
        names = [name.removeprefix(table.prefix) for name in left]
        for step in map(_judge, _number_last(translate(names, table.rows))):
            if other != layout and step.change in CHANGES:
                raise ValueError(f'The checkpoint must be in one layout, got {step.sources[0]} of '
                                 f'{other} in one of {layout}: keep the names of one.')


def _carry_out(state: dict[str, Tensor], steps: list[Step], back: bool) -> dict[str, Tensor]:
    out = {}
    for sources, targets, change in steps:
        if change in CHANGES:
            values = [state[source] for source in sources]
            try:
                made = CHANGES[change][back](*values)
                if len(made) != len(targets):
                    raise ValueError(f'{len(made)} tensors for {len(targets)} names')
                out.update(zip(targets, made))
            except (IndexError, RuntimeError, ValueError) as error:
                shapes = [tuple(value.shape) for value in values]
                raise ValueError(f'{few(sources)} must have shapes that can be {change}, got '
                                 f'{shapes}: the file is damaged; use another copy.') from error
    return out


def _buffers(native: dict[str, Tensor], layout: str,
             windows: Windows) -> Iterator[tuple[str, Tensor]]:
    """(native name, value) of the position table and index of every block."""
    for name in native:
        if stage := re.fullmatch(r'layers\.(\d+)\.blocks\.\d+\.attn\.logit_scale', name):
            if int(stage[1]) >= len(windows):
                raise ValueError('windows must have an entry for each stage of the checkpoint, '
                                 f'got {len(windows)} where there is {name}: add the missing.')
            window, normaliser = windows[int(stage[1])]
            normaliser = tuple(n or w for w, n in zip(window, normaliser))  # 0: the window in use
            index = position_index(window)
            attention = name.removesuffix('logit_scale')
            yield f'{attention}relative_coords_table', position_table(window, normaliser)
            yield (f'{attention}relative_position_index',
                   index.flatten() if layout == 'torchvision' else index)
