"""The SwinV2 backbone, from the ground up: windows <- attention <- swin <- simmim."""
from .archs import ARCHS
from .simmim import MaskedSwinTransformerV2, NormalizedPixelLoss
from .swin import SwinTransformerV2, SwinTransformerV2Video

__all__ = ['ARCHS', 'MaskedSwinTransformerV2', 'NormalizedPixelLoss', 'SwinTransformerV2',
           'SwinTransformerV2Video']
