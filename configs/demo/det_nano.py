"""Demo: nano SwinV2 Cascade Mask R-CNN on rendered shapes, from scratch on two CPU cores.

Reference: none, the data are ours.
    make demo
"""
_base_ = [
    '../_base_/models/cascade_mask_rcnn_nano.py', '../_base_/datasets/shapes_instance.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/det_runtime.py'
]
for head in _base_.model.roi_head.bbox_head + _base_.model.roi_head.mask_head:
    head.num_classes = 6
for stage in _base_.model.train_cfg.rcnn:
    stage.sampler.num = 32  # scenes hold 2 to 6 objects
train_dataloader = dict(batch_size=4)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=250), logger=dict(interval=20))
log_processor = dict(by_epoch=False)
