"""Backbones that take part in benchmarks: ours, and other libraries' with its weights.

Each gives one contiguous (B, C_i, *S_i) a stage, under the same output norms, from the same awake
weights, which they share in memory. `check` holds each against ours before anything is timed.
"""
import importlib
import math
from collections.abc import Callable
from typing import NamedTuple

import peers
import torch
from awake import awaken
from mmengine.logging import MMLogger
from torch import Tensor, nn

from swinv2_mm import ARCHS, SwinTransformerV2, SwinTransformerV2Video

# Rounding to float32 in other orders moves features of size 1 by 5e-6 in the large model; a wrong
# weight, mask or order moves them by far more than this.
BOUND = 1e-4
VIDEO = 'mmaction2-v1'


class Workload(NamedTuple):
    """An architecture, the sides of its window, and the shape of its input, (B, 3, *S)."""

    arch: str
    window: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def video(self) -> bool:
        return len(self.window) == 3

    @property
    def patch(self) -> tuple[int, ...]:
        return (2, 4, 4) if self.video else (4, 4)

    @property
    def fitted(self) -> list[int]:
        """The window's side in each stage of pictures, where a short side of a map shrinks it."""
        shortest = min(self.shape[2:])
        return [min(self.window[0], math.ceil(shortest / (4 << i))) for i in range(4)]

    @property
    def unpadded(self) -> 'Workload':
        """The same model on one picture with no padding in any stage; the last shrinks to its map.

        Only there do all compute the same: with padding, timm pairs tokens from opposite ends of
        the map, and transformers, torchvision and mmpretrain attend to padding.
        """
        return self._replace(shape=(1, 3, 16 * self.window[0], 16 * self.window[0]))


class Peer(nn.Module):
    """Another library's model under our output norms."""

    def __init__(self, model: nn.Module, trunks: Callable[[Tensor], list[Tensor]], norms: list):
        super().__init__()
        self.model = model
        self.trunks = trunks  # x -> (B, *S_i, C_i) of each stage, before any output norm
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(norm(out).movedim(-1, 1).contiguous()
                     for norm, out in zip(self.norms, self.trunks(x)))


def ours(workload: Workload) -> nn.Module:
    cls = SwinTransformerV2Video if workload.video else SwinTransformerV2
    return awaken(cls(workload.arch, window_size=workload.window, drop_path_rate=0.0))


def mend() -> None:
    """Make mmpretrain and mmaction2 importable beside transformers."""
    try:
        importlib.import_module('swinv2_mm.utils.compat')
    except RuntimeError as error:  # its answer where mmaction2 cannot be had
        raise ImportError(str(error)) from error
    MMLogger.get_current_instance().setLevel('WARNING')


def timm(workload: Workload):
    from timm.models.swin_transformer_v2 import SwinTransformerV2 as TimmSwin

    arch = ARCHS[workload.arch]
    model = TimmSwin(workload.shape[2:], num_classes=0, embed_dim=arch.embed_dims,
                     depths=arch.depths, num_heads=arch.num_heads, drop_path_rate=0.0,
                     window_size=workload.window[0])

    def trunks(x):
        outs = model.forward_intermediates(x, intermediates_only=True)
        return [out.permute(0, 2, 3, 1) for out in outs]

    return model, trunks, peers.to_timm


def torchvision(workload: Workload):
    from torchvision.models.swin_transformer import (
        PatchMergingV2,
        SwinTransformer,
        SwinTransformerBlockV2,
    )

    arch = ARCHS[workload.arch]
    model = SwinTransformer(
        [4, 4], arch.embed_dims, list(arch.depths), list(arch.num_heads), list(workload.window),
        stochastic_depth_prob=0.0, num_classes=1, block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2)

    def trunks(x):
        outs = []
        for layer in model.features:
            x = layer(x)
            outs.append(x)
        return outs[1::2]

    return model, trunks, peers.to_torchvision


