"""SwinV2-B on Kinetics-600, window (8, 7, 7) at 224, 30 epochs, batch 64 (8 GPUs x 8).

The Video Swin recipe with a V2 backbone from 22K weights: 32 frames of every second one, learning rate
3e-4, a tenth of it in the backbone, weight decay 0.05, drop path 0.2, tests of 4 clips x 3 crops. Batch
64 without accumulation and float16 by --amp as in the configs of Kinetics-400, whose pipelines these
are. Lists and videos go to data/kinetics600, named as those of Kinetics-400.
Reference: none published for V2 (Video Swin: top-1 84.0, top-5 96.5). Not trained here.
    tools/dist_train.sh configs/video/swinv2_b_k600.py 8 --amp
"""
_base_ = [
    '../_base_/models/recognizer3d.py', '../_base_/datasets/kinetics400.py',
    '../_base_/schedules/adamw_video_30e.py', '../_base_/video_runtime.py'
]
model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.2,
        pretrained_window_sizes=[(0, 12, 12), (0, 12, 12), (0, 12, 12), (0, 6, 6)],
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_base_patch4_window12_192_22k.pth')),
    cls_head=dict(in_channels=1024, num_classes=600))
data_root = 'data/kinetics600/'
for loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.data_root = data_root
    loader.dataset.ann_file = loader.dataset.ann_file.replace('kinetics400', 'kinetics600')
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.05))
