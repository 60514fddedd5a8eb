"""SimMIM configs: each holds the published recipe, steps, and masks what it says."""
import re

import cv2
import numpy as np
import pytest
import torch
from config_checks import ZOO, assert_decay, assert_published, build, docstring, load
from conftest import awaken
from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

from swinv2_mm import ARCHS

BASE, TINY = 'configs/mim/swinv2_b_simmim.py', 'configs/mim/swinv2_t_simmim.py'
TUNED, DEMO = 'configs/mim/swinv2_b_simmim_ft.py', 'configs/demo/mim_nano.py'

# Path into the config (numbers index lists) -> value. S2: the official SwinV2 SimMIM recipe; S1:
# that of Swin V1, 100 epochs. The official code states rates at batch 512.
MASKED = {
    'model.type': 'SimMIM',
    'model.backbone.window_size': 12,  # S2
    'model.neck.encoder_stride': 32,  # S2: 1 x 1 convolution and PixelShuffle(32)
    'model.head.loss.type': 'swinv2_mm.NormalizedPixelLoss',  # S2: normalised targets
    'optim_wrapper.optimizer.type': 'AdamW',  # S2
    'optim_wrapper.optimizer.betas': (0.9, 0.999),  # S2
    'optim_wrapper.optimizer.weight_decay': 0.05,  # S2
    'optim_wrapper.clip_grad.max_norm': 5.0,  # S2
    'train_dataloader.dataset.type': 'ImageNet',
    'train_dataloader.dataset.split': 'train',
    'train_dataloader.dataset.pipeline.1.scale': 192,  # S2
    'train_dataloader.dataset.pipeline.1.crop_ratio_range': (0.67, 1.0),  # S2
    'train_dataloader.dataset.pipeline.1.aspect_ratio_range': (3 / 4, 4 / 3),  # S2
    'train_dataloader.dataset.pipeline.2.prob': 0.5,  # S2: flip
    'train_dataloader.dataset.pipeline.3': dict(
        type='SimMIMMaskGenerator', input_size=192, mask_patch_size=32, model_patch_size=4,
        mask_ratio=0.6),  # S2
    'param_scheduler.0.end': 10,  # S2, S1: warm-up epochs
    'param_scheduler.0.begin': 0,
    'param_scheduler.0.by_epoch': True,
    'val_dataloader': None,
}
PUBLISHED = {
    BASE: MASKED | {
        'model.backbone.arch': 'base',  # S2
        'model.backbone.drop_path_rate': 0.1,  # S2
        'optim_wrapper.optimizer.lr': 1e-4 * 2048 / 512,  # S2
        'param_scheduler.0.start_factor': 0.005,  # S2: 5e-7 / 1e-4
        'param_scheduler.1.type': 'MultiStepLR',  # S2
        'param_scheduler.1.milestones': [700],  # S2
        'param_scheduler.1.gamma': 0.1,  # S2
        'train_cfg.max_epochs': 800,  # S2
        'train_dataloader.batch_size': 128,  # S2: 16 x 128
        'auto_scale_lr.base_batch_size': 2048},  # S2
    TINY: MASKED | {
        'model.backbone.arch': 'tiny',
        'model.backbone.drop_path_rate': 0.0,  # S1
        'optim_wrapper.optimizer.lr': 2e-4 * 256 / 512,  # S1
        'param_scheduler.0.start_factor': 0.005,  # S1: 1e-6 / 2e-4
        'param_scheduler.1.type': 'CosineAnnealingLR',  # S1
        'param_scheduler.1.begin': 10,  # S1
        'param_scheduler.1.end': 100,  # S1
        'param_scheduler.1.eta_min': 1e-5 * 256 / 512,  # S1
        'train_cfg.max_epochs': 100,  # S1
        'train_dataloader.batch_size': 256,
        'auto_scale_lr.base_batch_size': 256},
    TUNED: {
        'model.type': 'ImageClassifier',
        'model.backbone.arch': 'base',
        'model.backbone.window_size': 14,  # S2
        'model.backbone.pretrained_window_sizes': [12, 12, 12, 6],  # S2
        'model.backbone.drop_path_rate': 0.1,  # S2
        'optim_wrapper.optimizer.lr': 1.25e-3 * 2048 / 512,  # S2
        'optim_wrapper.optimizer.weight_decay': 0.05,  # S2
        'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.75,  # S2
        'optim_wrapper.clip_grad.max_norm': 5.0,  # S2
        'param_scheduler.0.end': 20,  # S2: warm-up epochs
        'param_scheduler.0.start_factor': 2e-4,  # S2: 2.5e-7 / 1.25e-3
        'param_scheduler.1.type': 'CosineAnnealingLR',  # S2
        'param_scheduler.1.end': 100,  # S2
        'param_scheduler.1.eta_min': 2.5e-7 * 2048 / 512,  # S2
        'train_cfg.max_epochs': 100,  # S2
        'train_dataloader.batch_size': 128,  # S2: 16 x 128
        'auto_scale_lr.base_batch_size': 2048},  # S2
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_configs_resolve_to_the_published_recipe(name):
    assert_published(load(name), PUBLISHED[name])


@pytest.mark.parametrize('name', [*PUBLISHED, DEMO])
def test_the_parts_of_the_model_fit_and_decay_is_the_official_one(name):
    cfg = load(name)
    backbone = build(cfg, 'meta').backbone
    arch = ARCHS[cfg.model.backbone.arch]
    assert [len(stage.blocks) for stage in backbone.layers] == list(arch.depths)
    part = 'head' if name == TUNED else 'neck'
    assert cfg.model[part].in_channels == backbone.out_channels[-1] == arch.embed_dims * 8
    assert_decay(cfg)


def test_targets_of_the_base_recipe_are_normalised_over_47_pixels():
    for name in (BASE, TINY):
        assert build(load(name), 'meta').head.loss_module.window == 47


@pytest.mark.parametrize('name', [BASE, TINY, DEMO])
def test_a_training_step_reaches_every_parameter(name):
    cfg = load(name)
    cfg.model.backbone.update(arch=ARCHS['nano']._asdict(), drop_path_rate=0.0)
    cfg.model.neck.in_channels = 256
    cfg.train_pipeline[3].update(input_size=64)
    squares = 64 // cfg.train_pipeline[3].mask_patch_size
    torch.manual_seed(0)
    model = build(cfg)
    model.init_weights()
    awaken(model.backbone)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        last = [TRANSFORMS.build(step) for step in cfg.train_pipeline[3:]]
    data = dict(img=np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8),
                img_path='none', ori_shape=(64, 64), img_shape=(64, 64))
    for step in last:
        data = step(data)
    mask = data['data_samples'].mask
    assert mask.shape == (16, 16)
    assert mask.sum() == (16 // squares) ** 2 * -(-squares ** 2 * 3 // 5)  # ceil of six tenths
    ready = model.data_preprocessor(dict(
        inputs=data['inputs'][None], data_samples=[data['data_samples']]), True)
    loss = model(**ready, mode='loss')['loss']
    loss.backward()
    assert loss.isfinite()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_commands_train_at_the_published_batch():
    for name, gpus in ((BASE, 16), (TINY, 1), (TUNED, 16)):
        cfg = load(name)
        assert gpus * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size
        text = docstring(name)
        assert ('NNODES=2' in text and f'{name} 8' in text) == (gpus == 16)


def test_fine_tuning_starts_from_the_file_that_pre_training_publishes():
    assert not load(TUNED).model.backbone.init_cfg.checkpoint.startswith(ZOO)
    assert load(TUNED).model.backbone.init_cfg.checkpoint in docstring(TUNED)


def test_the_config_of_your_own_images_reads_them_without_labels(tmp_path):
    page = (ROOT / 'docs/pretraining.md').read_text()
    text = re.search(r'<!-- test: own-images -->\n```python\n(.*?)```', page, re.DOTALL)[1]
    root = tmp_path / 'data'
    for name in ('a.png', 'deeper/b.png'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.full((200, 220, 3), 90, np.uint8))
    text = text.replace("'configs/", f"'{ROOT}/configs/").replace("'data/mine/'", f"'{root}/'")
    (tmp_path / 'my_simmim.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'my_simmim.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 2
    assert dataset[1]['inputs'].shape == (3, 192, 192)
    assert dataset[1]['data_samples'].mask.shape == (48, 48)
