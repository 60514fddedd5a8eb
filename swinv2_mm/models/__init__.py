"""The SwinV2 backbone, from the ground up: windows <- attention <- swin."""
from .archs import ARCHS
from .swin import SwinTransformerV2, SwinTransformerV2Video

__all__ = ['ARCHS', 'SwinTransformerV2', 'SwinTransformerV2Video']
