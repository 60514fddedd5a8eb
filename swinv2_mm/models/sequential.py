"""Sequential attention: a few windows at a time (paper, section 3.4).

What stands between two layers is then small enough for the processor's caches, and nowhere is
there an (N, N) of logits for every window:

`attend` takes all windows, as one autograd function. It keeps q, k and v for the backward pass,
works the logits out anew there, and sums the gradient of the position bias as it goes.

Tests hold them to the plain path, which `plain_path()` switches back to.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..utils import versions
from .windows import Layout, Part, cut

# Vectors shorter than this are not normalised further. The official 1e-12 lets the gradient at a
# zero key grow 1e12 times; no vector of a trained model is this short.
COSINE_EPS = 1e-6
# Weights below this are far under the rounding of those beside them, and their products may leave
# the normal numbers of float32, which a CPU multiplies many times slower than others.
DENORMAL = 1e-30
# Bytes that the widest tensor of a part may take. On a CPU whatever is over 32 MB goes back to the
# system when it is freed, and costs a page fault for every 4 KB when it is asked for again.
# On a GPU nearly always all windows of one mask go at once.
PART_BYTES = {'cpu': 8 << 20, 'cuda': 1 << 30}
# Without such tiles (AMX), matrices in half precision are multiplied slower than in float32.
CPU_HAS_TILES = versions.cpu_has_tiles()

_plain = False


@contextlib.contextmanager
def plain_path() -> Iterator[None]:
    """In this context, all models compute the definition as it stands, on all windows at once."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def wanted() -> bool:
    """Whether an operator may take the place of the plain path, in a compiler's graph too."""
    return not _plain and (versions.is_compiling() or not (
        torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()))


def may_run() -> bool:
    """Whether these may take the place of the plain path: not where a graph is being recorded."""
    return wanted() and not versions.is_compiling()


def is_plain_linear(*layers: nn.Module) -> bool:
    """Whether these are torch's own layers, so that their weights may be used without them."""
    return all(type(layer) is nn.Linear
               and not hasattr(layer.weight, '__tensor_flatten__')  # made of others: quantised
               and not layer._forward_hooks and not layer._forward_pre_hooks
               for layer in layers)


def half_is_slow(x: Tensor) -> bool:
    return x.is_cpu and not CPU_HAS_TILES


def should_widen(x: Tensor) -> bool:
    """Whether autocast asks for half precision where float32 is faster, and nothing is kept."""
    return (half_is_slow(x) and not torch.is_grad_enabled() and may_run()
            and versions.autocast_dtype('cpu') is not None)


def core_dtype(qkv: Tensor) -> torch.dtype:
    """What products are computed in: the tensor's dtype, or float32 at least where that is slow."""
    return torch.promote_types(qkv.dtype, torch.float32) if half_is_slow(qkv) else qkv.dtype


def part_bytes(x: Tensor) -> int:
    return PART_BYTES.get(x.device.type, PART_BYTES['cuda'])


