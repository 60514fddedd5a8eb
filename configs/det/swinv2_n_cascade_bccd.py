"""Your own COCO-format data, boxes only: nano SwinV2 Cascade R-CNN on BCCD blood cells, from scratch.

Reference: none published. Trained here, see docs/detection.md.
    python tools/train.py configs/det/swinv2_n_cascade_bccd.py
    python tools/test.py configs/det/swinv2_n_cascade_bccd.py \
        work_dirs/swinv2_n_cascade_bccd/iter_1000.pth
"""
_base_ = [
    '../_base_/models/cascade_mask_rcnn_nano.py', '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/det_runtime.py'
]
model = dict(roi_head=dict(mask_head=None, mask_roi_extractor=None))  # no masks in the data
for head in _base_.model.roi_head.bbox_head:
    head.num_classes = 3
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=250))
log_processor = dict(by_epoch=False)
