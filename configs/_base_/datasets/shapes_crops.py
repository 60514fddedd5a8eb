"""Rendered shapes, one a picture, one folder a kind, as written by tools/dataset/make_crops.py."""
data_root = 'data/shapes_crops/'
# The folders' names in their alphabetical order, which mmpretrain numbers labels by.
metainfo = dict(classes=('cross', 'disc', 'ring', 'square', 'star', 'triangle'))

train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    # Half the size of the images: a step takes a quarter of the time.
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.85, 1.0), interpolation='area'),
    dict(type='RandomFlip', prob=0.5),  # not upside down: the shapes stand upright
    # Colours tell nothing of the kind, so that any others are as good.
    dict(type='ColorJitter', hue=0.5, backend='cv2'),
    dict(type='PackInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), interpolation='area'),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', metainfo=metainfo,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='val', metainfo=metainfo,
        test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
