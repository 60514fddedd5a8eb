"""30 epochs of AdamW at batch 64 with cosine decay: Kinetics-400 in the Video Swin recipe.

The head starts anew and learns ten times as fast as the backbone. Loop, warm-up and decay count
epochs; a config with another length sets all three.
"""
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.02),
    constructor='swinv2_mm.SwinV2OptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2.5,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=30, T_max=30, eta_min=0)
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
