"""SwinV2-B, SimMIM on ImageNet-1K, 192 x 192, window 12, 800 epochs, batch 2048 (16 GPUs x 128).

From the official SwinV2 code: size, window, drop path 0.1, six tenths of 32 x 32 patches hidden,
crops, L1 against pixels normalised by the 47 x 47 around them, AdamW, learning rate 4e-4, weight
decay 0.05, warm-up, step at epoch 700, clipping at 5, mixed precision.
Reference: none for 800 epochs; for 500,000 iterations ImageNet top-1 85.04 after fine-tuning.
Not trained here.
    NNODES=2 NODE_RANK=0 MASTER_ADDR=... tools/dist_train.sh configs/mim/swinv2_b_simmim.py 8 \
        --amp
    python tools/model_converters/publish.py work_dirs/swinv2_b_simmim/epoch_800.pth \
        swinv2_b_simmim.safetensors --backbone-only --window-size 12,12,12,6
"""
_base_ = [
    '../_base_/models/simmim.py', '../_base_/datasets/imagenet_simmim_192.py',
    '../_base_/schedules/simmim_800e.py', '../_base_/cls_runtime.py'
]
default_hooks = dict(checkpoint=dict(interval=10, save_best=None))
