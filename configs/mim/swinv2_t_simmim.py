"""SwinV2-T, SimMIM on ImageNet-1K for small machines: 192 x 192, window 12, 100 epochs, 1 GPU x 256.

From the official 100-epoch recipe, which is of Swin V1-B at batch 2048: learning rate 8e-4 with
cosine decay to 4e-5 and warm-up from 4e-6 over 10 epochs, all of them scaled linearly to batch 256.
From that of SwinV2-B: size, window, mask, targets. Drop path 0, as for Swin V1.
Reference: none published.
Not trained here.
    python tools/train.py configs/mim/swinv2_t_simmim.py --amp
"""
_base_ = [
    '../_base_/models/simmim.py', '../_base_/datasets/imagenet_simmim_192.py',
    '../_base_/schedules/simmim_800e.py', '../_base_/cls_runtime.py'
]
model = dict(backbone=dict(arch='tiny', drop_path_rate=0.0), neck=dict(in_channels=768))
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=100)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.005, by_epoch=True, begin=0, end=10,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=10, end=100, eta_min=5e-6,
         convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=256)
default_hooks = dict(checkpoint=dict(interval=10, save_best=None))
