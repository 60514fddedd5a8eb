"""Which patches SimMIM hides, in pictures of any sides."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from swinv2_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SimMIMMaskGenerator:
    """mmpretrain's transform of this name, for pictures that need not be square.

    Adds `mask` (H', W') of a picture of H' x W' patches of the model, 1 where hidden: blocks drawn
    at random, those at the right and lower edge cut off by it. For squares the numbers are those
    of mmpretrain, from the same random state.

    Args:
        input_size: of the picture, a side in pixels or (height, width).
        mask_patch_size: side of a block, a multiple of `model_patch_size`.
        model_patch_size: side of a patch of the model.
        mask_ratio: share of the blocks that is hidden, rounded up.

    Raises:
        ValueError: where an argument breaks one of these rules.
    """

    def __init__(self, input_size: int | Sequence[int] = 192, mask_patch_size: int = 32,
                 model_patch_size: int = 4, mask_ratio: float = 0.6):
        sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError('input_size must be a side in pixels or (height, width), got '
                             f'{input_size!r}: set it to what the pipeline gives.')
        if model_patch_size < 1 or mask_patch_size < 1 or mask_patch_size % model_patch_size:
            raise ValueError('mask_patch_size must be a multiple of model_patch_size, got '
                             f'{mask_patch_size} and {model_patch_size}: change one of them.')
        if not 0 <= mask_ratio <= 1:
            raise ValueError(f'mask_ratio must be from 0 to 1, got {mask_ratio}.')
        self.patches = tuple(math.ceil(side / model_patch_size) for side in sides)
        self.blocks = tuple(math.ceil(side / mask_patch_size) for side in sides)
        self.scale, self.ratio = mask_patch_size // model_patch_size, mask_ratio

    def __call__(self, results: dict) -> dict:
        """The sample with its mask."""
        count = math.prod(self.blocks)
        mask = np.zeros(count, dtype=int)
        mask[np.random.permutation(count)[:math.ceil(count * self.ratio)]] = 1
        whole = np.kron(mask.reshape(self.blocks), np.ones((self.scale, self.scale), int))
        results['mask'] = whole[:self.patches[0], :self.patches[1]]
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(patches={self.patches}, blocks={self.blocks}, '
                f'ratio={self.ratio})')
