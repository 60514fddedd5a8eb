"""Detection configs: each builds, steps and predicts, and holds the published recipe."""
import re

import pytest
import torch
from config_checks import ZOO, assert_decay, assert_published, build, docstring, load
from conftest import awaken
from helpers import predict, sample, shrink, train_step
from mmengine.model import revert_sync_batchnorm

from swinv2_mm import ARCHS

CASCADES = {size: f'configs/det/swinv2_{size[0]}_cascade.py'
            for size in ('tiny', 'small', 'base', 'large')}
COCO = {**CASCADES, 'mask r-cnn tiny': 'configs/det/swinv2_t_maskrcnn.py'}

# What was published. A path into the config (numbers index lists) -> value.
# A1: paper, appendix A1, COCO. V1: official Swin V1 detection recipe, for what A1 leaves open.
TRAINING = {
    'train_cfg.max_epochs': 36,  # A1: 3x
    'optim_wrapper.optimizer.type': 'AdamW',  # A1
    'optim_wrapper.optimizer.lr': 1e-4,  # A1
    'optim_wrapper.optimizer.weight_decay': 0.05,  # A1
    'optim_wrapper.optimizer.betas': (0.9, 0.999),  # V1
    'optim_wrapper.clip_grad': None,  # V1: none
    'auto_scale_lr.base_batch_size': 16,  # A1
    'param_scheduler.0.type': 'LinearLR',  # V1: linear warm-up
    'param_scheduler.0.start_factor': 1e-3,  # V1
    'param_scheduler.0.end': 500,  # V1
    'param_scheduler.0.by_epoch': False,  # V1: 500 iterations
    'param_scheduler.1.type': 'MultiStepLR',  # V1
    'param_scheduler.1.milestones': [27, 33],  # V1
    'param_scheduler.1.gamma': 0.1,  # V1
    'param_scheduler.1.by_epoch': True,  # V1
    'model.backbone.window_size': 16,  # A1
    'model.data_preprocessor.pad_size_divisor': 32,  # V1
    'model.neck.type': 'FPN',  # V1
    'model.neck.out_channels': 256,  # V1
    'model.neck.num_outs': 5,  # V1
    'model.rpn_head.anchor_generator.scales': [8],  # V1
    'model.rpn_head.anchor_generator.ratios': [0.5, 1.0, 2.0],  # V1
    'model.test_cfg.rcnn.score_thr': 0.05,  # V1
    'model.test_cfg.rcnn.nms': dict(type='nms', iou_threshold=0.5),  # V1
    'model.test_cfg.rcnn.max_per_img': 100,  # V1
}
AUGMENTATION = {
    'train_pipeline.2': dict(type='RandomFlip', prob=0.5),  # V1
    'train_pipeline.3.type': 'RandomChoice',  # V1: one of two, at even odds
    'train_pipeline.3.prob': None,  # V1: 50/50
    'train_pipeline.3.transforms.0.0.scales': [(s, 1333) for s in range(480, 801, 32)],  # A1, V1
    'train_pipeline.3.transforms.1.0.scales': [(400, 1333), (500, 1333), (600, 1333)],  # V1
    'train_pipeline.3.transforms.1.1.type': 'RandomCrop',  # V1
    'train_pipeline.3.transforms.1.1.crop_type': 'absolute_range',  # V1
    'train_pipeline.3.transforms.1.1.crop_size': (384, 600),  # V1
    'train_pipeline.3.transforms.1.2.scales': [(s, 1333) for s in range(480, 801, 32)],  # V1
    'test_pipeline.1': dict(type='Resize', scale=(1333, 800), keep_ratio=True),  # A1, V1
}
STDS = ([.1, .1, .2, .2], [.05, .05, .1, .1], [.033, .033, .067, .067])  # V1
CASCADE = {  # V1, all of it: the paper names the detector and no more
    'model.roi_head.num_stages': 3,
    'model.roi_head.stage_loss_weights': [1, 0.5, 0.25],
    **{f'model.roi_head.bbox_head.{i}.{key}': value for i, stds in enumerate(STDS)
       for key, value in {
           'type': 'ConvFCBBoxHead', 'num_shared_convs': 4, 'num_shared_fcs': 1,
           'reg_class_agnostic': False, 'reg_decoded_bbox': True, 'norm_cfg.type': 'SyncBN',
           'loss_bbox': dict(type='GIoULoss', loss_weight=10.0),
           'bbox_coder.target_stds': stds}.items()},
    **{f'model.train_cfg.rcnn.{i}.assigner.{key}': iou for i, iou in enumerate((.5, .6, .7))
       for key in ('pos_iou_thr', 'neg_iou_thr', 'min_pos_iou')},
    **{f'model.roi_head.mask_head.{i}.type': 'FCNMaskHead' for i in range(3)},
}
# Drop path: V1 at 3x; it has no L, and ours takes that of B. Files and the windows they were
# trained with (zoo, facts of the yaml files): w8 at 256 has 8 throughout; 22K at 192, w12, has 6 in
# its last stage, whose map is 6 x 6.
SIZES = {
    'tiny': ('tiny', 0.2, 'swinv2_tiny_patch4_window8_256.pth', 8),
    'small': ('small', 0.2, 'swinv2_small_patch4_window8_256.pth', 8),
    'base': ('base', 0.3, 'swinv2_base_patch4_window8_256.pth', 8),
    'large': ('large', 0.3, 'swinv2_large_patch4_window12_192_22k.pth', [12, 12, 12, 6]),
    'mask r-cnn tiny': ('tiny', 0.2, 'swinv2_tiny_patch4_window8_256.pth', 8),
}
DET = [*COCO.values(), 'configs/det/swinv2_n_cascade_bccd.py', 'configs/demo/det_nano.py']


