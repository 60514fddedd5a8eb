"""SwinV2-G HTC++, COCO, 1536, window 32, 45,000 iterations, batch 96 (12 machines of 8 GPUs x 1).

From the paper (A2.2): HTC++, pictures of 1536 x 1536 jittered by 0.1 to 2.0, window 32, AdamW, learning
rate 6e-4, weight decay 0.05, batch 96, 45,000 iterations, soft-NMS; short side 1100 in tests.
Not in the paper: a tenth of the learning rate in the backbone and InstaBoost, which it states for L
and which are kept; heads and semantic branch (stuffthingmaps), which are mmdet's HTC; warm-up and
steps, those of the Swin V1 3x recipe, at the same shares of the run; drop path 0.4, that of the
paper's G on ADE20K; mixed precision; the bound of 1833 on the long side in tests. HTC++ has one more
layer of global self-attention after the last stage, which was never published: it is not here.
The paper starts from HTC++ trained on Objects365 (box branch and backbone). No weights of G were
released: it starts from no file. With one of your own, set load_from to a whole model, or
model.backbone.init_cfg as swinv2_l_htcpp does; the normalisers of a backbone that was
trained at 192, window 12, are set here: [12, 12, 12, 6].
Memory: activation checkpointing is on and attention goes a few windows at a time, as in the paper,
which also shards the optimizer (ZeRO stage 1): --cfg-options runner_type=FlexibleRunner
strategy.type=swinv2_mm.ZeroStrategy. More of it is in docs/scale.md.
InstaBoost needs its package: pip install instaboostfast. Without it, add
--cfg-options train_dataloader.dataset.pipeline.1.transforms="[]".
The paper also tests at window 48, with --cfg-options model.backbone.window_size=48 and at several
scales, --tta; which ones it does not state: here short sides of 800, 1100 and 1400, each with its flip.
Reference: box 61.7, mask 53.3 on val2017; at window 48, 61.9 and 53.4; there with
several scales, 62.5 and 53.7 (paper, table 3).
Not trained here.
    NNODES=12 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/det/swinv2_g_htcpp.py 8 --amp
    tools/dist_test.sh configs/det/swinv2_g_htcpp.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/htc.py', '../_base_/datasets/coco_htc_1536.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='giant',
        window_size=32,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.4,
        with_cp=True),
    neck=dict(in_channels=[512, 1024, 2048, 4096]))
train_dataloader = dict(batch_size=1)
max_iters = 45000
train_cfg = dict(max_iters=max_iters, val_interval=5000)
optim_wrapper = dict(optimizer=dict(lr=6e-4), paramwise_cfg=dict(backbone_lr_mult=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[33750, 41250],
         gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=96)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)
