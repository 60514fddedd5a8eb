"""Draw where a token looks: python tools/analysis/attention.py CONFIG CHECKPOINT IMAGE.

    python tools/analysis/attention.py CONFIG CHECKPOINT photo.jpg --at 120 200 --out look.png

The red dot is the token; the brighter a place of its window, the larger its share of the attention,
the largest being 1 on the picture. Outside of the window a token sees nothing.
"""
from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2_mm.analysis import trained
from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.export.checks import pictures
from swinv2_mm.models.attention import MAX_LOGIT_SCALE
from swinv2_mm.models.windows import to_windows
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError


class Look(NamedTuple):
    """What one token looks at: its place on the map, and the share of every token.

    shares: (heads, *S), 0 outside of its window; each head's sum is 1.
    """

    place: tuple[int, int]
    shares: Tensor


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of a checkpoint of it')
    parser.add_argument('image', help='a picture')
    parser.add_argument('--at', nargs=2, type=int, metavar=('Y', 'X'),
                        help='pixel of the picture that looks (default: its middle)')
    parser.add_argument('--size', nargs=2, type=int, metavar=('H', 'W'), help='size that the '
                        'picture is stretched to (default: what the config tests at)')
    parser.add_argument('--stage', type=int, default=2, help='stage, from 0 (2)')
    parser.add_argument('--block', type=int, default=0,
                        help='block of the stage, from 0; every second is shifted (0)')
    parser.add_argument('--out', type=Path, required=True,
                        help='PNG to draw: the picture, the mean of the heads, each head')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args(argv)


@torch.no_grad()
def look(model: torch.nn.Module, attention, image: Tensor, at: tuple[float, float]) -> Look:
    """Attention of the token at a place of a picture (1, 3, H, W), a share (y, x) of its sides."""
    seen = {}
    handle = attention.register_forward_pre_hook(lambda module, args: seen.update(args=args))
    model(image)
    handle.remove()
    x, layout = seen['args']  # (1, *S, C)
    place = tuple(min(int(share * side), side - 1) for share, side in zip(at, layout.size))
    numbers = torch.arange(1, math.prod(layout.size) + 1).view(1, *layout.size, 1)
    numbers = to_windows(numbers, layout)[0, ..., 0] - 1  # (W, N), -1 for padding
    own = place[0] * layout.size[1] + place[1]
    window, query = (int(i) for i in (numbers == own).nonzero()[0])
    mask = next(mask for index, mask in layout.groups if index is None or window in index)
    q, k = F.linear(to_windows(x, layout)[0, window], attention.qkv.weight).chunk(3, dim=-1)[:2]
    q, k = ((part.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1))
            for part in (q + attention.q_bias, k))  # (h, N, d)
    scale = attention.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()[:, 0]
    cosine = F.cosine_similarity(q[:, query, None], k, dim=-1)  # (h, N)
    logits = cosine * scale + attention.position_bias(layout.window)[:, query]
    shares = (logits if mask is None else logits + mask[query]).softmax(dim=-1)
    whole = shares.new_zeros(attention.num_heads, math.prod(layout.size))
    real = numbers[window] >= 0
    whole[:, numbers[window][real]] = shares[:, real]
    return Look(place, whole.view(-1, *layout.size))


def overlay(picture: np.ndarray, share: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) uint8 BGR with shares (h, w) laid over it."""
    height, width = picture.shape[:2]
    heat = cv2.resize(share / share.max(), (width, height), interpolation=cv2.INTER_NEAREST)
    colour = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)
    mixed = cv2.addWeighted(picture // 2, 0.7, colour, 0.9, 0)
    y, x = (round((i + 0.5) * pixels / side)
            for i, pixels, side in zip(place, (height, width), share.shape))
    cv2.circle(mixed, (x, y), max(3, min(height, width) // 80), (60, 60, 255), -1, cv2.LINE_AA)
    return mixed


def sheet(panels: list[np.ndarray], columns: int = 4) -> np.ndarray:
    """Pictures of one size side by side, in lines."""
    panels = panels + [np.full_like(panels[0], 255)] * (-len(panels) % min(columns, len(panels)))
    panels = [cv2.copyMakeBorder(panel, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255,) * 3)
              for panel in panels]
    columns = min(columns, len(panels))
    return cv2.vconcat([cv2.hconcat(panels[i:i + columns])
                        for i in range(0, len(panels), columns)])


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    cfg, model = trained.load(args.config, args.checkpoint, args.cfg_options)
    attention = trained.block_of(model.model.backbone, args.stage, args.block).attn
    size = tuple(args.size or model_inputs.input_size(cfg))
    if not Path(args.image).is_file():
        raise UserError(f'There is no picture at {args.image!r}: give the path of one.')
    image = next(pictures([args.image], size, model.model.backbone.in_channels))
    height, width = cv2.imread(args.image).shape[:2]
    y, x = args.at or (height // 2, width // 2)
    if not (0 <= y < height and 0 <= x < width):
        raise UserError(f'--at must be a pixel of the picture, which is {height} x {width} (Y X), '
                        f'got {y} {x}.')
    found = look(model, attention, torch.from_numpy(image), (y / height, x / width))
    picture = image[0].transpose(1, 2, 0).astype(np.uint8)
    shares = [found.shares.mean(0), *found.shares]
    panels = [picture, *(overlay(picture, share.numpy(), found.place) for share in shares)]
    cv2.imwrite(str(args.out), sheet(panels))
    entropy = -torch.special.xlogy(found.shares, found.shares).sum((1, 2))
    print(f'token {found.place} of a map of {tuple(found.shares.shape[1:])}: the heads look at '
          f'{", ".join(f"{value:.1f}" for value in entropy.exp().tolist())} tokens each (exp of '
          'the entropy)')
    print(f'wrote {args.out}: the picture, the mean of the heads, and {len(found.shares)} heads')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
