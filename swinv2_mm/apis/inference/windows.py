"""The window of a model that is already built."""
from torch import nn

from swinv2_mm.models import arguments


def set_window(backbone: nn.Module, window) -> None:
    """Change the window of a built SwinV2, in place; its weights keep their meaning.

    Positions go on to be normalised as they were, where `pretrained_window_sizes` is 0 by the
    window that the model was built with.

    Args:
        backbone: a `SwinTransformerV2` or `SwinTransformerV2Video`.
        window: as its `window_size`: an int, a tuple of sides, or a list of one entry a stage.

    Raises:
        ValueError: the window is none.
    """
    stages = len(backbone.arch.depths)
    sizes = arguments.per_stage('window_size', window, stages, backbone.ndim, 1)
    if backbone.pretrained_window_sizes is not None:
        backbone.pretrained_window_sizes = [
            tuple(p or w for p, w in zip(*pair))
            for pair in zip(backbone.pretrained_window_sizes, backbone.window_sizes)]
    backbone.window_sizes = sizes
    for stage, sides in zip(backbone.layers, sizes):
        stage.window = sides
