"""Segmentation configs: the published recipes, models that fit together, step and prediction."""
import re

import pytest
import torch
from config_checks import LEAVES, ZOO, assert_decay, assert_published, build, docstring, load
from conftest import awaken
from helpers import train_step
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from samples import segmentation as sample

from swinv2_mm import ARCHS

UPERNETS = {size: f'configs/seg/swinv2_{size[0]}_upernet.py'
            for size in ('tiny', 'small', 'base', 'large', 'giant')}
OURS = [name for name in LEAVES if name.startswith('configs/seg/') or name.endswith('/seg_nano.py')]

# What was published. A path into the config (numbers index lists) -> value. Sources: A1, A2.1, A2.2
# are appendices of the paper; V1 is the official Swin V1 segmentation recipe (the same in mmseg),
# for what the paper leaves open.
HEADS = {
    'model.type': 'EncoderDecoder',  # V1
    'model.decode_head.type': 'UPerHead',  # paper, table 4
    'model.decode_head.channels': 512,  # V1
    'model.decode_head.pool_scales': (1, 2, 3, 6),  # V1
    'model.decode_head.in_index': [0, 1, 2, 3],  # V1
    'model.decode_head.norm_cfg.type': 'SyncBN',  # V1
    'model.decode_head.dropout_ratio': 0.1,  # V1
    'model.decode_head.align_corners': False,  # V1
    'model.decode_head.num_classes': 150,  # ADE20K
    'model.decode_head.loss_decode.type': 'CrossEntropyLoss',  # V1
    'model.decode_head.loss_decode.loss_weight': 1.0,  # V1
    'model.auxiliary_head.type': 'FCNHead',  # V1
    'model.auxiliary_head.in_index': 2,  # V1: on stage 3
    'model.auxiliary_head.channels': 256,  # V1
    'model.auxiliary_head.num_convs': 1,  # V1
    'model.auxiliary_head.num_classes': 150,  # ADE20K
    'model.auxiliary_head.loss_decode.loss_weight': 0.4,  # V1
    'model.test_cfg.mode': 'whole',  # V1
}
TRAINING = {
    'optim_wrapper.optimizer.type': 'AdamW',  # A1, A2.1, A2.2
    'optim_wrapper.optimizer.weight_decay': 0.05,  # A1, A2.1, A2.2
    'optim_wrapper.optimizer.betas': (0.9, 0.999),  # V1
    'optim_wrapper.clip_grad': None,  # V1: none
    'train_cfg.type': 'IterBasedTrainLoop',  # V1
    'param_scheduler.0.type': 'LinearLR',  # V1: linear warm-up
    'param_scheduler.0.start_factor': 1e-6,  # V1
    'param_scheduler.0.begin': 0,
    'param_scheduler.1.type': 'PolyLR',  # A1, A2.1, A2.2: linear decay
    'param_scheduler.1.power': 1.0,  # the same
    'param_scheduler.1.eta_min': 0.0,  # V1
    'train_dataloader.dataset.type': 'ADE20KDataset',  # A1, A2.1, A2.2
    'train_pipeline.2.type': 'RandomResize',  # A1: scale
    'train_pipeline.2.ratio_range': (0.5, 2.0),  # A1
    'train_pipeline.2.keep_ratio': True,  # V1
    'train_pipeline.3.type': 'RandomCrop',  # V1
    'train_pipeline.3.cat_max_ratio': 0.75,  # V1
    'train_pipeline.4': dict(type='RandomFlip', prob=0.5),  # A1: flip; V1: 0.5
    'train_pipeline.5': dict(type='PhotoMetricDistortion'),  # A1
}
# A1 for tiny, small and base, A2.1 for large, A2.2 for giant; scale: V1.
ROWS = ('crop', 'window', 'drop path', 'lr', 'warm-up', 'iterations', 'batch', 'layer decay')
SETTINGS = {
    'tiny': (512, 16, 0.3, 4e-5, 1500, 160000, 16, 0.95),
    'small': (512, 16, 0.3, 4e-5, 1500, 160000, 16, 0.95),
    'base': (512, 16, 0.3, 4e-5, 1500, 160000, 16, 0.95),
    'large': (640, 40, 0.3, 6e-5, 375, 40000, 64, None),
    'giant': (640, 40, 0.4, 4e-5, 750, 80000, 32, None),
}
# Zoo, and windows of its yaml files: w8 at 256 has 8 throughout; 22K at 192, w12, has 6 in its last
# stage, whose map is 6 x 6. Weights of giant were not released; it was pre-trained at 192 (A2.2).
FILES_OF = {
    'tiny': ('swinv2_tiny_patch4_window8_256.pth', 8),
    'small': ('swinv2_small_patch4_window8_256.pth', 8),
    'base': ('swinv2_base_patch4_window8_256.pth', 8),
    'large': ('swinv2_large_patch4_window12_192_22k.pth', [12, 12, 12, 6]),
    'giant': (None, [12, 12, 12, 6]),
}
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # V1: multi-scale test