@pytest.mark.parametrize('size', COCO)
def test_coco_configs_resolve_to_the_published_recipe(size):
    cfg = load(COCO[size])
    arch, drop_path, stem, pretrained = SIZES[size]
    published = TRAINING | AUGMENTATION | {
        'model.backbone.arch': arch, 'model.backbone.drop_path_rate': drop_path,
        'model.backbone.pretrained_window_sizes': pretrained,
        'model.backbone.init_cfg.type': 'swinv2_mm.PretrainedSwinV2',
        'model.backbone.init_cfg.checkpoint': ZOO + stem,
        'model.type': 'MaskRCNN'}
    if size in CASCADES:
        published |= CASCADE | {'model.type': 'CascadeRCNN'}
    assert_published(cfg, published)
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline


@pytest.mark.parametrize('size', COCO)
def test_the_command_of_a_coco_config_trains_at_the_published_batch(size):
    cfg = load(COCO[size])
    gpus = int(re.search(r'dist_train\.sh \S+ (\d+)', docstring(COCO[size]))[1])
    assert gpus * cfg.train_dataloader.batch_size == 16  # A1
    assert not cfg.auto_scale_lr.enable


@pytest.mark.parametrize('name', DET)
def test_the_whole_model_has_the_channels_and_blocks_its_parts_expect(name):
    cfg = load(name)
    model = build(cfg, 'meta')
    backbone = model.backbone
    arch = ARCHS[cfg.model.backbone.arch]
    assert [len(stage.blocks) for stage in backbone.layers] == list(arch.depths)
    assert cfg.model.neck.in_channels == backbone.out_channels
    assert backbone.out_channels == [arch.embed_dims << i for i in range(4)]
    assert backbone.out_strides == cfg.model.rpn_head.anchor_generator.strides[:4]
    assert backbone.out_strides == cfg.model.roi_head.bbox_roi_extractor.featmap_strides
    rates = [block.drop_path.rate for stage in backbone.layers for block in stage.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(cfg.model.backbone.drop_path_rate)


@pytest.mark.parametrize('name', DET)
def test_a_training_step_reaches_every_parameter_and_a_prediction_runs(name):
    cfg = load(name)
    model_cfg = shrink(cfg.model)
    # The published blocks are built above; two a stage show the shift, and take a second.
    model_cfg.backbone.arch = ARCHS[model_cfg.backbone.arch]._asdict() | dict(depths=(2, 2, 2, 2))
    model_cfg.backbone.drop_path_rate = 0.0  # a dropped path has no gradient
    model_cfg.test_cfg.rcnn.score_thr = 0.0
    torch.manual_seed(0)
    # The runner does the same where there is no distributed training.
    model = revert_sync_batchnorm(build(cfg))
    model.init_weights()
    awaken(model.backbone)
    masks = bool(model_cfg.roi_head.get('mask_head'))
    losses = train_step(model, sample(masks=masks))
    for key, value in losses.items():
        for loss in value if isinstance(value, list) else [value]:
            assert loss.isfinite().all(), key
    assert any('loss_mask' in key for key in losses) == masks
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert [key for key, p in model.backbone.named_parameters()
            if p.requires_grad and not (p.grad.any() and p.grad.isfinite().all())] == []

    found = predict(model, sample(masks=masks))
    assert len(found) and found.bboxes.isfinite().all()
    heads = model_cfg.roi_head.bbox_head
    assert found.labels.max() < (heads[0] if isinstance(heads, list) else heads).num_classes
    assert ('masks' in found) == masks
    if masks:
        assert found.masks.shape == (len(found), 96, 128)


@pytest.mark.parametrize('name', DET)
def test_decay_leaves_out_vectors_position_network_and_temperature_and_nothing_else(name):
    assert_decay(load(name))
