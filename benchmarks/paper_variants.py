"""The models that the paper compares SwinV2 with; for benchmarks only, not part of the package.

Each is the package's backbone with parts replaced, so that all else is equal:

- `set_bias`: what the position bias is made of. 'log' is the package's own; 'linear' gives the same
  network offsets without the logarithm; 'table' learns a number for each offset, as Swin V1 does,
  and is interpolated by a bicubic spline for another window.
- `set_blocks`: 'pre' puts norms before the branches and takes scaled dot products, as Swin V1 does;
  'post' is residual post-norm with dot products; 'post, cosine' is the package's own.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2_mm import SwinTransformerV2
from swinv2_mm.models.attention import WindowAttention, attend_windows, log_spaced_offsets
from swinv2_mm.models.swin import Block, PatchMerging
from swinv2_mm.models.windows import Layout, Size, from_windows, to_windows

BIASES = {'table': 'table (bicubic)', 'linear': 'linear', 'log': 'log (SwinV2)'}
BLOCKS = {'pre': 'pre-norm, dot product', 'post': 'res-post-norm, dot product',
          'post, cosine': 'res-post-norm, cosine (SwinV2)'}


def in_tokens(offsets: Tensor, normaliser: Size) -> Tensor:
    """What the package's log-spaced table was made of: its logarithm undone, in tokens."""
    sides = torch.tensor([max(n - 1, 1) for n in normaliser], dtype=offsets.dtype)
    return offsets.sign() * (torch.exp2(3 * offsets.abs()) - 1) / 8 * sides


class LinearAttention(WindowAttention):
    """The package's attention with linear-spaced offsets, +-1 at the ends of the trained window."""

    def _bias_table(self, window: Size) -> Tensor:
        normaliser = tuple(p or w for p, w in zip(self.pretrained_window, window))
        tokens = in_tokens(log_spaced_offsets(window, normaliser), normaliser)
        sides = torch.tensor([max(n - 1, 1) for n in normaliser], dtype=tokens.dtype)
        table = 16 * torch.sigmoid(self.cpb_mlp((tokens / sides).float()))
        return table.t().reshape(self.num_heads, *(2 * w - 1 for w in window))


class TableAttention(WindowAttention):
    """The package's attention with a learned number for each offset, +-0.02 at first as in V1."""

    def __init__(self, ndim: int, dim: int, num_heads: int, pretrained_window: Size):
        super().__init__(ndim, dim, num_heads, pretrained_window)
        self.cpb_mlp = nn.Identity()
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros(num_heads, *(2 * w - 1 for w in pretrained_window)))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def _bias_table(self, window: Size) -> Tensor:
        return resize_table(self.relative_position_bias_table, window)


def resize_table(table: Tensor, window: Size) -> Tensor:
    """(h, 2 h' - 1, 2 w' - 1) -> the same for another window, by a bicubic spline."""
    sides = tuple(2 * w - 1 for w in window)
    if tuple(table.shape[1:]) == sides:
        return table
    return F.interpolate(table[None], size=sides, mode='bicubic', align_corners=False)[0]


def fitting_windows(size: int, window: int, stages: int) -> list[int]:
    """The windows that square pictures of a size really get, stage by stage; patches of 4."""
    return [min(window, size // 4 >> i) for i in range(stages)]


def set_bias(model: SwinTransformerV2, kind: str) -> SwinTransformerV2:
    """Replace the position biases; the model must know its `pretrained_window_sizes`."""
    replaced = {'table': TableAttention, 'linear': LinearAttention, 'log': WindowAttention}[kind]
    for stage, trained in zip(model.layers, model.pretrained_window_sizes):
        for block in stage.blocks:
            old = block.attn
            block.attn = replaced(2, old.proj.in_features, old.num_heads, trained)
            kept = {name: value for name, value in old.state_dict().items()
                    if name in block.attn.state_dict()}
            block.attn.load_state_dict(kept, strict=False)
    return model


def grow(model: SwinTransformerV2, windows: list[int]) -> SwinTransformerV2:
    """Make a trained model use other windows; tables are interpolated once, before fine-tuning."""
    for stage, window in zip(model.layers, windows):
        stage.window = (window, window)
        for block in stage.blocks:
            if isinstance(block.attn, TableAttention):
                table = block.attn.relative_position_bias_table
                block.attn.relative_position_bias_table = nn.Parameter(
                    resize_table(table.detach(), stage.window).clone())
    return model


def drop_bias(model: SwinTransformerV2) -> SwinTransformerV2:
    """Take the position bias out of a trained model: what is left is the cosines."""
    for stage in model.layers:
        for block in stage.blocks:
            heads = block.attn.num_heads
            block.attn.bias_table = lambda window, heads=heads: torch.zeros(
                heads, *(2 * w - 1 for w in window))
    return model


class DotAttention(TableAttention):
    """Softmax of q k / sqrt(d) + B with V1's table; V1's key bias shifts no logit, so is left out.
    """

    def __init__(self, ndim: int, dim: int, num_heads: int, pretrained_window: Size):
        super().__init__(ndim, dim, num_heads, pretrained_window)
        del self.logit_scale

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        bias = self.position_bias(layout.window)
        heads = len(bias)
        qkv = to_windows(self._qkv(x), layout).unflatten(-1, (3, heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, W, h, N, d)
        q = q * q.shape[-1] ** -0.5
        out = attend_windows(q, k, v, bias, layout)
        return self.proj(from_windows(out.transpose(2, 3).flatten(3), layout))


class PreNormBlock(Block):
    """Swin V1's order: each branch is normalised where it leaves the trunk."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), layout))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PostNormBlock(Block):
    """The package's order, always on all windows at once, for attention of another kind."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attn(x, layout)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


class PreNormMerging(PatchMerging):
    """Swin V1's merging: norm(4C), then the reduction."""

    def __init__(self, dim: int):
        super().__init__(dim)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


def set_blocks(model: SwinTransformerV2, kind: str) -> SwinTransformerV2:
    """Replace norms and attention; weights that stay keep their values, norms start as in each
    official code: at 1 before a branch, at 0 behind it."""
    if kind == 'post, cosine':
        return model
    for stage, trained in zip(model.layers, model.pretrained_window_sizes):
        for block in stage.blocks:
            old = block.attn
            block.__class__ = PreNormBlock if kind == 'pre' else PostNormBlock
            block.attn = DotAttention(2, old.proj.in_features, old.num_heads, trained)
            names = block.attn.state_dict()
            block.attn.load_state_dict({name: value for name, value in old.state_dict().items()
                                        if name in names}, strict=False)
            if kind == 'pre':
                block.norm1.reset_parameters()
                block.norm2.reset_parameters()
        if kind == 'pre' and stage.downsample is not None:
            weight = stage.downsample.reduction.weight
            stage.downsample = PreNormMerging(weight.shape[1] // 4)
            stage.downsample.reduction.weight = weight
    return model
