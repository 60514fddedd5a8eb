"""SwinV2-T, trained at 256 with window 8, fine-tuned at 384 with window 12, 30 epochs, batch 1024
(8 GPUs x 128).

From the paper (A1): 30 epochs, cosine, learning rate 4e-5, weight decay 1e-8, the augmentation of the
training at 256. Not in the paper: 5 epochs of warm-up, clipping at 5, first and last rate, which are the
official settings of the larger models; drop path 0.2, that of the training. The paper does not say how
test images are cut: here they are resized alone, as the official settings do at 384.
Without training, it tests a checkpoint of swinv2_t_w8_256 at this size. Other sizes take options: see
docs/tables.md.
Reference: top-1 83.2 (paper, table 1, log-spaced CPB, W12; 82.4 without fine-tuning). Not trained here.
    tools/dist_train.sh configs/cls/swinv2_t_w12_384_ft.py 8
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/adamw_ft_30e.py', '../_base_/cls_runtime.py'
]
model = dict(
    backbone=dict(
        arch='tiny', window_size=12, pretrained_window_sizes=8, drop_path_rate=0.2),
    # Of the whole model, not of its backbone: it fills the classifier too.
    init_cfg=dict(
        type='swinv2_mm.PretrainedSwinV2',
        checkpoint='https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
        'swinv2_tiny_patch4_window8_256.pth'))
train_dataloader = dict(batch_size=128)
