"""Attention as an operator of torch that runs the kernels of triton_attention.py on a GPU.

    fits        whether an attention may come here, asked before it does
    attend      softmax(scale cos(q, k) + bias + mask) v on the map, with gradients

The operator `swinv2_mm::attention` has its shapes and its gradient registered, so that a compiler
records it as one node. What it runs is decided when it runs: the kernels, once they have been
compared with sequential.py on this device (`trusted`), or else sequential.py itself.
"""
from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ..utils import versions
from . import launch, sequential
from .windows import Layout, Size, plan

KERNEL = 'attention in one kernel on a GPU'  # a key of versions.SINCE
HAS_TRITON = importlib.util.find_spec('triton') is not None
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'  # then the kernels run on a CPU
WIDEST_HEAD, LARGEST_WINDOW = 128, 4096
# By how much a kernel may be off, over the largest value: float32 adds in another order; of
# narrower products, a few half units of the last place of softmax and results.
BOUNDS = {'tf32x3': 1e-4, 'tf32': 2e-2, torch.float16: 8e-3, torch.bfloat16: 6e-2}

_verdicts: dict[tuple, bool] = {}
_said: set[str] = set()


def fits(qkv: Tensor, heads: int, window: Size) -> bool:
    """Whether the operator takes q, k, v (B, *S, 3C): on a GPU, of a size that kernels are for."""
    if not (qkv.is_cuda or INTERPRETED) or not sequential.wanted():
        return False
    width, area = qkv.shape[-1] // 3 // heads, math.prod(window)
    why = (
        'triton is not installed' if not HAS_TRITON else
        f'torch {torch.__version__} is older than 2.4' if not versions.can(KERNEL) else
        f'{qkv.dtype}' if qkv.dtype not in (torch.float32, torch.float16, torch.bfloat16) else
        f'heads of {width} channels, over {WIDEST_HEAD}' if width > WIDEST_HEAD else
        f'windows of {area} tokens, over {LARGEST_WINDOW}' if area > LARGEST_WINDOW else
        'maps of over 2^31 numbers' if math.prod(qkv.shape[1:]) >= 2 ** 31 else None)
    if why and not versions.is_compiling():
        _say(f'{why} on {qkv.device}')
    return why is None


def attend(qkv: Tensor, layout: Layout, scale: Tensor, bias: Tensor) -> Tensor:
    """As `sequential.attend`: (B, *S, 3C) -> (B, *S, C), with gradients but no second ones."""
    return torch.ops.swinv2_mm.attention(qkv, scale, bias, layout.window, layout.shift)[0]


def trusted(device: torch.device, dtype: torch.dtype, window: Sequence[int], width: int) -> bool:
    """Whether the kernels do here what they should; found out once, in well under a second.

    What Triton compiles depends on nothing else than these and on whether there is padding.
    """
    key = device, dtype, tuple(window), width, launch.precision(dtype)
    if key not in _verdicts:
        try:
            fault = _fault(device, dtype, tuple(window), width)
        except Exception as error:  # noqa: BLE001 - what a compiler raises is its own affair
            fault = f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}'
        _verdicts[key] = not fault
        if fault:
            _say(f'{fault}; {dtype}, window {key[2]}, heads of {width} channels on {device}')
    return _verdicts[key]


def _say(why: str) -> None:
    if why not in _said:
        _said.add(why)
        from mmengine.logging import print_log  # half a second that nobody else needs

        print_log(f'Attention takes the plain path and not its GPU kernels: {why}.', 'current')


def _fault(device: torch.device, dtype: torch.dtype, window: Size, width: int) -> str | None:
    """What is wrong with outputs or gradients of small maps, with padding and seams and without."""
    if device.type == 'cuda' and (torch.version.hip or
                                  torch.cuda.get_device_capability(device) < (8, 0)):
        return 'they are for NVIDIA cards from compute capability 8.0 on'
    area = math.prod(window)
    heads = 4 if area <= 1024 else 2  # a temperature's gradient alone may happen to be near 0
    generator = torch.Generator().manual_seed(0)
    for size, shift in _trials(window):
        def normal(*shape):
            return torch.randn(shape, generator=generator).to(device, dtype)

        qkv, grad = normal(1, *size, 3 * heads * width), normal(1, *size, heads * width)
        # the second head's logits are too large to do without their maximum
        scale = torch.tensor([8., 20., 5., 12.], device=device)[:heads].view(heads, 1, 1)
        bias = 16 * torch.rand(heads, area, area, generator=generator).to(device)
        out, lse = launch.forward(qkv, scale, bias, window, shift)
        found = out, *launch.backward(grad, qkv, scale, bias, out, lse, window, shift)
        expected = _plain(qkv.float(), scale, bias, window, shift, grad.float())
        bound = BOUNDS[launch.precision(dtype) if dtype == torch.float32 else dtype]
        for name, a, b in zip(('output', 'gradient of q, k, v', 'gradient of the temperature',
                               'gradient of the bias'), found, expected):
            off = ((a.float() - b).abs().max() / b.abs().max().clamp_min(1e-3)).item()
            if not off <= bound:
                return f'their {name} is off by {off:.1g}, over {bound}'
    return None


