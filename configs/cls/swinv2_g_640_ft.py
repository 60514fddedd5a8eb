"""SwinV2-G, fine-tuned on ImageNet-1K at 640, window 40, 10 epochs, batch 576 (6 machines of 8 GPUs
x 12).

From the paper (A2.2): 640, AdamW, 10 epochs with 2 of warm-up, learning rate 2.1e-5, weight decay
0.1, batch 576, gradients clipped at 100, RandAugment, random erasing, drop path 0.5; mixup and
CutMix are not on its list. Not in the paper, and chosen here: window 40, that of its ADE20K models
at 640; smoothing of labels by 0.1, the strengths of the augmentation and a cosine from 1/1000 to
1/100 of the rate, as the official settings of the smaller models; test images not cut. Activation
checkpointing is on: the paper used it with ZeRO.
The weights of G were not released, so it starts from no file. With a file of your own that was
trained at 192, window 12, set model.init_cfg as swinv2_l_w24_384_ft does; its normalisers, [12, 12,
12, 6], are set here.
Reference: top-1 90.17 (paper, table 2, weights of 70M images). Not trained here.
    NNODES=6 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/cls/swinv2_g_640_ft.py 8
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_640.py',
    '../_base_/schedules/adamw_ft_30e.py', '../_base_/cls_runtime.py'
]
model = dict(
    backbone=dict(
        arch='giant',
        window_size=40,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.5,
        with_cp=True),
    head=dict(in_channels=4096),
    train_cfg=None)
train_cfg = dict(max_epochs=10)
optim_wrapper = dict(
    optimizer=dict(lr=2.1e-5, weight_decay=0.1), clip_grad=dict(max_norm=100.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=2,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2.1e-7, by_epoch=True, begin=2, end=10,
         convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=576)
