"""Scaled cosine attention with a log-spaced continuous position bias (SwinV2 paper, section 3.3).

    Attention(q, k, v) = softmax(cos(q, k) / tau + B) v,        B = 16 sigmoid(G(log-spaced offset))

`WindowAttention` is the whole of it, for windows of any number of sides. The norms in the cosine,
the position network G and the temperature are computed in float32 at least, whatever autocast
or `.half()` ask for: in float16 the norm of a zero key is 0 / 0, and that of a large one overflows.
"""
import itertools
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .windows import Layout, Size, from_windows, to_windows

MAX_LOGIT_SCALE = math.log(1 / 0.01)  # tau never falls below 0.01
# Vectors shorter than this are not normalised further. The official 1e-12 lets the gradient at a
# zero key grow 1e12 times; no vector of a trained model is this short.
COSINE_EPS = 1e-6
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
        self._bias_cache: dict[tuple, tuple[Tensor, tuple]] = {}

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, *S, C) -> (B, *S, C), S being `layout.size`."""
        windows = to_windows(x, layout)  # (B, W, N, C)
        batch, count, tokens, dim = windows.shape
        qkv_bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(windows, self.qkv.weight, qkv_bias)
        qkv = qkv.view(batch, count, tokens, 3, self.num_heads, -1)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, W, h, N, d)
        q, k = self._cosine(q, k)
        bias = self.position_bias(layout.window, q.dtype)  # (h, N, N)
        if layout.order is None:
            out = _attend(q, k, v, bias, layout.groups[0].mask)
        else:
            parts = [_attend(q[:, i], k[:, i], v[:, i], bias, mask) for i, mask in layout.groups]
            out = torch.cat(parts, dim=1)[:, layout.order]
        out = out.transpose(2, 3).reshape(batch, count, tokens, dim)
        return from_windows(self.proj(out), layout)

    def _cosine(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys whose dot product is cos(q, k) / tau, in the dtype they came in."""
        wide = torch.promote_types(q.dtype, torch.float32)
        scale = self.logit_scale.to(wide).clamp(max=MAX_LOGIT_SCALE).exp()  # 1 / tau, (h, 1, 1)
        q_unit = F.normalize(q.to(wide), dim=-1, eps=COSINE_EPS)
        k_unit = F.normalize(k.to(wide), dim=-1, eps=COSINE_EPS)
        return (q_unit * scale).to(q.dtype), k_unit.to(k.dtype)

    def position_bias(self, window: Size, dtype: torch.dtype | None = None) -> Tensor:
        """Bias B of every (query, key) pair of a window: (h, N, N), each in (0, 16).

        While evaluating without gradients it is computed once per window and reused, as the paper
        asks. `train()`, `eval()`, loading weights, `.to()`, changing a weight and any forward pass
        with gradients drop it.
        """
        if torch.compiler.is_compiling():
            return self._position_bias(window, dtype)
        if self.training or torch.is_grad_enabled():
            self._bias_cache.clear()  # a fused optimizer step leaves no other trace
            return self._position_bias(window, dtype)
        weights = tuple(self.cpb_mlp.parameters())
        state = tuple((id(p), p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights)
        key = (window, self.pretrained_window, dtype, state)
        if key not in self._bias_cache:
            # One entry per window in use; an odd size seen once must not stay for ever.
            while len(self._bias_cache) >= 4:
                self._bias_cache.pop(next(iter(self._bias_cache)))
            # The entry holds the weights, so that no others can come to have their id.
            self._bias_cache[key] = self._position_bias(window, dtype), weights
        return self._bias_cache[key][0]

    def _position_bias(self, window: Size, dtype: torch.dtype | None) -> Tensor:
        first, _, second = self.cpb_mlp
        wide = torch.promote_types(first.weight.dtype, torch.float32)
        device = first.weight.device
        normaliser = tuple(p or w for p, w in zip(self.pretrained_window, window))
        offsets = log_spaced_offsets(window, normaliser).to(device, wide)  # (T, ndim)
        with torch.autocast(device.type, enabled=False):
            hidden = F.relu(F.linear(offsets, first.weight.to(wide), first.bias.to(wide)))
            table = 16 * torch.sigmoid(F.linear(hidden, second.weight.to(wide)))  # (T, h)
        tokens = math.prod(window)
        bias = table.to(dtype or wide).t().index_select(1, relative_index(window, device))
        return bias.view(self.num_heads, tokens, tokens)

    def __getstate__(self) -> dict:
        return self.__dict__ | {'_bias_cache': {}}

    def train(self, mode: bool = True) -> 'WindowAttention':
        self._bias_cache.clear()
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        self._bias_cache.clear()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._bias_cache.clear()
        return super()._load_from_state_dict(*args, **kwargs)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T + bias + mask) v for (B, W, h, N, d), bias (h, N, N), mask (N, N) or None."""
    batch, count = q.shape[:2]
    logits = bias if mask is None else bias + mask.to(bias.dtype)
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=logits[None], scale=1.0)
    return out.unflatten(0, (batch, count))


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


@lru_cache(maxsize=16)  # N * N int32 each: 0.25 MB for a window of 16 x 16, 21 MB for 48 x 48
@torch.inference_mode(False)  # an evaluation may come first, and training must be able to use it
def relative_index(window: Size, device: torch.device) -> Tensor:
    """Row of `log_spaced_offsets` for each (query, key) pair of a window: (N * N,) int32."""
    places = torch.tensor(list(itertools.product(*map(range, window))))  # (N, ndim)
    index = torch.zeros(1, dtype=torch.int64)
    for side, w in enumerate(window):
        offset = places[:, None, side] - places[None, :, side] + w - 1  # query minus key, from 0
        index = index * (2 * w - 1) + offset
    return index.flatten().to(device, torch.int32)
