"""Swin Transformer V2 for OpenMMLab: the public names.

>>> import torch
>>> from swinv2_mm import SwinTransformerV2
>>> features = SwinTransformerV2(arch='tiny', window_size=16)(torch.rand(1, 3, 200, 300))
>>> [tuple(f.shape) for f in features]
[(1, 96, 50, 75), (1, 192, 25, 38), (1, 384, 13, 19), (1, 768, 7, 10)]
"""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import ARCHS, SwinTransformerV2, SwinTransformerV2Video

__version__ = '0.1.0'
__all__ = ['ARCHS', 'SwinTransformerV2', 'SwinTransformerV2Video', '__version__']


def __getattr__(name: str):
    # Loaded when asked for: mmengine.model brings all of torch.distributed, half a second.
    if name in __all__:
        try:
            from . import models
        except AttributeError as error:  # Python would only say that it cannot import the name
            raise ImportError(f'swinv2_mm.models does not import: {error}') from error
        except ModuleNotFoundError as error:
            if error.name != 'mmengine':
                raise
            raise ModuleNotFoundError(
                'swinv2_mm needs mmengine, which is not installed: run `pip install mmengine`, or '
                "`pip install 'onedl-mmengine>=0.10.12'` from torch 2.2 on.",
                name='mmengine') from error
        return getattr(models, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
