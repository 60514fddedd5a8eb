"""Demo: nano SwinV2 classifier on rendered shapes, one a picture, from scratch on two CPU cores.

Reference: none, the data are ours.
    make demo TASK=cls
"""
_base_ = [
    '../_base_/models/classifier_nano.py', '../_base_/datasets/shapes_crops.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/cls_runtime.py'
]
max_iters = 1200
model = dict(head=dict(num_classes=6))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5)
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=200),
    logger=dict(interval=20, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
