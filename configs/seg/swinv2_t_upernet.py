"""SwinV2-T UperNet, ADE20K, crop 512, window 16, 160K, batch 16 (8 GPUs x 2).

From the paper (A1): crop 512, window 16, AdamW, learning rate 4e-5, weight decay 0.05, layer-wise
decay 0.95, linear decay after 1,500 iterations of warm-up, batch 16, 160K, drop path 0.3. The paper
names no head here: UperNet is that of its table 4. From the official Swin V1 recipe, where the
paper is silent: heads, betas, start of the warm-up, scales, crops.
The paper's windows 20 and 32: --cfg-options model.backbone.window_size=32 (to train and to test).
Reference: mIoU 47.0 on the validation set at window 16, 47.7 at 20, 47.8 at 32 (paper, table 1,
log-spaced CPB; head and number of scales in the test are not stated). Not trained here.
    tools/dist_train.sh configs/seg/swinv2_t_upernet.py 8
    tools/dist_test.sh configs/seg/swinv2_t_upernet.py CHECKPOINT 8 --tta
"""
_base_ = [
    '../_base_/models/upernet.py', '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/adamw_160k.py', '../_base_/seg_runtime.py'
]
model = dict(
    backbone=dict(
        arch='tiny',
        window_size=16,
        pretrained_window_sizes=8,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='swinv2_mm.PretrainedSwinV2',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
            'swinv2_tiny_patch4_window8_256.pth')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95))
