"""Your own folders of images: nano SwinV2 classifier on cut-out BCCD blood cells, from scratch.

Reference: none published. Trained here, see docs/classification.md.
    python tools/train.py configs/cls/swinv2_n_cells.py
    python tools/test.py configs/cls/swinv2_n_cells.py work_dirs/swinv2_n_cells/iter_400.pth
"""
_base_ = [
    '../_base_/models/classifier_nano.py', '../_base_/datasets/bccd_cells.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/cls_runtime.py'
]
max_iters = 400
model = dict(
    backbone=dict(window_size=6),  # maps of 24, 12, 6 and 3 need no padding
    head=dict(num_classes=3))
train_cfg = dict(max_iters=max_iters, val_interval=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5)
]
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False, interval=100, save_best='single-label/recall', rule='greater'),
    logger=dict(interval=20, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
