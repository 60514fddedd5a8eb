"""Your own segmentation maps: nano SwinV2 UperNet on CamVid street scenes, from scratch.

Reference: none published. Trained here, see docs/segmentation.md.
    python tools/train.py configs/seg/swinv2_n_upernet_camvid.py
    python tools/test.py configs/seg/swinv2_n_upernet_camvid.py \
        work_dirs/swinv2_n_upernet_camvid/iter_1500.pth
"""
_base_ = [
    '../_base_/models/upernet_nano.py', '../_base_/datasets/camvid.py',
    '../_base_/schedules/adamw_nano.py', '../_base_/seg_runtime.py'
]
# mmseg 1.2.2 cannot weigh classes beside ignored pixels without it
custom_imports = dict(imports=['swinv2_mm.utils.mmseg_loss'], allow_failed_imports=False)
max_iters = 1500
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(
        num_classes=11,
        loss_decode=dict(
            # Roots of (median share of pixels / share of the class), counted on the training maps.
            class_weight=[0.5, 0.4, 2.1, 0.4, 1.0, 0.7, 2.0, 2.0, 0.9, 2.5, 4.1])))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
train_cfg = dict(max_iters=max_iters, val_interval=250)
_base_.param_scheduler[1].end = max_iters
default_hooks = dict(checkpoint=dict(interval=250))
