"""30 epochs of AdamW at batch 1024 from pretrained weights: ImageNet-1K in the paper (A2.1).

Rates are the official base values times 1024 / 512. The warm-up of 5 epochs and the last rate are
the official code's; the paper mentions neither. The cosine begins where the warm-up ends.
"""
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    constructor='swinv2_mm.SwinV2OptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=4e-7, by_epoch=True, begin=5, end=30,
         convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
