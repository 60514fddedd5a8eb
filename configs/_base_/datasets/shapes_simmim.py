"""Pictures of single shapes without labels, 64 x 64, six tenths of the 16 x 16 patches hidden."""
train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.67, 1.0),
         aspect_ratio_range=(3 / 4, 4 / 3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='SimMIMMaskGenerator', input_size=64, mask_patch_size=16, model_patch_size=4,
         mask_ratio=0.6),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='data/shapes_crops/', data_prefix='train',
        with_label=False, pipeline=train_pipeline))
