"""SwinV2-T Cascade Mask R-CNN, COCO, window 16, 3x, batch 16 (8 GPUs x 2).

From the paper (A1): short side 480-800, long side 1333, window 16, AdamW, learning rate 1e-4,
weight decay 0.05, batch 16, 3x. From the official Swin V1 recipe, where the paper is silent: heads,
crops, warm-up, steps and drop path. That recipe ran in float16: add --amp.
Reference: box AP 51.1 on val2017 (paper, table 1, log-spaced CPB, W16). Not trained here.
    tools/dist_train.sh configs/det/swinv2_t_cascade.py 8 --amp
"""
_base_ = [
    '../_base_/models/cascade_mask_rcnn.py', '../_base_/datasets/coco_instance.py',
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
