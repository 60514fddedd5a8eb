"""Films of one moving shape, the class being the motion, as tools/dataset/make_motions.py writes.

A clip is 4 of the 8 frames of a film; tests take both halves. No flips: they turn one class into another.
"""
data_root = 'data/motions/'
metainfo = dict(classes=('left', 'right', 'up', 'down', 'shrinking', 'growing'))

train_pipeline = [
    dict(type='swinv2_mm.ReadVideo', bad='skip',
         sample=dict(type='SampleFrames', clip_len=4, frame_interval=1, num_clips=1)),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')
]
test_pipeline = [
    dict(type='swinv2_mm.ReadVideo',
         sample=dict(type='SampleFrames', clip_len=4, frame_interval=1, num_clips=2,
                     test_mode=True)),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        ann_file='train.txt',
        metainfo=metainfo,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        ann_file='val.txt',
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric', metric_list=('top_k_accuracy', 'mean_class_accuracy'),
                     metric_options=dict(top_k_accuracy=dict(topk=(1,))))
test_evaluator = val_evaluator
