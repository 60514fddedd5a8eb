"""SimMIM on SwinV2: a masked backbone, a linear decoder, L1 against locally normalised pixels."""
model = dict(
    type='SimMIM',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True),
    backbone=dict(type='swinv2_mm.MaskedSwinTransformerV2', arch='base', window_size=12,
                  drop_path_rate=0.1),
    neck=dict(type='SimMIMLinearDecoder', in_channels=1024, encoder_stride=32),
    head=dict(
        type='SimMIMHead', patch_size=4,
        loss=dict(type='swinv2_mm.NormalizedPixelLoss')))  # 47 x 47
