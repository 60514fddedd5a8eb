"""Draw what a model is really fed: python tools/analysis/browse_dataset.py CONFIG --out-dir x.

Samples go through the pipeline of the config, are put into a batch as in training, and through the
model's data preprocessor: what is drawn is its output, turned back into colours. So a wrong order
of colours, a missing augmentation, a shifted mask or a padding that is too large can be seen. Boxes
and masks (mmdet), maps (mmseg), labels after mixup and CutMix (mmpretrain), hidden patches (SimMIM)
and frames (mmaction2) are drawn over or beside it.
"""
from __future__ import annotations

import argparse
import random
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS, MODELS

from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.datasets.checks import check_data
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

SIDE = 320  # pixels that a smaller picture is enlarged to, about
LINE = 20  # of text
FRAMES = 8  # of a clip, at most
WHITE = (255, 255, 255)


def colour(label: int) -> tuple[int, int, int]:
    """A colour of its own for each class, BGR."""
    hue = np.uint8([[[label * 67 % 180, 200, 230]]])
    return tuple(int(value) for value in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])


def build_preprocessor(cfg: Config):
    """The data preprocessor that the config's model would have, with its batch augmentations."""
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    settings = dict(settings)
    if cfg.default_scope == 'mmpretrain' and 'type' not in settings:  # as ImageClassifier does
        settings.update(type='ClsDataPreprocessor', batch_augments=cfg.model.get('train_cfg'))
    return MODELS.build(settings)


def batches(cfg: Config, split: str, number: int, repeat: int):
    """(dataset, preprocessor, its output for a batch) for `number` samples, spread evenly."""
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'The config must have {split}_dataloader, and has none: give another '
                        '--split.')
    dataset = DATASETS.build(loader.dataset)
    preprocessor = build_preprocessor(cfg)
    number = min(number, len(dataset))
    chosen = np.linspace(0, len(dataset) - 1, number).round().astype(int).repeat(repeat).tolist()
    collate = default_collate if 'default_collate' in str(loader.get('collate_fn')) else (
        pseudo_collate)
    for first in range(0, len(chosen), loader.batch_size):
        samples = [dataset[index] for index in chosen[first:first + loader.batch_size]]
        if None in samples:
            raise UserError('A sample of the data set is empty in every try: look at it with '
                            'tools/dataset/check.py.')
        with torch.no_grad():
            ready = preprocessor(collate(samples), split == 'train')
        yield dataset, preprocessor, ready


def pixels(preprocessor, image: torch.Tensor, rgb: bool) -> np.ndarray:
    """(C, H, W) as the model gets it -> (H, W, 3) uint8 BGR."""
    scale, offset = (getattr(preprocessor, name, None) for name in ('std', 'mean'))
    if scale is not None and offset is not None:
        image = image * scale.reshape(-1, 1, 1) + offset.reshape(-1, 1, 1)
    image = image.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[..., ::-1] if rgb else image)


