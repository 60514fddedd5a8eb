"""The one door for weights: `load_backbone(model, path)`, and the same as an `init_cfg`."""
from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from ..utils import versions
from . import transfer
from .beside import windows_beside
from .imagenet import CLASSES_22K, ROWS_OF_1K
from .layouts import LAYOUTS, detect_layout, few, plan, to_native
from .read import Contents, read_contents
from .tables import Sides, Windows, largest
from .transfer import PATCH, RECORD


class LoadReport(NamedTuple):
    """What loading did: names loaded, names left out on either side, and what was changed.

    loaded: names of the model's tensors that came from the file.
    dropped: of the file, without a place in the model; native names where there are such.
    fresh: of the model, not in the file: output norms of earlier stages.
    layout: a key of LAYOUTS.
    notes: a sentence each about windows, rank, input and head.
    """

    loaded: list[str]
    dropped: list[str]
    fresh: list[str]
    layout: str = 'native'
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return '; '.join([
            f'{len(self.loaded)} tensors loaded from the layout of {LAYOUTS[self.layout].title}',
            f'{len(self.dropped)} of the file left out [{few(self.dropped, 6)}]',
            f'{len(self.fresh)} of the model initialised [{few(self.fresh, 6)}]', *self.notes])


def load_backbone(model: nn.Module, source: str | Path | dict[str, Tensor] | Contents,
                  head: nn.Linear | None = None, ema: bool = False) -> LoadReport:
    """Load SwinV2 weights into a backbone of this package.

    Names, rank, input channels and patches of the file are brought to the model's. Windows may be
    any, as long as the model normalises positions as the file did. A model that cannot take the
    file stays as it was.

    Args:
        model: a SwinTransformerV2 or SwinTransformerV2Video.
        source: path, URL, state dict or what `read_contents` gives, in any layout of LAYOUTS, bare
            or inside a larger model.
        head: a classifier to fill from the file too; 21,841 classes give 1,000 by the published
            map, and any other change of their number initialises it anew.
        ema: take the averaged weights that a file keeps beside the others.

    Raises:
        FileNotFoundError, ValueError: unreadable file, unknown layout, another arch than the
            model's, or a model that would normalise relative positions otherwise than the file.
    """
    if isinstance(source, dict):
        source = Contents(source, {}, [])
    read = isinstance(source, Contents)
    file = source if read else read_contents(source, ema)
    state = file.state
    layout, native = detect_layout(state), to_native(state)
    own = {name: value for name, value in model.state_dict().items() if name != RECORD}
    _check_arch(native, own)
    windows, notes = _windows(model, file, native, '' if read else source)
    fitted, changes = _fit_input(native, own[PATCH].shape)
    dropped = [name for step in plan(state) if step.change == 'dropped' for name in step.sources]
    _check_fit(fitted, own, dropped)
    notes = [*file.notes, *notes, *changes]
    filled = []
    if head is not None:
        values, filled, note = _fit_head(head, native)
        notes.append(note)
    loaded = {name: fitted[name] for name in own if name in fitted}
    assign = {}
    if own[PATCH].is_meta:
        versions.require('loading into a model without memory (device meta)',
                         'build the model on another device')
        assign = dict(assign=True)
    # Holds the model to the windows.
    model.load_state_dict({**loaded, RECORD: windows}, strict=False, **assign)
    if head is not None:
        head.load_state_dict(values, strict=False)
    unused = [name for name in native if name not in {RECORD, *own, *filled}]
    fresh = [name for name in own if name not in fitted]
    return LoadReport([*loaded, *filled], unused + dropped, fresh, layout, tuple(notes))


