"""The optimizer: layers, learning rates, decay, groups, and rules that match nothing."""
import math

import pytest
import torch
from helpers import paired
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video

SMALL = dict(embed_dims=4, depths=(2, 1, 3, 2), num_heads=(1, 1, 2, 2), extra_norm_every=2)


class MaskedBackbone(SwinTransformerV2):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, self.out_channels[0]))


class Detector(nn.Module):
    """A backbone, a neck with a 2-D embedding, and a head."""

    def __init__(self, backbone=None):
        super().__init__()
        self.backbone = backbone or SwinTransformerV2(SMALL)
        self.neck = nn.Sequential(nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8), nn.Embedding(5, 8))
        self.head = nn.Linear(8, 3)


def build(model, optimizer='AdamW', *, lr=1.0, weight_decay=0.5, wrapper=None, **paramwise):
    cfg = Config(dict(optim_wrapper=dict(
        optimizer=dict(type=optimizer, lr=lr, weight_decay=weight_decay),
        constructor='swinv2_mm.SwinV2OptimWrapperConstructor', paramwise_cfg=paramwise,
        **(wrapper or {}))))
    return build_optim_wrapper(model, cfg.optim_wrapper)


def groups_of(wrapper):
    """Without the one that mmengine adds to follow the base rate."""
    return wrapper.optimizer.param_groups


def settings(wrapper, model):
    """Name -> (learning rate, weight decay)."""
    of = {id(p): (g['lr'], g['weight_decay']) for g in groups_of(wrapper) for p in g['params']}
    return {name: of[id(p)] for name, p in model.named_parameters()}


def walk(backbone):
    """Prefix -> layer, by walking the backbone as an image does, one more at each block."""
    layers, layer = {'patch_embed.': 0, 'mask_token': 0}, 0
    for s, stage in enumerate(backbone.layers):
        for b in range(len(stage.blocks)):
            layer += 1
            layers[f'layers.{s}.blocks.{b}.'] = layer
        layers[f'layers.{s}.downsample.'] = layer
    return layers | {f'norm{i}.': layer + 1 for i in backbone.out_indices}


def layer_of(name, layers):
    (layer,) = {layer for prefix, layer in layers.items() if name.startswith(prefix)}
    return layer


BACKBONES = {
    'T': (SwinTransformerV2, 'tiny', 14), 'L': (SwinTransformerV2, 'large', 26),
    'G': (SwinTransformerV2, 'giant', 52), 'T video': (SwinTransformerV2Video, 'tiny', 14),
    'L video': (SwinTransformerV2Video, 'large', 26), 'T masked': (MaskedBackbone, 'tiny', 14),
}


@pytest.mark.parametrize('key', BACKBONES)
def test_layers_are_counted_as_an_image_meets_them(key):
    cls, arch, count = BACKBONES[key]  # counts: blocks and two more
    with torch.device('meta'):
        backbone = cls(arch)
    layers = walk(backbone)
    seen = set()
    for name, _ in backbone.named_parameters():
        expected = layer_of(name, layers), count
        assert backbone.get_layer_depth(name) == expected, name
        assert backbone.get_layer_depth(f'backbone.{name}', 'backbone.') == expected
        seen.add(expected[0])
    assert seen == set(range(count))
    assert backbone.get_layer_depth('head.fc.weight', 'backbone.') == (count - 1, count)


def test_layers_are_those_that_mmpretrain_counts_for_swin_v1():
    from mmpretrain.models import SwinTransformer
    ours, theirs = SwinTransformerV2('nano'), SwinTransformer(dict(
        embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)))
    for name, _ in ours.named_parameters():
        assert ours.get_layer_depth(name) == theirs.get_layer_depth(
            name.replace('layers.', 'stages.')), name


