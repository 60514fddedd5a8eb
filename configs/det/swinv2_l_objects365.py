"""SwinV2-L, box branch of HTC++, Objects365 v2, window 32, batch 96 (12 machines of 8 GPUs x 1).

The paper takes this step with G alone (A2.2), and this is its recipe: HTC++ without its mask branch,
sizes from 800 to 1024, window 32, AdamW, learning rate 1.2e-3, weight decay 0.05, batch 96, 67,500
iterations. A tenth of the learning rate in the backbone and drop path 0.2 are those of L on COCO;
warm-up and steps those of the Swin V1 3x recipe at the same shares of the run.
The step to COCO takes the checkpoint by an option of swinv2_l_htcpp, to train on from it:
--cfg-options model.init_cfg.type=swinv2_mm.PretrainedDetector
model.init_cfg.checkpoint=work_dirs/swinv2_l_objects365/iter_67500.pth
Reference: none, as the paper gives no figure of this step. Not trained here.
    NNODES=12 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/det/swinv2_l_objects365.py 8 --amp
"""
_base_ = [
    '../_base_/models/htc_boxes.py', '../_base_/datasets/objects365_1024.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='large',
        window_size=32,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_large_patch4_window12_192_22k.pth')),
    neck=dict(in_channels=[192, 384, 768, 1536]))
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