def _check_arch(native: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """ValueError where the file is of another size."""
    if native[PATCH].ndim not in (4, 5):
        raise ValueError('The checkpoint must be of a backbone for images or videos, got a patch '
                         f'kernel of shape {tuple(native[PATCH].shape)}: use another file.')
    theirs, ours = transfer.arch_of(native), transfer.arch_of(own)
    stages = len(ours['depths'])
    # The model may be cut after a stage; what the file has beyond it is left out.
    cut = {key: value[:stages] if isinstance(value, tuple) else value
           for key, value in theirs.items()}
    if cut != ours:
        raise ValueError('The checkpoint does not fit the model: it is of '
                         f'{transfer.arch_name(theirs)}, and the model of '
                         f'{transfer.arch_name(ours)}: set arch to that of the file, or use a '
                         "file of the model's size.")


def _check_fit(fitted: dict[str, Tensor], own: dict[str, Tensor], dropped: list[str]) -> None:
    for name in dropped:
        if re.search('absolute_pos_embed|position_embeddings', name):
            raise ValueError('The checkpoint must be of a SwinV2 without absolute position '
                             f'embeddings, which its released models do not have, got {name}: use '
                             'another file.')
    missing = [name for name in own if name not in fitted
               and not re.match(r'norm\d|mask_token', name)]
    wrong = [f'{name} {tuple(fitted[name].shape)} in the file, {tuple(value.shape)} in the model'
             for name, value in own.items()
             if name in fitted and fitted[name].shape != value.shape]
    whole = [f'{name} of {fitted[name].dtype}' for name in own
             if name in fitted and not fitted[name].is_floating_point()]
    if missing or wrong or whole:
        raise ValueError(f'The checkpoint does not fit the model: {len(missing)} tensors missing '
                         f'[{few(missing, 3)}], {len(wrong)} of another shape [{few(wrong, 3)}], '
                         f'{len(whole)} not of floats [{few(whole, 3)}]; use a whole file in '
                         'floating point, or set arch to that of the file.')


def _fit_input(native: dict[str, Tensor],
               shape: tuple[int, ...]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights whose patch kernel has the `shape` of the model's, and what was done for it."""
    notes = []
    if native[PATCH].ndim < len(shape):
        native = transfer.inflate(native, shape[2])
        notes.append(f'image weights inflated to videos, patches of {shape[2]} frames')
    elif native[PATCH].ndim > len(shape):
        notes.append('video weights deflated to images: what they know of time is dropped')
        native = transfer.deflate(native)
    channels = native[PATCH].shape[1]
    if channels != shape[1]:
        notes.append(f'{channels} input channels brought to {shape[1]}')
        native = transfer.resize_channels(native, shape[1])
    if native[PATCH].shape[2:] != shape[2:]:
        notes.append(f'patches of {_sides(native[PATCH].shape[2:])} resized to {_sides(shape[2:])}')
        native = transfer.resize_patch(native, tuple(shape[2:]))
    return native, notes


def _windows(model: nn.Module, file: Contents, native: dict[str, Tensor],
             source: str | Path) -> tuple[Tensor, list[str]]:
    """The record of windows that the model is held to as it loads, and what to say of them.

    Raises ValueError where nothing tells the windows, and the model does not either.
    """
    trained, told = _trained_windows(file, native, source)
    given, ndim = model.pretrained_window_sizes, model.ndim
    shared = ndim if native[PATCH].ndim == ndim + 2 else 2  # sides that file and model have
    sizes = given or [(0,) * ndim] * len(model.window_sizes)
    own = list(zip(model.window_sizes, sizes, sizes))
    if trained is None:
        if given is None:
            raise ValueError("The checkpoint must tell its windows for pretrained_window_sizes="
                             "'from_checkpoint', got one without position tables or a note of "
                             'them, of no public name and beside no config.json of its library: '
                             'set pretrained_window_sizes to the windows it was trained with.')
        print_log('The checkpoint does not tell which windows it was trained with, so '
                  f'pretrained_window_sizes={given} could not be checked (0 is the window in use, '
                  f'{model.window_sizes}): if they were others, set it to those.', 'current',
                  logging.WARNING)
        return torch.tensor(list(zip(*own)), device='cpu'), told
    theirs = zip(*zip(*trained), transfer.as_set(file.state) or [n for _, n in trained])
    record = [[sides[:-shared] + tuple(said[-shared:]) for sides, said in zip(*stage)]
              for stage in zip(own, theirs)] + own[len(trained):]
    whole = transfer.resolved(trained)
    now = model.window_sizes[:len(whole)]
    told.append(_change_of_windows(now, whole, transfer.trained_side(file.state)))
    return torch.tensor(list(zip(*record)), device='cpu'), told


def _trained_windows(file: Contents, native: dict[str, Tensor],
                     source: str | Path) -> tuple[Windows | None, list[str]]:
    """Windows by tables in a file, its note, a config.json or a public name; and by which."""
    told = []
    if detect_layout(file.state) == 'torchvision':
        told.append('torchvision trains without pretrained windows: positions were normalised by '
                    'the window in use')
    if trained := transfer.pretrained_windows(file.state):
        return trained, told
    if trained := transfer.windows_of_metadata(file.metadata):
        return trained, [*told, 'windows taken from the metadata of the file']
    if trained := windows_beside(source, transfer.arch_of(native)):
        return trained, [*told, 'windows taken from the config.json beside the file']
    if trained := transfer.windows_of_name(source):
        return trained, [*told, 'windows taken from the name of the file']
    return None, told


def _change_of_windows(now: list[Sides], trained: Windows, side: int | None) -> str:
    """'trained with windows [12, 12, 12, 6] at 192 x 192, now [16, 16, 16, 16]: positions ...'."""
    size = f' at {side} x {side}' if side else ''
    then = [window[-len(sides):] for (window, _), sides in zip(trained, now)]
    note = f'trained with windows {[_sides(w) for w in then]}{size}'
    growth = []
    for sides, (window, normaliser) in zip(now, trained):
        reach = [largest(new, n) / largest(old, n) for new, old, n in
                 zip(sides[::-1], window[::-1], normaliser[::-1]) if old > 1]
        growth.append(f'{max([1.0, *reach]) - 1:.0%}')
    return (f'{note}, now {[_sides(w) for w in now]}; beyond the positions of training by '
            f'{", ".join(growth)}')


def _sides(sides: Sides) -> int | Sides:
    return sides[0] if len(set(sides)) == 1 else tuple(sides)


def _fit_head(head: nn.Linear,
              native: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str], str]:
    """State of a classifier to load, the native names it is taken from, and what to say of it."""
    if 'head.weight' not in native:
        return {}, [], f'head of {head.out_features} classes left as it is: the file has none'
    classes, *channels = native['head.weight'].shape or (0,)
    if channels != [head.in_features]:
        raise ValueError(f'The classifier must take the {channels} channels that the one in the '
                         f'file takes, got one for {head.in_features}: use a backbone that ends '
                         'in the same stage.')
    note = f'head of {classes} classes loaded'
    if (classes, head.out_features) == (CLASSES_22K, len(ROWS_OF_1K)):
        native = transfer.head_rows(native)
        note = f'head of {len(ROWS_OF_1K)} classes picked from {classes} by the published map'
    elif classes != head.out_features:  # as the official code starts one
        fresh = {name: torch.zeros_like(value) for name, value in head.state_dict().items()}
        nn.init.trunc_normal_(fresh['weight'], std=0.02)
        return fresh, [], f'head initialised: {classes} classes in the file, {head.out_features} ' \
                          'in the model'
    taken = [f'head.{name}' for name in head.state_dict() if f'head.{name}' in native]
    return {name.removeprefix('head.'): native[name] for name in taken}, taken, note


@WEIGHT_INITIALIZERS.register_module()
class PretrainedSwinV2:
    """`load_backbone` as an init_cfg: dict(type='swinv2_mm.PretrainedSwinV2', checkpoint=...).

    For the backbone, or for a whole model with a `backbone`; there the linear classifier of
    mmpretrain (`head.fc`) or mmaction2 (`cls_head.fc_cls`), if it has one, is filled too.
    `ema=True` takes averaged weights that are kept beside the others.
    """

    def __init__(self, checkpoint: str, ema: bool = False):
        self.checkpoint, self.ema = checkpoint, ema

    def __call__(self, module: nn.Module) -> None:
        backbone = module if hasattr(module, 'window_sizes') else getattr(module, 'backbone', None)
        if not hasattr(backbone, 'window_sizes'):
            raise ValueError('PretrainedSwinV2 must initialise a SwinV2 backbone or a model with '
                             f'one as `backbone`, got {type(module).__name__}: set it in the '
                             "backbone's init_cfg.")
        part, head = _classifier(module)
        report = load_backbone(backbone, self.checkpoint, head, self.ema)
        # mmengine initialises the parts of a model after the model itself.
        if backbone is not module:
            backbone._is_init = True
            if 'head.weight' in report.loaded:
                part._is_init = True
        print_log(f'{self.checkpoint}: {report}', 'current')


def _classifier(module: nn.Module) -> tuple[nn.Module | None, nn.Linear | None]:
    for outer, inner in (('head', 'fc'), ('cls_head', 'fc_cls')):
        part = getattr(module, outer, None)
        if isinstance(getattr(part, inner, None), nn.Linear):
            return part, getattr(part, inner)
    return None, None
