"""The least work of a SwinV2: its matrix products, counted and timed alone.

Dense layers take real tokens only; products of queries, keys and values take whole windows. The
position network, which is folded away at inference, is left out.
"""
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from swinv2_mm import ARCHS

LOGITS = 1 << 20  # numbers in a batched product's output, so that it stays in the cache


class Product(NamedTuple):
    """`times` products (batch, m, k) x (batch, k, n); dense if `weight`, else of two activations.

    In a training step there are `backward` times as many of the same size again.
    """

    weight: bool
    batch: int
    m: int
    k: int
    n: int
    times: int = 1
    backward: int = 2


def stages(arch: str, patch: tuple, window: tuple, shape: tuple) -> Iterator[tuple]:
    """(size, window in use, channels, heads, blocks) of each stage; `shape` is (B, C, *S)."""
    settings = ARCHS[arch]
    size = tuple(math.ceil(s / p) for s, p in zip(shape[2:], patch))
    for i, (depth, heads) in enumerate(zip(settings.depths, settings.num_heads)):
        fitted = tuple(min(s, w) for s, w in zip(size, window))
        yield size, fitted, settings.embed_dims << i, heads, depth
        size = (*size[:-2], math.ceil(size[-2] / 2), math.ceil(size[-1] / 2))


def products(arch: str, patch: tuple, window: tuple, shape: tuple) -> list[Product]:
    """All products of a forward pass on an input of `shape`."""
    found, batch = [], shape[0]
    for i, (size, sides, dim, heads, depth) in enumerate(stages(arch, patch, window, shape)):
        tokens = batch * math.prod(size)
        if i == 0:  # the pictures need no gradient
            found.append(Product(True, 1, tokens, shape[1] * math.prod(patch), dim, backward=1))
        else:
            found.append(Product(True, 1, tokens, 2 * dim, dim))
        found += [Product(True, 1, tokens, a * dim, b * dim, depth)
                  for a, b in ((1, 3), (1, 1), (1, 4), (4, 1))]
        windows = batch * heads * math.prod(math.ceil(s / w) for s, w in zip(size, sides))
        area, head = math.prod(sides), dim // heads
        found += [Product(False, windows, area, head, area, depth),
                  Product(False, windows, area, area, head, depth)]
    return found


def flops(found: list[Product], training: bool) -> int:
    """Floating point operations, a multiplication and an addition being two."""
    return sum(2 * p.batch * p.m * p.k * p.n * p.times * (1 + training * p.backward)
               for p in found)


def floor(found: list[Product], training: bool, dtype: torch.dtype,
          device: torch.device) -> Callable:
    """A function that works out all products, one after another, into memory that is there."""
    sizes = [max(part) for part in zip(*(
        (p.batch * p.m * p.k, p.batch * p.k * p.n, p.batch * p.m * p.n) for p in found))]
    memory = [torch.randn(size, device=device).to(dtype) for size in sizes]
    # Gradients have places of their own, so that numbers do not grow from call to call.
    memory += [torch.empty_like(part) for part in memory[:2] if training]
    calls = []
    for p in found:
        calls += (_dense if p.weight else _batched)(p, memory, training) * p.times

    def run() -> None:
        for call, *args, out in calls:
            call(*args, out=out)

    return run


def _views(p: Product, memory: list[torch.Tensor], first: int, count: int) -> list[torch.Tensor]:
    """The operands, the result and the places of the gradients, for `count` windows."""
    sides = ((p.m, p.k), (p.k, p.n) if not p.weight else (p.n, p.k), (p.m, p.n))
    found = []
    for part, (rows, columns) in zip(memory, (*sides, *sides[:2])):
        start = 0 if rows == columns == p.m else first * rows * columns  # logits share one place
        found.append(part[start:start + count * rows * columns].view(count, rows, columns))
    return found


def _dense(p: Product, memory: list[torch.Tensor], training: bool) -> list[tuple]:
    x, weight, y, *gradients = (part[0] for part in _views(p, memory, 0, 1))
    calls = [(torch.mm, x, weight.t(), y)]
    if training:
        calls.append((torch.mm, y.t(), x, gradients[1]))
        if p.backward == 2:
            calls.append((torch.mm, y, weight, gradients[0]))
    return calls


def _batched(p: Product, memory: list[torch.Tensor], training: bool) -> list[tuple]:
    """A few windows at a time."""
    few, calls = max(1, LOGITS // (p.m * max(p.n, p.k))), []
    for first in range(0, p.batch, few):
        a, b, out, *gradients = _views(p, memory, first, min(few, p.batch - first))
        calls.append((torch.bmm, a, b, out))
        if training:
            calls += [(torch.bmm, out, b.transpose(1, 2), gradients[0]),
                      (torch.bmm, a.transpose(1, 2), out, gradients[1])]
    return calls