def cut_for(x: Tensor, layout: Layout, token_bytes: int) -> list[Part]:
    """The windows of x (B, *S, C) in parts, where the widest tensor takes so much a token."""
    return cut(layout, len(x), part_bytes(x) // token_bytes, x.device)


def with_logits(parts: list[Part], bias: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """Each part with bias + mask (h, N, N), which parts of one mask share."""
    mask, logits = None, bias
    for part in parts:
        if part.mask is not mask:
            mask = part.mask
            logits = bias if mask is None else bias + mask.to(bias.dtype)
        yield part, logits


def attend_part(qkv: Tensor, part: Part, scale: Tensor, logits: Tensor) -> Tensor:
    """softmax(scale cos(q, k) + logits) v in some windows: (R, 3C) -> (R, C), no gradients.

    scale (h, 1, 1) is 1 / tau; logits (h, N, N) holds position bias and mask, in `core_dtype`.
    """
    q, k, v = _to_heads(qkv, part, 3 * len(scale)).chunk(3, dim=1)  # each (n, h, N, d)
    q, k = (q * (scale / _norm(q))).to(logits.dtype), (k / _norm(k)).to(logits.dtype)
    with torch.autocast(qkv.device.type, enabled=False):
        out = versions.attend(q, k, v.to(logits.dtype), logits[None])
    return _to_rows(out, part).to(qkv.dtype)


def attend(qkv: Tensor, layout: Layout, scale: Tensor, bias: Tensor) -> Tensor:
    """The same in all windows, with gradients but no second ones: (B, *S, 3C) -> (B, *S, C).

    scale (h, 1, 1) and bias (h, N, N) are in float32 at least.
    """
    parts = parts_for(qkv, layout, bias)
    out = _Attend.apply(qkv.flatten(0, -2), scale, bias, parts)
    return out.view(*qkv.shape[:-1], -1)


def parts_for(qkv: Tensor, layout: Layout, bias: Tensor) -> list[Part]:
    return cut_for(qkv, layout, len(bias) * bias.shape[1] * bias.element_size())


def forward_parts(qkv: Tensor, scale: Tensor, bias: Tensor, parts: list[Part]) -> Tensor:
    """`attend_part` for all parts: (B * L, 3C) -> (B * L, C)."""
    out = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
    # detached: torch gives up its fused attention where a mask wants gradients
    for part, logits in with_logits(parts, bias.detach().to(core_dtype(qkv))):
        out.index_copy_(0, part.rows, attend_part(
            qkv.index_select(0, part.rows), part, scale, logits))
    return out


def backward_parts(grad: Tensor, qkv: Tensor, scale: Tensor, bias: Tensor,
                   parts: list[Part]) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv (B * L, 3C), scale and bias from that of `forward_parts`."""
    grad_qkv = torch.empty_like(qkv)
    grad_scale, grad_bias = torch.zeros_like(scale), torch.zeros_like(bias)
    with torch.autocast(qkv.device.type, enabled=False):
        for part, logits in with_logits(parts, bias.to(core_dtype(qkv))):
            rows = _backward_part(
                qkv.index_select(0, part.rows), grad.index_select(0, part.rows), part, scale,
                logits, grad_scale, grad_bias)
            grad_qkv.index_copy_(0, part.rows, rows)
    return grad_qkv, grad_scale, grad_bias


class _Attend(torch.autograd.Function):
    """(B * L, 3C) -> (B * L, C)."""

    @staticmethod
    def forward(ctx, qkv: Tensor, scale: Tensor, bias: Tensor, parts: list[Part]) -> Tensor:
        ctx.save_for_backward(qkv, scale, bias)
        ctx.parts = parts
        return forward_parts(qkv, scale, bias, parts)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return *backward_parts(grad, *ctx.saved_tensors, ctx.parts), None


def _backward_part(qkv: Tensor, grad: Tensor, part: Part, scale: Tensor, logits: Tensor,
                   grad_scale: Tensor, grad_bias: Tensor) -> Tensor:
    """Gradient of qkv (R, 3C); those of scale and bias are added to what is there.

    A large window goes through some of its heads at a time.
    """
    heads, dtype = len(scale), logits.dtype
    # contiguous, or each product makes a copy of its own
    grad = _to_heads(grad, part, heads).contiguous().to(dtype)
    qkv = _to_heads(qkv, part, 3 * heads).contiguous()
    out = []
    step = max(1, part_bytes(qkv) // (part.count * versions.nbytes(logits[0])))
    for first in range(0, heads, step):
        some = slice(first, first + step)
        q, k, v = (x[:, some] for x in qkv.chunk(3, dim=1))
        q_norm, k_norm = _norm(q), _norm(k)
        q_unit, k_unit = q / q_norm, k / k_norm  # float32 at least
        q, k, v = (q_unit * scale[some]).to(dtype), k_unit.to(dtype), v.to(dtype)
        p = torch.matmul(q, k.transpose(2, 3)).add_(logits[some])
        p = torch.softmax(p, dim=-1, out=p)
        if part.mask is not None:  # beyond a seam are numbers that a processor is slow with
            F.threshold_(p, DENORMAL, 0)
        grad_v = torch.matmul(p.transpose(2, 3), grad[:, some])
        grad_p = torch.matmul(grad[:, some], v.transpose(2, 3))
        grad_p = torch._softmax_backward_data(grad_p, p, -1, dtype)  # now of the logits
        grad_bias[some].add_(grad_p.sum(0, dtype=grad_bias.dtype))
        grad_q, grad_k = torch.matmul(grad_p, k), torch.matmul(grad_p.transpose(2, 3), q)
        along = (grad_q * q_unit).sum(-1, keepdim=True)  # what the length of a vector undoes
        grad_scale[some].add_(along.sum((0, 2))[:, None])
        grad_q = torch.addcmul(grad_q, q_unit, along, value=-1).mul_(scale[some] / q_norm)
        along = (grad_k * k_unit).sum(-1, keepdim=True)
        grad_k = torch.addcmul(grad_k, k_unit, along, value=-1).div_(k_norm)
        out.append((grad_q, grad_k, grad_v))
    return _to_rows(torch.cat([x for xs in zip(*out) for x in xs], dim=1).to(qkv.dtype), part)


def _to_heads(x: Tensor, part: Part, heads: int) -> Tensor:
    """(R, C) -> (n, h, N, d), a view; places of padding hold zeros."""
    if part.places is not None:
        x = x.new_zeros(part.count * part.area, x.shape[1]).index_copy_(0, part.places, x)
    return x.view(part.count, part.area, heads, -1).transpose(1, 2)


def _to_rows(x: Tensor, part: Part) -> Tensor:
    """(n, h, N, d) -> (R, C), the inverse of `_to_heads`."""
    x = x.transpose(1, 2).reshape(part.count * part.area, -1)
    return x if part.places is None else x.index_select(0, part.places)


def _norm(x: Tensor) -> Tensor:
    """Length of the vectors (..., d), in float32 at least: (..., 1)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).clamp_min_(COSINE_EPS)
