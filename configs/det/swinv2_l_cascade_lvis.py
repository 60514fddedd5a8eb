"""SwinV2-L Cascade Mask R-CNN, LVIS v1, window 16, 50 epochs, batch 64 (8 machines of 8 GPUs x 1).

The recipe is that of ViTDet's authors for Swin V1-L with this detector on LVIS: large-scale jittering to
crops of 1024, repeat factors from 1e-3, AdamW, learning rate 1e-4, weight decay 0.05, 78,125 iterations of
64 with steps at 8/9 and 26/27 after 250 of warm-up, drop path 0.3, 300 detections from a score of 0.02.
They train with the federated loss, which mmdet does not have: in its place there is mmdet's Seesaw loss
with its normalised classifier, in the values that mmdet ships for LVIS. Heads otherwise, and tests at
a short side of 800, are those of the Cascade Mask R-CNN here. Needs lvis: pip install lvis
Reference: none published for V2 (ViTDet's authors, Swin V1-L: box 46.0, mask 41.4). Not trained here.
    NNODES=8 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/det/swinv2_l_cascade_lvis.py 8 --amp
    tools/dist_test.sh configs/det/swinv2_l_cascade_lvis.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/cascade_mask_rcnn.py', '../_base_/datasets/lvis_v1_lsj.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/det_runtime.py'
]
num_classes = 1203
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
    neck=dict(in_channels=[192, 384, 768, 1536]),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))
for head in _base_.model.roi_head.bbox_head:
    head.update(
        num_classes=num_classes,
        cls_predictor_cfg=dict(type='NormedLinear'),
        loss_cls=dict(type='SeesawLoss', p=0.8, q=2.0, num_classes=num_classes, loss_weight=1.0))
for head in _base_.model.roi_head.mask_head:
    head.num_classes = num_classes
train_dataloader = dict(batch_size=1)
max_iters = 78125
train_cfg = dict(max_iters=max_iters, val_interval=30000)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[69444, 75231],
         gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=10000))
log_processor = dict(by_epoch=False)
