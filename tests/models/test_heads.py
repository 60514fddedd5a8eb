"""Classifiers that come with a backbone: taken, picked from 22K, begun anew; in whole models."""
import hashlib
import importlib

import pytest
import torch
from conftest import awaken
from helpers import weights
from mmengine.config import Config
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS, DefaultScope
from torch import nn

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import from_native, head_rows, load_backbone, to_native
from swinv2_mm.checkpoints.imagenet import CLASSES_22K, ROWS_OF_1K

ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
SCOPES = ['mmengine', 'swinv2_mm', 'mmdet', 'mmseg', 'mmpretrain', 'mmaction']


def backbone(**settings):
    return SwinTransformerV2(**{'arch': ARCH, 'window_size': 8, **settings})


@pytest.fixture(scope='module')
def source():
    return awaken(backbone(), seed=8)


def classifier(source, classes, layout='official'):
    head = {'head.weight': torch.randn(classes, 64), 'head.bias': torch.randn(classes)}
    return from_native(weights(source) | head, layout, [((8, 8), (8, 8))] * 4)


def head_of(state):
    native = to_native(state)
    return native['head.weight'], native['head.bias']


def test_the_map_is_the_published_one():
    assert (len(ROWS_OF_1K), len(set(ROWS_OF_1K)), CLASSES_22K) == (1000, 1000, 21841)
    # Of its numbers as text, one space between two.
    assert hashlib.sha256(' '.join(map(str, ROWS_OF_1K)).encode()).hexdigest() == (
        '64b3af4e3db74a16582f3a6f63295b72ecc6c31ba0df2b84c811177c61765088')


@pytest.mark.parametrize('layout', ['official', 'timm', 'transformers', 'mmpretrain'])
def test_21841_classes_give_1000_by_the_map(source, layout):
    state = classifier(source, 21841, layout)
    head = nn.Linear(64, 1000)
    report = load_backbone(backbone(), state, head)
    assert 'head of 1000 classes picked from 21841 by the published map' in report.notes
    assert {'head.weight', 'head.bias'} <= set(report.loaded) and not report.dropped
    weight, bias = head_of(state)
    for row in (0, 1, 500, 999):
        assert torch.equal(head.weight[row], weight[ROWS_OF_1K[row]])
        assert torch.equal(head.bias[row], bias[ROWS_OF_1K[row]])
    with pytest.raises(ValueError, match='must have the 21841 classes .* got 7: use a 22K file'):
        head_rows({'head.weight': torch.ones(7, 64)})


def test_an_equal_number_of_classes_is_taken_as_it_is(source):
    state = classifier(source, 1000, 'timm')
    head = nn.Linear(64, 1000)
    report = load_backbone(backbone(), state, head)
    assert 'head of 1000 classes loaded' in report.notes and not report.dropped
    assert all(map(torch.equal, head.state_dict().values(), head_of(state)))
    without = nn.Linear(64, 1000, bias=False)
    report = load_backbone(backbone(), state, without)
    assert torch.equal(without.weight, head.weight) and report.dropped == ['head.bias']


@pytest.mark.parametrize('there, here', [(1000, 10), (10, 1000), (21841, 400), (1000, 21841)])
def test_another_number_of_classes_begins_anew_and_says_so(source, there, here):
    head = nn.Linear(64, here)
    nn.init.constant_(head.weight, 3)
    report = load_backbone(backbone(), classifier(source, there), head)
    assert f'head initialised: {there} classes in the file, {here} in the model' in report.notes
    assert sorted(report.dropped) == ['head.bias', 'head.weight']
    assert 0.015 < head.weight.std() < 0.025 and not head.bias.any()


