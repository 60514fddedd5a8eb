"""SwinV2-B, fine-tuned on ImageNet-1K at 224 after SimMIM, window 14, 100 epochs, batch 2048
(16 GPUs x 128).

From the official SwinV2 code: size, windows 14 from 12, 12, 12, 6, drop path 0.1, learning rate
5e-3 with layer-wise decay 0.75, weight decay 0.05, 20 epochs of warm-up, first and last rate,
clipping at 5, augmentation. The backbone starts from the file that swinv2_b_simmim.py publishes,
renamed to `work_dirs/swinv2_b_simmim/encoder.safetensors`; give another by
`--cfg-options model.backbone.init_cfg.checkpoint=FILE`, an official one of SimMIM too.
Reference: none for 800 epochs; for 500,000 iterations ImageNet top-1 85.04.
Not trained here.
    NNODES=2 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/mim/swinv2_b_simmim_ft.py 8 \
        --amp
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_256.py',
    '../_base_/schedules/adamw_300e.py', '../_base_/cls_runtime.py'
]
model = dict(
    backbone=dict(
        arch='base',
        window_size=14,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.1,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='work_dirs/swinv2_b_simmim/encoder.safetensors')),
    head=dict(in_channels=1024))
_base_.train_dataloader.dataset.pipeline[1].scale = 224
for loader in (_base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.pipeline[1].scale = 256  # int(256 / 224 * 224)
    loader.dataset.pipeline[2].crop_size = 224
train_cfg = dict(max_epochs=100)
optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=dict(layer_decay_rate=0.75))
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-4, by_epoch=True, begin=0, end=20,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=100,
         convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=2048)
