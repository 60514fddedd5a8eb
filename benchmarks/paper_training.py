"""A plain loop for small classifiers, and their pictures, held in memory."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from paper import ROOT
from torch import Tensor, nn

CELLS = ROOT / 'data/bccd_cells'


TABLE = 'relative_position_bias_table'


class Pictures(NamedTuple):
    """images: (N, 3, S, S) uint8 RGB; labels: (N,) int64; classes: how many there are."""

    images: Tensor
    labels: Tensor
    classes: int


def to_pictures(images: list[np.ndarray], labels: list[int], size: int) -> Pictures:
    """Stretch BGR pictures to size x size, averaging where they shrink."""
    stretched = []
    for image in images:
        how = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_CUBIC
        stretched.append(cv2.resize(image, (size, size), interpolation=how)[..., ::-1])
    found = torch.from_numpy(np.stack(stretched).transpose(0, 3, 1, 2).copy())
    return Pictures(found, torch.tensor(labels), max(labels) + 1)


@functools.cache
def _read(folder: Path, splits: tuple[str, ...]) -> tuple[list, list]:
    images, labels = [], []
    for split in splits:
        kinds = sorted(path for path in (folder / split).iterdir() if path.is_dir())
        for label, kind in enumerate(kinds):
            for path in sorted(kind.iterdir()):
                images.append(cv2.imread(str(path)))
                labels.append(label)
    return images, labels


def check(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f'The full form needs the pictures of {folder}, which are not there: see '
                         'docs/paper.md, or use --quick.')


def cells(splits: tuple[str, ...], size: int, folder: Path = CELLS) -> Pictures:
    """Cut-out blood cells, one folder a class in each split."""
    check(folder)
    return to_pictures(*_read(folder, splits), size)


@functools.cache
def _scenes(part: str, count: int, side: int) -> tuple[list, list]:
    random = np.random.default_rng([part == 'test', count])
    radius, images, labels = side // 8, [], []
    for number in range(count):
        noise = random.integers(0, 120, (16, 16, 3), np.uint8)
        image = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        label = number % 4
        gap, slip = random.integers(2 * radius, 4 * radius), random.integers(-radius, radius + 1)
        away = np.array([(-gap, slip), (gap, slip), (slip, -gap), (slip, gap)][label])
        low, high = radius + np.maximum(0, -away), side - radius - np.maximum(0, away)
        first = random.integers(low, high + 1)
        for colour, place in (((0, 0, 255), first + away), ((0, 255, 0), first)):
            cv2.circle(image, tuple(map(int, place)), radius, colour, -1, cv2.LINE_AA)
        images.append(image)
        labels.append(label)
    return images, labels


def relations(part: str, count: int, size: int) -> Pictures:
    """A red and a green disc of one size over clutter; the class is on which side the red one is.

    All else is equal: each of the two is anywhere. Drawn at 128 x 128, so that they are the same
    scenes at each size. part: 'train' or 'test'.
    """
    return to_pictures(*_scenes(part, count, 128), size)


@functools.cache
def _render(split: str, count: int, size: int) -> tuple[list, list]:
    from swinv2_mm.datasets.synthetic.make_crops import KINDS, crop, random_stream, sample_crop

    images = [crop(sample_crop(random_stream(0, split, i), KINDS[i % len(KINDS)], size))[0]
              for i in range(count)]
    return images, [i % len(KINDS) for i in range(count)]


def shapes(part: str, count: int, size: int, rendered: int = 256) -> Pictures:
    """Shapes over clutter, six kinds, rendered at one size, so that they are the same at each.

    part: 'train' or 'test'; the renderer calls the latter val.
    """
    return to_pictures(*_render({'train': 'train', 'test': 'val'}[part], count, rendered), size)


class Classifier(nn.Module):
    """A backbone, the mean over its last map, and a linear layer: (B, 3, H, W) -> (B, classes)."""

    def __init__(self, backbone: nn.Module, classes: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.out_channels[-1], classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def to_input(images: Tensor) -> Tensor:
    return (images.float() - 128) / 64


def batches(pictures: Pictures, size: int, seed: int,
            flip: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end: shuffled batches; with `flip` mirrored on either axis half of the times."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(pictures.labels), generator=generator)
        for chosen in order[:len(order) // size * size].split(size):
            images = pictures.images[chosen]
            for axis in (2, 3) if flip else ():
                turned = torch.rand(len(chosen), generator=generator) < 0.5
                images = torch.where(turned[:, None, None, None], images.flip(axis), images)
            yield to_input(images), pictures.labels[chosen]


def groups(model: nn.Module, decay: float, table: float = 1.0) -> list[dict]:
    """No decay on what the official code keeps from it: vectors, position bias, temperature.

    table: how many times faster than the rest the numbers of a table of position bias learn.
    """
    free = ('cpb_mlp', 'logit_scale', TABLE)
    kept: dict[str, list] = {'decay': [], 'free': [], 'table': []}
    for name, parameter in model.named_parameters():
        kind = 'table' if TABLE in name and table != 1 else (
            'free' if parameter.ndim == 1 or any(word in name for word in free) else 'decay')
        kept[kind].append(parameter)
    return [dict(params=kept[kind], weight_decay=decay * (kind == 'decay'),
                 times=table if kind == 'table' else 1.0) for kind in kept if kept[kind]]


def train(model: nn.Module, pictures: Pictures, steps: int, rate: float, seed: int, *,
          batch: int = 32, warm: int = 20, clip: float | None = 5.0, flip: bool = True,
          table: float = 1.0,
          watch: Callable[[int, float], bool] | None = None) -> list[float]:
    """AdamW with warm-up and cosine decay; the loss of each step. `watch` may end it early."""
    optimizer = torch.optim.AdamW(groups(model, 0.05, table), lr=rate)
    source, losses = batches(pictures, batch, seed, flip), []
    model.train()
    for step in range(steps):
        factor = min(1, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group['lr'] = rate * factor * group['times']
        images, labels = next(source)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
        if watch and not watch(step, losses[-1]):
            break
    return losses


@torch.no_grad()
def balanced_accuracy(model: nn.Module, pictures: Pictures, batch: int = 32) -> float:
    """Mean over the classes of the share found, in percent."""
    model.eval()
    found = torch.cat([model(to_input(images)).argmax(1)
                       for images in pictures.images.split(batch)])
    right = (found == pictures.labels).double()
    shares = [right[pictures.labels == label].mean() for label in range(pictures.classes)]
    return 100 * torch.stack(shares).mean().item()
