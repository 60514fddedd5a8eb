"""BCCD cells: single cells cut from microscope photos of blood, 96 x 96, one folder a class."""
data_root = 'data/bccd_cells/'
# The folders' names in their alphabetical order, which mmpretrain numbers labels by.
metainfo = dict(classes=('Platelets', 'RBC', 'WBC'))

train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.6, 1.0)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25],
         direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
    dict(type='PackInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96)),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', metainfo=metainfo,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=60,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='val', metainfo=metainfo,
        test_mode=True, pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=60,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='test', metainfo=metainfo,
        test_mode=True, pipeline=test_pipeline))
# The mean recall of the classes is the balanced accuracy, which a frequent class does not govern.
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='SingleLabelMetric', items=('recall',), average='macro')
]
test_evaluator = val_evaluator
