"""What positions are divided by, fixed when training starts.

`pretrained_window_sizes=0` is the window in use, and a map smaller than its window shrinks it: the
official rule, whose code has one size of image. At another size a position would then mean
something else with the same weights. So what the first batch gives is written into the settings of
the model, from which every checkpoint notes it: nothing changes at that size, to the last bit.
"""
from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import EMAHook, Hook
from torch import Tensor, nn

from ..models import SwinTransformerV2, SwinTransformerV2Video
from ..registry import HOOKS

BACKBONES = SwinTransformerV2, SwinTransformerV2Video


@HOOKS.register_module()
class PositionsHook(Hook):
    """Set `pretrained_window_sizes` of a SwinV2, where it is 0, to the windows of the first batch.

    With several processes these are the largest of any of them.
    """

    def before_train(self, runner) -> None:
        """Look at the maps of the first batch."""
        self.seen: dict[nn.Module, dict[int, tuple[int, ...]]] = {}
        self.handles = []
        for backbone in runner.model.modules():
            if not isinstance(backbone, BACKBONES) or all(
                    map(all, backbone.pretrained_window_sizes or ())):
                continue
            if runner.cfg.get('compile'):  # which would compile all again after the first step
                runner.logger.warning(
                    'pretrained_window_sizes=0 stays the window in use where a model is compiled, '
                    'so that positions mean something else on images of another size: set it to '
                    'the windows of the training, none larger than its map (image side / 4, 8, '
                    '16, 32).')
                return
            self.seen[backbone] = {}
            self.handles += [stage.register_forward_pre_hook(self._note(backbone, i))
                             for i, stage in enumerate(backbone.layers)]

    def _note(self, backbone: nn.Module, i: int):
        def note(stage: nn.Module, inputs: tuple[Tensor]) -> None:
            size = tuple(inputs[0].shape[1:-1])
            before = self.seen[backbone].get(i, (0,) * len(size))
            self.seen[backbone][i] = tuple(map(max, before, map(min, stage.window, size)))
        return note

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Once, after the first step: write what was seen into the settings."""
        for handle in self.handles:
            handle.remove()
        averaged = [module for hook in runner.hooks if self.seen and isinstance(hook, EMAHook)
                    for module in hook.ema_model.modules() if isinstance(module, BACKBONES)]
        for backbone, seen in self.seen.items():
            sizes = torch.tensor(backbone.pretrained_window_sizes)
            for i, sides in seen.items():
                sizes[i] = torch.where(sizes[i] > 0, sizes[i], torch.tensor(sides))
            all_reduce(sizes, 'max')
            sizes = [tuple(sides) for sides in sizes.tolist()]
            backbone.pretrained_window_sizes = sizes
            for copy in averaged:
                copy.pretrained_window_sizes = sizes
            runner.logger.info(f'Positions are divided by the windows of the first batch, {sizes}, '
                               'from here on: pretrained_window_sizes of the checkpoints.')
        self.handles, self.seen = [], {}
