"""SwinV2-G UperNet, ADE20K, crop 640, window 40, 80K, batch 32 (4 machines of 8 GPUs x 1).

From the paper (A2.2): crop 640, window 40, AdamW, learning rate 4e-5, weight decay 0.05, linear
decay after 750 iterations of warm-up, batch 32, 80K, drop path 0.4. From the official Swin V1
recipe, where the paper is silent: heads, betas, start of the warm-up, scales. Activation
checkpointing is on: the paper used it with ZeRO.
The weights of G were not released, so it starts from no file. With a file of your own that was
trained at 192, window 12, set model.backbone.init_cfg as swinv2_l_upernet does; its normalisers,
[12, 12, 12, 6], are set here.
The paper's test at 896, window 56: --cfg-options model.backbone.window_size=56
test_dataloader.dataset.pipeline.1.scale="(3584,896)".
Reference: mIoU 59.1 on the validation set at 640, 59.3 at 896, 59.9 at 896 multi-scale (paper,
table 4). Not trained here.
    NNODES=4 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/seg/swinv2_g_upernet.py 8
"""
_base_ = [
    '../_base_/models/upernet.py', '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/seg_runtime.py'
]
max_iters = 80000
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch='giant',
        window_size=40,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.4,
        with_cp=True),
    decode_head=dict(in_channels=[512, 1024, 2048, 4096]),
    auxiliary_head=dict(in_channels=2048))
train_dataloader = dict(batch_size=1)
train_cfg = dict(max_iters=max_iters, val_interval=8000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=750),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=750, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=8000))
auto_scale_lr = dict(base_batch_size=32)
