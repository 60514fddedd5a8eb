"""Demo: nano SwinV2, SimMIM on rendered shapes without labels, from scratch on two CPU cores.

The target is the plain pixel, so that reconstructions can be looked at.
Reference: none, the data are ours.
    make demo TASK=mim
"""
_base_ = [
    '../_base_/models/simmim.py', '../_base_/datasets/shapes_simmim.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/cls_runtime.py'
]
model = dict(
    backbone=dict(arch='nano', window_size=8, drop_path_rate=0.0),
    neck=dict(in_channels=256),
    head=dict(loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3)))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
val_cfg = test_cfg = None
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=250, save_best=None), logger=dict(interval=20))
log_processor = dict(by_epoch=False)
