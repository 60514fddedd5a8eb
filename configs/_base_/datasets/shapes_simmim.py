"""Pictures of rendered shapes without labels, 128 x 128, six tenths of 32 x 32 patches hidden."""
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=128, crop_ratio_range=(0.67, 1.0),
         aspect_ratio_range=(3 / 4, 4 / 3)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25],
         direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='SimMIMMaskGenerator', input_size=128, mask_patch_size=32, model_patch_size=4,
         mask_ratio=0.6),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='data/shapes/', data_prefix='train', with_label=False,
        pipeline=train_pipeline))
