"""Draw what a SimMIM model makes of hidden patches, and measure it against a plain guess.

    python tools/visualization/reconstructions.py CONFIG CHECKPOINT FOLDER --out-dir pictures

Each picture shows an image of FOLDER, what the model sees of it, and what it fills in. The distance
is L1 on hidden pixels, in the units of the config's loss; the guess for an image is the mean of
what can be seen of it. Images go through the config's training pipeline, at fixed random numbers.
"""
import argparse
import json
import random
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from swinv2_mm.apis import overrides
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError, check_file

ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of a checkpoint')
    parser.add_argument('folder', type=Path, help='folder of images')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--draw', type=int, default=12,
                        help='number of pictures, evenly spread over the images (12)')
    parser.add_argument('--json', type=Path, help='write the measured numbers to this file')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args()


def load(config: str, checkpoint: str, options: dict):
    """The config with the options applied, and its model with trained weights, in eval mode."""
    check_file(config, 'config', 'give the path of a config file, such as configs/demo/mim_nano.py')
    check_file(checkpoint, 'checkpoint', 'give the path of a .pth file')
    cfg = Config.fromfile(config)
    overrides.override(cfg, options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if str(cfg.model.get('type')).rpartition('.')[2] != 'SimMIM':
        raise UserError('The config must be of a SimMIM model, got one of '
                        f'{cfg.model.get("type")!r}: give one of configs/mim.')
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    load_checkpoint(model, checkpoint, map_location='cpu')
    return cfg, model.eval()


def images_of(cfg: Config, folder: Path):
    """The images under a folder as the config's training pipeline gives them."""
    if not folder.is_dir() or not any(p.suffix.lower() in ENDINGS for p in folder.rglob('*')):
        raise UserError(f'There are no images in {str(folder)!r}: give a folder with some.')
    return DATASETS.build(dict(
        type='mmpretrain.CustomDataset', data_root=str(folder), with_label=False,
        pipeline=cfg.train_dataloader.dataset.pipeline))


@torch.no_grad()
def reconstruct(model, data: dict) -> tuple[torch.Tensor, ...]:
    """One image -> it and its reconstruction (C, H, W), the mask (H, W), two distances."""
    ready = model.data_preprocessor(default_collate([data]))
    image, sample = ready['inputs'], ready['data_samples'][0]
    patch = model.backbone(image, sample.mask[None])[0]
    guess = model.neck(patch)
    side = image.shape[-1] // sample.mask.shape[-1]
    mask = sample.mask.repeat_interleave(side, 0).repeat_interleave(side, 1)
    loss, mean, deviation = model.head.loss_module, 0.0, 1.0
    if hasattr(loss, 'statistics'):  # the target is normalised by these
        mean, deviation = loss.statistics(image)
    target = (image - mean) / deviation
    hidden = mask[None, None].expand_as(target).bool()
    plain = (target * ~hidden).sum((2, 3), keepdim=True) / (~hidden).sum((2, 3), keepdim=True)
    distances = [(target - made).abs()[hidden].mean() for made in (guess, plain)]
    return image[0], (guess * deviation + mean)[0], mask, *distances


def draw(model, image: torch.Tensor, made: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Image | what is seen | what is filled in, side by side: (H, 3 W + 8, 3) uint8 BGR."""
    scale, offset = (x.reshape(-1, 1, 1) for x in (model.data_preprocessor.std,
                                                   model.data_preprocessor.mean))
    image, made = ((x * scale + offset).clamp(0, 255) for x in (image, made))
    seen, filled = (torch.where(mask.bool(), x, image) for x in (torch.tensor(128.0), made))
    panels = [x.byte().permute(1, 2, 0).flip(-1).numpy() for x in (image, seen, filled)]
    gap = np.full((image.shape[1], 4, 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def main():
    args = parse_args()
    cfg, model = load(args.config, args.checkpoint, args.cfg_options)
    dataset = images_of(cfg, args.folder)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    chosen = set(np.linspace(0, len(dataset) - 1, args.draw).astype(int).tolist())
    distances = []
    for i in range(len(dataset)):
        random.seed(i)
        np.random.seed(i)
        image, made, mask, *found = reconstruct(model, dataset[i])
        distances.append([float(value) for value in found])
        if i in chosen:
            cv2.imwrite(str(args.out_dir / f'{i:06d}.png'), draw(model, image, made, mask))
    ours, plain = np.mean(distances, axis=0)
    values = {'masked_l1': ours, 'visible_mean_l1': plain, 'ratio': ours / plain}
    print(f'{len(dataset)} images: masked L1 {ours:.4f}, of the visible mean {plain:.4f}, '
          f'ratio {ours / plain:.3f}; pictures in {args.out_dir}')
    if args.json:
        args.json.write_text(json.dumps(values))


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
