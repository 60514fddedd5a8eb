"""SwinV2-L on Kinetics-400, window (8, 7, 7) at 224, 30 epochs, batch 64 (8 GPUs x 8).

The paper trains only its giant on videos. This is the Video Swin recipe with a V2 backbone: 32
frames of every second one, learning rate 1e-3, a tenth of it in the backbone, tests of 4 clips x 3
crops. Weight decay 0.05 and drop path 0.4 as in mmaction2, which has the only published recipe of
this size. Two points on which official code and mmaction2 differ are as in mmaction2: batch 64
without accumulation, and float16 by --amp. Image weights are inflated, so that equal frames give
the image's features.
Windows (8, 8, 8) and (8, 16, 16) divide the maps of 256 x 256. For these, one of them and
    --cfg-options model.backbone.window_size="(8,8,8)"
    train_dataloader.dataset.pipeline.3.scale="(256,256)"
    val_dataloader.dataset.pipeline.2.crop_size=256
    test_dataloader.dataset.pipeline.1.scale="(-1,256)"
    test_dataloader.dataset.pipeline.2.crop_size=256
Reference: none published for V2 (Video Swin from 22K weights: top-1 83.1, top-5 95.9).
Not trained here.
    tools/dist_train.sh configs/video/swinv2_l_k400.py 8 --amp
"""
_base_ = [
    '../_base_/models/recognizer3d.py', '../_base_/datasets/kinetics400.py',
    '../_base_/schedules/adamw_video_30e.py', '../_base_/video_runtime.py'
]
model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.4,
        pretrained_window_sizes=[(0, 12, 12), (0, 12, 12), (0, 12, 12), (0, 6, 6)],
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_large_patch4_window12_192_22k.pth')),
    cls_head=dict(in_channels=1536))
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