def _trials(window: Size) -> tuple[tuple[Size, Size], ...]:
    """Maps and shifts: one whose last window has both sides of a seam, and padding, and a window.

    A large window is doubled on one side alone, as two of them fill memory enough.
    """
    ends = [w - 1 if math.prod(window) <= 1024 else 0 for w in window[:-1]] + [window[-1] - 1]
    shift = tuple(w // 2 if end else 0 for w, end in zip(window, ends))
    return ((tuple(w + end for w, end in zip(window, ends)), shift),
            (window, (0,) * len(window)))


def _plain(qkv: Tensor, scale: Tensor, bias: Tensor, window: Sequence[int], shift: Sequence[int],
           grad: Tensor | None) -> tuple[Tensor, ...]:
    """The output of sequential.py, followed by its gradients where there is one of the output."""
    layout = plan(tuple(qkv.shape[1:-1]), tuple(window), tuple(shift), scale)
    parts = sequential.parts_for(qkv, layout, bias)
    rows = qkv.flatten(0, -2)
    out = sequential.forward_parts(rows, scale, bias, parts).view(*qkv.shape[:-1], -1)
    if grad is None:
        return (out,)
    grads = sequential.backward_parts(grad.flatten(0, -2), rows, scale, bias, parts)
    return out, grads[0].view(qkv.shape), *grads[1:]


def _attention(qkv: Tensor, scale: Tensor, bias: Tensor, window: Sequence[int],
               shift: Sequence[int]) -> tuple[Tensor, Tensor]:
    qkv, heads = qkv.contiguous(), len(bias)
    if trusted(qkv.device, qkv.dtype, window, qkv.shape[-1] // 3 // heads):
        return launch.forward(qkv, scale, bias, window, shift)
    # no sums: should anybody mend a kernel before the backward pass, it shows
    lse = qkv.new_full((*qkv.shape[:-1], heads), -math.inf, dtype=torch.float32)
    return *_plain(qkv, scale, bias, window, shift, None), lse


def _gradients(grad: Tensor, qkv: Tensor, scale: Tensor, bias: Tensor, out: Tensor, lse: Tensor,
               window: Sequence[int], shift: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    qkv, grad = qkv.contiguous(), grad.contiguous()
    if trusted(qkv.device, qkv.dtype, window, qkv.shape[-1] // 3 // len(bias)):
        return launch.backward(grad, qkv, scale, bias, out, lse, window, shift)
    return _plain(qkv, scale, bias, window, shift, grad)[1:]


def _save(ctx, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.window, ctx.shift = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx, grad: Tensor, _) -> tuple:
    return (*torch.ops.swinv2_mm.attention_gradients(
        grad, *ctx.saved_tensors, ctx.window, ctx.shift), None, None)


def _register() -> None:
    places = 'SymInt[] window, SymInt[] shift'
    attention = torch.library.custom_op(
        'swinv2_mm::attention', _attention, mutates_args=(),
        schema=f'(Tensor qkv, Tensor scale, Tensor bias, {places}) -> (Tensor, Tensor)')
    gradients = torch.library.custom_op(
        'swinv2_mm::attention_gradients', _gradients, mutates_args=(),
        schema='(Tensor grad, Tensor qkv, Tensor scale, Tensor bias, Tensor out, Tensor lse, '
               f'{places}) -> (Tensor, Tensor, Tensor)')
    attention.register_fake(lambda qkv, scale, bias, window, shift: (
        qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3),
        qkv.new_empty(*qkv.shape[:-1], len(bias), dtype=torch.float32)))
    gradients.register_fake(lambda grad, qkv, scale, bias, *rest: tuple(
        x.new_empty(x.shape) for x in (qkv, scale, bias)))
    attention.register_autograd(_differentiate, setup_context=_save)


if versions.can(KERNEL):
    _register()
