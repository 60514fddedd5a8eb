"""Models of other libraries, built to compare what a converted file computes.

Each builder takes a `Model` and gives the library's own classifier and the function that gives its
last feature map, (B, 3, S, S) -> (B, C, S / 32, S / 32).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints.transfer import RECORD
from swinv2_mm.utils.errors import UserError

BOUND = 1e-4  # in float32, on features of size 1; 24 blocks agree to about 1e-5
PIP = dict(timm='timm', transformers='transformers', torchvision='torchvision',
           mmpretrain='onedl-mmpretrain')


class Model(NamedTuple):
    """Sizes of a SwinV2 for images.

    windows: (window, normaliser) of each stage, square ones.
    outs: stages that have an output norm.
    classes: of its head; 0 for none.
    """

    arch: dict
    channels: int
    patch: tuple[int, int]
    windows: list
    outs: tuple[int, ...]
    classes: int

    @property
    def side(self) -> int:
        """Of the image whose last map is one window, so that no map needs padding."""
        return self.windows[-1][0][0] * self.patch[0] << len(self.windows) - 1


def comparable(windows: list | None, stages: int, uniform: bool) -> list:
    """The windows to compare at: those given, where every library can have them; else 8.

    They must be square, and either as large as the first or cut to the map; and `uniform`, one for
    all stages that normalises positions too, for torchvision. Weights tell at any window.
    """
    if windows and not uniform:
        last = windows[-1][0][0]
        usual = all(window == 2 * (min(windows[0][0][0], last << stages - 1 - i),)
                    and len(set(normaliser)) == 1
                    for i, (window, normaliser) in enumerate(windows))
        if usual:
            return windows
    return [((8, 8), (8, 8))] * stages


def compare(layout: str, state: dict[str, Tensor], model: Model,
            native: dict[str, Tensor]) -> float | None:
    """Largest difference of features between the library's model and ours; None without a library.

    Raises ImportError where the library is not installed, and UserError where its strict loader
    refuses the state.
    """
    if layout not in BUILDERS:
        return None
    with torch.random.fork_rng():
        peer, features = BUILDERS[layout](model)
    missing, unexpected = peer.load_state_dict(state, strict=False)
    # mmpretrain takes the position tables out of what it loads and works them out anew.
    tables = ('relative_coords_table', 'relative_position_index') * (layout == 'mmpretrain')
    missing = [name for name in missing if not name.endswith(tables)
               and (model.classes or 'head' not in name)]
    if missing or unexpected:
        raise UserError(f'The strict loader of {layout} must take the converted file, and it '
                        f'misses {missing[:3]} and does not know {unexpected[:3]}: leave --verify '
                        'out if that is what you want.')
    ours = SwinTransformerV2(
        model.arch, model.channels, model.patch, [window for window, _ in model.windows],
        [normaliser for _, normaliser in model.windows], out_indices=model.outs[-1:])
    names = set(ours.state_dict()) - {RECORD}
    ours.load_state_dict({k: v for k, v in native.items() if k in names})
    image = torch.randn(1, model.channels, model.side, model.side,
                        generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (ours.eval()(image)[0] - features(peer.eval(), image)).abs().max().item()


def _timm(model: Model) -> tuple[nn.Module, Callable]:
    from timm.models.swin_transformer_v2 import SwinTransformerV2 as Timm
    _plain('timm', model)
    peer = Timm(img_size=model.side, patch_size=model.patch, in_chans=model.channels,
                num_classes=model.classes, embed_dim=model.arch['embed_dims'],
                depths=model.arch['depths'], num_heads=model.arch['num_heads'],
                window_size=model.windows[0][0],
                pretrained_window_sizes=[normaliser for _, normaliser in model.windows])
    return peer, lambda peer, x: peer.forward_features(x).permute(0, 3, 1, 2)


def _transformers(model: Model) -> tuple[nn.Module, Callable]:
    from transformers import Swinv2Config, Swinv2ForImageClassification
    _plain('transformers', model)
    peer = Swinv2ForImageClassification(Swinv2Config(
        image_size=model.side, patch_size=model.patch[0], num_channels=model.channels,
        embed_dim=model.arch['embed_dims'], depths=list(model.arch['depths']),
        num_heads=list(model.arch['num_heads']), window_size=model.windows[0][0][0],
        pretrained_window_sizes=[normaliser[0] for _, normaliser in model.windows],
        num_labels=model.classes))

    def features(peer, x):
        tokens = peer.swinv2(x).last_hidden_state  # (B, N, C)
        return tokens.unflatten(1, 2 * [math.isqrt(tokens.shape[1])]).permute(0, 3, 1, 2)

    return peer, features


def _torchvision(model: Model) -> tuple[nn.Module, Callable]:
    from torchvision.models import swin_transformer as swin
    _plain('torchvision', model)
    peer = swin.SwinTransformer(
        list(model.patch), model.arch['embed_dims'], list(model.arch['depths']),
        list(model.arch['num_heads']), list(model.windows[0][0]), num_classes=model.classes,
        block=swin.SwinTransformerBlockV2, downsample_layer=swin.PatchMergingV2)
    return peer, lambda peer, x: peer.norm(peer.features(x)).permute(0, 3, 1, 2)


def _mmpretrain(model: Model) -> tuple[nn.Module, Callable]:
    from mmengine.registry import DefaultScope
    from mmpretrain.models import ImageClassifier
    arch = dict(model.arch)
    arch['extra_norm_every_n_blocks'] = arch.pop('extra_norm_every')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        peer = ImageClassifier(
            backbone=dict(type='SwinTransformerV2', arch=arch, img_size=model.side,
                          patch_size=model.patch[0], in_channels=model.channels,
                          window_size=[window[0] for window, _ in model.windows],
                          pretrained_window_sizes=[n[0] for _, n in model.windows],
                          out_indices=model.outs),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=model.classes,
                      in_channels=arch['embed_dims'] << model.outs[-1]) if model.classes else None)
    return peer, lambda peer, x: peer.backbone(x)[-1]


def _plain(library: str, model: Model) -> None:
    if model.arch['extra_norm_every']:
        raise UserError(f'{library} has no extra norms on the trunk, and this file has one every '
                        f'{model.arch["extra_norm_every"]} blocks: convert it to native or '
                        'mmpretrain.')


BUILDERS = dict(timm=_timm, transformers=_transformers, torchvision=_torchvision,
                mmpretrain=_mmpretrain)
