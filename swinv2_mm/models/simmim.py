"""SimMIM for SwinV2: a backbone that sees a token instead of masked patches, and the loss.

Algorithm, decoder and head are mmpretrain's: `SimMIM`, `SimMIMLinearDecoder`, `SimMIMHead`.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from . import arguments
from .swin import SwinTransformerV2


@MODELS.register_module()
class MaskedSwinTransformerV2(SwinTransformerV2):
    """`SwinTransformerV2` with a learned token in the place of masked patches.

    Arguments and errors are those of `SwinTransformerV2`; `out_indices` is the last stage alone by
    default, which the decoder reads. Its weights without `mask_token` are those of the backbone.
    """

    def __init__(self, arch: str | dict = 'base', out_indices: tuple[int, ...] = (3,), **kwargs):
        super().__init__(arch, out_indices=out_indices, **kwargs)
        self.mask_token = nn.Parameter(torch.empty(1, 1, self.arch.embed_dims))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """(B, C, H, W) and a mask of patches (B, H', W'), 1 where hidden -> as the backbone.

        H' and W' are H and W in patches (rounded up). Without a mask it is the backbone.
        """
        tokens = self._tokens(x)
        if mask is not None:
            if mask.shape != tokens.shape[:-1]:
                raise ValueError(
                    'mask must have one entry for each patch of patch_size='
                    f'{self.patch_size}, {tuple(tokens.shape[:-1])}, got {tuple(mask.shape)}: set '
                    'model_patch_size of SimMIMMaskGenerator to that of the model, and input_size '
                    'to the pictures; (height, width) where they are not square, which '
                    "type='swinv2_mm.SimMIMMaskGenerator' takes.")
            tokens = torch.where(mask[..., None].bool(), self.mask_token.to(tokens), tokens)
        return self._features(tokens)

    def init_weights(self) -> None:
        """As the backbone's, and the official normal distribution for the token."""
        if not self._is_init:
            nn.init.trunc_normal_(self.mask_token, std=0.02)
        super().init_weights()


@MODELS.register_module()
class NormalizedPixelLoss(nn.Module):
    """L1 on masked pixels, against targets normalised by their neighbourhood; for `SimMIMHead`.

    The official SwinV2 pre-training subtracts from each pixel the mean of the square around it and
    divides by the standard deviation there (unbiased; pixels beyond the border do not count).

    Args:
        window: side of that square in pixels, odd; the official one is 47.
    """

    def __init__(self, window: int = 47):
        super().__init__()
        self.window = arguments.integer('window', window, 3)
        if window % 2 == 0:
            raise ValueError(f'window must be odd, to have a middle, got {window}: '
                             f'take {window + 1}.')

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Images (B, C, H, W) twice and a mask (B, 1, H, W), 1 where hidden -> mean over these."""
        mean, deviation = self.statistics(target)
        distance = (pred - (target - mean) / deviation).abs()
        return (distance * mask).sum() / (mask.sum() + 1e-5) / pred.shape[1]

    def statistics(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> mean and standard deviation around each pixel, both of that shape."""
        image = image.float()
        count = self._mean(torch.ones_like(image[:1, :1]), beyond=True) * self.window ** 2
        mean = self._mean(image)
        variance = (self._mean(image ** 2) - mean ** 2) * count / (count - 1)
        return mean, (variance.clamp(min=0) + 1e-6).sqrt()

    def _mean(self, x: Tensor, beyond: bool = False) -> Tensor:
        """Means over the squares around pixels; counting zeros `beyond` the border or not."""
        for side in ((self.window, 1), (1, self.window)):  # rows, then columns: 47 times cheaper
            x = F.avg_pool2d(x, side, 1, (side[0] // 2, side[1] // 2), count_include_pad=beyond)
        return x