def is_rgb(cfg: Config, preprocessor) -> bool:
    """Whether what the model gets is RGB: videos are decoded to it, images are read as BGR."""
    swapped = any(getattr(preprocessor, name, False)
                  for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
    return swapped != (cfg.default_scope == 'mmaction')


def enlarged(image: np.ndarray) -> tuple[np.ndarray, int]:
    """A small picture in whole multiples, and the multiple."""
    factor = max(1, round(SIDE / max(image.shape[:2])))
    return np.repeat(np.repeat(image, factor, 0), factor, 1), factor


def put(image: np.ndarray, text: str, place: tuple[int, int], shade) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, shade, 1, cv2.LINE_AA)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text under it."""
    foot = np.full((LINE, max(image.shape[1], 9 * len(text)), 3), 255, np.uint8)
    put(foot, text, (4, LINE - 6), (0, 0, 0))
    room = ((0, 0), (0, foot.shape[1] - image.shape[1]), (0, 0))
    return np.vstack([np.pad(image, room, constant_values=255), foot])


def named(classes, label: int) -> str:
    return classes[label] if classes and label < len(classes) else str(label)


def draw_instances(image: np.ndarray, sample, classes) -> np.ndarray:
    """Boxes with their classes, and masks, over the picture."""
    image, factor = enlarged(image)
    found = sample.gt_instances
    boxes = getattr(found.bboxes, 'tensor', found.bboxes).reshape(-1, 4)
    masks = found.get('masks')
    masks = getattr(masks, 'masks', masks)
    for index, (box, label) in enumerate(zip(boxes.tolist(), found.labels.tolist())):
        shade = colour(label)
        if masks is not None:
            mask = np.asarray(masks[index], np.uint8)
            inside = np.repeat(np.repeat(mask, factor, 0), factor, 1)[
                :image.shape[0], :image.shape[1]].astype(bool)
            part = image[:inside.shape[0], :inside.shape[1]]
            part[inside] = part[inside] // 2 + np.uint8(shade) // 2
        x1, y1, x2, y2 = (round(value * factor) for value in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), shade, 1)
        put(image, named(classes, label), (x1 + 2, max(y1 + 12, 12)), WHITE)
    return image


def draw_map(image: np.ndarray, sample, classes) -> np.ndarray:
    """The picture, and beside it its map: black where it is ignored, classes named under it."""
    labels = sample.gt_sem_seg.data[0].numpy()
    there = [int(label) for label in np.unique(labels) if label != 255]
    shown = np.zeros((*labels.shape, 3), np.uint8)
    for label in there:
        shown[labels == label] = colour(label)
    sides = min(image.shape[0], shown.shape[0]), min(image.shape[1], shown.shape[1])
    pair = np.hstack([part[:sides[0], :sides[1]] for part in (image, shown)])
    pair, _ = enlarged(pair)
    return captioned(pair, ', '.join(named(classes, label) for label in there))


def draw_label(image: np.ndarray, sample, classes) -> np.ndarray:
    """The picture with its label, or its labels with their shares after mixup or CutMix."""
    image, _ = enlarged(image)
    if 'gt_score' in sample:
        shares = [(label, share) for label, share in enumerate(sample.gt_score.tolist()) if share]
    else:
        shares = [(label, 1.0) for label in sample.gt_label.tolist()]
    return captioned(image, ', '.join(
        named(classes, label) + (f' {share:.2f}' if share < 1 else '') for label, share in shares))


def draw_hidden(image: np.ndarray, sample, classes) -> np.ndarray:
    """The picture, and beside it what SimMIM's model sees of it."""
    mask = np.asarray(sample.mask)
    side = image.shape[0] // mask.shape[0]
    hidden = mask.repeat(side, 0).repeat(side, 1).astype(bool)
    seen = image.copy()
    seen[hidden] = 128
    pair, _ = enlarged(np.hstack([image, seen]))
    return captioned(pair, f'{hidden.mean():.0%} hidden')


def draw_clip(frames: list[np.ndarray], sample, classes) -> np.ndarray:
    """Frames of a clip side by side, evenly chosen, with the class."""
    steps = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    gap = ((0, 0), (0, 1), (0, 0))
    strip = np.hstack([np.pad(frames[step], gap, constant_values=255) for step in steps])
    factor = max(1, round(96 / strip.shape[0]))
    strip = strip.repeat(factor, 0).repeat(factor, 1)
    labels = sample.gt_label.tolist() if 'gt_label' in sample else []
    return captioned(strip, f'{", ".join(named(classes, label) for label in labels)}  '
                            f'{len(frames)} frames')


def draw(cfg: Config, preprocessor, image: torch.Tensor, sample, classes) -> np.ndarray:
    """One sample of a batch, as its task shows it."""
    rgb = is_rgb(cfg, preprocessor)
    if cfg.default_scope == 'mmaction':  # (clips, C, T, H, W), or without T for images
        clip = image.reshape(-1, *image.shape[-4:])[0]
        return draw_clip([pixels(preprocessor, frame, rgb) for frame in clip.transpose(0, 1)],
                         sample, classes)
    picture = pixels(preprocessor, image, rgb)
    if cfg.default_scope == 'mmdet':
        return draw_instances(picture, sample, classes)
    if cfg.default_scope == 'mmseg':
        return draw_map(picture, sample, classes)
    return (draw_hidden if 'mask' in sample else draw_label)(picture, sample, classes)


def main(argv: list | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument('--number', type=int, default=16, help='samples, evenly spread (16)')
    parser.add_argument('--repeat', type=int, default=1,
                        help='pictures of each sample, each augmented anew (1)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    args = parser.parse_args(argv)
    if min(args.number, args.repeat) < 1:
        raise UserError('--number and --repeat must be at least 1, got '
                        f'{args.number} and {args.repeat}.')
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    cfg = model_inputs.read(args.config, args.cfg_options)
    check_data(cfg, args.split)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    count, sizes, low, high = 0, set(), [], []
    for dataset, preprocessor, ready in batches(cfg, args.split, args.number, args.repeat):
        classes = dataset.metainfo.get('classes')
        for image, sample in zip(ready['inputs'], ready['data_samples']):
            picture = draw(cfg, preprocessor, image, sample, classes)
            cv2.imwrite(str(args.out_dir / f'{count:05d}.png'), picture)
            count += 1
            sizes.add(tuple(image.shape))
            low.append(float(image.min()))
            high.append(float(image.max()))
    shapes = ', '.join(' x '.join(map(str, size)) for size in sorted(sizes))
    print(f'{count} inputs of {shapes}, values from {min(low):.2f} to {max(high):.2f}; '
          f'pictures in {args.out_dir}')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
