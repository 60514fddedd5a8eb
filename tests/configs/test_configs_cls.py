"""Classification configs: each builds, steps and predicts, and holds the published recipe."""
import re

import numpy as np
import pytest
import torch
from config_checks import LEAVES, ZOO, assert_decay, assert_published, build, docstring, load
from conftest import awaken
from helpers import train_step

from swinv2_mm import ARCHS

pytest.importorskip('mmpretrain')
CLS = [name for name in LEAVES if name.startswith('configs/cls/')] + ['configs/demo/cls_nano.py']


def leaf(name):
    return f'configs/cls/swinv2_{name}.py'


SCRATCH = {leaf(f'{size}_w{window}_256'): (size, window) for size in 'tsb' for window in (8, 16)}
PRETRAIN = {leaf(f'{size}_22k_192'): size for size in 'bl'}
FINE_TUNE = {leaf(f'{size}_w{window}_{side}_ft'): (size, window, side)
             for size in 'bl' for window, side in ((16, 256), (24, 384))}
GIANT = leaf('g_640_ft')
GROWN = leaf('t_w12_384_ft')
IMAGENET = [*SCRATCH, *PRETRAIN, *FINE_TUNE, GIANT, GROWN]

# What was published. A path into the config (numbers index lists) -> value.
# A1, A2.1, A2.2: paper, appendix. MS: official yaml files and defaults (rates are base values times
# the batch / 512). TIMM: what the library does that the official code hands these settings to.
EVERYWHERE = {
    'optim_wrapper.optimizer.type': 'AdamW',  # A1, A2.1, A2.2
    'optim_wrapper.optimizer.betas': (0.9, 0.999),  # MS
    'optim_wrapper.optimizer.eps': 1e-8,  # MS
    'param_scheduler.0.type': 'LinearLR',  # A1, A2.1
    'param_scheduler.0.start_factor': 1e-3,  # MS: 5e-7 / 5e-4, 1.25e-7 / 1.25e-4, 2e-8 / 2e-5
    'param_scheduler.0.begin': 0,
    'param_scheduler.1.type': 'CosineAnnealingLR',  # A1, A2.1
    'custom_hooks': None,  # MS: no average of weights
    'model.head.loss.label_smooth_val': 0.1,  # MS
    'train_pipeline.1.type': 'RandomResizedCrop',  # MS, TIMM: area 0.08 to 1, ratio 3/4 to 4/3
    'train_pipeline.1.crop_ratio_range': None,  # mmpretrain's default is (0.08, 1)
    'train_pipeline.1.aspect_ratio_range': None,  # mmpretrain's default is (3/4, 4/3)
    'train_pipeline.1.interpolation': 'bicubic',  # MS
    'train_pipeline.1.backend': 'pillow',  # MS: cv2's bicubic does not smooth when it shrinks
    'train_pipeline.2': dict(type='RandomFlip', prob=0.5),  # TIMM
    'train_pipeline.3.type': 'RandAugment',  # A1, A2.1, A2.2
    'train_pipeline.3.policies': 'timm_increasing',  # MS: inc1
    'train_pipeline.3.num_policies': 2,  # TIMM: n2 where it is not given
    'train_pipeline.3.magnitude_level': 9,  # MS: m9
    'train_pipeline.3.total_level': 10,  # TIMM
    'train_pipeline.3.magnitude_std': 0.5,  # MS: mstd0.5
    'train_pipeline.3.hparams.interpolation': 'bicubic',  # MS, TIMM
    'train_pipeline.4.type': 'RandomErasing',  # A1, A2.1, A2.2
    'train_pipeline.4.erase_prob': 0.25,  # MS
    'train_pipeline.4.mode': 'rand',  # MS: pixel
    'train_pipeline.4.min_area_ratio': 0.02,  # TIMM
    'train_pipeline.4.max_area_ratio': 1 / 3,  # TIMM
}
MIXED = {
    'model.train_cfg.augments': [  # A1, A2.1; strengths MS
        dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)],
    'model.train_cfg.probs': None,  # MS: one of the two on every batch, at even odds
    'optim_wrapper.clip_grad.max_norm': 5.0,  # A1, A2.1
}
RECIPES = {
    'scratch': EVERYWHERE | MIXED | {
        'train_cfg.max_epochs': 300,  # A1
        'auto_scale_lr.base_batch_size': 1024,  # A1
        'optim_wrapper.optimizer.lr': 1e-3,  # A1; MS: 5e-4 * 1024 / 512
        'optim_wrapper.optimizer.weight_decay': 0.05,  # A1
        'param_scheduler.0.end': 20,  # A1
        'param_scheduler.1.begin': 20,  # MS: the cosine begins after the warm-up
        'param_scheduler.1.end': 300,  # A1
        'param_scheduler.1.eta_min': 1e-5,  # MS: 5e-6 * 1024 / 512
        'model.backbone.pretrained_window_sizes': None,  # MS: 0, the window in use
        'model.init_cfg': None,
        'test_pipeline.1': dict(  # MS: int(256 / 224 * 256)
            type='ResizeEdge', scale=292, edge='short', backend='pillow', interpolation='bicubic'),
        'test_pipeline.2': dict(type='CenterCrop', crop_size=256),  # MS
    },
    '22k': EVERYWHERE | MIXED | {
        'train_cfg.max_epochs': 90,  # A2.1
        'auto_scale_lr.base_batch_size': 4096,  # A2.1
        'optim_wrapper.optimizer.lr': 1e-3,  # A2.1; MS: 1.25e-4 * 4096 / 512
        'optim_wrapper.optimizer.weight_decay': 0.1,  # A2.1
        'param_scheduler.0.end': 5,  # A2.1
        'param_scheduler.1.begin': 5,  # MS
        'param_scheduler.1.end': 90,  # A2.1
        'param_scheduler.1.eta_min': 1e-5,  # MS: 1.25e-6 * 4096 / 512
        'model.backbone.window_size': 12,  # A2.1
        'model.backbone.drop_path_rate': 0.2,  # A2.1
        'model.backbone.pretrained_window_sizes': None,  # MS: 0
        'model.init_cfg': None,
        'model.head.num_classes': 21841,  # MS
        'train_dataloader.dataset.type': 'ImageNet21k',
        'val_dataloader': None,
    },
    'fine-tune': EVERYWHERE | MIXED | {
        'train_cfg.max_epochs': 30,  # A2.1
        'auto_scale_lr.base_batch_size': 1024,  # A2.1
        'optim_wrapper.optimizer.lr': 4e-5,  # A2.1; MS: 2e-5 * 1024 / 512
        'optim_wrapper.optimizer.weight_decay': 1e-8,  # A2.1
        'param_scheduler.0.end': 5,  # MS
        'param_scheduler.1.begin': 5,  # MS
        'param_scheduler.1.end': 30,  # A2.1
        'param_scheduler.1.eta_min': 4e-7,  # MS: 2e-7 * 1024 / 512
        'model.backbone.drop_path_rate': 0.2,  # MS
        'model.backbone.pretrained_window_sizes': [12, 12, 12, 6],  # MS
        'model.init_cfg.type': 'swinv2_mm.PretrainedSwinV2',
    },
    'giant': EVERYWHERE | {
        'train_cfg.max_epochs': 10,  # A2.2
        'auto_scale_lr.base_batch_size': 576,  # A2.2
        'optim_wrapper.optimizer.lr': 2.1e-5,  # A2.2
        'optim_wrapper.optimizer.weight_decay': 0.1,  # A2.2
        'optim_wrapper.clip_grad.max_norm': 100.0,  # A2.2
        'param_scheduler.0.end': 2,  # A2.2
        'param_scheduler.1.begin': 2,
        'param_scheduler.1.end': 10,  # A2.2
        'model.backbone.arch': 'giant',  # A2.2
        'model.backbone.drop_path_rate': 0.5,  # A2.2
        'model.backbone.window_size': 40,  # A2.2 for ADE20K at 640; not stated here
        'model.backbone.pretrained_window_sizes': [12, 12, 12, 6],  # A2.2: pre-trained at 192
        'model.train_cfg': None,  # A2.2 names RandAugment and erasing only
        'train_pipeline.1.scale': 640,  # A2.2
        'test_pipeline.1.scale': (640, 640),  # A2.2
    },
}
RECIPES['grown'] = RECIPES['fine-tune'] | {  # A1 has the same settings as A2.1
    'model.backbone.pretrained_window_sizes': 8,
    'model.backbone.window_size': 12,  # table 1
    'model.init_cfg.checkpoint': ZOO + 'swinv2_tiny_patch4_window8_256.pth',
    'train_pipeline.1.scale': 384, 'test_pipeline.1.scale': (384, 384)}  # table 1
