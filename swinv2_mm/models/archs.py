"""The sizes of SwinV2, one table."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .arguments import integer


class Arch(NamedTuple):
    """Size of a model: channels of the first stage, then blocks and heads of each stage.

    `extra_norm_every`: a LayerNorm on the trunk after every so many blocks of a stage; 0 for none.
    """

    embed_dims: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    extra_norm_every: int = 0


# Paper, section 3.6, with 32 channels a head. Heads of huge and giant are not published. Neither
# is the exact place of their extra norm ("every 6 layers"): counting within each stage is a
# reconstruction. `nano` is ours, for demos and tests.
ARCHS = {
    'nano': Arch(32, (2, 2, 2, 2), (1, 2, 4, 8)),
    'tiny': Arch(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    'small': Arch(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    'base': Arch(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    'large': Arch(192, (2, 2, 18, 2), (6, 12, 24, 48)),
    'huge': Arch(352, (2, 2, 18, 2), (11, 22, 44, 88), extra_norm_every=6),
    'giant': Arch(512, (2, 2, 42, 4), (16, 32, 64, 128), extra_norm_every=6),
}


def resolve(arch: str | dict | Arch) -> Arch:
    """A name in `ARCHS`, or a dict with the fields of `Arch` -> a checked `Arch`."""
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise KeyError(f'arch must be one of {", ".join(ARCHS)} or a dict with '
                           f'{", ".join(Arch._fields)}, got {arch!r}.')
        return ARCHS[arch]
    try:
        arch = Arch(*arch) if isinstance(arch, Arch) else Arch(**arch)
    except TypeError as error:
        raise KeyError(f'arch as a dict must have embed_dims, depths and num_heads, and may have '
                       f'extra_norm_every, got {arch!r}.') from error
    depths, num_heads = arch.depths, arch.num_heads
    lists = isinstance(depths, Sequence) and isinstance(num_heads, Sequence)
    if not lists or not depths or len(num_heads) != len(depths):
        raise ValueError('arch must give as many num_heads as depths, one of each per stage, got '
                         f'depths={depths!r} and num_heads={num_heads!r}.')
    arch = Arch(integer('embed_dims', arch.embed_dims, 1),
                tuple(integer('each of depths', d, 1) for d in depths),
                tuple(integer('each of num_heads', h, 1) for h in num_heads),
                integer('extra_norm_every', arch.extra_norm_every, 0))
    for i, heads in enumerate(arch.num_heads):
        if (arch.embed_dims << i) % heads:
            raise ValueError(f'num_heads must divide the channels of its stage, got {heads} heads '
                             f'for {arch.embed_dims << i} channels in stage {i}.')
    return arch
