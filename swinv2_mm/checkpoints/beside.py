"""Windows by the `config.json` that lies beside a file: transformers' and timm's folders.

Their files hold no position tables, and a folder may have any name.
"""
from __future__ import annotations

import json
from pathlib import Path

from .read import locate
from .tables import Windows
from .transfer import windows_at, windows_of_name

MOST = 1 << 20  # bytes of a config.json that is read


def windows_beside(source: str | Path, arch: dict) -> Windows | None:
    """What the config.json of a folder says, in the form of `pretrained_windows`.

    Args:
        source: path of a file or folder; a URL has nothing beside it.
        arch: `transfer.arch_of` the weights. A config.json of another model says nothing of them.
    """
    if not source or '://' in str(source):
        return None
    try:
        with (locate(source).parent / 'config.json').open('rb') as file:
            content = json.loads(file.read(MOST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    try:
        for part in (content, content.get('backbone_config')):  # of a larger model
            if isinstance(part, dict) and part.get('model_type') == 'swinv2':
                return _of_transformers(part, arch)
        return _of_timm(content)
    except (TypeError, ValueError, IndexError, KeyError):
        return None


def _of_transformers(content: dict, arch: dict) -> Windows | None:
    """A key that is not there has the value of transformers' Swinv2Config."""
    size = content.get('embed_dim', 96), tuple(content.get('depths', (2, 2, 6, 2)))
    if size != (arch['embed_dims'], tuple(arch['depths'])):
        return None
    windows = windows_at(_whole(content.get('window_size', 7)), content.get('image_size', 224),
                         _whole(content.get('patch_size', 4)), len(size[1]))
    before = content.get('pretrained_window_sizes') or [0] * len(windows)
    if len(before) != len(windows):
        return None
    return [(w, (_whole(n),) * 2 if n else w) for w, n in zip(windows, before)]


def _of_timm(content: dict) -> Windows | None:
    name = str(content.get('architecture')).partition('.')[0]
    known = windows_of_name(name)
    given = dict(content.get('model_args') or {})
    if known is None or not {'window_size', 'img_size', 'pretrained_window_sizes'} & set(given):
        return known
    if 'pretrained_window_sizes' in given:
        return None
    side = given.get('img_size') or int(name.replace('to', '_').rpartition('_')[2])
    windows = windows_at(_whole(given.get('window_size', known[0][0][0])), side, 4, len(known))
    return [(w, n if 'to' in name else w) for w, (_, n) in zip(windows, known)]


def _whole(value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(value)
    return value