NAMES = dict(t='tiny', s='small', b='base', l='large')
DROP_PATH = dict(t=0.2, s=0.3, b=0.5)  # A1
# Top-1 and top-5 of the official zoo, and parameters in all, to the unit: the facts' sums of the
# paper's dimensions, which for T to B equal torchvision's count less its k biases.
TOP = {
    'swinv2_t_w8_256': (81.8, 95.9), 'swinv2_s_w8_256': (83.7, 96.6),
    'swinv2_b_w8_256': (84.2, 96.9), 'swinv2_t_w16_256': (82.8, 96.2),
    'swinv2_s_w16_256': (84.1, 96.8), 'swinv2_b_w16_256': (84.6, 97.0),
    'swinv2_b_w16_256_ft': (86.2, 97.9), 'swinv2_b_w24_384_ft': (87.1, 98.2),
    'swinv2_l_w16_256_ft': (86.9, 98.0), 'swinv2_l_w24_384_ft': (87.6, 98.3),
    'swinv2_g_640_ft': (90.17,),  # paper, table 2
    'swinv2_t_w12_384_ft': (83.2,),  # paper, table 1
}
PARAMETERS = dict(tiny=28_347_154, small=49_728_418, base=87_918_816, large=196_739_932,
                  giant=3_001_940_680)


