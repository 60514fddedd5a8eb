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
    """own: tokens that a program keeps, while it walks over tiles of `block` others; tokens: of a
    window, filled up; width: of a head, filled up."""

    own: int
    block: int
    tokens: int
    width: int
    warps: int


def tiling(area: int, d: int, dtype: torch.dtype, generation: int) -> Tiling:
    """Tiles for windows of `area` tokens and heads of width d, on cards of a generation.

    What a program holds must leave room for a second one beside it, and none of it may leave the
    registers: benchmarks/kernels.py shows both.
    """
    width, half = max(16, power_of_2(d)), dtype != torch.float32
    block = min(64 if half and width <= 64 else 32, max(16, power_of_2(area)))
    tokens = math.ceil(area / block) * block
    # with compute capability 9.0, operands of products need no registers
    wide = half and width <= 32 and block == 64 and tokens % 128 == 0 and generation == 9
    return Tiling(128 if wide else block, block, tokens, width, block // 16)


def generation_of(device: torch.device) -> int:
    """Major number of the compute capability; of a card of today where there is none."""
    return torch.cuda.get_device_capability(device)[0] if device.type == 'cuda' else 9


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
        self.tiling = tiling(area, d, qkv.dtype, generation_of(qkv.device))
        self.heads = heads
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

    def start(self, kernel: str, programs: int, *tensors: Tensor, step: int, **sizes: int) -> None:
        """Start that many programs; one that walks over windows takes every `step`-th.

        Loads are not made ahead (num_stages): registers for a second program serve better.
        """
        start(kernel, programs, (*tensors, self.heads, self.windows, step, *self.map),
              dict(self.sizes, **sizes), num_warps=self.tiling.warps, num_stages=1)


def start(kernel: str, programs: int, arguments: tuple, sizes: dict, **options: int) -> None:
    from . import triton_attention  # it needs triton

    with torch.cuda.device_of(arguments[0]):  # triton takes the current device
        getattr(triton_attention, kernel)[(programs,)](*arguments, **sizes, **options)


def forward(qkv: Tensor, scale: Tensor, bias: Tensor, window: Sequence[int],
            shift: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(B, *S, 3C), 1 / tau (h, 1, 1), bias (h, N, N) -> out (B, *S, C), log2 sums (B, *S, h)."""
    call = Call(qkv, len(bias), window, shift)
    out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
    lse = qkv.new_empty(*qkv.shape[:-1], call.heads, dtype=torch.float32)
    owners = call.heads * call.tiling.tokens // call.tiling.own
    step = call.splits(owners) if owners == call.heads else call.windows
    scale = scale.float().contiguous()
    # One tile gains nothing without the maximum of its logits, and float16 has no room for it.
    always = call.tiling.tokens == call.tiling.block or qkv.dtype == torch.float16
    largest = scale if always else LOG2E * (
        scale.flatten() + torch.linalg.vector_norm(bias.float(), math.inf, (1, 2)))
    call.start('forward_kernel', owners * step, qkv, out, lse, call.fold(bias, qkv.dtype), scale,
               largest, step=step, OWN=call.tiling.own, BLOCK=call.tiling.block, ALWAYS=always)
    return out, lse


def backward(grad: Tensor, qkv: Tensor, scale: Tensor, bias: Tensor, out: Tensor, lse: Tensor,
             window: Sequence[int], shift: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, scale and bias, in their shapes and dtypes."""
    call = Call(qkv, len(bias), window, shift)
    grad = grad.to(qkv.dtype)
    inputs = (lse, call.fold(bias, qkv.dtype), scale.float().contiguous())
    grad_qkv = torch.empty_like(qkv)
    run = _whole if call.tiling.tokens == call.tiling.block else _tiled
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
               part_scale, step=splits)
    return part_bias, part_scale


def _tiled(call: Call, qkv: Tensor, grad: Tensor, out: Tensor, inputs: tuple, grad_qkv: Tensor):
    heads, tokens, own, block = call.heads, call.tiling.tokens, call.tiling.own, call.tiling.block
    squares, owners = (tokens // block) ** 2, call.windows * tokens // own
    splits = call.splits(heads * squares)
    delta, *lengths = (torch.empty_like(inputs[0]) for _ in range(3))
    part_bias = grad.new_empty(splits, heads, tokens, tokens, dtype=torch.float32)
    part_scale = grad.new_empty(owners, heads, dtype=torch.float32)
    call.start('rows_kernel', owners * heads, qkv, grad, out, *inputs, grad_qkv, delta, lengths[0],
               part_scale, step=call.windows, OWN=own, BLOCK=block)
    call.start('columns_kernel', owners * heads, qkv, grad, *inputs, grad_qkv, delta, *lengths,
               step=call.windows, OWN=own, BLOCK=block)
    call.start('bias_kernel', splits * heads * squares, qkv, grad, *inputs, delta, *lengths,
               part_bias, step=splits, BLOCK=block)
    return part_bias, part_scale
