"""How the kernels of triton_attention.py are launched: tiles, programs, partial sums.

It needs triton, and so nothing else may import it unasked.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from . import triton_attention as kernels
from .windows import Size

# Programs that walks over windows are shared out to: enough for any card, and always as many, so
# that sums are always added in the same order.
PROGRAMS = 512


class Tiling(NamedTuple):
    """block: tokens of a tile; tokens: those of a window, filled up; warps of forward, backward."""

    block: int
    tokens: int
    width: int
    warps: int
    warps_backward: int


def tiling(area: int, d: int, dtype: torch.dtype) -> Tiling:
    """Tiles for windows of `area` tokens and heads of width d.

    What a program holds must leave room for a second one beside it.
    """
    width = max(16, triton.next_power_of_2(d))
    most = 64 if width * dtype.itemsize <= 128 else 32
    block = min(most, max(16, triton.next_power_of_2(area)))
    warps = 4 if block == 64 else 2 if block == 32 else 1
    return Tiling(block, math.ceil(area / block) * block, width, warps, 2 * warps)


def precision(dtype: torch.dtype) -> str:
    """How products of float32 are computed: as exactly as torch is asked to, or in TF32."""
    exact = dtype == torch.float32 and torch.get_float32_matmul_precision() == 'highest'
    return 'tf32x3' if exact else 'tf32'


class Call:
    """What all kernels are told about a map, its windows and its heads."""

    def __init__(self, qkv: Tensor, heads: int, window: Size, shift: Size):
        batch, *size, channels = qkv.shape
        size, window, shift = ((*filler, *sides)[-3:] for filler, sides in (
            ((1,), size), ((1,), window), ((0,), shift)))
        d, area = channels // 3 // heads, math.prod(window)
        self.tiling = tiling(area, d, qkv.dtype)
        self.heads, self.tiles = heads, self.tiling.tokens // self.tiling.block
        self.windows = batch * math.prod(-(-s // w) for s, w in zip(size, window))
        padded = any(s % w for s, w in zip(size, window))
        self.place = (*size, *shift)
        self.sizes = dict(
            C=channels // 3, d=d, D=self.tiling.width, N=self.tiling.tokens,
            WT=window[0], WH=window[1], WW=window[2], EDGES=padded or any(shift),
            MASKED=padded or area < self.tiling.tokens or d < self.tiling.width,
            P=precision(qkv.dtype))

    def splits(self, owners: int) -> int:
        """Programs that share out the windows, where each of `owners` walks over them."""
        return min(self.windows, max(1, PROGRAMS // owners))

    def fold(self, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """(h, N, N) in base 2, in float16 for half precision, with -inf for keys that are none."""
        wider = self.tiling.tokens - bias.shape[1]
        bias = (bias * kernels.LOG2E.value).to(torch.promote_types(dtype, torch.float16)
                                               if dtype == torch.float32 else torch.float16)
        if wider:
            bias = F.pad(F.pad(bias, (0, wider), value=-math.inf), (0, 0, 0, wider))
        return bias.contiguous()


def forward(qkv: Tensor, scale: Tensor, bias: Tensor, window: Size,
            shift: Size) -> tuple[Tensor, Tensor]:
    """(B, *S, 3C), 1 / tau (h, 1, 1), bias (h, N, N) -> out (B, *S, C), log2 sums (B, *S, h)."""
    call = Call(qkv, len(bias), window, shift)
    qkv = qkv.contiguous()
    out = qkv.new_empty(*qkv.shape[:-1], call.sizes['C'])
    lse = qkv.new_empty(*qkv.shape[:-1], call.heads, dtype=torch.float32)
    step = call.windows if call.tiles > 1 else call.splits(call.heads)
    kernels.forward_kernel[(call.heads * call.tiles * step,)](
        qkv, out, lse, call.fold(bias, qkv.dtype), scale.float().contiguous(), call.windows, step,
        *call.place, **call.sizes, BLOCK=call.tiling.block, num_warps=call.tiling.warps)
    return out, lse


def backward(grad: Tensor, qkv: Tensor, scale: Tensor, bias: Tensor, out: Tensor, lse: Tensor,
             window: Size, shift: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, scale and bias, in their shapes and dtypes."""
    call = Call(qkv, len(bias), window, shift)
    qkv, grad = qkv.contiguous(), grad.to(qkv.dtype).contiguous()
    inputs = (lse, call.fold(bias, qkv.dtype), scale.float().contiguous())
    grad_qkv = torch.empty_like(qkv)
    run = _whole if call.tiles == 1 else _tiled
    part_bias, part_scale = run(call, qkv, grad, out, inputs, grad_qkv)
    area = bias.shape[1]
    grad_bias = part_bias.sum(0)[:, :area, :area]
    grad_scale = part_scale.view(-1, call.heads).sum(0)
    return grad_qkv, grad_scale.view_as(scale).to(scale.dtype), grad_bias.to(bias.dtype)


def _whole(call: Call, qkv: Tensor, grad: Tensor, out: Tensor, inputs: tuple, grad_qkv: Tensor):
    splits, tokens = call.splits(call.heads), call.tiling.tokens
    part_bias = grad.new_empty(splits, call.heads, tokens, tokens, dtype=torch.float32)
    part_scale = grad.new_empty(splits, call.heads, dtype=torch.float32)
    kernels.whole_kernel[(splits * call.heads,)](
        qkv, grad, *inputs, grad_qkv, part_bias, part_scale, call.windows, splits, *call.place,
        **call.sizes, num_warps=call.tiling.warps_backward)
    return part_bias, part_scale


def _tiled(call: Call, qkv: Tensor, grad: Tensor, out: Tensor, inputs: tuple, grad_qkv: Tensor):
    heads, tiles, tokens = call.heads, call.tiles, call.tiling.tokens
    splits, delta = call.splits(heads * tiles * tiles), torch.empty_like(inputs[0])
    part_bias = grad.new_empty(splits, heads, tokens, tokens, dtype=torch.float32)
    part_scale = grad.new_empty(call.windows * tiles, heads, dtype=torch.float32)
    options = dict(call.sizes, BLOCK=call.tiling.block, num_warps=call.tiling.warps)
    one, walk = (call.windows, call.windows, *call.place), (call.windows, splits, *call.place)
    grid = (call.windows * tiles * heads,)
    kernels.rows_kernel[grid](qkv, grad, out, *inputs, grad_qkv, delta, part_scale, *one, **options)
    kernels.columns_kernel[grid](qkv, grad, *inputs, grad_qkv, delta, *one, **options)
    kernels.bias_kernel[(splits * heads * tiles * tiles,)](
        qkv, grad, *inputs, delta, part_bias, *walk, **options)
    return part_bias, part_scale
