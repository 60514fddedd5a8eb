"""SwinV2-B on Something-Something v2, window (16, 7, 7) at 224, 60 epochs, batch 64 (8 GPUs x 8).

The Video Swin recipe with a V2 backbone: 32 frames spread over the whole video, no flips, RandAugment,
erasing, label smoothing 0.1, learning rate 3e-4, a tenth of it in the backbone, weight decay 0.05, drop
path 0.4, tests of 1 clip x 3 crops. Batch 64 without accumulation and float16 by --amp as in the
configs of Kinetics-400. It starts from the end of swinv2_b_k400.py, as Video Swin did from its own. The
windows over 8 steps of time there grow to 16 here: positions in time stay normalised by 8, as those
weights count them.
Reference: none published for V2 (Video Swin: top-1 69.6, top-5 92.7). Not trained here.
    tools/dist_train.sh configs/video/swinv2_b_sthv2.py 8 --amp
"""
_base_ = [
    '../_base_/models/recognizer3d.py', '../_base_/datasets/sthv2.py',
    '../_base_/schedules/adamw_video_30e.py', '../_base_/video_runtime.py'
]
model = dict(
    backbone=dict(
        arch='base',
        window_size=(16, 7, 7),
        drop_path_rate=0.4,
        pretrained_window_sizes=(8, 8, 8),
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2', checkpoint='work_dirs/swinv2_b_k400/epoch_30.pth')),
    cls_head=dict(in_channels=1024, num_classes=174, label_smooth_eps=0.1))
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.05))
train_cfg = dict(max_epochs=60, val_interval=5)
_base_.param_scheduler[1].update(end=60, T_max=60)