def recipe(name):
    return RECIPES['scratch' if name in SCRATCH else '22k' if name in PRETRAIN else
                   'fine-tune' if name in FINE_TUNE else 'grown' if name == GROWN else 'giant']


def test_every_published_config_is_in_a_table():
    assert set(IMAGENET) == set(CLS) - {leaf('n_cells'), 'configs/demo/cls_nano.py'}


@pytest.mark.parametrize('name', IMAGENET)
def test_an_imagenet_config_resolves_to_the_published_recipe(name):
    cfg = load(name)
    assert_published(cfg, recipe(name))
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    if cfg.get('test_dataloader'):
        assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline
        assert cfg.val_dataloader.dataset.pipeline == cfg.test_pipeline


@pytest.mark.parametrize('name', SCRATCH)
def test_from_scratch_size_window_and_drop_path_are_those_of_the_yaml(name):
    size, window = SCRATCH[name]
    assert_published(load(name), {
        'model.backbone.arch': NAMES[size], 'model.backbone.window_size': window,
        'model.backbone.drop_path_rate': DROP_PATH[size], 'train_pipeline.1.scale': 256})


@pytest.mark.parametrize('name', PRETRAIN)
def test_22k_is_seen_at_192(name):
    assert_published(load(name), {
        'model.backbone.arch': NAMES[PRETRAIN[name]], 'train_pipeline.1.scale': 192})


@pytest.mark.parametrize('name', FINE_TUNE)
def test_fine_tuning_starts_from_the_22k_file_of_its_size_and_tests_as_published(name):
    size, window, side = FINE_TUNE[name]
    tests = {256: RECIPES['scratch']['test_pipeline.1'],
             384: dict(type='Resize', scale=(384, 384), backend='pillow',  # MS: TEST.CROP False
                       interpolation='bicubic')}
    assert_published(load(name), {
        'model.backbone.arch': NAMES[size], 'model.backbone.window_size': window,
        'model.init_cfg.checkpoint': f'{ZOO}swinv2_{NAMES[size]}_patch4_window12_192_22k.pth',
        'train_pipeline.1.scale': side, 'test_pipeline.1': tests[side]})


