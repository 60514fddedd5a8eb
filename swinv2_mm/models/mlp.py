"""The MLP of a block: two linear layers with GELU between, some rows at a time.

What is between the layers is then small enough for the processor's caches. As one autograd function
it keeps what enters it and its GELU, and works the rest out anew.
"""
from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..utils import versions
from . import native, sequential
from .sequential import core_dtype


class Mlp(nn.Module):
    """(..., C) -> (..., C), 4C inside."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        if sequential.may_run() and sequential.is_plain_linear(self.fc1, self.fc2):
            return feed_forward(x, self.fc1, self.fc2)
        return self.fc2(F.gelu(self.fc1(x)))


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """second(gelu(first(x))) with gradients but no second ones: (..., C) -> (..., C_out)."""
    kind = x.device.type
    dtype = versions.autocast_dtype(kind) or x.dtype
    with torch.autocast(kind, enabled=False):
        inputs = (x.flatten(0, -2).to(dtype), first.weight, first.bias, second.weight, second.bias)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            out = _FeedForward.apply(*inputs)
        else:
            out, _ = _forward(*inputs, keep=False)
    return out.view(*x.shape[:-1], -1)


class _FeedForward(torch.autograd.Function):
    """(L, C) -> (L, C_out)."""

    @staticmethod
    def forward(ctx, x: Tensor, *parameters: Tensor) -> Tensor:
        out, hidden = _forward(x, *parameters, keep=True)
        # the parameters as they are: casts of them would be kept besides
        ctx.save_for_backward(x, hidden, *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, hidden, *parameters = ctx.saved_tensors
        dtype = core_dtype(x)
        weight1, bias1, weight2, _ = (p.to(dtype) for p in parameters)
        grad_x, grads = torch.empty_like(x), [torch.zeros_like(p, dtype=dtype) for p in parameters]
        with torch.autocast(x.device.type, enabled=False):
            for some in _slices(x, len(weight1)):
                outer, inner = grad[some].to(dtype), hidden[some].to(dtype)
                active, inner = _gelu_backward(inner, bias1, torch.mm(outer, weight2))
                grads[2].addmm_(outer.t(), active)
                grads[3].add_(outer.sum(0))
                grads[0].addmm_(inner.t(), x[some].to(dtype))
                grads[1].add_(inner.sum(0))
                _into(grad_x[some], torch.mm, inner, weight1)
        return grad_x, *(g.to(p.dtype) for g, p in zip(grads, parameters))


def _forward(x: Tensor, *parameters: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """(L, C) -> (L, C_out), and the hidden layer before its bias, (L, 4C) if it is to be kept."""
    weight1, bias1, weight2, bias2 = (p.to(core_dtype(x)) for p in parameters)
    hidden, out = x.new_empty(len(x) * keep, len(weight1)), x.new_empty(len(x), len(weight2))
    for some in _slices(x, len(weight1)):
        rows = x[some].to(weight1.dtype)
        inner = _into(hidden[some] if keep else None, torch.mm, rows, weight1.t())
        _into(out[some], torch.addmm, bias2, _gelu(inner, bias1), weight2.t())
    return out, hidden


def _into(out: Tensor | None, product, *matrices: Tensor) -> Tensor:
    """The product, which `out` is to hold as well, written there at once if it is of that dtype."""
    if out is None or out.dtype == matrices[-1].dtype:
        return product(*matrices, out=out)
    result = product(*matrices)
    out.copy_(result)
    return result


def _slices(x: Tensor, width: int) -> Iterator[slice]:
    step = max(1, sequential.part_bytes(x) // (width * x.element_size()))
    return (slice(first, first + step) for first in range(0, len(x), step))


def _gelu(x: Tensor, bias: Tensor) -> Tensor:
    """gelu(x + bias)"""
    return native.gelu(x, bias) if _may_be_native(x) else F.gelu(x + bias)


def _gelu_backward(x: Tensor, bias: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """gelu(x + bias), and the gradient of x from that of it."""
    if _may_be_native(x):
        return native.gelu_backward(x, bias, grad)
    x = x + bias
    return F.gelu(x), torch.ops.aten.gelu_backward(grad, x)


def _may_be_native(x: Tensor) -> bool:
    return x.dtype == torch.float32 and native.may_run(x)