def mmpretrain(workload: Workload):
    mend()
    from mmpretrain.models import SwinTransformerV2 as MMPretrainSwin

    arch = ARCHS[workload.arch]._asdict()
    arch['extra_norm_every_n_blocks'] = arch.pop('extra_norm_every')
    model = MMPretrainSwin(arch, workload.shape[2:], window_size=workload.fitted,
                           drop_path_rate=0.0, out_indices=(0, 1, 2, 3), norm_cfg=None)
    return model, lambda x: [out.permute(0, 2, 3, 1) for out in model(x)], peers.to_mmpretrain


def transformers(workload: Workload):
    mend()
    from transformers import Swinv2Backbone, Swinv2Config

    arch = ARCHS[workload.arch]
    model = Swinv2Backbone(Swinv2Config(
        image_size=workload.shape[2:], embed_dim=arch.embed_dims, depths=list(arch.depths),
        num_heads=list(arch.num_heads), window_size=workload.window[0], drop_path_rate=0.0,
        out_features=[f'stage{i}' for i in range(1, 5)]))
    return (model, lambda x: [out.permute(0, 2, 3, 1) for out in model(x).feature_maps],
            peers.to_transformers)


def mmaction(workload: Workload) -> nn.Module:
    """mmaction2's Video Swin, a V1: another function of the same shape, with weights of its own."""
    mend()
    from mmaction.models.backbones.swin import SwinTransformer3D

    arch = ARCHS[workload.arch]
    return awaken(SwinTransformer3D(
        dict(embed_dims=arch.embed_dims, depths=list(arch.depths),
             num_heads=list(arch.num_heads)),
        pretrained2d=False, window_size=workload.window, drop_path_rate=0.0,
        out_indices=(0, 1, 2, 3)))


PEERS = {'timm': timm, 'transformers': transformers, 'torchvision': torchvision,
         'mmpretrain': mmpretrain, VIDEO: mmaction}
PACKAGES = {'timm': 'timm', 'transformers': 'transformers', 'torchvision': 'torchvision',
            'mmpretrain': 'onedl-mmpretrain', VIDEO: 'mmaction2'}


def build(name: str, workload: Workload, model: nn.Module) -> nn.Module:
    """The peer of that name with the weights of `model`, ours, in the same memory."""
    if name == VIDEO:
        return mmaction(workload)
    peer, trunks, convert = PEERS[name](workload)
    state = convert(model.state_dict())
    peers.load(peer, state, ignored=r'norm\.|head|layernorm|hidden_states')
    peer.load_state_dict(state, strict=False, assign=True)
    return Peer(peer, trunks, [getattr(model, f'norm{i}') for i in range(4)])


def fits(name: str, workload: Workload) -> bool:
    return workload.video == (name == VIDEO)


@torch.inference_mode()
def check(model: nn.Module, peer: nn.Module, x: Tensor, stages: int = 4) -> float:
    """The largest difference between features of both; ValueError where it shows another function.

    Our output norms bring features to the size of 1.
    """
    model.eval()
    peer.eval()
    found = 0.0
    for i, (out, other) in enumerate(list(zip(model(x), peer(x)))[:stages]):
        if out.shape != other.shape:
            raise ValueError(f'The features must have the shape {tuple(out.shape)} in stage {i}, '
                             f'got {tuple(other.shape)}: the peer is built otherwise.')
        difference = (out - other).abs().max().item()
        if not difference < BOUND:
            raise ValueError(f'The features must differ by less than {BOUND} in stage {i}, got '
                             f'{difference:.2g}: the peer computes another function, so that its '
                             'time means nothing.')
        found = max(found, difference)
    return found


def check_built(name: str, workload: Workload, model: nn.Module) -> float:
    """`check` at a size where all compute the same, on a peer built for it."""
    small = workload.unpadded
    peer = build(name, small, model)
    x = torch.randn(small.shape, generator=torch.Generator().manual_seed(1))
    # torchvision pads a map that is shorter than the window: the last stage is another function.
    return check(model, peer, x, stages=3 if name == 'torchvision' else 4)
