"""SwinV2-T DINO with four scales, COCO, window 16, 12 epochs, batch 16 (8 GPUs x 2).

mmdet ships DINO for ResNet-50 with four scales and for Swin V1-L with five: this is the former with the
latter's rate in the backbone and strides 8, 16 and 32 of it. AdamW, learning rate 1e-4 and a tenth of it
in the backbone, weight decay 1e-4, gradients clipped at 0.1, step at epoch 11. Drop path 0.1 is that of
the Swin V1-T in detrex, the window that of the paper's Cascade Mask R-CNN (A1). No decay falls on
vectors, on the position network and on the temperature; mmdet's DINO decays everything.
Reference: none published for V2 (detrex, Swin V1: box 51.3). Not trained here.
    tools/dist_train.sh configs/det/swinv2_t_dino.py 8
"""
_base_ = [
    '../_base_/models/dino.py', '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_dino.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.1,
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    neck=dict(in_channels=[192, 384, 768]))
