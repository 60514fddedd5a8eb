"""Other implementations: our weights given to them, and features held against theirs.

Names and orders are those of `swinv2_mm.checkpoints`. Each `to_*` takes the state dict of a
`SwinTransformerV2`, leaves out its output norms, which no peer has on every stage, and returns
that of the peer's backbone.
"""
import math
import re
from functools import partial

import torch
import torch.nn.functional as F

from swinv2_mm.checkpoints import from_native


def trunk(state):
    """Without the output norms."""
    return {name: value for name, value in state.items() if not re.match(r'norm\d', name)}


def to(layout, state):
    return from_native(trunk(state), layout, prefix='')


to_timm = partial(to, 'timm')
to_torchvision = partial(to, 'torchvision')
to_mmpretrain = partial(to, 'mmpretrain')
to_transformers = partial(to, 'transformers')


def load(model, state, ignored=r'norm\.|head'):
    """Strict but for what `ignored` names: the peer's own output norm and head."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    buffers = ('relative_coords_table', 'relative_position_index', 'attn_mask', 'k_bias')
    missing = [m for m in missing if not re.match(ignored, m) and not m.endswith(buffers)]
    assert not missing and not unexpected, f'missing {missing}, unexpected {unexpected}'


def hooked(peer, blocks):
    """x -> trunk after each of `blocks`, (B, H, W, C); tokens of a peer may be in one row."""
    def trunks(x):
        outs = []

        def keep(block, args, out):
            out = out if isinstance(out, torch.Tensor) else out[0]
            outs.append(out if out.ndim == 4 else out.unflatten(1, 2 * [math.isqrt(out.shape[1])]))

        hooks = [block.register_forward_hook(keep) for block in blocks]
        peer(x)
        for hook in hooks:
            hook.remove()
        return outs

    return trunks


def check(model, peer, trunks, side, single=True):
    """Features of every stage: equal in float64; in float32 (`single`) ours are rounded from that.

    `trunks(x)` gives the peer's trunk after each stage, (B, H_i, W_i, C_i). Our output norms bring
    it to the size of 1. Two results in float32 are not compared with each other: both are off.
    """
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rounded = model.float().eval()(x)
        outs, expected = model.double()(x.double()), trunks_in_float64(peer, trunks, x)
    assert len(expected) == len(outs)
    for i, out, features in zip(model.out_indices, outs, expected):
        norm = getattr(model, f'norm{i}')
        features = F.layer_norm(features, norm.normalized_shape, norm.weight, norm.bias)
        assert 0.9 < out.std() < 1.2
        torch.testing.assert_close(out, features.permute(0, 3, 1, 2), rtol=0, atol=1e-10)
    if single:
        # Two branches a block, each of two roundings of sums of up to 4 C terms.
        branches = 2 * sum(len(stage.blocks) for stage in model.layers)
        terms = 4 * model.out_channels[-1]
        budget = 2 * branches * terms ** 0.5 * torch.finfo(torch.float32).eps / 2
        for out, near in zip(outs, rounded):
            assert (near - out).norm() < budget * out.norm()


def trunks_in_float64(peer, trunks, x):
    peer.double()
    peer.eval()  # whose return value is None in mmpretrain
    recompute_tables(peer)
    return trunks(x.double())


def recompute_tables(peer):
    """Relative coordinates in float64: peers store them rounded to float32, which shows at 1e-7."""
    for module in peer.modules():
        if hasattr(module, 'relative_coords_table'):
            rounded = module.relative_coords_table.double()  # (1, 2h - 1, 2w - 1, 2)
            axes = []
            for side, largest in zip(rounded.shape[1:3], rounded[0, -1, -1]):
                last = (side - 1) // 2  # the largest offset; divided by some integer, times 8
                divisor = round((8 * last / (2 ** (3 * largest) - 1)).item())
                axes.append(torch.arange(-last, last + 1, dtype=torch.float64) * 8 / divisor)
            grid = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1)
            table = (grid.sign() * (1 + grid.abs()).log2() / 3)[None]
            torch.testing.assert_close(table, rounded, rtol=1e-6, atol=1e-6)
            module.relative_coords_table = table
