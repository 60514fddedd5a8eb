"""Checkpoints of SwinV2: read safely, translate names, check windows, load strictly.

Works on state dicts and on a model's attributes; knows nothing of the model's code.
"""
from .detector import PretrainedDetector
from .layouts import LAYOUTS, detect_layout, from_native, plan, plan_back, to_native
from .load import LoadReport, PretrainedSwinV2, load_backbone
from .read import read_checkpoint
from .transfer import (
    deflate,
    head_rows,
    inflate,
    pretrained_windows,
    resize_channels,
    resize_patch,
    windows_of_name,
)

__all__ = ['LAYOUTS', 'LoadReport', 'PretrainedDetector', 'PretrainedSwinV2', 'deflate',
           'detect_layout', 'from_native', 'head_rows', 'inflate', 'load_backbone', 'plan',
           'plan_back', 'pretrained_windows', 'read_checkpoint', 'resize_channels', 'resize_patch',
           'to_native', 'windows_of_name']