def starts_from(size):
    """What a config of this size says of its weights."""
    stem, windows = FILES_OF[size]
    return {'model.backbone.arch': size, 'model.backbone.pretrained_window_sizes': windows,
            'model.backbone.init_cfg.checkpoint' if stem else 'model.backbone.init_cfg':
            stem and ZOO + stem}


@pytest.mark.parametrize('size', UPERNETS)
def test_upernet_configs_resolve_to_the_published_recipe(size):
    cfg = load(UPERNETS[size])
    row = dict(zip(ROWS, SETTINGS[size]))
    crop = row['crop']
    assert_published(cfg, HEADS | TRAINING | starts_from(size) | {
        'model.data_preprocessor.size': (crop, crop),
        'model.backbone.window_size': row['window'],
        'model.backbone.drop_path_rate': row['drop path'],
        'optim_wrapper.optimizer.lr': row['lr'],
        'optim_wrapper.paramwise_cfg': row['layer decay'] and dict(
            layer_decay_rate=row['layer decay']),
        'param_scheduler.0.end': row['warm-up'],
        'param_scheduler.1.begin': row['warm-up'],
        'param_scheduler.1.end': row['iterations'],
        'train_cfg.max_iters': row['iterations'],
        'auto_scale_lr.base_batch_size': row['batch'],
        'train_pipeline.2.scale': (4 * crop, crop),
        'train_pipeline.3.crop_size': (crop, crop),
        'test_pipeline.1': dict(type='Resize', scale=(4 * crop, crop), keep_ratio=True),
    })
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline
    sizes, flips, *_ = cfg.tta_pipeline[1].transforms
    assert [step.scale for step in sizes] == [
        (int(4 * crop * ratio), int(crop * ratio)) for ratio in RATIOS]
    assert [step.prob for step in flips] == [0.0, 1.0]


@pytest.mark.parametrize('name', UPERNETS.values())
def test_the_command_trains_at_the_published_batch(name):
    cfg = load(name)
    machines = int((re.search(r'NNODES=(\d+)', docstring(name)) or [0, 1])[1])
    gpus = int(re.search(r'dist_train\.sh \S+ (\d+)', docstring(name))[1])
    batch = machines * gpus * cfg.train_dataloader.batch_size
    assert batch == dict(zip(UPERNETS.values(), (16, 16, 16, 64, 32)))[name]  # A1, A2.1, A2.2
    assert not cfg.auto_scale_lr.enable


