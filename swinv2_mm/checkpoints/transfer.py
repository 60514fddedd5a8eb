"""From the model a file was trained as to the one that takes it: windows, rank, input, head.

Every function takes and gives plain state dicts, most of them under native names.
"""
from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import PurePath

import torch
import torch.nn.functional as F
from torch import Tensor

from .imagenet import CLASSES_22K, ROWS_OF_1K
from .layouts import plan
from .tables import Sides, Windows, read_table

PATCH = 'patch_embed.proj.weight'  # (C, C_in, [t,] h, w)
# (3, stages, sides): windows, normalisers (0: the window in use), and what these were set to. Files
# of before have two rows.
RECORD = 'pretrained_windows'
POSITION = re.compile(r'attn\.cpb_mlp\.0\.weight$')  # (512, 2) or, (t, h, w), (512, 3)

# As in the paper's section 3.6; by these a file of another size is named.
SIZES = {(32, (2, 2, 2, 2)): 'nano', (96, (2, 2, 6, 2)): 'tiny', (96, (2, 2, 18, 2)): 'small',
         (128, (2, 2, 18, 2)): 'base', (192, (2, 2, 18, 2)): 'large',
         (352, (2, 2, 18, 2)): 'huge', (512, (2, 2, 42, 4)): 'giant'}

# Names of public files and repositories, less their ending: window and image side of the training
# and, before a "to", of the pre-training. In this order: the official, timm and transformers ones;
# torchvision's; mmpretrain's.
PUBLIC = [re.compile(pattern) for pattern in (
    r'swinv2[-_](?:tiny|small|base|large)(?:[-_]patch4)?[-_]window(?P<before>\d+)'
    r'(?:to(?P<window>\d+))?[-_](?P<from>\d+)(?:to(?P<side>\d+))?'
    r'(?:[-_]22k(?:to1k[-_]ft)?)?(?:\.ms_in\w+)?',
    r'swin_v2_[tsb]-[0-9a-f]{8}',
    r'swinv2-(?:tiny|small|base|large)-w(?P<window>\d+)(?P<pre>_in21k-pre)?_3rdparty_in\w+'
    r'-(?P<side>\d+)px_\d+-[0-9a-f]{8}')]


def pretrained_windows(state: dict[str, Tensor]) -> Windows | None:
    """(window, normaliser) of each stage, as sides; None where the file holds no position tables.

    Takes a state dict in any layout. Raises ValueError for one that is no SwinV2's, and for
    tables that are damaged, missing in some stages, or unequal within a stage.
    """
    found: dict[int, tuple[Sides, Sides]] = {}
    for step in plan(state):
        value = state[step.sources[0]]
        if step.targets == (RECORD,) and not value.is_meta and value.any():
            return _read_record(value)
        table = re.fullmatch(r'layers\.(\d+)\..*relative_coords_table', ' '.join(step.targets))
        if table and not value.is_meta:
            read = read_table(value)
            if found.setdefault(int(table[1]), read) != read:
                raise ValueError('The position tables within a stage must be equal, got '
                                 f'{found[int(table[1])]} and {read} (window, normaliser) in stage '
                                 f'{table[1]}: the file is damaged; use another copy.')
    if sorted(found) != list(range(len(found))):
        raise ValueError('The checkpoint must hold position tables of every stage or of none, got '
                         f'those of stages {sorted(found)}: use another copy.')
    return [found[i] for i in sorted(found)] or None


def _read_record(value: Tensor) -> Windows:
    """This package's own record: windows and normalisers."""
    whole = not (value.is_floating_point() or value.is_complex())
    sound = value.ndim == 3 and len(value) in (2, 3) and value.shape[2] in (2, 3) and value.numel()
    if not whole or not sound or value[0].min() < 1 or value[1:].min() < 0:
        raise ValueError(f'{RECORD} must be positive integers, (3, stages, sides), got '
                         f'{value.dtype} of shape {tuple(value.shape)}: use another copy.')
    windows, normalisers = value[:2].tolist()
    return [(tuple(w), tuple(n)) for w, n in zip(windows, normalisers)]


def as_set(state: dict[str, Tensor]) -> list[Sides] | None:
    """What the normalisers were set to in the training, which this package's own files say."""
    for name, value in state.items():
        if name.rpartition('.')[2] == RECORD and len(value) == 3 and not value.is_meta:
            return [tuple(sides) for sides in value[2].tolist()]
    return None


