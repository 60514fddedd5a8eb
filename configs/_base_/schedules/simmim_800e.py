"""800 epochs of AdamW at batch 2048, one step down at 700: official SimMIM of SwinV2."""
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='swinv2_mm.SwinV2OptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    # From 5e-7 at batch 512, which is 2e-6 here.
    dict(type='LinearLR', start_factor=0.005, by_epoch=True, begin=0, end=10,
         convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[700], gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=2048)
