"""The window of a model that is already built."""
from functools import partial

from torch import Tensor, nn

from swinv2_mm.models import arguments


def set_window(backbone: nn.Module, window) -> None:
    """Change the window of a built SwinV2, in place; its weights keep their meaning.

    Where positions are normalised by the window in use (a 0 in `pretrained_window_sizes`), they
    go on to be normalised by the window that would be in use had it not been changed.

    Args:
        backbone: a `SwinTransformerV2` or `SwinTransformerV2Video`.
        window: as its `window_size`: an int, a tuple of sides, or a list of one entry a stage.

    Raises:
        ValueError: the window is none.
    """
    stages = len(backbone.arch.depths)
    sizes = arguments.per_stage('window_size', window, stages, backbone.ndim, 1)
    if not hasattr(backbone, 'built_windows'):
        backbone.built_windows = backbone.window_sizes
        normalisers = backbone.pretrained_window_sizes or []
        for stage, *sides in zip(backbone.layers, normalisers, backbone.window_sizes):
            if 0 in sides[0]:
                stage.register_forward_pre_hook(partial(_normalise, *sides))
    backbone.window_sizes = sizes
    for stage, sides in zip(backbone.layers, sizes):
        stage.window = sides


def _normalise(pretrained: tuple, built: tuple, stage: nn.Module, inputs: tuple[Tensor]) -> None:
    """Give the blocks of a stage what normalises positions on a map (B, *S, C)."""
    size = inputs[0].shape[1:-1]  # a map smaller than its window shrinks it
    sides = tuple(p or min(w, s) for p, w, s in zip(pretrained, built, size))
    for block in stage.blocks:
        block.attn.pretrained_window = sides
