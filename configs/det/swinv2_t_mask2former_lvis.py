"""SwinV2-T Mask2Former for instances, LVIS v1, window 16, 50 epochs, batch 16 (8 GPUs x 2).

No recipe of Mask2Former for LVIS is published: it is the one that mmdet ships for Swin V1-T on COCO, whose
pictures these are, with repeat factors from 1e-3. Chosen here: 300 queries, as many as LVIS takes
detections. So: large-scale jittering to crops of 1024, AdamW, learning rate 1e-4 and a tenth of it in the
backbone, weight decay 0.05, gradients clipped at 0.01, steps at 8/9 and 26/27 of 368,750 iterations, drop
path 0.3. The window is that of the paper's Cascade Mask R-CNN (A1). Needs lvis: pip install lvis
Reference: none published for V2, and none found for Swin V1 with this head. Not trained here.
    tools/dist_train.sh configs/det/swinv2_t_mask2former_lvis.py 8
"""
_base_ = [
    '../_base_/models/mask2former_instance.py', '../_base_/datasets/lvis_v1_lsj.py',
    '../_base_/schedules/adamw_mask2former.py', '../_base_/det_runtime.py'
]
num_classes = 1203
model = dict(
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    panoptic_head=dict(
        in_channels=[96, 192, 384, 768],
        num_queries=300,
        num_things_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])),
    panoptic_fusion_head=dict(num_things_classes=num_classes),
    test_cfg=dict(max_per_image=300))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)