@pytest.mark.parametrize('name', OURS)
def test_the_whole_model_has_the_channels_blocks_and_classes_its_parts_expect(name):
    cfg = load(name)
    model = build(cfg, 'meta')
    backbone = model.backbone
    arch = ARCHS[cfg.model.backbone.arch]
    assert [len(stage.blocks) for stage in backbone.layers] == list(arch.depths)
    assert backbone.out_channels == [arch.embed_dims << i for i in range(4)]
    assert cfg.model.decode_head.in_channels == backbone.out_channels
    assert backbone.out_strides == [4, 8, 16, 32]
    if 'auxiliary_head' in cfg.model:
        assert cfg.model.auxiliary_head.in_channels == backbone.out_channels[2]
    rates = [block.drop_path.rate for stage in backbone.layers for block in stage.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(cfg.model.backbone.drop_path_rate)
    metainfo = cfg.train_dataloader.dataset.get('metainfo')
    classes = (len(metainfo.classes) if metainfo else
               len(DATASETS.get(cfg.train_dataloader.dataset.type).METAINFO['classes']))
    assert cfg.model.decode_head.num_classes == classes
    assert cfg.val_dataloader.dataset.get('metainfo') == metainfo


HEIGHT, WIDTH = 96, 128


def tiny(cfg):
    """The config with a nano backbone, except for norms and windows, and a narrow head."""
    backbone, head = cfg.model.backbone, cfg.model.decode_head
    every = ARCHS[backbone.arch].extra_norm_every
    arch = ARCHS['nano']._asdict() | dict(extra_norm_every=every)
    backbone.arch = arch | dict(depths=(2, 2, max(every, 2), 2))
    backbone.drop_path_rate = 0.0  # a dropped path has no gradient
    cfg.model.data_preprocessor.size = (HEIGHT, WIDTH)
    head.in_channels = [32, 64, 128, 256]
    if head.type == 'Mask2FormerHead':
        head.train_cfg.num_points = 256
    else:
        head.channels = 32
    if 'auxiliary_head' in cfg.model:
        cfg.model.auxiliary_head.update(in_channels=128, channels=32)
    return cfg


@pytest.mark.parametrize('name', OURS)
def test_a_training_step_reaches_every_parameter_and_a_prediction_runs(name):
    cfg = tiny(load(name))
    torch.manual_seed(0)
    # The runner does the same where there is no distributed training.
    model = revert_sync_batchnorm(build(cfg))
    model.init_weights()
    awaken(model.backbone)
    classes = cfg.model.decode_head.num_classes
    losses = train_step(model, sample(classes))
    assert {key.partition('.')[0] for key in losses} >= {'decode'} | (
        {'aux'} if 'auxiliary_head' in cfg.model else set())
    for key, value in losses.items():
        assert value.isfinite().all(), key
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert [key for key, p in model.backbone.named_parameters()
            if p.requires_grad and not (p.grad.any() and p.grad.isfinite().all())] == []

    with torch.no_grad():
        model.eval()
        found = model(**model.data_preprocessor(sample(classes), False), mode='predict')
    for data in found:
        map_ = data.pred_sem_seg.data
        assert map_.shape == (1, HEIGHT, WIDTH) and 0 <= map_.min() and map_.max() < classes
        assert data.seg_logits.data.isfinite().all()


@pytest.mark.parametrize('name', [name for name in OURS if 'mask2former' not in name])
def test_decay_leaves_out_vectors_position_network_and_temperature_and_nothing_else(name):
    assert_decay(load(name))


def groups(name):
    """Learning rate and decay of every parameter, by name."""
    cfg = load(name)
    model = build(cfg, 'meta')
    with DefaultScope.overwrite_default_scope('mmseg'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    found = {id(p): (group['lr'], group['weight_decay'])
             for group in optimizer.param_groups for p in group['params']}
    return {key: found[id(p)] for key, p in model.named_parameters()}


@pytest.mark.parametrize('size', ['tiny', 'small', 'base'])
def test_rates_fall_by_the_published_factor_a_layer(size):
    """Official units: the patches, then each block, then what stands after the last block."""
    found = groups(UPERNETS[size])
    depths = ARCHS[size].depths
    layers = 1 + sum(depths) + 1
    expected = {'backbone.patch_embed.proj.weight': 0, 'backbone.norm3.weight': layers - 1,
                'decode_head.conv_seg.weight': layers - 1,
                'auxiliary_head.convs.0.conv.weight': layers - 1}
    for i, depth in enumerate(depths):
        for j in range(depth):
            key = f'backbone.layers.{i}.blocks.{j}.attn.qkv.weight'
            expected[key] = 1 + sum(depths[:i]) + j
    for key, layer in expected.items():
        assert found[key][0] == pytest.approx(4e-5 * 0.95 ** (layers - 1 - layer)), key


@pytest.mark.parametrize('size', ['large', 'giant'])
def test_without_a_published_layer_decay_all_rates_are_equal(size):
    assert {rate for rate, _ in groups(UPERNETS[size]).values()} == {SETTINGS[size][3]}


def options(name):
    """The --cfg-options that a docstring names, as the tools read them."""
    from swinv2_mm.apis import launch
    text = re.search(r'--cfg-options ((?:\S+=\S+\s+)+)', docstring(name) + '\n')[1]
    words = [word.replace('"', '').rstrip('.:') for word in text.split()]
    return launch.parser('').parse_args(['config', '--cfg-options', *words]).cfg_options


@pytest.mark.parametrize('size', ['tiny', 'small', 'base'])
@pytest.mark.parametrize('window', [20, 32])
def test_the_other_windows_of_the_ablation_take_one_option(size, window):
    name = UPERNETS[size]
    assert 'windows 20 and 32' in docstring(name)
    (key, _), = options(name).items()
    cfg = load(name)
    cfg.merge_from_dict({key: window})
    backbone = build(cfg, 'meta').backbone
    assert backbone.window_sizes == [(window, window)] * 4
    assert backbone.pretrained_window_sizes == [(8, 8)] * 4  # the file's


def test_giant_is_tested_at_896_by_options():
    cfg = load(UPERNETS['giant'])
    cfg.merge_from_dict(options(UPERNETS['giant']))
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (3584, 896)
    assert build(cfg, 'meta').backbone.window_sizes == [(56, 56)] * 4
