"""Scaled cosine attention with a log-spaced continuous position bias (SwinV2 paper, section 3.3).

    Attention(q, k, v) = softmax(cos(q, k) / tau + B) v,        B = 16 sigmoid(G(log-spaced offset))

`WindowAttention` is the whole of it, for windows of any number of sides. The norms in the cosine,
the position network G and the temperature are computed in float32 at least, whatever autocast
or `.half()` ask for: in float16 the norm of a zero key is 0 / 0, and that of a large one overflows.
The definition is `_attend`. The same is computed, wherever that can run, in one pass by fused.py on
a GPU and by native.py on a CPU, else by sequential.py on a few windows at a time.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..utils import versions
from . import fused, native, sequential
from .sequential import COSINE_EPS
from .windows import Layout, Size, from_groups, from_windows, pairs, to_groups, to_windows

MAX_LOGIT_SCALE = math.log(1 / 0.01)  # tau never falls below 0.01
HIDDEN = 512  # width of the position network


class WindowAttention(nn.Module):
    """Multi-head attention inside each window of a channels-last map.

    Args:
        ndim: sides of a window, 2 for images and 3 for videos.
        dim: channels C.
        num_heads: heads h; C must be a multiple of it.
        pretrained_window: sides that relative positions are normalised by; a 0 stands for the
            window in use.
    """

    def __init__(self, ndim: int, dim: int, num_heads: int, pretrained_window: Size):
        super().__init__()
        self.num_heads = num_heads
        self.pretrained_window = pretrained_window
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(ndim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_heads, bias=False))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))  # a key bias would only shift the cosine
        self.proj = nn.Linear(dim, dim)
        self._tables: dict[tuple, tuple[Tensor, tuple]] = {}

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, *S, C) -> (B, *S, C), S being `layout.size`."""
        window, scale = layout.window, self.inverse_temperature()
        if native.fits(x, window) and type(self.qkv) is nn.Linear:
            qkv = F.linear(x, self.qkv.weight)  # before there are windows: no work on padding
            return self.proj(native.attend(
                qkv, self._qkv_bias(), layout, scale, self.bias_table(window)))
        qkv = self._qkv(x)
        attend = (fused.attend if fused.fits(qkv, self.num_heads, window) else
                  sequential.attend if sequential.may_run() else _attend)
        return self.proj(attend(qkv, layout, scale, self.position_bias(window)))

    def _qkv(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., 3C)"""
        if type(self.qkv) is nn.Linear:
            return F.linear(x, self.qkv.weight, self._qkv_bias())
        return self.qkv(x) + self._qkv_bias()  # an adapter, whose `weight` is not all of it

    def _qkv_bias(self) -> Tensor:
        return torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])

    def inverse_temperature(self) -> Tensor:
        """1 / tau of each head, (h, 1, 1), in float32 at least."""
        wide = torch.promote_types(self.logit_scale.dtype, torch.float32)
        return self.logit_scale.to(wide).clamp(max=MAX_LOGIT_SCALE).exp()

    def position_bias(self, window: Size, dtype: torch.dtype | None = None) -> Tensor:
        """Bias B of every (query, key) pair of a window: (h, N, N), each in (0, 16)."""
        table = self.bias_table(window)
        return pairs(table.to(dtype or table.dtype), window)

    def bias_table(self, window: Size) -> Tensor:
        """The bias of every offset from key to query: (h, *(2w - 1)), in float32 at least.

        While evaluating without gradients it is computed once per window and reused, as the paper
        asks. `train()`, `eval()`, loading weights, `.to()`, changing a weight and any forward pass
        with gradients drop it.
        """
        if versions.is_compiling():
            return self._bias_table(window)
        if self.training or torch.is_grad_enabled():
            self._tables.clear()  # a fused optimizer step leaves no other trace
            return self._bias_table(window)
        weights = tuple(self.cpb_mlp.parameters())
        state = tuple((id(p), p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights)
        key = window, self.pretrained_window, state
        if key not in self._tables:
            # One entry per window in use; an odd size seen once must not stay for ever.
            while len(self._tables) >= 4:
                self._tables.pop(next(iter(self._tables)))
            # The entry holds the weights, so that no others can come to have their id.
            self._tables[key] = self._bias_table(window), weights
        return self._tables[key][0]

    def _bias_table(self, window: Size) -> Tensor:
        first, _, second = self.cpb_mlp
        wide = torch.promote_types(first.weight.dtype, torch.float32)
        device = first.weight.device
        normaliser = tuple(p or w for p, w in zip(self.pretrained_window, window))
        offsets = log_spaced_offsets(window, normaliser).to(device, wide)  # (T, ndim)
        with torch.autocast(device.type, enabled=False):
            hidden = F.relu(_linear(first, offsets))
            table = 16 * torch.sigmoid(_linear(second, hidden))  # (T, h)
        return table.t().reshape(self.num_heads, *(2 * w - 1 for w in window))

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_tables': {}}

    def train(self, mode: bool = True) -> WindowAttention:
        self._tables.clear()
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        self._tables.clear()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._tables.clear()
        return super()._load_from_state_dict(*args, **kwargs)


def _attend(qkv: Tensor, layout: Layout, scale: Tensor, bias: Tensor) -> Tensor:
    """softmax(scale cos(q, k) + bias + mask) v in every window: (B, *S, 3C) -> (B, *S, C)."""
    heads, tokens = bias.shape[:2]
    qkv = to_windows(qkv, layout).unflatten(-1, (3, heads, -1))
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, W, h, N, d)
    wide, dtype = scale.dtype, sequential.core_dtype(q)
    q = (F.normalize(q.to(wide), dim=-1, eps=COSINE_EPS) * scale).to(dtype)
    k = F.normalize(k.to(wide), dim=-1, eps=COSINE_EPS).to(dtype)
    v, bias = v.to(dtype), bias.to(dtype)
    out = attend_windows(q, k, v, bias, layout)
    out = out.transpose(2, 3).flatten(3).to(qkv.dtype)  # (B, W, N, C)
    return from_windows(out, layout)


def attend_windows(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, layout: Layout) -> Tensor:
    """softmax(q k^T + bias + mask) v for (B, W, h, N, d) and (h, N, N), mask by mask."""
    parts = zip(*(to_groups(x, layout) for x in (q, k, v)), layout.groups)
    return from_groups([_attend_group(*part, bias, group.mask) for *part, group in parts], layout)


def _attend_group(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """The same for (B, W, h, N, d) that share a mask (N, N)."""
    count = q.shape[:2]
    logits = bias if mask is None else bias + mask.to(bias.dtype)
    with torch.autocast(q.device.type, enabled=False):
        out = versions.attend(*(x.flatten(0, 1) for x in (q, k, v)), logits[None])
    return out.unflatten(0, count)


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer` of x in the dtype of x, which may be wider than its weights; an adapter as it is."""
    if type(layer) is not nn.Linear:
        return layer(x)
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def log_spaced_offsets(window: Size, normaliser: Size) -> Tensor:
    """Inputs of the position network: (T, ndim) float64, T = prod(2 w - 1) offsets, row-major.

    The paper's eq. 4 in the official form, which its weights need: an offset in tokens is divided
    by `normaliser` - 1 (the window of pre-training), then x -> sign(x) log2(1 + 8 |x|) / log2(8).
    A side of 1 has the one offset 0 and divides by 1.
    """
    sides = [torch.arange(1 - w, w, dtype=torch.float64) / max(n - 1, 1)
             for w, n in zip(window, normaliser)]
    offsets = torch.stack(torch.meshgrid(*sides, indexing='ij'), dim=-1).flatten(0, -2)
    return torch.sign(offsets) * torch.log2(1 + 8 * offsets.abs()) / 3
