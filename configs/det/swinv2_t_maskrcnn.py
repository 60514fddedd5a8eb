"""SwinV2-T Mask R-CNN, COCO, window 16, 3x, batch 16 (8 GPUs x 2).

The paper has no Mask R-CNN: heads, crops, warm-up, steps and drop path are those of the official
Swin V1 recipe, window and optimizer those of the paper's Cascade Mask R-CNN.
That recipe ran in float16: add --amp.
Reference: none published for V2 (Swin V1: box 46.0, mask 41.6). Not trained here.
    tools/dist_train.sh configs/det/swinv2_t_maskrcnn.py 8 --amp
"""
_base_ = [
    '../_base_/models/mask_rcnn.py', '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_3x.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.2,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    neck=dict(in_channels=[96, 192, 384, 768]))
