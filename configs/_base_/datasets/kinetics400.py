"""Kinetics-400 videos, 32 frames of every second one, as in the Video Swin recipe.

The lists hold lines `PATH LABEL`, paths relative to videos_train and videos_val. Tests take 4 clips
x 3 crops.
"""
data_root = 'data/kinetics400/'

train_pipeline = [
    dict(type='swinv2_mm.ReadVideo', bad='skip',
         sample=dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1)),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='RandomResizedCrop'),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')
]
val_pipeline = [
    dict(type='swinv2_mm.ReadVideo',
         sample=dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1,
                     test_mode=True)),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
]
test_pipeline = [
    dict(type='swinv2_mm.ReadVideo',
         sample=dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=4,
                     test_mode=True)),
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
        ann_file='kinetics400_train_list_videos.txt',
        data_prefix=dict(video='videos_train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        ann_file='kinetics400_val_list_videos.txt',
        data_prefix=dict(video='videos_val'),
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
        ann_file='kinetics400_val_list_videos.txt',
        data_prefix=dict(video='videos_val'),
        test_mode=True,
        pipeline=test_pipeline))
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
