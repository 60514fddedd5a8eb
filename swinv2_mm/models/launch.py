"""How the kernels of triton_attention.py are launched: tiles, programs, partial sums."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Programs that walks over windows are shared out to: enough for any card, and always as many, so
# that sums are always added in the same order.
PROGRAMS = 512
LOG2E = 1 / math.log(2)


class Tiling(NamedTuple):
    """block: tokens of a tile; tokens: those of a window, filled up; width: of a head, filled up;
    warps of forward, backward."""

    block: int
    tokens: int
    width: int
    warps: int
    warps_backward: int


def tiling(area: int, d: int, dtype: torch.dtype) -> Tiling:
    """Tiles for windows of `area` tokens and heads of width d.

    What a program holds must leave room for a second one beside it.
    """
    width = max(16, power_of_2(d))
    most = 64 if width * torch.finfo(dtype).bits <= 1024 else 32
    block = min(most, max(16, power_of_2(area)))
    warps = 4 if block == 64 else 2 if block == 32 else 1
    return Tiling(block, math.ceil(area / block) * block, width, warps, 2 * warps)


def power_of_2(n: int) -> int:
    """The smallest one from n on."""
    return 1 << (n - 1).bit_length()


def precision(dtype: torch.dtype) -> str:
    """How products of float32 are computed: as exactly as torch is asked to, or in TF32."""
    exact = dtype == torch.float32 and torch.get_float32_matmul_precision() == 'highest'
    return 'tf32x3' if exact else 'tf32'


class Call:
    """What all kernels are told about a map, its windows and its heads."""

    def __init__(self, qkv: Tensor, heads: int, window: Sequence[int], shift: Sequence[int]):
        batch, *size, channels = qkv.shape
        size, window, shift = ((*filler, *sides)[-3:] for filler, sides in (
            ((1,), size), ((1,), window), ((0,), shift)))
        d, area = channels // 3 // heads, math.prod(window)
        self.tiling = tiling(area, d, qkv.dtype)
        self.heads, self.tiles = heads, self.tiling.tokens // self.tiling.block
        self.windows = batch * math.prod(-(-s // w) for s, w in zip(size, window))
        padded = any(s % w for s, w in zip(size, window))
        self.map = (*size, *shift)
        self.sizes = dict(
            d=d, D=self.tiling.width, N=self.tiling.tokens, WT=window[0], WH=window[1],
            WW=window[2], EDGES=padded or any(shift),
            MASKED=padded or area < self.tiling.tokens or d < self.tiling.width,
            P=precision(qkv.dtype))

    def splits(self, owners: int) -> int:
        """Programs that share out the windows, where each of `owners` walks over them."""
        return min(self.windows, max(1, PROGRAMS // owners))

    def fold(self, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """(h, N, N) in base 2, in float16 for half precision, with -inf for keys that are none."""
        wider = self.tiling.tokens - bias.shape[1]
        bias = (bias * LOG2E).to(torch.float32 if dtype == torch.float32 else torch.float16)
        if wider:
            bias = F.pad(F.pad(bias, (0, wider), value=-math.inf), (0, 0, 0, wider))
        return bias.contiguous()

    def start(self, kernel: str, programs: int, *tensors: Tensor, step: int, warps: int,
              **sizes: int) -> None:
        """Start that many programs, of which every `step`-th one has the same head and tile."""
        start(kernel, programs, (*tensors, self.heads, self.windows, step, *self.map),
              dict(self.sizes, **sizes), warps)


def start(kernel: str, programs: int, arguments: tuple, sizes: dict, warps: int) -> None:
    from . import triton_attention  # it needs triton

    with torch.cuda.device_of(arguments[0]):  # triton takes the current device
        getattr(triton_attention, kernel)[(programs,)](*arguments, **sizes, num_warps=warps)


def forward(qkv: Tensor, scale: Tensor, bias: Tensor, window: Sequence[int],
            shift: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(B, *S, 3C), 1 / tau (h, 1, 1), bias (h, N, N) -> out (B, *S, C), log2 sums (B, *S, h)."""
    call = Call(qkv, len(bias), window, shift)
    out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
    lse = qkv.new_empty(*qkv.shape[:-1], call.heads, dtype=torch.float32)
    step = call.windows if call.tiles > 1 else call.splits(call.heads)
    call.start('forward_kernel', call.heads * call.tiles * step, qkv, out, lse,
               call.fold(bias, qkv.dtype), scale.float().contiguous(), step=step,
               BLOCK=call.tiling.block, warps=call.tiling.warps)
    return out, lse


def backward(grad: Tensor, qkv: Tensor, scale: Tensor, bias: Tensor, out: Tensor, lse: Tensor,
             window: Sequence[int], shift: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, scale and bias, in their shapes and dtypes."""
    call = Call(qkv, len(bias), window, shift)
    grad = grad.to(qkv.dtype)
    inputs = (lse, call.fold(bias, qkv.dtype), scale.float().contiguous())
    grad_qkv = torch.empty_like(qkv)
    run = _whole if call.tiles == 1 else _tiled
    part_bias, part_scale = run(call, qkv, grad, out, inputs, grad_qkv)
    area = bias.shape[1]
    grad_bias = part_bias.sum(0)[:, :area, :area].to(bias.dtype).contiguous()
    grad_scale = part_scale.view(-1, call.heads).sum(0)
    return grad_qkv, grad_scale.view_as(scale).to(scale.dtype), grad_bias


def _whole(call: Call, qkv: Tensor, grad: Tensor, out: Tensor, inputs: tuple, grad_qkv: Tensor):
    splits, tokens = call.splits(call.heads), call.tiling.tokens
    part_bias = grad.new_empty(splits, call.heads, tokens, tokens, dtype=torch.float32)
    part_scale = grad.new_empty(splits, call.heads, dtype=torch.float32)
    call.start('whole_kernel', splits * call.heads, qkv, grad, *inputs, grad_qkv, part_bias,
               part_scale, step=splits, warps=call.tiling.warps_backward)
    return part_bias, part_scale


def _tiled(call: Call, qkv: Tensor, grad: Tensor, out: Tensor, inputs: tuple, grad_qkv: Tensor):
    heads, tiles, tokens = call.heads, call.tiles, call.tiling.tokens
    splits, delta = call.splits(heads * tiles * tiles), torch.empty_like(inputs[0])
    part_bias = grad.new_empty(splits, heads, tokens, tokens, dtype=torch.float32)
    part_scale = grad.new_empty(call.windows * tiles, heads, dtype=torch.float32)
    programs = call.windows * tiles * heads
    options = dict(step=call.windows, BLOCK=call.tiling.block, warps=call.tiling.warps)
    call.start('rows_kernel', programs, qkv, grad, out, *inputs, grad_qkv, delta, part_scale,
               **options)
    call.start('columns_kernel', programs, qkv, grad, *inputs, grad_qkv, delta, **options)
    call.start('bias_kernel', splits * heads * tiles * tiles, qkv, grad, *inputs, delta,
               part_bias, **dict(options, step=splits))
    return part_bias, part_scale
