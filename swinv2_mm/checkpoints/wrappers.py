"""What training codes put around a state dict: keys that hold it, averaged copies, prefixes."""
from __future__ import annotations

from pathlib import Path

from torch import Tensor

WRAPPERS = ('state_dict', 'model', 'module')  # what these hold is meant, whatever is beside it
# Averaged weights, kept beside the others by timm, torchvision's references, mmengine, and others.
AVERAGED = ('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema', 'ema_model', 'params_ema',
            'teacher')
COUNTERS = {'n_averaged', 'steps'}  # of the module that averages
PREFIXES = ('module.', '_orig_mod.')  # of data parallel and of torch.compile
DEPTH = 4  # keys around a state dict


def unwrap(content, path: Path, ema: bool) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict inside what a file holds, under plain names, and notes.

    Raises ValueError where there is none, or more than one and nothing tells which is meant.
    """
    content, notes = _averaged(content, path, ema)
    for _ in range(DEPTH):
        if not isinstance(content, dict) or _is_state(content):
            break
        held = [key for key in WRAPPERS if isinstance(content.get(key), dict)]
        key = next((key for key in held if _has_state(content[key])), None) or _only_state(
            content, path) or next(iter(held), None)
        if key is None:
            break
        if key in AVERAGED and not ema:
            notes.append(f'{path}: averaged weights are all that it holds, under {key}; they are '
                         'read.')
        content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path} must hold a state dict of tensors, got '
                         f'{type(content).__name__} without any: save model.state_dict() alone.')
    wrong = [key for key, value in content.items()
             if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f'{path} must hold a state dict of tensors by name, got other values '
                         f'under {few(wrong)}: save model.state_dict() alone.')
    return _plain_names(content), notes


def few(names) -> str:
    """The first names, cut to a length that a message can hold."""
    names = [str(name)[:60] for name in list(names)[:4]] + (['...'] if len(names) > 4 else [])
    return ', '.join(names) or 'nothing'


def _is_state(value) -> bool:
    return isinstance(value, dict) and bool(value) and all(
        isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())


def _has_state(value, depth: int = DEPTH) -> bool:
    """Whether a state dict is in it somewhere. The depth is bounded: a dict may hold itself."""
    return _is_state(value) or depth > 0 and isinstance(value, dict) and any(
        isinstance(key, str) and _has_state(item, depth - 1) for key, item in value.items())


def _of_swin(value, depth: int = DEPTH) -> bool:
    if _is_state(value):
        return any(name.endswith('logit_scale') for name in value)
    return depth > 0 and isinstance(value, dict) and any(
        _of_swin(item, depth - 1) for item in value.values())


def _only_state(content: dict, path: Path) -> str | None:
    """The one key that holds a state dict, of a SwinV2 if there are more; None without any."""
    held = [key for key, value in content.items() if isinstance(key, str) and _has_state(value)]
    held = [key for key in held if _of_swin(content[key])] or held
    if len(held) > 1:
        averaged = [key for key in held if key in AVERAGED]
        raise ValueError(f'{path} must hold one state dict, got {len(held)} under {few(held)}: '
                         'save the one that is meant alone'
                         + (f', or take {averaged[0]} by ema=True (--ema).' if averaged else '.'))
    return held[0] if held else None


def _averaged(content, path: Path, ema: bool) -> tuple[object, list[str]]:
    """The part of a file's content that is asked for, and notes."""
    outer = content if isinstance(content, dict) else {}
    found = [key for key in AVERAGED if isinstance(outer.get(key), dict)]
    if ema and not found:
        raise ValueError(f'{path} must hold averaged weights ({", ".join(AVERAGED)}) to be read '
                         f'with ema=True, got {few(outer)}: leave ema out.')
    if found == ['ema_state_dict']:  # mmengine swaps the two when it saves
        return content, [f'{path}: mmengine saved averaged weights as its state_dict; they are '
                         'read.'] * ('state_dict' in outer)
    if ema:
        return {found[0]: outer[found[0]]}, []
    plain = {key: value for key, value in outer.items() if key not in found}
    if not found or not _has_state(plain):
        return content, []
    if found == ['teacher'] and not any(key in plain for key in WRAPPERS):
        return content, []  # of two that were trained together: asked for
    return plain, [f'{path} also holds averaged weights: ema=True reads them.']


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers around the model put before all of them."""
    while True:
        names = [name for name in state if name not in COUNTERS]
        prefix = next((p for p in PREFIXES if names and all(n.startswith(p) for n in names)), None)
        if prefix is None:
            return dict(state)
        state = {name.removeprefix(prefix): state[name] for name in names}
