"""Demo: nano SwinV2 UperNet on rendered shapes, from scratch on two CPU cores.

Reference: none, the data are ours.
    make demo TASK=seg
"""
_base_ = [
    '../_base_/models/upernet_nano.py', '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/seg_runtime.py'
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size), decode_head=dict(num_classes=7))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(interval=250), logger=dict(interval=20))
