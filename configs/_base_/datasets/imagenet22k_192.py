"""ImageNet-22K at 192 for pre-training: 21,841 classes, no validation.

`meta/train.txt` lists "FOLDER/IMAGE LABEL", labels in the order of the WordNet numbers; without the
list the folders of `train` are read, in their alphabetical order, which is the same and takes long.
As the official defaults: bicubic crops, RandAugment (rand-m9-mstd0.5-inc1), random erasing at 0.25
with random pixels. Their colour jitter of 0.4 is not here, because timm, which applies them, leaves
it out where there is RandAugment. Colours are BGR, the order in which images are read.
"""
data_root = 'data/imagenet22k/'

train_pipeline = [
    dict(type='swinv2_mm.LoadImage', bad='skip'),
    dict(type='RandomResizedCrop', scale=192, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',  # every pixel another colour
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395]),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageNet21k', data_root=data_root, split='train', pipeline=train_pipeline))
