"""Single rendered shapes with a map each, as tools/dataset/make_crops.py writes; 0 is background."""
data_root = 'data/shapes_crops/'
metainfo = dict(
    classes=('background', 'disc', 'square', 'triangle', 'star', 'ring', 'cross'),
    palette=[(0, 0, 0), (230, 60, 60), (60, 160, 230), (90, 200, 90), (240, 190, 40),
             (180, 90, 220), (60, 210, 200)])
crop_size = (32, 32)  # height, width; whole pictures, halved: small ones are learnt much faster

train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='swinv2_mm.LoadMap', bad='skip'),
    dict(type='Resize', scale=crop_size),
    dict(type='RandomFlip', prob=0.5),  # not upside down: the shapes stand upright
    dict(type='PhotoMetricDistortion', hue_delta=90),  # colours tell nothing of the kind
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=crop_size),
    dict(type='LoadAnnotations'),  # after resizing: judged on maps of the pictures' own size
    dict(type='PackSegInputs')
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='train', seg_map_path='train_maps'),
        metainfo=metainfo,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='val', seg_map_path='val_maps'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
