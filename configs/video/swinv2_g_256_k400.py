"""SwinV2-G on Kinetics-400, first stage: 256 x 256 x 8, 20 epochs, batch 80 (8 GPUs x 10).

From the paper (A2.2): window 16 x 16 x 8, AdamW, cosine decay after 2.5 epochs of warm-up, learning
rate 3.6e-4, weight decay 0.1. The second stage, swinv2_g_k400.py, goes on from its checkpoint.
Not published and chosen here: what "8" counts (taken as patches over time, as the same table's 16
for Video Swin-L are, whose clips have 32 frames: so 16 frames in patches of 2 x 4 x 4); the
distance of frames (4, so that a clip spans the 64 frames of Video Swin); augmentation, head and
dropout (Video Swin's); drop path (0.4, the paper's for the giant on ADE20K); one learning rate for
backbone and head.
The giant's image weights were not released; from others of its size training starts by
--cfg-options model.backbone.init_cfg.type=swinv2_mm.PretrainedSwinV2
model.backbone.init_cfg.checkpoint=FILE
Reference: none published for this stage. Not trained here.
    tools/dist_train.sh configs/video/swinv2_g_256_k400.py 8 --amp
"""
_base_ = [
    '../_base_/models/recognizer3d.py', '../_base_/datasets/kinetics400.py',
    '../_base_/schedules/adamw_video_30e.py', '../_base_/video_runtime.py'
]
model = dict(
    backbone=dict(
        arch='giant',
        window_size=(8, 16, 16),
        pretrained_window_sizes=[(0, 12, 12), (0, 12, 12), (0, 12, 12), (0, 6, 6)],
        drop_path_rate=0.4,
        with_cp=True),
    cls_head=dict(in_channels=4096))
for loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.pipeline[0].sample.update(clip_len=16, frame_interval=4)
for loader in (_base_.train_dataloader, _base_.val_dataloader):
    loader.dataset.pipeline[1].scale = (-1, 293)  # 256 * 256 / 224
_base_.train_dataloader.dataset.pipeline[3].scale = (256, 256)
_base_.val_dataloader.dataset.pipeline[2].crop_size = 256
_base_.test_dataloader.dataset.pipeline[1].scale = (-1, 256)
_base_.test_dataloader.dataset.pipeline[2].crop_size = 256
train_dataloader = dict(batch_size=10)
optim_wrapper = dict(
    optimizer=dict(lr=3.6e-4, weight_decay=0.1), paramwise_cfg=dict(backbone_lr_mult=1.0))
train_cfg = dict(max_epochs=20, val_interval=1)
_base_.param_scheduler[0].end = 2.5
_base_.param_scheduler[1].update(end=20, T_max=20)
auto_scale_lr = dict(base_batch_size=80)
