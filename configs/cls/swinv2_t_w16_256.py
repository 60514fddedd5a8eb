"""SwinV2-T, ImageNet-1K from scratch at 256, window 16, 300 epochs, batch 1024 (8 GPUs x 128).

From the paper (A1): 256, AdamW, 300 epochs with 20 of warm-up, cosine, learning rate 1e-3, weight
decay 0.05, batch 1024, gradients clipped at 5, drop path 0.2. From the official settings: window 16
(8 in the last stage, whose map is 8 x 8), the strengths of the augmentation, first and last rate.
Reference: top-1 82.8, top-5 96.2 (official zoo, swinv2_tiny_patch4_window16_256). Not trained here.
    tools/dist_train.sh configs/cls/swinv2_t_w16_256.py 8
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_256.py',
    '../_base_/schedules/adamw_300e.py', '../_base_/cls_runtime.py'
]
model = dict(
    backbone=dict(arch='tiny', window_size=16, drop_path_rate=0.2))
