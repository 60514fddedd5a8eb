"""SwinV2-G, box branch of HTC++, Objects365 v2, window 32, batch 96 (12 machines of 8 GPUs x 1).

From the paper (A2.2): HTC++ without its mask branch, sizes from 800 to 1024, window 32, AdamW, learning
rate 1.2e-3, weight decay 0.05, batch 96, 67,500 iterations.
Not in the paper: warm-up and steps, those of the Swin V1 3x recipe at the same shares of the run; a
tenth of the learning rate in the backbone, which it states for L; drop path 0.4, that of the paper's G
on ADE20K; the short side in tests. No weights of G were released: it starts from no file. With one of
your own, set model.backbone.init_cfg as swinv2_l_objects365 does.
The step to COCO takes the checkpoint by an option of swinv2_g_htcpp, to train on from it:
--cfg-options model.init_cfg.type=swinv2_mm.PretrainedDetector
model.init_cfg.checkpoint=work_dirs/swinv2_g_objects365/iter_67500.pth
Reference: none, as the paper gives no figure of this step. Not trained here.
    NNODES=12 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/det/swinv2_g_objects365.py 8 --amp
"""
_base_ = [
    '../_base_/models/htc_boxes.py', '../_base_/datasets/objects365_1024.py',
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
max_iters = 67500
train_cfg = dict(max_iters=max_iters, val_interval=7500)
optim_wrapper = dict(optimizer=dict(lr=1.2e-3), paramwise_cfg=dict(backbone_lr_mult=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[50625, 61875],
         gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=96)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=7500))
log_processor = dict(by_epoch=False)
