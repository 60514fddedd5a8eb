"""SwinV2-B, ImageNet-22K at 192, window 12, 90 epochs, batch 4096 (4 machines of 8 GPUs x 128).

From the paper (A2.1): 192, window 12, AdamW, 90 epochs with 5 of warm-up, cosine, learning rate
1e-3, weight decay 0.1, batch 4096, gradients clipped at 5, drop path 0.2. From the official
settings: the strengths of the augmentation, first and last rate. 21,841 classes; no validation.
Reference: none for 22K itself (fine-tuned to 1K at 384: top-1 87.1, see swinv2_b_w24_384_ft).
Not trained here.
    NNODES=4 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/cls/swinv2_b_22k_192.py 8
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet22k_192.py',
    '../_base_/schedules/adamw_90e.py', '../_base_/cls_runtime.py'
]
model = dict(
    data_preprocessor=dict(num_classes=21841),
    backbone=dict(arch='base', window_size=12, drop_path_rate=0.2),
    head=dict(num_classes=21841, in_channels=1024))
default_hooks = dict(checkpoint=dict(save_best=None))  # nothing to choose by
