"""SwinV2-L Mask2Former for instances, COCO, window 16, 100 epochs, batch 16 (2 machines of 8 GPUs x 1).

mmdet ships no Swin-L with this head for instances: this is its recipe for Swin V1-T, with what its
panoptic Swin V1-L has instead, which is what the authors' own L for instances has: 200 queries and
100 epochs, from 22K weights. So: large-scale jittering to crops of 1024, AdamW, learning rate 1e-4 and a
tenth of it in the backbone, weight decay 0.05, gradients clipped at 0.01, steps at 8/9 and 26/27 of
737,500 iterations, drop path 0.3. The window is that of the paper's Cascade Mask R-CNN (A1); no decay
falls on the parameters that the official SwinV2 code leaves out.
Reference: none published for V2 (Mask2Former's authors, Swin V1: mask 50.1). Not trained here.
    NNODES=2 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/det/swinv2_l_mask2former_instance.py 8
"""
_base_ = [
    '../_base_/models/mask2former_instance.py', '../_base_/datasets/coco_instance_lsj.py',
    '../_base_/schedules/adamw_mask2former.py', '../_base_/det_runtime.py'
]
model = dict(
    backbone=dict(
        arch='large',
        window_size=16,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_large_patch4_window12_192_22k.pth')),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200))
train_dataloader = dict(batch_size=1)
max_iters = 737500
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[655556, 710184],
         gamma=0.1)
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)
