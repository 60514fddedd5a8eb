"""90 epochs of AdamW at batch 4096 without validation: ImageNet-22K in the paper (A2.1).

Rates are the official base values times 4096 / 512. The cosine begins where the warm-up ends.
"""
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    constructor='swinv2_mm.SwinV2OptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=90,
         convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=4096)
