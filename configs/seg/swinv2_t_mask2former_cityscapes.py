"""SwinV2-T Mask2Former, Cityscapes, crop 512 x 1024, window 16, 90K, batch 16 (8 GPUs x 2). Needs mmdet.

The recipe is the one that mmseg ships for Swin V1-T with this head: AdamW, learning rate 1e-4 and a
tenth of it in the backbone, weight decay 0.05, gradients clipped at 0.01, polynomial decay of power
0.9, drop path 0.3, short sides from 0.5 to 2.0 times 1024. Windows of 16 divide the maps of the crop and
of whole pictures.
Reference: none published for V2 (mmseg, Swin V1-T: mIoU 81.71). Not trained here.
    pip install onedl-mmdetection
    tools/dist_train.sh configs/seg/swinv2_t_mask2former_cityscapes.py 8
    tools/dist_test.sh configs/seg/swinv2_t_mask2former_cityscapes.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/mask2former_semantic.py', '../_base_/datasets/cityscapes_512x1024.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/seg_runtime.py'
]
max_iters = 90000
num_classes = 19
model = dict(
    data_preprocessor=dict(size=(512, 1024), test_cfg=dict(size_divisor=32)),
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    decode_head=dict(
        in_channels=[96, 192, 384, 768],
        num_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])))
train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='swinv2_mm.LoadMap', bad='skip'),
    dict(type='RandomChoiceResize', scales=[1024 * tenth // 10 for tenth in range(5, 21)],
         resize_type='ResizeShortestEdge', max_size=4096),
    dict(type='RandomCrop', crop_size=(512, 1024), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        backbone_lr_mult=0.1,
        custom_keys={
            'query_embed': dict(decay_mult=0.0), 'query_feat': dict(decay_mult=0.0),
            'level_embed': dict(decay_mult=0.0)}))
train_cfg = dict(max_iters=max_iters, val_interval=5000)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=5000))
