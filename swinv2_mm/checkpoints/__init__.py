"""Checkpoints of SwinV2: read safely, translate names, check windows, load strictly.

Works on state dicts and on a model's attributes; knows nothing of the model's code.
"""
from .load import LoadReport, PretrainedSwinV2, load_backbone, read_checkpoint
from .transfer import pretrained_windows

__all__ = ['LoadReport', 'PretrainedSwinV2', 'load_backbone', 'pretrained_windows',
           'read_checkpoint']