@pytest.mark.parametrize('decay', [0.75, 1.0])
def test_it_equals_the_constructor_of_mmpretrain_where_both_apply(decay):
    import mmpretrain.models  # noqa: F401
    from mmpretrain.registry import MODELS
    model = MODELS.build(dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='swinv2_mm.SwinTransformerV2', arch=SMALL, out_indices=(3,)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=7, in_channels=32)))
    optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.05)
    free = dict(decay_mult=0.0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        theirs = build_optim_wrapper(model, ConfigDict(
            optimizer=optimizer, constructor='LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=decay, flat_decay_mult=0.0, custom_keys={
                'cpb_mlp': free, 'logit_scale': free})))
        ours = build_optim_wrapper(model, ConfigDict(
            optimizer=optimizer, constructor='swinv2_mm.SwinV2OptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=decay)))
    expected = settings(theirs, model)
    for name, found in settings(ours, model).items():
        assert found == pytest.approx(expected[name], rel=1e-12), name


def test_rates_multiply_and_decay_leaves_out_what_the_official_code_does():
    model = Detector(MaskedBackbone(SMALL))
    wrapper = build(model, layer_decay_rate=0.5, backbone_lr_mult=0.125, custom_keys={
        'neck': dict(lr_mult=4.0), 'neck.2': dict(decay_mult=0.25), 'layers.1': dict(lr_mult=8.0)})
    layers = walk(model.backbone)  # 8 blocks: 10 layers
    for name, (lr, decay) in settings(wrapper, model).items():
        rest = name.removeprefix('backbone.')
        if rest != name:
            expected = 0.125 * 0.5 ** (9 - layer_of(rest, layers))
            expected *= 8 if rest.startswith('layers.1') else 1
        else:
            expected = 4 if name[:6] in ('neck.0', 'neck.1') else 1  # the longer key alone counts
        assert lr == expected, name
        matrix = name.endswith(('qkv.weight', 'attn.proj.weight', 'fc1.weight', 'fc2.weight',
                                'reduction.weight', 'patch_embed.proj.weight', 'neck.0.weight',
                                'head.weight'))
        assert decay == (0.125 if name.startswith('neck.2') else 0.5 if matrix else 0), name


def test_groups_hold_every_parameter_once_and_few_of_them():
    model = Detector()
    model.head.weight.requires_grad_(False)
    model.shared = model.neck[0]
    plain, layered = build(model), build(model, layer_decay_rate=0.9)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    for wrapper in (plain, layered):
        ids = [id(p) for group in groups_of(wrapper) for p in group['params']]
        assert len(ids) == len(set(ids)) and set(ids) == trained
        for group in groups_of(wrapper):
            for name, p in paired(group['names'], group['params']):
                assert model.get_parameter(name) is p
            assert group['lr'] == group['lr_scale'] * 1.0
    assert len(groups_of(plain)) == 2
    assert len(groups_of(layered)) == 2 * 10
    rates = [group['lr'] for group in groups_of(layered)]
    assert rates == sorted(rates)


def test_norms_and_biases_can_decay_otherwise_than_other_vectors():
    model = Detector()
    found = settings(build(model, flat_decay_mult=0.5, bias_decay_mult=0.25, norm_decay_mult=2.0),
                     model)
    assert found['backbone.norm0.bias'] == found['neck.1.weight'] == (1, 1.0)
    assert found['head.bias'] == (1, 0.125)
    assert found['backbone.layers.0.blocks.0.attn.q_bias'] == (1, 0.25)
    assert found['head.weight'] == (1, 0.5)
    assert found['backbone.layers.0.blocks.0.attn.cpb_mlp.0.bias'] == (1, 0)
    default = settings(build(model), model)
    assert {default[name] for name in ('head.bias', 'neck.1.bias')} == {(1, 0)}


@pytest.mark.parametrize('wrap', [
    lambda model: nn.DataParallel(model),
    lambda model: wrapped(model, checkpoint_wrapper),
    lambda model: wrapped(model, torch.compile),
    lambda model: nn.DataParallel(wrapped(model, checkpoint_wrapper))],
    ids=['parallel', 'checkpointed', 'compiled', 'both'])
def test_wrappers_around_the_model_and_its_parts_change_nothing(wrap):
    rules = dict(layer_decay_rate=0.5, backbone_lr_mult=0.1,
                 custom_keys={'backbone.layers.2.blocks': dict(lr_mult=3.0)})
    model = Detector()
    plain = {id(p): value for value, p in zip(
        settings(build(model, **rules), model).values(), model.parameters())}
    outer = wrap(model)
    found = settings(build(outer, **rules), outer)
    assert list(found.values()) == [plain[id(p)] for p in outer.parameters()]
    assert len(found) == len(plain)


def wrapped(model, wrap):
    model.backbone.layers[2] = wrap(model.backbone.layers[2])
    model.backbone = wrap(model.backbone)
    return model


def test_a_bare_backbone_and_two_in_one_model_have_layers_too():
    backbone = SwinTransformerV2Video(SMALL)
    layers = walk(backbone)
    for name, (lr, _) in settings(build(backbone, layer_decay_rate=0.5), backbone).items():
        assert lr == 0.5 ** (9 - layer_of(name, layers)), name
    short = dict(embed_dims=4, depths=(1, 1), num_heads=(1, 1))
    two = nn.ModuleDict(dict(image=SwinTransformerV2(short, out_indices=(1,)), video=backbone))
    found = settings(build(two, layer_decay_rate=0.5), two)
    assert found['image.patch_embed.proj.weight'][0] == 0.5 ** 3
    assert found['video.patch_embed.proj.weight'][0] == 0.5 ** 9


def test_a_model_without_our_backbone_gets_the_decay_rules_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    model.mask_token = nn.Parameter(torch.zeros(1, 4))  # of some other model: not ours to judge
    assert settings(build(model), model) == {
        'mask_token': (1, 0.5), '0.weight': (1, 0.5), '0.bias': (1, 0), '1.weight': (1, 0),
        '1.bias': (1, 0)}


@pytest.mark.parametrize('rules, message', [
    (dict(custom_keys={'cbp_mlp': dict(lr_mult=1)}), "'cbp_mlp'.*none.*near it are 'cpb_mlp'"),
    (dict(custom_keys={'bckbone.norm1': dict(lr_mult=1)}), "near it are 'backbone.norm1'"),
    (dict(custom_keys={'qqqqq': dict(lr_mult=1)}), "'qqqqq'.*near it are backbone, neck, head"),
    (dict(layer_decay_rate=0), r'layer_decay_rate must be in \(0, 1\], got 0'),
    (dict(layer_decay_rate=1.5), r'layer_decay_rate must be in \(0, 1\], got 1.5'),
    (dict(backbone_lr_mult='0.1'), "backbone_lr_mult must be a number of at least 0, got '0.1'"),
    (dict(backbone_lr_mult=math.nan), 'backbone_lr_mult must be a number .* got nan'),
    (dict(flat_decay_mult=-1), 'flat_decay_mult must be a number of at least 0, got -1'),
    (dict(flat_decay_mult=True), 'flat_decay_mult must be a number of at least 0, got True'),
    (dict(custom_keys=['neck']), r"custom_keys must be a dict, got \['neck'\]"),
    (dict(custom_keys=dict(neck=0.1)), r"custom_keys\['neck'\] must be a dict, got 0.1"),
    (dict(custom_keys=dict(neck=dict(lr=1))), r"\['neck'\] takes lr_mult, decay_mult, got lr:"),
    (dict(custom_keys=dict(neck=dict(lr_mult=None))), 'lr_mult must be a number .* got None'),
    (dict(dwconv_decay_mult=0.0), 'takes layer_decay_rate, .*custom_keys, got dwconv_decay_mult:'),
    (dict(weight_decay=None), 'optimizer.weight_decay must be a number .* got None: set it'),
    (dict(lr=None), 'optimizer.lr must be a number .* got None: set it'),
])
def test_a_rule_that_is_wrong_or_matches_nothing_is_an_error(rules, message):
    with pytest.raises((ValueError, KeyError), match=message):
        build(Detector(), **rules)


@pytest.mark.parametrize('rule', [
    'layer_decay_rate', 'backbone_lr_mult', 'norm_decay_mult', 'bias_decay_mult',
    'flat_decay_mult'])
def test_a_multiplier_for_what_the_model_has_not_is_an_error(rule):
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    with pytest.raises(ValueError, match=rf'{rule} must match a parameter, got 0.5 for a model'):
        build(model, **{rule: 0.5})
