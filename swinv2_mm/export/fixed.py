"""A SwinV2 for one size of picture: all that does not depend on the pixels, worked out beforehand.

    fix(backbone, image) -> a copy whose attention holds constants in the place of computations

Position bias and mask of each pattern of windows are one constant; padding, shift and cutting into
windows are one list of rows, and so is the way back. The copy computes what the backbone does, at
this size only and for any batch, and is there to be traced: torch.export finds in it a plain list
of operations of fixed shapes, without the position network.
"""
import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2_mm.models.attention import COSINE_EPS, MAX_LOGIT_SCALE, WindowAttention
from swinv2_mm.models.windows import Layout, to_windows
from swinv2_mm.utils import versions


class FixedAttention(nn.Module):
    """`WindowAttention` on maps of one layout, for tracing.

    Each token gives 3 h rows of d channels, its queries, keys and values; L = prod(S) tokens.
    """

    def __init__(self, attention: WindowAttention, layout: Layout):
        super().__init__()
        heads = attention.num_heads
        self.heads = heads
        self.weight = attention.qkv.weight
        self.proj = attention.proj
        self.count = len(layout.groups)
        constants = {'bias': torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias),
                                        attention.v_bias])}
        # A row is divided by norm * factor + offset: tau |q|, |k|, and 1 for a value.
        tau = attention.logit_scale.clamp(max=MAX_LOGIT_SCALE).neg().exp().flatten()
        one, zero = torch.ones_like(tau), torch.zeros_like(tau)
        constants['factor'] = torch.cat([tau, one, zero])[:, None]
        constants['offset'] = torch.cat([zero, zero, one])[:, None]
        tokens, bias = _tokens(layout), attention.position_bias(layout.window)
        head = torch.arange(heads)[:, None]
        for i, (index, mask) in enumerate(layout.groups):
            # A place of padding takes row 0: the mask keeps it from being looked at.
            chosen = (tokens if index is None else tokens[index]).clamp(min=0)[:, None]
            for j, part in enumerate('qkv'):
                constants[f'{part}{i}'] = (chosen * 3 * heads + j * heads + head).flatten()
            constants[f'logits{i}'] = (bias if mask is None else bias + mask)[None]
        constants['back'] = _back(tokens, layout, heads)
        for name, value in constants.items():
            self.register_buffer(name, value.detach().clone())
        self.shape = heads, math.prod(layout.window)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, *S, C) -> (B, *S, C)"""
        batch, *size, dim = x.shape
        heads, tokens = self.shape
        rows = F.linear(x, self.weight, self.bias).view(batch, -1, 3 * heads, dim // heads)
        # In float32 also where weights are halved, see `halve`.
        norm = torch.linalg.vector_norm(rows.float(), dim=-1, keepdim=True).clamp(min=COSINE_EPS)
        rows = rows / (norm * self.factor + self.offset)
        rows = rows.to(x.dtype).flatten(1, 2)  # (B, L * 3h, d)
        outs = []
        for i in range(self.count):
            parts = (rows.index_select(1, getattr(self, f'{part}{i}')) for part in 'qkv')
            q, k, v = (part.view(-1, heads, tokens, dim // heads) for part in parts)
            out = versions.attend(q, k, v, getattr(self, f'logits{i}'))  # (B * W_g, h, N, d)
            outs.append(out.view(batch, -1, dim // heads))
        out = outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)
        out = out.index_select(1, self.back)  # (B, L * h, d)
        return self.proj(out.reshape(batch, *size, dim))


def _tokens(layout: Layout) -> Tensor:
    """Number of the token at each place of each window, -1 for padding: (W, N) int64."""
    numbers = torch.arange(1, math.prod(layout.size) + 1).view(1, *layout.size, 1)
    return to_windows(numbers, layout)[0, ..., 0] - 1


def _back(tokens: Tensor, layout: Layout, heads: int) -> Tensor:
    """Where the heads of each token are among the results of all groups: (L * h,) int64."""
    width = tokens.shape[1]
    order = [torch.arange(len(tokens)) if index is None else index for index, _ in layout.groups]
    places = tokens[torch.cat(order)]  # (W, N), in the order of the groups
    rows = torch.arange(places.numel()).view(places.shape)
    rows = rows // width * width * heads + rows % width  # of head 0
    first = torch.empty(math.prod(layout.size), dtype=torch.int64)
    first[places[places >= 0]] = rows[places >= 0]
    return (first[:, None] + width * torch.arange(heads)).flatten()


def halve(model: nn.Module) -> nn.Module:
    """A fixed model with weights of float16, in place; what divides in attention is float32."""
    for part in model.modules():
        kept = ('factor', 'offset') if isinstance(part, FixedAttention) else ()
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is not None and value.is_floating_point() and name not in kept:
                value.data = value.data.half()
    return model


@torch.no_grad()
def fix(backbone: nn.Module, image: Tensor) -> nn.Module:
    """A copy of a SwinV2 backbone in eval mode for pictures of the size of `image` (B, C, *S)."""
    backbone = copy.deepcopy(backbone).eval().float()
    layouts: dict[nn.Module, Layout] = {}

    def note(attention, args) -> None:
        layouts[attention] = args[1]

    # A model that somebody looks into calls its parts one by one.
    hooks = [module.register_forward_pre_hook(note) for module in backbone.modules()
             if isinstance(module, WindowAttention)]
    backbone(image)
    for hook in hooks:
        hook.remove()
    for stage in backbone.layers:
        for block in stage.blocks:
            block.attn = FixedAttention(block.attn, layouts[block.attn])
    return backbone
