"""ImageNet-1K without labels, 192 x 192, six tenths of its 32 x 32 patches hidden."""
train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='RandomResizedCrop', scale=192, crop_ratio_range=(0.67, 1.0),
         aspect_ratio_range=(3 / 4, 4 / 3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='SimMIMMaskGenerator', input_size=192, mask_patch_size=32, model_patch_size=4,
         mask_ratio=0.6),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageNet', data_root='data/imagenet/', split='train', pipeline=train_pipeline))
