"""Draw the learned position bias: python tools/analysis/position_bias.py CONFIG CHECKPOINT.

    python tools/analysis/position_bias.py CONFIG CHECKPOINT --window 12 16 --out bias.png

One picture a head and window: what the attention to a key gains by where it is, the query being in
the middle. The first row is the window of the config; a window that the weights were not trained
at shows whether the network of the bias still gives what it gave.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch

from swinv2_mm.analysis import trained
from swinv2_mm.apis import overrides
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

matplotlib.use('Agg')  # no screen needed
from matplotlib import pyplot as plt


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of a checkpoint of it')
    parser.add_argument('--window', nargs='+', type=int, default=[], metavar='SIDE',
                        help='other windows to draw it at')
    parser.add_argument('--stage', type=int, default=0, help='stage, from 0 (0)')
    parser.add_argument('--block', type=int, default=0, help='block of the stage, from 0 (0)')
    parser.add_argument('--heads', type=int, default=8, help='heads to draw at most (8)')
    parser.add_argument('--out', type=Path, required=True, help='PNG to draw')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args(argv)


@torch.no_grad()
def by_offset(attention, window: tuple[int, int]) -> np.ndarray:
    """Bias of each offset, key minus query, of a window (h, w): (heads, 2 h - 1, 2 w - 1)."""
    bias = attention.position_bias(window)  # (heads, N, N)
    height, width = window
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij'))
    place = place.flatten(1)  # (2, N)
    offset = place[:, None, :] - place[:, :, None]  # of (query, key)
    found = bias.new_empty(len(bias), 2 * height - 1, 2 * width - 1)
    found[:, offset[0] + height - 1, offset[1] + width - 1] = bias  # pairs of one offset agree
    return found.numpy()


def draw(rows: dict[tuple[int, int], np.ndarray], trained_at: tuple[int, int], path: Path) -> None:
    """A row a window, a column a head; all in one scale of colours, axes in tokens."""
    heads = len(next(iter(rows.values())))
    low = min(table.min() for table in rows.values())
    high = max(table.max() for table in rows.values())
    figure, grid = plt.subplots(len(rows), heads, squeeze=False, layout='constrained',
                                figsize=(1.8 * heads + 1, 2 * len(rows) + 0.6))
    for line, (window, tables) in zip(grid, rows.items()):
        for head, (axes, table) in enumerate(zip(line, tables)):
            y, x = (side - 0.5 for side in window)
            image = axes.imshow(table, vmin=low, vmax=high, extent=(-x, x, y, -y))
            axes.set_title(f'head {head}', fontsize=8)
            axes.tick_params(labelsize=6)
            if window != trained_at:  # what the weights have seen
                y, x = (side - 0.5 for side in trained_at)
                axes.add_patch(plt.Rectangle((-x, -y), 2 * x, 2 * y, fill=False, color='white'))
        line[0].set_ylabel(f'window {window[0]} x {window[1]}', fontsize=8)
    figure.colorbar(image, ax=grid, shrink=0.8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    if min(args.window, default=1) < 1 or args.heads < 1:
        raise UserError('--window and --heads must be at least 1, got '
                        f'{" ".join(map(str, args.window))} and {args.heads}.')
    _, model = trained.load(args.config, args.checkpoint, args.cfg_options)
    backbone = model.model.backbone
    attention = trained.block_of(backbone, args.stage, args.block).attn
    own = backbone.window_sizes[args.stage]
    known = tuple(p or w for p, w in zip(attention.pretrained_window, own))
    # Positions stay normalised as the weights learned them, at any window.
    attention.pretrained_window = known
    rows = {window: by_offset(attention, window)[:args.heads]
            for window in dict.fromkeys([own, *((side, side) for side in args.window)])}
    for window, tables in rows.items():
        print(f'window {window[0]} x {window[1]}: bias from {tables.min():.2f} to '
              f'{tables.max():.2f}; positions are normalised by {known[0]} x {known[1]}')
    draw(rows, known, args.out)
    print(f'wrote {args.out}')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