def test_without_a_head_in_the_file_or_room_for_it_nothing_is_touched(source):
    head, model = nn.Linear(64, 5), backbone()
    before = [value.clone() for value in head.state_dict().values()]
    report = load_backbone(model, weights(source), head)
    assert 'head of 5 classes left as it is: the file has none' in report.notes
    assert all(map(torch.equal, head.state_dict().values(), before))
    report = load_backbone(model, classifier(source, 5))
    assert sorted(report.dropped) == ['head.bias', 'head.weight']
    short = backbone(out_indices=(0, 1))
    fresh = short.layers[0].blocks[0].attn.qkv.weight.clone()
    with pytest.raises(ValueError, match=r'must take the \[64\] channels .* got one for 16: use'):
        load_backbone(short, classifier(source, 5), nn.Linear(16, 5))
    assert torch.equal(short.layers[0].blocks[0].attn.qkv.weight, fresh)


@pytest.fixture
def file(source, tmp_path):
    torch.save({'model': classifier(source, 21841)}, tmp_path / 'in22k.pth')
    return str(tmp_path / 'in22k.pth')


def build(cfg, scope):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(Config(dict(model=cfg)).model)
        model.init_weights()
    return model


def init(file):
    return dict(type='swinv2_mm.PretrainedSwinV2', checkpoint=file)


BACKBONE = dict(type='swinv2_mm.SwinTransformerV2', arch=ARCH, window_size=8)


@pytest.mark.parametrize('scope', SCOPES)
def test_the_init_cfg_of_a_backbone_works_under_every_scope(source, file, scope):
    importlib.import_module('swinv2_mm.utils.compat' if scope == 'mmaction' else scope)
    model = build(BACKBONE | dict(init_cfg=init(file)), scope)
    assert torch.equal(model.layers[3].blocks[0].mlp.fc1.weight,
                       source.layers[3].blocks[0].mlp.fc1.weight)


def image_classifier(classes, **settings):
    import mmpretrain.models  # noqa: F401
    return dict(type='mmpretrain.ImageClassifier', backbone=dict(BACKBONE, out_indices=(3,)),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=classes, in_channels=64), **settings)


@pytest.mark.parametrize('classes', [1000, 12])
def test_the_init_cfg_of_a_whole_classifier_fills_backbone_and_head(source, file, classes):
    model = build(image_classifier(classes, init_cfg=init(file)), 'mmpretrain')
    assert torch.equal(model.backbone.norm3.weight, source.norm3.weight)
    assert torch.equal(model.backbone.patch_embed.proj.weight, source.patch_embed.proj.weight)
    weight, _ = head_of(torch.load(file, weights_only=True)['model'])
    picked = weight[torch.tensor(ROWS_OF_1K)]
    if classes == 1000:
        assert torch.equal(model.head.fc.weight, picked)
    else:  # as mmpretrain starts one
        assert 0.005 < model.head.fc.weight.std() < 0.015


def test_a_classifier_of_ours_goes_into_the_same_classifier_again(source, file, tmp_path):
    model = build(image_classifier(1000, init_cfg=init(file)), 'mmpretrain')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch.pth')
    again = build(image_classifier(1000, init_cfg=init(str(tmp_path / 'epoch.pth'))), 'mmpretrain')
    assert all(torch.equal(value, again.state_dict()[name])
               for name, value in model.state_dict().items())


def test_the_classifier_of_a_recognizer_is_filled_too(source, file):
    model = nn.Module()
    model.backbone, model.cls_head = backbone(), nn.Module()
    model.cls_head.fc_cls = nn.Linear(64, 1000)
    WEIGHT_INITIALIZERS.build(init(file))(model)
    weight, _ = head_of(torch.load(file, weights_only=True)['model'])
    assert torch.equal(model.cls_head.fc_cls.weight, weight[torch.tensor(ROWS_OF_1K)])


def test_an_init_cfg_for_something_else_is_refused(file):
    for module in (nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1))):
        with pytest.raises(ValueError, match='must initialise a SwinV2 backbone or .* got'):
            WEIGHT_INITIALIZERS.build(init(file))(module)