def windows_of_metadata(metadata: dict[str, str]) -> Windows | None:
    """What a file notes, in the form of `pretrained_windows`; 0 normalises by the window in use.

    `swinv2_windows` is JSON, for each stage [[window sides], [normaliser sides]].
    """
    if 'swinv2_windows' not in metadata:
        return None
    try:
        windows = [(tuple(map(int, window)), tuple(map(int, normaliser)))
                   for window, normaliser in json.loads(metadata['swinv2_windows'])]
        if windows and all(min(window) > 0 and min(normaliser) >= 0
                           and len(window) == len(normaliser) for window, normaliser in windows):
            return windows
        error = None
    except (TypeError, ValueError) as caught:
        error = caught
    raise ValueError('The metadata swinv2_windows must be a list of [window, normaliser], got '
                     f'{metadata["swinv2_windows"][:80]!r}: use another copy.') from error


def resolved(windows: Windows) -> Windows:
    """The same with the window itself for a normaliser of 0."""
    return [(tuple(window), tuple(n or w for w, n in zip(window, normaliser)))
            for window, normaliser in windows]


def windows_of_name(source: str | PurePath) -> Windows | None:
    """What the name of a public file or repository says, in the form of `pretrained_windows`.

    A name tells image side and window; the window of a stage is no larger than its map, which is
    the image / 4, / 8, / 16, / 32. None for a name that is not exactly a public one.
    """
    for part in reversed(PurePath(str(source)).parts[-4:]):
        name = re.sub(r'\.(pth|pt|bin|safetensors)$', '', part.rpartition('--')[2])
        for pattern in PUBLIC:
            if match := pattern.fullmatch(name):
                said = {key: int(value) for key, value in match.groupdict().items()
                        if value and value.isdigit()}
                before, start = said.get('before'), said.get('from')
                if match.groupdict().get('pre'):  # released with windows of 12 at 192 only
                    before, start = 12, 192
                window, side = said.get('window', before or 8), said.get('side', start or 256)
                return list(zip(windows_at(window, side),
                                windows_at(before or window, start or side)))
    return None


