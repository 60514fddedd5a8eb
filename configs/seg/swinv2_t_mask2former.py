"""SwinV2-T Mask2Former, ADE20K, crop 512, window 16, 160K, batch 16 (8 GPUs x 2). Needs mmdet.

The recipe is the one that mmseg ships for Swin V1-T with this head: AdamW, learning rate 1e-4 and a
tenth of it in the backbone, weight decay 0.05, gradients clipped at 0.01, polynomial decay of power
0.9, drop path 0.3, short sides from 0.5 to 2.0 times 512. The window is that of the paper's UperNet
at this crop (A1); no decay falls on the parameters that the official SwinV2 code leaves out.
Reference: none published for V2 (mmseg, Swin V1-T: mIoU 48.66). Not trained here.
    pip install onedl-mmdetection
    tools/dist_train.sh configs/seg/swinv2_t_mask2former.py 8
"""
_base_ = [
    '../_base_/models/mask2former_semantic.py', '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/seg_runtime.py'
]
model = dict(
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size_divisor=32)),
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    decode_head=dict(in_channels=[96, 192, 384, 768]))
train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='swinv2_mm.LoadMap', bad='skip'),
    dict(type='RandomChoiceResize', scales=[512 * tenth // 10 for tenth in range(5, 21)],
         resize_type='ResizeShortestEdge', max_size=2048),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
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
train_cfg = dict(val_interval=5000)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=160000)
]
default_hooks = dict(checkpoint=dict(interval=5000))
