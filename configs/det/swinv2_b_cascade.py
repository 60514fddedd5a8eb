"""SwinV2-B Cascade Mask R-CNN, COCO, window 16, 3x, batch 16 (8 GPUs x 2).

From the paper (A1): short side 480-800, long side 1333, window 16, AdamW, learning rate 1e-4,
weight decay 0.05, batch 16, 3x. From the official Swin V1 recipe, where the paper is silent: heads,
crops, warm-up, steps and drop path. That recipe ran in float16: add --amp.
Reference: none published for V2 (Swin V1: box 51.9, mask 45.0). Not trained here.
    tools/dist_train.sh configs/det/swinv2_b_cascade.py 8 --amp
"""
_base_ = [
    '../_base_/models/cascade_mask_rcnn.py', '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_3x.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='base',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_base_patch4_window8_256.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]))
