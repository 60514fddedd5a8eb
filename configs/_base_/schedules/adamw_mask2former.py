"""368,750 iterations of AdamW at batch 16, 50 epochs of COCO, as mmdet trains Mask2Former.

A config with another length sets both the loop and the end and steps of the schedule.
"""
max_iters = 368750
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    constructor='swinv2_mm.SwinV2OptimWrapperConstructor',
    paramwise_cfg=dict(
        backbone_lr_mult=0.1,
        custom_keys={
            'query_embed': dict(decay_mult=0.0), 'query_feat': dict(decay_mult=0.0),
            'level_embed': dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=0.01, norm_type=2))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[327778, 355092],
         gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
