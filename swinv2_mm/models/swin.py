"""Swin Transformer V2 as a backbone, for images and for videos.

    image or clip -> PatchEmbed -> [Stage: Block x depth -> PatchMerging] x 4 -> norm0 .. norm3

Rank shows in three places only: the convolution of the patch embedding, the number of inputs of
the position network, and the default patch. Parameter names are those of the official code.
"""
from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from typing import Union

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..registry import MODELS
from ..utils import versions
from . import arguments, native, record, sequential
from .archs import Arch, resolve
from .attention import WindowAttention
from .living import Living
from .mlp import Mlp
from .windows import Layout, Size, plan

Window = Union[int, tuple[int, ...]]


class PatchEmbed(nn.Module):
    """Cut into patches and embed: (B, C_in, *S) -> (B, *ceil(S / patch), C)."""

    def __init__(self, in_channels: int, dim: int, patch: Size):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[len(patch)]
        self.proj = conv(in_channels, dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(dim)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        ends = [(0, -size % patch) for size, patch in zip(x.shape[2:], self.patch)]
        if any(end for _, end in ends):
            x = F.pad(x, [*itertools.chain.from_iterable(reversed(ends))])
        return self.norm(self.proj(x).movedim(1, -1))


class PatchMerging(nn.Module):
    """Join 2 x 2 neighbours in space: (B, [T,] H, W, C) -> (B, [T,] ceil(H/2), ceil(W/2), 2C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-3:-1]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        corners = [x[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]  # the official order
        return self.norm(self.reduction(torch.cat(corners, dim=-1)))


class DropPath(nn.Module):
    """In training, zero a residual branch for whole samples with probability `rate`."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept(x)
        return x if kept is None else x * kept

    def kept(self, x: Tensor) -> Tensor | None:
        """What each sample is multiplied by now, (B, 1, ...)."""
        if not self.training or self.rate == 0:
            return None
        kept = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return kept / (1 - self.rate)


class Block(nn.Module):
    """Residual post-norm: each branch is normalised before it joins the trunk, (B, *S, C).

    DropPath follows the norm; before it, the norm would undo its rescaling.
    """

    def __init__(self, ndim: int, dim: int, num_heads: int, pretrained_window: Size,
                 drop_path_rate: float, extra_norm: bool):
        super().__init__()
        self.attn = WindowAttention(ndim, dim, num_heads, pretrained_window)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.drop_path = DropPath(drop_path_rate)
        self.norm3 = nn.LayerNorm(dim) if extra_norm else nn.Identity()

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        if sequential.should_widen(x):
            with torch.autocast('cpu', enabled=False):
                wide = x.to(self.norm1.weight.dtype)  # torch leaves norms in half precision here
                return self.forward(wide, layout).to(x.dtype)
        x = self._join(x, self.norm1, self.attn(x, layout))
        x = self._join(x, self.norm2, self.mlp(x))
        return self.norm3(x)

    def _join(self, x: Tensor, norm: nn.LayerNorm, branch: Tensor) -> Tensor:
        """x + drop_path(norm(branch))"""
        if native.may_join(x, branch, norm, self.drop_path):
            return native.add_norm(x, branch, norm, self.drop_path.kept(x))
        return x + self.drop_path(norm(branch))


class Stage(nn.Module):
    """Blocks at one resolution, every second one with its windows shifted by half a window."""

    def __init__(self, blocks: list[Block], window: Size, downsample: PatchMerging | None,
                 with_cp: bool):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.window = window
        self.downsample = downsample
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """(B, *S, C) -> (B, *S, C); the backbone calls `downsample` once it has taken this."""
        size = tuple(x.shape[1:-1])
        shifts = (0,) * len(size), tuple(w // 2 for w in self.window)
        layouts = [plan(size, self.window, shift, x) for shift in shifts]
        for i, block in enumerate(self.blocks):
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, layouts[i % 2], use_reentrant=False)
            else:
                x = block(x, layouts[i % 2])
        return x


class _SwinV2(Living, BaseModule):
    """What the image and the video backbone share; documented on `SwinTransformerV2`."""

    ndim: int

    def __init__(self, arch: str | dict | Arch = 'tiny', in_channels: int = 3,
                 patch_size: Window = 4, window_size: Window | list[Window] = 8,
                 pretrained_window_sizes: Window | list[Window] | str = 0,
                 drop_path_rate: float = 0.1, out_indices: Sequence[int] = (0, 1, 2, 3),
                 frozen_stages: int = -1, with_cp: bool | Sequence[bool] = False,
                 init_cfg: dict | list[dict] | None = None):
        super().__init__(init_cfg)
        self.arch = resolve(arch)
        count = len(self.arch.depths)
        self.in_channels = arguments.integer('in_channels', in_channels, 1)
        self.patch_size = arguments.sides('patch_size', patch_size, self.ndim, 1)
        self.window_sizes = arguments.per_stage('window_size', window_size, count, self.ndim, 1)
        if pretrained_window_sizes == 'from_checkpoint':
            self._pretrained_window_sizes = None
        else:
            self._pretrained_window_sizes = arguments.per_stage(
                'pretrained_window_sizes', pretrained_window_sizes, count, self.ndim, 0)
        self._takes_windows = self._pretrained_window_sizes is None  # of whatever it loads
        self._as_set = self._pretrained_window_sizes
        self.out_indices = arguments.indices('out_indices', out_indices, count)
        self.frozen_stages = arguments.integer('frozen_stages', frozen_stages, -1, count)
        self.with_cp = arguments.switches('with_cp', with_cp, count)
        self.drop_path_rate = arguments.rate('drop_path_rate', drop_path_rate)

        dims = [self.arch.embed_dims * 2 ** i for i in range(count)]
        self.patch_embed = PatchEmbed(self.in_channels, dims[0], self.patch_size)
        self.layers = nn.ModuleList(
            self._stage(i, dims[i]) for i in range(max(self.out_indices) + 1))
        for i in self.out_indices:
            self.add_module(f'norm{i}', nn.LayerNorm(dims[i]))
        self.out_channels = [dims[i] for i in self.out_indices]
        self.out_strides = [self._stride(i) for i in self.out_indices]
        self._initialise()
        self._freeze()

    def _stage(self, i: int, dim: int) -> Stage:
        depths, every = self.arch.depths, self.arch.extra_norm_every
        rates = torch.linspace(0, self.drop_path_rate, sum(depths), device='cpu').tolist()
        rates = rates[sum(depths[:i]):]
        pretrained = (self.pretrained_window_sizes or [(0,) * self.ndim] * len(depths))[i]
        blocks = [Block(self.ndim, dim, self.arch.num_heads[i], pretrained, rates[j],
                        extra_norm=every > 0 and (j + 1) % every == 0)
                  for j in range(depths[i])]
        downsample = PatchMerging(dim) if i < max(self.out_indices) else None
        return Stage(blocks, self.window_sizes[i], downsample, self.with_cp[i])

    @property
    def pretrained_window_sizes(self) -> list[Size] | None:
        """Sides per stage; None with 'from_checkpoint' as long as no weights are loaded."""
        return self._pretrained_window_sizes

    @pretrained_window_sizes.setter
    def pretrained_window_sizes(self, value: Window | list[Window]) -> None:
        sizes = arguments.per_stage(
            'pretrained_window_sizes', value, len(self.arch.depths), self.ndim, 0)
        self._pretrained_window_sizes = sizes
        for stage, sides in zip(self.layers, sizes):
            for block in stage.blocks:
                block.attn.pretrained_window = sides

    @property
    def pretrained_windows(self) -> Tensor | None:
        """What the state dict says of windows: see `record`. None where it is not known yet."""
        sizes = self.pretrained_window_sizes
        return None if sizes is None else record.tensor(
            self.window_sizes, sizes, self._as_set or sizes)

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if (windows := self.pretrained_windows) is not None:
            destination[prefix + record.NAME] = windows

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys,
                              unexpected_keys, error_msgs) -> None:
        known = record.read(state_dict, prefix, len(self.window_sizes), self.ndim)
        given = self.pretrained_window_sizes
        if known is not None:  # before any weight is taken
            given = record.settle(known, self.window_sizes, None if self._takes_windows else given)
        elif f'{prefix}patch_embed.proj.weight' in state_dict and not all(map(all, given or ())):
            print_log('The checkpoint does not tell which windows it was trained with, and '
                      f'pretrained_window_sizes={given} takes them to be those of the model where '
                      f'it is 0, {self.window_sizes}: if they were others, set it to those.',
                      'current', logging.WARNING)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys,
                                      unexpected_keys, error_msgs)
        unexpected_keys[:] = [key for key in unexpected_keys if key != prefix + record.NAME]
        if known is not None:
            self.pretrained_window_sizes = given

    def _stride(self, i: int) -> int | Size:
        *time, height, width = self.patch_size
        strides = (*time, height << i, width << i)
        return strides[0] if len(set(strides)) == 1 else strides

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, C_in, *S) -> (B, *S_0, C_0), channels last from here."""
        self._check_input(x)
        return self.patch_embed(x)

    def _features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Tokens (B, *S_0, C_0) -> one (B, C_i, *S_i) per out index."""
        if self.pretrained_window_sizes is None:
            raise ValueError(
                "pretrained_window_sizes='from_checkpoint' must get them from weights before the "
                'first forward pass, got none: call swinv2_mm.checkpoints.load_backbone(model, '
                "file), or set init_cfg=dict(type='swinv2_mm.PretrainedSwinV2', checkpoint=file) "
                'and call init_weights().')
        outs = []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            if i in self.out_indices:
                outs.append(getattr(self, f'norm{i}')(x).movedim(-1, 1).contiguous())
            if stage.downsample is not None:
                x = stage.downsample(x)
        return tuple(outs)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer that a parameter is in, counted from the input, and the number of layers.

        Layers are those of the official layer-wise learning rates: 0 is the patch embedding and
        SimMIM's mask token; then one for each block, merging joins the block before it; the last
        is all that follows: the output norms, and what does not begin with `prefix`.
        """
        depths = [len(stage.blocks) for stage in self.layers]
        last = sum(depths) + 1
        layer = last
        if param_name.startswith(prefix):
            part, *rest = param_name.removeprefix(prefix).split('.')
            if part in ('patch_embed', 'mask_token'):
                layer = 0
            elif part == 'layers':
                stage = int(rest[0])
                blocks = int(rest[2]) + 1 if rest[1] == 'blocks' else depths[stage]
                layer = sum(depths[:stage]) + blocks
        return layer, last + 1

    def _check_input(self, x: Tensor) -> None:
        axes = {2: '(B, C, H, W)', 3: '(B, C, T, H, W)'}[self.ndim]
        if x.ndim != self.ndim + 2:
            raise ValueError(f'{type(self).__name__} takes {axes}, got shape {tuple(x.shape)}; '
                             'add the missing axes or use the backbone of the other rank.')
        if x.shape[1] != self.in_channels:
            raise ValueError(f'The input must have in_channels={self.in_channels} channels in '
                             f'{axes}, got shape {tuple(x.shape)}; set in_channels to match.')
        if 0 in x.shape:
            raise ValueError(f'Every side of {axes} must be at least 1, got shape '
                             f'{tuple(x.shape)}; check the data pipeline for empty images.')
        if x.is_cpu and x.dtype == torch.float16:
            versions.require('float16 on a CPU', 'take bfloat16 or float32')

    def init_weights(self) -> None:
        """The official initialisation, then `init_cfg`; a parent's own `init_cfg` is overridden."""
        first = not self._is_init
        if first:
            self._initialise()
        before = {name: value._version for name, value in self.named_parameters()
                  if self.init_cfg and not value.is_inference()}
        super().init_weights()
        if first and before:
            arguments.check_filled(self, before)

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, nn.Conv2d, nn.Conv3d)):
                module.reset_parameters()
            elif isinstance(module, WindowAttention):
                nn.init.constant_(module.logit_scale, math.log(10.0))
                nn.init.zeros_(module.q_bias)
                nn.init.zeros_(module.v_bias)
        for stage in self.layers:
            for block in stage.blocks:  # every block starts as the identity
                for norm in (block.norm1, block.norm2):
                    nn.init.zeros_(norm.weight)
                    nn.init.zeros_(norm.bias)

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        norms = [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        return [self.patch_embed, *self.layers[:self.frozen_stages], *norms]

    def _freeze(self) -> None:
        for module in self._frozen():
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> _SwinV2:
        """As torch's; frozen stages stay in eval mode, so that they drop no path."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self


@MODELS.register_module()
class SwinTransformerV2(_SwinV2):
    """Swin Transformer V2 for images.

    Args:
        arch: a name in `ARCHS`, or dict(embed_dims, depths, num_heads, extra_norm_every).
        in_channels: channels of the input.
        patch_size: sides of a patch; an int for all sides.
        window_size: int: every side of the window in every stage; tuple: the sides of one window,
            (h, w) or (t, h, w), in every stage; list: one entry per stage, each an int or a tuple.
            A map smaller than its window shrinks the window to itself.
        pretrained_window_sizes: windows that the weights were pre-trained with, written likewise;
            they normalise relative positions. 0 stands for the window in use, which is right for
            weights trained from scratch at `window_size`; 'from_checkpoint' takes them from the
            file that `load_backbone` or `PretrainedSwinV2` loads, and saves them with the weights.
        drop_path_rate: stochastic depth of the last block, in [0, 1); grows linearly from 0.
        out_indices: stages whose features are returned. Stages after the last one are not built.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding, n also the first n
            stages with their output norms.
        with_cp: recompute activations in the backward pass; one bool, or one per stage.
        init_cfg: mmengine's; applied after the official initialisation.

    Attributes:
        ndim, window_sizes, pretrained_window_sizes: windows as one tuple of sides per stage.
        out_channels, out_strides: one entry per out index; a stride is an int where all sides
            agree, else one int per side.

    Raises:
        ValueError, KeyError: where an argument breaks one of these rules.
    """

    ndim = 2

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W), any H and W -> one (B, C_i, H_i, W_i) per out index."""
        return self._features(self._tokens(x))


@MODELS.register_module()
class SwinTransformerV2Video(_SwinV2):
    """Swin Transformer V2 for videos: patches and windows reach over time, merging does not.

    Arguments, attributes and errors are those of `SwinTransformerV2`, with sides (t, h, w).
    """

    ndim = 3

    def __init__(self, arch: str | dict | Arch = 'tiny', in_channels: int = 3,
                 patch_size: Window = (2, 4, 4), **kwargs):
        super().__init__(arch, in_channels, patch_size, **kwargs)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, C, T, H, W) -> one (B, C_i, T', H_i, W_i) per out index; bare if there is one."""
        outs = self._features(self._tokens(x))
        return outs[0] if len(outs) == 1 else outs
