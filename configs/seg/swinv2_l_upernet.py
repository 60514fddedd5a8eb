"""SwinV2-L UperNet, ADE20K, crop 640, window 40, 40K, batch 64 (4 machines of 8 GPUs x 2).

From the paper (A2.1): crop 640, window 40, AdamW, learning rate 6e-5, weight decay 0.05, linear
decay after 375 iterations of warm-up, batch 64, 40K, drop path 0.3, the augmentation of mmseg. From
the official Swin V1 recipe, where the paper is silent: heads, betas, start of the warm-up, scale
2560 x 640. The paper states no layer-wise decay for L: none.
Reference: mIoU 55.9 on the validation set, multi-scale (paper, table 4). Not trained here.
    NNODES=4 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/seg/swinv2_l_upernet.py 8
    tools/dist_test.sh configs/seg/swinv2_l_upernet.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/upernet.py', '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/seg_runtime.py'
]
max_iters = 40000
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch='large',
        window_size=40,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_large_patch4_window12_192_22k.pth')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768))
optim_wrapper = dict(optimizer=dict(lr=6e-5))
train_cfg = dict(max_iters=max_iters, val_interval=4000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=375),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=375, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=4000))
auto_scale_lr = dict(base_batch_size=64)
