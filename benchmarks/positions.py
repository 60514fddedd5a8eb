"""What `pretrained_window_sizes=0` costs at other sizes of image than that of the training.

    python benchmarks/positions.py

A small SwinV2 of window 8 learns at 64 x 64, where its later maps are smaller than the window, on
which side of a green square a red one lies. It is tested on larger pictures of squares as large and
as far apart: with the shrunken window as normaliser (0), and with that of the training.
"""
import argparse
import platform

import torch
import torch.nn.functional as F
from torch import nn

from swinv2_mm import SwinTransformerV2

SIDE, SQUARE, COUNT = 64, 8, 200  # pixels, pixels, pictures to test on


def scenes(count: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, size, size) and on which side the red square is: left, right, above, below."""
    images = torch.rand(count, 3, size, size, generator=generator) * 0.2
    sides = torch.randint(4, (count,), generator=generator)
    for image, side in zip(images, sides.tolist()):
        gap = int(torch.randint(16, 40, (1,), generator=generator))
        shift = [(0, -gap), (0, gap), (-gap, 0), (gap, 0)][side]
        low = [max(0, -s) for s in shift]
        room = [size - SQUARE - abs(s) for s in shift]
        y, x = (b + int(torch.randint(r + 1, (1,), generator=generator)) for b, r in zip(low, room))
        for channel, (top, left) in ((1, (y, x)), (0, (y + shift[0], x + shift[1]))):
            image[channel, top:top + SQUARE, left:left + SQUARE] = 1
    return images - 0.1, sides


def trained(seed: int, steps: int) -> tuple[nn.Module, nn.Module]:
    """A backbone and its head, after `steps` of 32 pictures."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    backbone = SwinTransformerV2('nano', window_size=8, out_indices=(3,), drop_path_rate=0)
    for block in (block for stage in backbone.layers for block in stage.blocks):
        nn.init.constant_(block.norm1.weight, 0.5)  # so that few steps do
        nn.init.constant_(block.norm2.weight, 0.5)
    head = nn.Linear(backbone.out_channels[-1], 4)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    for _ in range(steps):
        images, sides = scenes(32, SIDE, generator)
        loss = F.cross_entropy(head(backbone(images)[-1].mean((2, 3))), sides)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return backbone.eval(), head


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=600)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    args = parser.parse_args()
    print(f'torch {torch.__version__}, {platform.processor() or platform.machine()}, {args.steps} '
          f'steps of 32 pictures at {SIDE} x {SIDE}, {COUNT} pictures to test on')
    print('seed, size, accuracy with 0, with the windows of the training, other answers, change of '
          'the scores in their standard deviations')
    for seed in args.seeds:
        with torch.enable_grad():
            backbone, head = trained(seed, args.steps)
        for size in (64, 96, 128, 192):
            images, sides = scenes(COUNT, size, torch.Generator().manual_seed(1))
            scores = []
            for normaliser in (0, [8, 8, 4, 2]):
                backbone.pretrained_window_sizes = normaliser
                scores.append(torch.cat([head(backbone(part)[-1].mean((2, 3)))
                                         for part in images.split(50)]))
            right = [(s.argmax(1) == sides).float().mean().item() for s in scores]
            other = int((scores[0].argmax(1) != scores[1].argmax(1)).sum())
            change = (scores[0] - scores[1]).abs().mean() / scores[0].std()
            print(f'{seed}, {size}, {right[0]:.3f}, {right[1]:.3f}, {other}, {change:.4f}',
                  flush=True)


if __name__ == '__main__':
    main()
