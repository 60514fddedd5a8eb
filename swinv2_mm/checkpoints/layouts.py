"""Layouts of SwinV2 checkpoints, and the way from each to the names this package uses.

Native names are the official ones except for the end: the official `norm` is the output norm of
the last stage, here `norm3`, and there is no classification head.
"""
import re

from torch import Tensor

# Buffers of the official files. They follow from windows and sizes and are worked out anew; what
# they say of the trained windows is read by `transfer.pretrained_windows` first.
BUFFERS = re.compile(r'\.(relative_coords_table|relative_position_index|attn_mask)$')


def detect_layout(state: dict[str, Tensor]) -> str:
    """'native' (this package's, also inside a detector) or 'official'; ValueError for others."""
    if 'patch_embed.proj.weight' not in _without_backbone(state):
        raise ValueError('The checkpoint must be an official SwinV2 file or one of this package, '
                         f'got the keys {_few(state)}: convert it first.')
    if any(key.endswith('relative_position_bias_table') for key in state):
        raise ValueError('The checkpoint is of Swin V1 (it has relative_position_bias_table), '
                         'whose weights do not fit V2: use a SwinV2 file.')
    names = _without_backbone(state)
    return 'native' if any(re.match(r'norm\d\.', key) for key in names) else 'official'


def to_native(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights under native names, and the names of what has no place in a backbone."""
    layout = detect_layout(state)
    names = _without_backbone(state)
    dropped = [key for key in state if key.removeprefix('backbone.') not in names]
    stages = 1 + max(int(key.split('.')[1]) for key in names if key.startswith('layers.'))
    native = {}
    for key, value in names.items():
        if BUFFERS.search(key):
            continue
        if layout == 'official' and re.match(r'(head\.|absolute_pos_embed)', key):
            dropped.append(key)
            continue
        if layout == 'official':
            key = re.sub(r'^norm\.', f'norm{stages - 1}.', key)
        native[key] = value
    return native, dropped


def _without_backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's part of a whole model's state, or the state itself."""
    inside = {key.removeprefix('backbone.'): value
              for key, value in state.items() if key.startswith('backbone.')}
    return inside or state


def _few(keys) -> str:
    keys = list(keys)
    return ', '.join(keys[:4]) + (f' and {len(keys) - 4} more' if len(keys) > 4 else '')
