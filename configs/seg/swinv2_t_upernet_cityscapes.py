"""SwinV2-T UperNet, Cityscapes, crop 512 x 1024, window 16, 80K, batch 16 (8 GPUs x 2).

Optimizer, layer-wise decay, warm-up, batch and drop path are the paper's for ADE20K (A1), heads the
official Swin V1 ones; crop, scales and number of iterations are mmseg's for Cityscapes. Windows of
16 divide the maps of the crop and of whole pictures.
Reference: none published for V2, and none found for Swin V1 with this head. Not trained here.
    tools/dist_train.sh configs/seg/swinv2_t_upernet_cityscapes.py 8
    tools/dist_test.sh configs/seg/swinv2_t_upernet_cityscapes.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/upernet.py', '../_base_/datasets/cityscapes_512x1024.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/seg_runtime.py'
]
max_iters = 80000
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    decode_head=dict(in_channels=[96, 192, 384, 768], num_classes=19),
    auxiliary_head=dict(in_channels=384, num_classes=19))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95))
train_cfg = dict(max_iters=max_iters, val_interval=8000)
_base_.param_scheduler[1].end = max_iters
default_hooks = dict(checkpoint=dict(interval=8000))
