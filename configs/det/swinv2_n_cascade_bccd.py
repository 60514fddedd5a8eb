"""Your own COCO-format data, boxes only: nano SwinV2 Cascade R-CNN on BCCD blood cells, from scratch.

    python tools/train.py configs/det/swinv2_n_cascade_bccd.py
    python tools/test.py configs/det/swinv2_n_cascade_bccd.py work_dirs/swinv2_n_cascade_bccd/...
"""
_base_ = [
    '../_base_/models/cascade_mask_rcnn_nano.py', '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/det_runtime.py'
]
model = dict(roi_head=dict(mask_head=None, mask_roi_extractor=None))  # no masks in the data
for head in _base_.model.roi_head.bbox_head:
    head.num_classes = 3
max_iters = 3000
train_cfg = dict(max_iters=max_iters, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=200, end=max_iters, eta_min=1e-5)
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
