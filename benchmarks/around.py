"""What stands around the attention of a block: how far it is from the traffic that it needs.

    eager       as the model runs it
    compiled    the same under torch.compile: what fusing brings without code of our own
    graph       a backbone recorded once and played again (CUDA graph), beside its usual call

`gpu.py` runs them on a GPU; the share of the roofline says what fusing by hand could still bring.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import timing
import torch
from torch import Tensor, nn

from swinv2_mm import SwinTransformerV2
from swinv2_mm.models.swin import DropPath


class Join(nn.Module):
    """A branch joins the trunk: x + drop_path(norm(y))."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.drop_path = nn.LayerNorm(channels), DropPath(0.1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.drop_path(self.norm(y))


class Gelu(nn.Module):
    """Between the dense layers of the MLP, whose first leaves its bias to it."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x + self.bias)


def pieces(tokens: int, channels: int, dtype: torch.dtype, device: torch.device,
           training: bool) -> Iterator[tuple[str, nn.Module, list[Tensor], int]]:
    """Each piece with its inputs (1, tokens, C or 4C) and the bytes that it moves at the least.

    Forward: what comes in and what goes out, once each. Backward: the gradient that comes, what the
    piece needs of its inputs, the gradients that go.
    """
    def data(width: int) -> Tensor:
        return torch.randn(1, tokens, width, device=device, dtype=dtype, requires_grad=training)

    one = tokens * channels * torch.finfo(dtype).bits // 8
    yield 'norm, drop path, sum', Join(channels), [data(channels), data(channels)], \
        one * (7 if training else 3)
    yield 'bias, gelu', Gelu(4 * channels), [data(4 * channels)], 4 * one * (5 if training else 2)


def runs(module: nn.Module, inputs: list[Tensor], training: bool,
         dtype: torch.dtype) -> dict[str, Callable]:
    """Calls of one pass, under autocast as a model's is; on a CPU the compiler only records."""
    device = inputs[0].device
    module.to(device).train(training)
    wanted = [*inputs, *module.parameters()]

    def call(module: nn.Module) -> None:
        with timing.autocast(device, dtype), torch.set_grad_enabled(training):
            out = module(*inputs)
        if training:
            torch.autograd.grad(out, wanted, torch.ones_like(out))

    fast = torch.compile(module, backend='inductor' if device.type == 'cuda' else 'eager')
    return dict(eager=lambda: call(module), compiled=lambda: call(fast))


def recorded(arch: str, window: int, side: int, batch: int, dtype: torch.dtype) -> dict:
    """Calls of a backbone at one size on the GPU: as it is, and played from a CUDA graph."""
    with torch.device('cuda'):
        model = SwinTransformerV2(arch, window_size=window).eval().to(dtype)
        x = torch.randn(batch, 3, side, side, dtype=dtype)

    @torch.no_grad()
    def eager() -> tuple[Tensor, ...]:
        return model(x)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # kernels prove themselves and buffers come before recording
        for _ in range(3):
            expected = eager()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = eager()
    graph.replay()
    torch.cuda.synchronize()
    if not all(torch.equal(a, b) for a, b in zip(expected, found)):
        raise ValueError('A recorded backbone must give what it gave before, and does not.')
    return {'swinv2_mm': eager, 'swinv2_mm graph': graph.replay}
