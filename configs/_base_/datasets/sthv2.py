"""Something-Something v2, 32 frames spread over each whole video, as in the Video Swin recipe.

Left and right are part of the labels, so nothing is flipped. RandAugment takes torchvision's
operations, the same for all frames of a clip, where the recipe takes imgaug's. Tests take 1 clip x 3
crops. The lists hold lines `PATH LABEL`, paths relative to videos.
"""
data_root = 'data/sthv2/'

train_pipeline = [
    dict(type='swinv2_mm.ReadVideo', bad='skip', sample=dict(type='UniformSample', clip_len=32)),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='RandomResizedCrop'),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='TorchVisionWrapper', op='RandAugment', num_ops=4, magnitude=7),
    dict(type='RandomErasing', erase_prob=0.25),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')
]
val_pipeline = [
    dict(type='swinv2_mm.ReadVideo',
         sample=dict(type='UniformSample', clip_len=32, test_mode=True)),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
]
test_pipeline = [
    dict(type='swinv2_mm.ReadVideo',
         sample=dict(type='UniformSample', clip_len=32, test_mode=True)),
    dict(type='Resize', scale=(-1, 224)),
    dict(type='swinv2_mm.EvenCrops', crop_size=224, count=3),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        ann_file='sthv2_train_list_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        ann_file='sthv2_val_list_videos.txt',
        data_prefix=dict(video='videos'),
        test_mode=True,
        pipeline=val_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        ann_file='sthv2_val_list_videos.txt',
        data_prefix=dict(video='videos'),
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
