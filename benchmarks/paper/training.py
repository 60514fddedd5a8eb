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
from common import ROOT
from torch import Tensor, nn

CELLS, STREETS = ROOT / 'data/bccd_cells', ROOT / 'data/camvid'


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


def ways_up(images: list[np.ndarray], every: int) -> tuple[list, list]:
    """Squares of 120 pixels of a grid, one in `every` in the photo's turn, each four ways up."""
    found, labels = [], []
    for number, image in enumerate(images):
        rows, columns = image.shape[0] // 120, image.shape[1] // 120
        for i in range(rows * columns):
            if (i + number) % every:
                continue
            y, x = 120 * (i // columns), 120 * (i % columns)
            for turns in range(4):
                found.append(np.ascontiguousarray(np.rot90(image[y:y + 120, x:x + 120], turns)))
                labels.append(turns)
    return found, labels


@functools.cache
def _streets(folder: Path, every: int) -> tuple[list, list]:
    return ways_up([cv2.imread(str(path)) for path in sorted(folder.iterdir())], every)


def streets(part: str, size: int, folder: Path = STREETS) -> Pictures:
    """Squares of street photos; the class is by how many quarters of a turn they are turned.

    part: 'train' has four squares of each photo, 'test' two of those that CamVid keeps for it.
    """
    check(folder)
    split, every = {'train': ('train', 3), 'test': ('val', 6)}[part]
    return to_pictures(*_streets(folder / 'img_dir' / split, every), size)


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


def groups(model: nn.Module, decay: float) -> list[dict]:
    """No decay on what the official code keeps from it: vectors, position bias, temperature."""
    free = ('cpb_mlp', 'logit_scale', 'relative_position_bias_table')
    kept: dict[bool, list] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        kept[parameter.ndim == 1 or any(word in name for word in free)].append(parameter)
    return [dict(params=kept[False], weight_decay=decay),
            dict(params=kept[True], weight_decay=0.0)]


def train(model: nn.Module, pictures: Pictures, steps: int, rate: float, seed: int, *,
          batch: int = 32, warm: int = 20, clip: float | None = 5.0, flip: bool = True,
          watch: Callable[[int, float], bool] | None = None) -> list[float]:
    """AdamW with warm-up and cosine decay; the loss of each step. `watch` may end it early."""
    optimizer = torch.optim.AdamW(groups(model, 0.05), lr=rate)
    source, losses = batches(pictures, batch, seed, flip), []
    model.train()
    for step in range(steps):
        factor = min(1, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group['lr'] = rate * factor
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
