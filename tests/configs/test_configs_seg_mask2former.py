"""Mask2Former for semantic maps: what mmseg ships for Swin V1, on SwinV2."""
import re

import pytest
from config_checks import ZOO, assert_published, build, docstring, load, tidy
from helpers import checked, run_tool
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.utils import get_installed_path, is_installed

MASK2FORMERS = {size: f'configs/seg/swinv2_{size[0]}_mask2former.py' for size in ('tiny', 'large')}
# Crop: mmseg. Window: the paper's UperNet at that crop, A1 and A2.1. File and its windows: zoo.
BACKBONES = {
    'tiny': (512, 16, 'swinv2_tiny_patch4_window8_256.pth', 8),
    'large': (640, 40, 'swinv2_large_patch4_window12_192_22k.pth', [12, 12, 12, 6]),
}


def shipped(size):
    """The config of Mask2Former that the installed mmseg ships for Swin V1 of a size."""
    stem = {'tiny': 'swin-t_8xb2-160k_ade20k-512x512',
            'large': 'swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640'}[size]
    folder = get_installed_path('mmseg')
    return Config.fromfile(f'{folder}/.mim/configs/mask2former/mask2former_{stem}.py')


@pytest.mark.parametrize('size', MASK2FORMERS)
def test_mask2former_configs_are_those_that_mmseg_ships_for_swin_v1(size):
    cfg, theirs = load(MASK2FORMERS[size]), shipped(size)
    head = tidy(theirs.model.decode_head)
    # Said there and the default: torch's and mmcv's own.
    head['pixel_decoder']['encoder']['layer_cfg']['self_attn_cfg'].pop('im2col_step')
    head['transformer_decoder']['layer_cfg']['ffn_cfg'].pop('add_identity')
    assert tidy(cfg.model.decode_head) == head
    preprocessor = tidy(theirs.model.data_preprocessor)
    assert tidy(cfg.model.data_preprocessor) == preprocessor
    assert tidy(cfg.train_cfg) == tidy(theirs.train_cfg)
    assert tidy(cfg.param_scheduler) == tidy(theirs.param_scheduler)
    assert cfg.optim_wrapper.clip_grad == theirs.optim_wrapper.clip_grad
    assert cfg.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert re.search(r'dist_train\.sh \S+ (\d+)', docstring(MASK2FORMERS[size]))[1] == '8'  # 8xb2
    # Ours load as theirs do, with a policy for bad files; ADE20K's data set reduces by itself.
    image, labels, *steps = cfg.train_dataloader.dataset.pipeline
    assert image == dict(type='swinv2_mm.LoadImage', bad='skip')
    assert labels == dict(type='swinv2_mm.LoadMap', bad='skip')
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True),
             *steps]
    assert tidy(steps) == tidy(theirs.train_dataloader.dataset.pipeline)
    for key in ('type', 'lr', 'weight_decay', 'betas'):
        assert cfg.optim_wrapper.optimizer[key] == theirs.optim_wrapper.optimizer[key]
    keys = theirs.optim_wrapper.paramwise_cfg.custom_keys
    assert cfg.optim_wrapper.paramwise_cfg.backbone_lr_mult == keys.backbone.lr_mult
    assert cfg.model.backbone.drop_path_rate == theirs.model.backbone.drop_path_rate
    crop, window, stem, pretrained = BACKBONES[size]
    assert_published(cfg, {
        'model.backbone.arch': size,
        'model.backbone.window_size': window,
        'model.backbone.pretrained_window_sizes': pretrained,
        'model.backbone.init_cfg.checkpoint': ZOO + stem,
        'test_pipeline.1': dict(type='Resize', scale=(4 * crop, crop), keep_ratio=True)})


@pytest.mark.parametrize('size', MASK2FORMERS)
def test_mask2former_trains_the_backbone_at_a_tenth_and_leaves_queries_without_decay(size):
    queries = 'query_embed', 'query_feat', 'level_embed'
    cfg = load(MASK2FORMERS[size])
    model = build(cfg, 'meta')
    with DefaultScope.overwrite_default_scope('mmseg'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    settings = {id(p): (group['lr'], group['weight_decay'])
                for group in optimizer.param_groups for p in group['params']}
    found = {key: settings[id(p)] for key, p in model.named_parameters()}
    for key, (rate, decay) in found.items():
        inside = key.startswith('backbone.')
        assert rate == pytest.approx(1e-5 if inside else 1e-4), key
        if any(word in key for word in ('cpb_mlp', 'logit_scale', *queries)):
            assert decay == 0, key
    assert found['backbone.layers.0.blocks.0.mlp.fc1.weight'][1] == 0.05
    assert found['decode_head.cls_embed.weight'][1] == 0.05


WITHOUT_MMDET = """
import sys
sys.modules['mmdet'] = None  # as if it were not installed
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
cfg = Config.fromfile('configs/seg/swinv2_t_mask2former.py')
init_default_scope(cfg.default_scope)
cfg.model.backbone.update(arch='nano', init_cfg=None)
try:
    MODELS.build(cfg.model)
except ImportError as error:
    print(error)
"""


@pytest.mark.skipif(is_installed('mmsegmentation'),
                    reason='mmseg 1.2.2 says nothing of mmdet; doctor does')
def test_mask2former_without_mmdet_says_which_line_installs_it():
    done = checked(run_tool('-c', WITHOUT_MMDET))
    assert 'pip install onedl-mmdetection' in done.stdout.splitlines()[-1]


def test_mask2former_configs_say_that_they_need_mmdet():
    for name in MASK2FORMERS.values():
        assert 'Needs mmdet' in docstring(name)
        assert 'pip install onedl-mmdetection' in docstring(name)
