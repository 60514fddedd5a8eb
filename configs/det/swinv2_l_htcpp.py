"""SwinV2-L HTC++, COCO, 1536, window 32, 3x, batch 64 (8 machines of 8 GPUs x 1).

From the paper (A2.1): HTC++ with InstaBoost, pictures of 1536 x 1536 jittered by 0.1 to 2.0, window 32,
AdamW, learning rate 4e-4 and a tenth of it in the backbone, weight decay 0.05, batch 64, 3x, soft-NMS;
short side 1100 in tests.
Not in the paper: heads and semantic branch (stuffthingmaps), which are mmdet's HTC; warm-up and steps,
those of the Swin V1 3x recipe; drop path 0.2, that of the V1 paper's HTC++; the values of InstaBoost,
its authors'; mixed precision; the bound of 1833 on the long side in tests. HTC++ has one more layer of
global self-attention after the last stage, which was never published: it is not here.
Activation checkpointing is on and attention goes a few windows at a time, as in the paper.
InstaBoost needs its package: pip install instaboostfast. Without it, add
--cfg-options train_dataloader.dataset.pipeline.1.transforms="[]".
The paper also tests at window 48, with --cfg-options model.backbone.window_size=48 and at several
scales, --tta; which ones it does not state: here short sides of 800, 1100 and 1400, each with its flip.
Reference: box 58.8, mask 51.1 on val2017; at window 48, 58.9 and 51.2; there with
several scales, 60.2 and 52.1 (paper, table 3).
Not trained here.
    NNODES=8 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/det/swinv2_l_htcpp.py 8 --amp
    tools/dist_test.sh configs/det/swinv2_l_htcpp.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/htc.py', '../_base_/datasets/coco_htc_1536.py',
    '../_base_/schedules/adamw_3x.py', '../_base_/det_runtime.py'
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
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=4e-4), paramwise_cfg=dict(backbone_lr_mult=0.1))
auto_scale_lr = dict(base_batch_size=64)