def windows_at(window: int, side: int | Sequence[int], patch: int = 4,
               stages: int = 4) -> list[Sides]:
    """Windows of each stage on images of one side or of (height, width): none exceeds its map."""
    sides = (side, side) if isinstance(side, int) else tuple(side)
    return [tuple(max(min(window, s // patch >> i), 1) for s in sides) for i in range(stages)]


def trained_side(state: dict[str, Tensor]) -> int | None:
    """Side of the square images a file was trained at, where a mask in it tells: official files.

    A mask is (windows in the map, N, N), so that the map has the product of the first two tokens.
    """
    patch = 4
    for step in plan(state):
        name, value = ' '.join(step.targets), state[step.sources[0]]
        if name == PATCH:
            patch = value.shape[-1]
        elif mask := re.match(r'layers\.(\d+)\..*attn_mask$', name):
            return math.isqrt(math.prod(value.shape[:2])) * patch << int(mask[1])
    return None


def arch_of(native: dict[str, Tensor]) -> dict:
    """dict(embed_dims, depths, num_heads, extra_norm_every) of a native state dict."""
    heads: dict[int, list[int]] = {}
    extra = []
    for name, value in native.items():
        if block := re.match(r'layers\.(\d+)\.blocks\.(\d+)\.(.*)', name):
            if block[3] == 'attn.logit_scale':
                heads.setdefault(int(block[1]), []).append(value.numel())
            elif block[3] == 'norm3.weight':
                extra.append(int(block[2]) + 1)
    stages = [heads[i] for i in sorted(heads)]
    return dict(embed_dims=native[PATCH].shape[0], depths=tuple(map(len, stages)),
                num_heads=tuple(stage[0] for stage in stages),
                extra_norm_every=min(extra, default=0))


def arch_name(arch: dict) -> str:
    """'base (embed_dims=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))'."""
    name = SIZES.get((arch['embed_dims'], tuple(arch['depths'])), 'an unnamed size')
    return f'{name} ({", ".join(f"{key}={value}" for key, value in arch.items() if value)})'


def inflate(native: dict[str, Tensor], temporal_patch: int = 2) -> dict[str, Tensor]:
    """Weights of an image model -> those of a video model, (C, C_in, h, w) -> (C, C_in, t, h, w).

    The patch kernel is repeated over time and divided by t; the first column of the position
    network's input, where our offsets (t, h, w) have time, is zero. A video of equal frames then
    gives the features of the image; compare the inflation of Video Swin (arXiv 2106.13230), which
    repeats its position table over time.
    """
    _require_rank(native, 2, 'images')
    video = dict(native)
    video[PATCH] = native[PATCH][:, :, None].repeat(1, 1, temporal_patch, 1, 1) / temporal_patch
    for name, value in native.items():
        if POSITION.search(name):
            video[name] = F.pad(value, (1, 0))
    return video


def deflate(native: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a video model -> those of an image model: the inverse of `inflate`.

    The patch kernel is summed over time and the time column of the position network dropped, so
    that an image is seen as a video of equal frames, without what the model knew of time.
    """
    _require_rank(native, 3, 'videos')
    image = dict(native)
    image[PATCH] = native[PATCH].sum(2)
    for name, value in native.items():
        if POSITION.search(name):
            image[name] = value[:, 1:]
    return image


def _require_rank(native: dict[str, Tensor], ndim: int, kind: str) -> None:
    if native[PATCH].ndim != ndim + 2:
        raise ValueError(f'The weights must be of a backbone for {kind}, got a patch kernel of '
                         f'shape {tuple(native[PATCH].shape)}: use those of such a backbone.')
    for name, value in native.items():
        if POSITION.search(name) and value.shape[1:] != (ndim,):
            raise ValueError(f'{name} must have {ndim} columns in a backbone for {kind}, got shape '
                             f'{tuple(value.shape)}: the file is damaged; use another copy.')


def resize_channels(native: dict[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """Weights for inputs of another number of channels.

    Kernel k of the new ones sums the old ones k, k + n, ..., or is one of the equal shares of an
    old one that goes to k, k + c, ...: an input equal in all channels embeds as it did. So 3 -> 1
    is the sum, and 1 -> 3 three thirds.
    """
    kernel = native[PATCH]
    old = kernel.shape[1]
    share = torch.zeros(in_channels, old, dtype=kernel.dtype, device=kernel.device)
    for k in range(max(old, in_channels)):
        share[k % in_channels, k % old] = 1
    share /= share.sum(0)
    return native | {PATCH: torch.einsum('nc,dc...->dn...', share, kernel)}


def resize_patch(native: dict[str, Tensor], sides: Sides) -> dict[str, Tensor]:
    """Weights for patches with other sides, the kernel resized as FlexiViT does (2212.08013, 3.4).

    The new kernel is the least-squares answer to: a patch resized (bicubic, antialiased) by B
    embeds as the original did, <B x, new> = <x, old>, so new = pinv(B^T) old, side by side.
    """
    kernel = native[PATCH]
    wide = kernel.double()
    for axis, (old, new) in enumerate(zip(kernel.shape[2:], sides), start=2):
        if old != new:
            # Along the width: along the height of a map one wide, torch 2.11 resizes otherwise.
            basis = torch.eye(old, dtype=torch.float64)[:, None, None]
            resize = F.interpolate(basis, (1, new), mode='bicubic', antialias=True)[:, 0, 0]
            inverse = torch.linalg.pinv(resize).to(kernel.device)  # of B^T: (new, old)
            wide = torch.tensordot(wide, inverse, ([axis], [1])).movedim(-1, axis)
    return native | {PATCH: wide.to(kernel.dtype)}


def head_rows(native: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier of 21,841 classes -> its rows of the 1,000 of ImageNet-1K (`imagenet.py`)."""
    rows = len(native['head.weight'])
    if rows != CLASSES_22K:
        raise ValueError(f'The classifier must have the {CLASSES_22K} classes of ImageNet-22K to '
                         f'pick the 1,000 from, got {rows}: use a 22K file.')
    chosen = torch.tensor(ROWS_OF_1K, device=native['head.weight'].device)
    return native | {name: native[name][chosen] for name in ('head.weight', 'head.bias')
                     if name in native}
