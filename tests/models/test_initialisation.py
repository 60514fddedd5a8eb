"""The official initialisation, and what a parent's or the model's own `init_cfg` does to it."""
import math

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video

XAVIER = [dict(type='Xavier', layer='Linear', distribution='uniform'),
          dict(type='Constant', layer='LayerNorm', val=1, bias=0.5),
          dict(type='Normal', layer=['Conv2d', 'Conv3d'], std=7)]


class Detector(BaseModule):
    """A parent as mmdet's are: it builds the backbone from its config and initialises all."""

    def __init__(self, backbone, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(8, 8)


def check_official(model):
    """Facts of the official code: zeroed post-norms, truncated normals of std 0.02, tau 0.1."""
    for name, value in model.named_parameters():
        if name.endswith('logit_scale'):
            assert torch.equal(value, torch.full_like(value, math.log(10))), name
        elif name.split('.')[-2] in ('norm1', 'norm2') and 'blocks' in name:
            assert not value.any(), name
        elif 'norm' in name:
            expected = torch.ones if name.endswith('weight') else torch.zeros
            assert torch.equal(value, expected(value.shape)), name
        elif name.endswith('patch_embed.proj.bias') or name.endswith('patch_embed.proj.weight'):
            fan_in = model.patch_embed.proj.weight[0].numel()
            assert value.abs().max() <= fan_in ** -0.5, name  # torch's default, not official's own
            assert value.std() > 0.4 * fan_in ** -0.5, name
        elif name.endswith('bias'):
            assert not value.any(), name
        else:
            spread = 0.02 / math.sqrt(2 * value.numel())  # of a standard deviation
            assert abs(value.std() - 0.02) < 5 * spread, name
            assert value.abs().max() < 0.2, name


@pytest.mark.parametrize('cls', [SwinTransformerV2, SwinTransformerV2Video])
@pytest.mark.parametrize('call_it', [False, True])
def test_a_fresh_model_has_the_official_initialisation(cls, call_it):
    torch.manual_seed(0)
    model = cls('nano')
    if call_it:
        model.init_weights()
    check_official(model)


def test_the_blocks_of_a_fresh_model_are_the_identity():
    model = SwinTransformerV2('nano', window_size=4)
    seen = []
    for stage in model.layers:
        for block in stage.blocks:
            block.register_forward_hook(
                lambda _, inputs, out: seen.append(torch.equal(inputs[0], out)))
    model.train()(torch.randn(2, 3, 50, 70))
    assert seen == [True] * 8


@pytest.mark.parametrize('name', ['SwinTransformerV2', 'SwinTransformerV2Video'])
def test_the_initialisation_survives_the_init_cfg_of_a_parent(name):
    torch.manual_seed(0)
    parent = Detector(dict(type=f'swinv2_mm.{name}', arch='nano'), init_cfg=XAVIER)
    parent.init_weights()
    check_official(parent.backbone)
    assert torch.equal(parent.head.bias, torch.zeros(8))  # while the parent's own layers follow it
    assert parent.head.weight.std() > 0.1


@pytest.mark.parametrize('inference', [False, True])
def test_the_models_own_init_cfg_comes_after_the_official_initialisation(inference):
    with torch.inference_mode(inference):  # its tensors count no versions
        model = SwinTransformerV2('nano', init_cfg=dict(type='Constant', layer='Linear', val=0.5))
        model.init_weights()
    assert (model.layers[0].blocks[0].mlp.fc1.weight == 0.5).all()
    assert not model.layers[0].blocks[0].norm1.weight.any()


@pytest.fixture
def checkpoint(awake, tmp_path):
    """(path, state) of an awake nano."""
    state = awake(SwinTransformerV2('nano', window_size=8)).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'nano.pth')
    return str(tmp_path / 'nano.pth'), state


def check_loaded(model, state):
    own = model.state_dict()
    assert own.keys() == state.keys()
    assert [name for name in own if not torch.equal(own[name], state[name])] == []


@pytest.mark.parametrize('parents', [None, XAVIER])
def test_a_pretrained_init_cfg_loads_every_value_whatever_the_parent_does(checkpoint, parents):
    path, state = checkpoint
    init_cfg = dict(type='Pretrained', checkpoint=path)
    parent = Detector(dict(type='swinv2_mm.SwinTransformerV2', arch='nano', init_cfg=init_cfg),
                      init_cfg=parents)
    parent.init_weights()
    check_loaded(parent.backbone, state)
    parent.init_weights()
    parent.backbone.init_weights()
    check_loaded(parent.backbone, state)


@pytest.mark.parametrize('spoil, lacks', [
    (lambda name: f'backbone.{name}', 'patch_embed'),  # of a detector
    (lambda name: name.replace('layers.1.downsample', 'layers.2.downsample'), 'layers.1.downsam'),
    (lambda name: name.replace('norm3.', 'norm.'), 'norm3.weight')],  # timm's, and the official
    ids=['prefix', 'timm', 'official'])
def test_what_a_pretrained_init_cfg_does_not_fill_is_refused(checkpoint, tmp_path, spoil, lacks):
    _, state = checkpoint
    torch.save({spoil(name): value for name, value in state.items()}, tmp_path / 'other.pth')
    backbone = SwinTransformerV2('nano', init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'other.pth')))
    with pytest.raises(ValueError, match=f'such as {lacks}.* set type=.swinv2_mm.PretrainedSwin'):
        backbone.init_weights()
    backbone.init_cfg = dict(type='Xavier', layer='Linear')
    backbone._is_init = False
    backbone.init_weights()


def test_a_second_init_weights_does_not_wipe_weights_loaded_in_between(checkpoint):
    _, state = checkpoint
    parent = Detector(dict(type='swinv2_mm.SwinTransformerV2', arch='nano'), init_cfg=XAVIER)
    parent.init_weights()
    parent.backbone.load_state_dict(state)
    parent.init_weights()
    parent.backbone.init_weights()
    check_loaded(parent.backbone, state)


def test_a_parents_own_checkpoint_reaches_the_backbone(checkpoint, tmp_path):
    _, state = checkpoint
    whole = {f'backbone.{name}': value for name, value in state.items()}
    whole |= {'head.weight': torch.ones(8, 8), 'head.bias': torch.ones(8)}
    torch.save(whole, tmp_path / 'whole.pth')
    parent = Detector(dict(type='swinv2_mm.SwinTransformerV2', arch='nano'),
                      init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'whole.pth')))
    parent.init_weights()
    check_loaded(parent.backbone, state)


def test_frozen_stages_are_initialised_like_all_others():
    torch.manual_seed(0)
    parent = Detector(dict(type='swinv2_mm.SwinTransformerV2', arch='nano', frozen_stages=4),
                      init_cfg=XAVIER)
    parent.init_weights()
    check_official(parent.backbone)
    assert not any(p.requires_grad for p in parent.backbone.parameters())
