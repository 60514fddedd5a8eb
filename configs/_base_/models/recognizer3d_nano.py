"""Video classifier small enough to train on two CPU cores: nano SwinV2, average, linear layer."""
model = dict(
    type='Recognizer3D',
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW'),
    backbone=dict(
        type='swinv2_mm.SwinTransformerV2Video', arch='nano', patch_size=(2, 4, 4),
        window_size=(2, 4, 4), drop_path_rate=0.0, out_indices=(3,)),
    cls_head=dict(
        type='I3DHead', in_channels=256, num_classes=400, spatial_type='avg', dropout_ratio=0.0,
        average_clips='prob'))
