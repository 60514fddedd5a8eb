"""SwinV2-L DINO with five scales, COCO, window 16, 12 epochs, batch 16 (8 GPUs x 2).

The recipe is the one that mmdet ships for Swin V1-L with this head: AdamW, learning rate 1e-4 and a
tenth of it in the backbone, weight decay 1e-4, gradients clipped at 0.1, step at epoch 11, drop path
0.2, activation checkpointing. The window is that of the paper's Cascade Mask R-CNN (A1). No decay falls
on vectors, on the position network and on the temperature; mmdet's DINO decays everything.
The 36 epochs of mmdet: --cfg-options train_cfg.max_epochs=36 param_scheduler.0.end=36
param_scheduler.0.milestones="[27,33]".
Reference: none published for V2 (mmdet, Swin V1: box 57.2 after 12 epochs, 58.4 after 36).
Not trained here.
    tools/dist_train.sh configs/det/swinv2_l_dino.py 8
"""
_base_ = [
    '../_base_/models/dino.py', '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_dino.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='large',
        window_size=16,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
        with_cp=True,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_large_patch4_window12_192_22k.pth')),
    neck=dict(in_channels=[192, 384, 768, 1536], num_outs=5),
    num_feature_levels=5,
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=5))),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=5))))
