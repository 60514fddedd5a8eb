"""SwinV2-T Mask2Former for panoptic maps, COCO, window 16, 50 epochs, batch 16 (8 GPUs x 2).

The recipe is the one that mmdet ships for Swin V1-T with this head: large-scale jittering to crops of
1024, AdamW, learning rate 1e-4 and a tenth of it in the backbone, weight decay 0.05, gradients clipped at
0.01, steps at 8/9 and 26/27 of 368,750 iterations, drop path 0.3. The window is that of the
paper's Cascade Mask R-CNN (A1); no decay falls on the parameters that the official SwinV2 code leaves
out.
Reference: none published for V2 (mmdet, Swin V1-T: PQ 53.4, box 46.3, mask 43.4). Not trained here.
    tools/dist_train.sh configs/det/swinv2_t_mask2former_panoptic.py 8
"""
_base_ = [
    '../_base_/models/mask2former_instance.py', '../_base_/datasets/coco_panoptic_lsj.py',
    '../_base_/schedules/adamw_mask2former.py', '../_base_/det_runtime.py'
]
num_stuff_classes = 53
model = dict(
    data_preprocessor=dict(
        pad_seg=True,
        seg_pad_value=255,
        batch_augments=[
            dict(type='BatchFixedSizePad', size=(1024, 1024), img_pad_value=0, pad_mask=True,
                 mask_pad_value=0, pad_seg=True, seg_pad_value=255)
        ]),
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
        num_stuff_classes=num_stuff_classes,
        loss_cls=dict(class_weight=[1.0] * (80 + num_stuff_classes) + [0.1])),
    panoptic_fusion_head=dict(num_stuff_classes=num_stuff_classes),
    test_cfg=dict(panoptic_on=True))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(
        by_epoch=False, interval=5000, save_best='coco_panoptic/PQ', rule='greater'))
log_processor = dict(by_epoch=False)
