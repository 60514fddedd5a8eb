"""SwinV2-B, 22K weights fine-tuned on ImageNet-1K at 384, windows 12 to 24, 30 epochs, batch 1024
(8 GPUs x 32 x 4).

From the paper (A2.1): 384, AdamW, 30 epochs, cosine, learning rate 4e-5, weight decay 1e-8, batch
1024; the 1,000 rows of the classifier are the matching ones of the 22K classifier. From the
official settings: drop path 0.2, 5 epochs of warm-up, clipping at 5, first and last rate,
augmentation (at 384 the test images are not cut).
Reference: top-1 87.1, top-5 98.2 (official zoo). 87.1 in the paper too, table 2. Not trained here.
    tools/dist_train.sh configs/cls/swinv2_b_w24_384_ft.py 8
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/adamw_ft_30e.py', '../_base_/cls_runtime.py'
]
model = dict(
    backbone=dict(
        arch='base',
        window_size=24,
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.2),
    head=dict(in_channels=1024),
    # Of the whole model, not of its backbone: it fills the classifier too.
    init_cfg=dict(
        type='swinv2_mm.PretrainedSwinV2',
        checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
        'swinv2_base_patch4_window12_192_22k.pth'))
optim_wrapper = dict(accumulative_counts=4)  # 8 x 32 x 4 = 1024