@pytest.mark.parametrize('name', IMAGENET)
def test_the_command_trains_at_the_published_batch(name):
    cfg = load(name)
    machines = int((re.search(r'NNODES=(\d+)', docstring(name)) or [0, 1])[1])
    gpus = int(re.search(r'dist_train\.sh \S+ (\d+)', docstring(name))[1])
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert machines * gpus * cfg.train_dataloader.batch_size * steps == (
        cfg.auto_scale_lr.base_batch_size)
    assert not cfg.auto_scale_lr.enable


@pytest.mark.parametrize('name', IMAGENET)
def test_a_config_states_the_published_accuracy(name):
    stated = ' '.join(docstring(name).split())
    top = TOP.get(name.split('/')[-1].removesuffix('.py'))
    if top is None:
        assert 'Reference: none for 22K itself' in stated
    else:
        words = [f'top-{k} {value}' for k, value in zip((1, 5), top)]
        assert f'Reference: {", ".join(words)} (' in stated


@pytest.mark.parametrize('name', CLS)
def test_the_whole_model_has_the_published_size_and_its_parts_agree(name):
    cfg = load(name)
    model = build(cfg, 'meta')
    arch = cfg.model.backbone.arch
    assert [len(stage.blocks) for stage in model.backbone.layers] == list(ARCHS[arch].depths)
    rates = [block.drop_path.rate for stage in model.backbone.layers for block in stage.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(cfg.model.backbone.drop_path_rate)
    classes, channels = model.head.fc.weight.shape
    assert [channels] == model.backbone.out_channels
    assert cfg.model.data_preprocessor.get('num_classes', classes) == classes
    if arch != 'nano':
        head = (classes - 1000) * (channels + 1)
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch] + head


def batch(classes, side=64, count=4):
    """`count` images with labels, as mmpretrain's data loaders give them."""
    from mmpretrain.structures import DataSample
    images = torch.randint(0, 255, (count, 3, side, side), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    return dict(inputs=list(images),
                data_samples=[DataSample().set_gt_label(i % classes) for i in range(count)])


@pytest.mark.parametrize('name', CLS)
def test_a_training_step_reaches_every_parameter_and_a_prediction_runs(name):
    cfg = load(name)
    # The published blocks are built above; two a stage of eight channels show the shift.
    cfg.model.backbone.arch = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))
    cfg.model.backbone.drop_path_rate = 0.0  # a dropped path has no gradient
    cfg.model.head.in_channels = 64
    cfg.model.init_cfg = None
    torch.manual_seed(0)
    np.random.seed(0)
    model = build(cfg)
    model.init_weights()
    awaken(model.backbone)
    classes = cfg.model.head.num_classes
    losses = train_step(model, batch(classes))
    assert list(losses) == ['loss'] and losses['loss'].isfinite()
    assert [key for key, p in model.named_parameters()
            if p.grad is None or not (p.grad.any() and p.grad.isfinite().all())] == []

    with torch.no_grad():
        found = model.eval()(**model.data_preprocessor(batch(classes), False), mode='predict')
    assert len(found) == 4
    for one in found:
        assert one.pred_score.shape == (classes,)
        assert one.pred_score.sum().item() == pytest.approx(1, abs=1e-4)
        assert one.pred_label.item() == one.pred_score.argmax().item()


@pytest.mark.parametrize('name', CLS)
def test_decay_leaves_out_vectors_position_network_and_temperature_and_nothing_else(name):
    assert_decay(load(name))


def test_every_batch_is_mixed_and_by_both_ways():
    cfg = load(leaf('t_w8_256'))
    model = build(cfg, 'cpu')
    torch.manual_seed(0)
    np.random.seed(0)
    ways = set()
    for _ in range(20):
        data = model.data_preprocessor(batch(1000), True)
        scores = torch.stack([one.gt_score for one in data['data_samples']])
        assert scores.sum(1).allclose(torch.ones(4))
        # CutMix takes each pixel from one image; mixup but for those it mixes with themselves.
        plain = model.data_preprocessor(batch(1000), False)['inputs']
        kept = (data['inputs'][:, None] == plain[None]).all(2).any(1).float().mean().item()
        ways.add(kept == 1)
    assert ways == {True, False}
