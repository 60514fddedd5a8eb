"""Demo: nano SwinV2 on films of moving shapes, from scratch on two CPU cores.

Reference: none, the data are ours.
    make demo TASK=video
"""
_base_ = [
    '../_base_/models/recognizer3d_nano.py', '../_base_/datasets/motions.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/video_runtime.py'
]
model = dict(cls_head=dict(num_classes=6))
max_iters = 400
optim_wrapper = dict(optimizer=dict(lr=1e-3))
_base_.param_scheduler[0].end = 50
_base_.param_scheduler[1].update(begin=50, end=max_iters)
train_cfg = dict(max_iters=max_iters, val_interval=100)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=100), logger=dict(interval=20))
log_processor = dict(by_epoch=False)
