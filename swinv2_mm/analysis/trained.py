"""A config's backbone with the weights of a checkpoint, for tools that look into it."""
from __future__ import annotations

from mmengine.config import Config

from swinv2_mm.apis import model_inputs
from swinv2_mm.apis.inference.weights import load_weights
from swinv2_mm.export.graphs import Pixels
from swinv2_mm.utils.errors import UserError, check_file


def load(config: str, checkpoint: str, options: dict | None = None) -> tuple[Config, Pixels]:
    """The config, and its backbone with normalisation in front, in eval mode.

    Raises UserError where one is not there, or the model has no SwinV2 backbone for pictures.
    """
    model_inputs.quiet()
    cfg = model_inputs.read(config, options)
    check_file(checkpoint, 'checkpoint', 'give the path of a .pth file')
    model = model_inputs.build(cfg, 'cpu')
    if getattr(model.backbone, 'ndim', 0) != 2 or not hasattr(model.backbone, 'window_sizes'):
        raise UserError('The backbone must be a SwinTransformerV2, got one of '
                        f'{type(model.backbone).__name__}: give the config of a model of pictures.')
    load_weights(model, checkpoint)
    return cfg, Pixels(model.eval().requires_grad_(False), 'backbone')


def block_of(backbone, stage: int, block: int):
    """One block of a backbone; UserError where there is none of that number."""
    if not 0 <= stage < len(backbone.layers):
        raise UserError(f'--stage must be from 0 to {len(backbone.layers) - 1}, got {stage}.')
    blocks = backbone.layers[stage].blocks
    if not 0 <= block < len(blocks):
        raise UserError(f'--block must be from 0 to {len(blocks) - 1} in stage {stage}, got '
                        f'{block}.')
    return blocks[block]
