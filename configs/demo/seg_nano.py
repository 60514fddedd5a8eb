"""Demo: nano SwinV2 UperNet on rendered shapes, from scratch on two CPU cores.

Reference: none, the data are ours.
    make demo TASK=seg
"""
_base_ = [
    '../_base_/models/upernet_nano.py', '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/seg_runtime.py'
]
max_iters = 1400
model = dict(
    data_preprocessor=dict(size=_base_.crop_size), decode_head=dict(num_classes=7))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5)
]
default_hooks = dict(checkpoint=dict(interval=200), logger=dict(interval=20))
