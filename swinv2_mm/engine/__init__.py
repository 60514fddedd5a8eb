"""What mmengine lets a package add: the optimizer of a model with a SwinV2 backbone."""
from .optimizer import SwinV2OptimWrapperConstructor

__all__ = ['SwinV2OptimWrapperConstructor']
