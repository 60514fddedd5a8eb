"""Draw how large activations are behind each block: python tools/analysis/activations.py CONFIG.

    python tools/analysis/activations.py CONFIG early.pth late.pth --images FOLDER --out growth.png

One curve a checkpoint, of the root mean square of the trunk: the divergence figure of the SwinV2
paper, drawn of your own training. `swinv2_mm.ActivationHook` logs the same while training.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import torch

from swinv2_mm.analysis import trained
from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.engine.activations import Amplitude, Amplitudes, first_above
from swinv2_mm.export.checks import pictures
from swinv2_mm.utils import entry

matplotlib.use('Agg')  # no screen needed
from matplotlib import pyplot as plt


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', nargs='+', help='checkpoints of it, one curve each')
    parser.add_argument('--images', nargs='+', default=[], metavar='PATH',
                        help='pictures or folders to measure on (default: noise)')
    parser.add_argument('--size', nargs=2, type=int, metavar=('H', 'W'), help='size that pictures '
                        'are stretched to (default: what the config tests at)')
    parser.add_argument('--limit', type=float, default=1e4,
                        help='say which block is the first with a magnitude above it (10000)')
    parser.add_argument('--out', type=Path, help='PNG to draw')
    parser.add_argument('--json', type=Path, help='file to write the numbers to')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args(argv)


@torch.no_grad()
def measure(model: torch.nn.Module, images: list) -> dict[str, Amplitude]:
    """Block -> root mean square and largest magnitude over all pictures."""
    squares: dict[str, list[float]] = {}
    largest: dict[str, list[float]] = {}
    with Amplitudes(model) as amplitudes:
        for image in images:
            model(torch.from_numpy(image))
            for name, value in amplitudes.read().items():
                name = name.removeprefix('model.')
                squares.setdefault(name, []).append(value.rms ** 2)
                largest.setdefault(name, []).append(value.largest)
    # Not by max(), which loses NaN.
    return {name: Amplitude((sum(values) / len(values)) ** 0.5,
                            float(torch.tensor(largest[name]).max()))
            for name, values in squares.items()}


def draw(found: dict[str, dict[str, Amplitude]], path: Path) -> None:
    """One curve a checkpoint, over the blocks from the input on."""
    figure, axes = plt.subplots(figsize=(8, 4), layout='constrained')
    for label, blocks in found.items():
        axes.plot(range(len(blocks)), [value.rms for value in blocks.values()], marker='.',
                  label=label)
    names = list(next(iter(found.values())))
    first = [i for i, name in enumerate(names) if name.endswith('blocks.0')]
    axes.set(yscale='log', xlabel='block', ylabel='root mean square of the trunk',
             title='dashed: a new stage begins')
    for place in first[1:]:
        axes.axvline(place - 0.5, color='grey', linestyle='--', linewidth=0.8)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    found = {}
    for checkpoint in args.checkpoint:
        cfg, model = trained.load(args.config, checkpoint, args.cfg_options)
        size = tuple(args.size or model_inputs.input_size(cfg))
        images = list(pictures(args.images, size, model.model.backbone.in_channels))
        found[checkpoint] = blocks = measure(model, images)
        print(f'{checkpoint}, {len(images)} pictures of {size[0]} x {size[1]}')
        for name, value in blocks.items():
            print(f'  {name:<30} {value.rms:10.4g} {value.largest:10.4g}')
        rms = [value.rms for value in blocks.values()]
        print(f'  last block / first block: {rms[-1] / rms[0]:.3g}')
        if name := first_above(blocks, args.limit):
            print(f'  the first block that is not finite, or above {args.limit:g}: {name}')
    if args.out:
        draw(found, args.out)
        print(f'wrote {args.out}')
    if args.json:
        args.json.write_text(json.dumps({label: {name: value._asdict() for name, value in
                                                 blocks.items()}
                                         for label, blocks in found.items()}))


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
