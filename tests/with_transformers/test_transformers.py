"""The same features as transformers gives; apart, as mmpretrain fails to import beside it."""
import peers
import pytest
import torch
from helpers import weights
from transformers import Swinv2Backbone, Swinv2Config, Swinv2Model
from transformers.models.swinv2 import modeling_swinv2

from swinv2_mm import ARCHS, SwinTransformerV2

NANO = ARCHS['nano']._asdict()
SETTINGS = [(256, 8, 0), (256, 16, 0), (256, 16, [12, 12, 12, 6]), (384, 24, [12, 12, 12, 6])]
each_setting = pytest.mark.parametrize('side, window, pretrained', SETTINGS)


def build(awake, cls, side, window, pretrained, arch=NANO, **settings):
    """An awake model of ours and transformers' with its weights."""
    stages = tuple(range(len(arch['depths'])))
    model = awake(SwinTransformerV2(arch, window_size=window, out_indices=stages,
                                    pretrained_window_sizes=pretrained))
    config = Swinv2Config(
        image_size=side, embed_dim=arch['embed_dims'], depths=list(arch['depths']),
        num_heads=list(arch['num_heads']), window_size=window,
        pretrained_window_sizes=pretrained or [0] * len(stages), **settings)
    peer = cls(config)
    load(model, peer)
    return model, peer


def load(model, peer):
    peers.load(peer, peers.to_transformers(weights(model)), ignored='layernorm|hidden_states')


@pytest.fixture
def seam_added_once(monkeypatch):
    """transformers adds its mask twice, -200 across the seam instead of the official -100."""
    original = modeling_swinv2.Swinv2Layer.get_attn_mask

    def halved(*args, **kwargs):
        mask = original(*args, **kwargs)
        assert mask is None or set(mask.unique().tolist()) == {-100.0, 0.0}
        return mask if mask is None else mask / 2

    monkeypatch.setattr(modeling_swinv2.Swinv2Layer, 'get_attn_mask', halved)


def trunks_of(peer):
    return lambda x: [out.permute(0, 2, 3, 1) for out in peer(x).feature_maps]


@each_setting
def test_features_equal_transformers(awake, side, window, pretrained):
    """With its seam of -200 as it is: the difference is not seen at logits of ordinary size."""
    model, peer = build(awake, Swinv2Backbone, side, window, pretrained,
                        out_features=[f'stage{i}' for i in range(1, 5)])
    peers.check(model, peer, trunks_of(peer), side)


@pytest.fixture
def steep(awake):
    """Scales at their cap, heads of two channels and corners of one token: logits reach over it."""
    arch = dict(embed_dims=16, depths=(2, 2), num_heads=(8, 16))
    model, peer = build(awake, Swinv2Backbone, 32, 2, 0, arch=arch,
                        out_features=['stage1', 'stage2'])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('logit_scale'):
                parameter.fill_(5.0)
    load(model, peer)
    return model, peer


@pytest.mark.usefixtures('seam_added_once')
def test_features_equal_transformers_at_steep_logits_once_its_seam_is_added_once(steep):
    model, peer = steep
    peers.check(model, peer, trunks_of(peer), 32, single=False)


def test_steep_logits_tell_the_seam_of_transformers_from_the_official_one(steep):
    """So that the test above is known to see the seam; when this fails, drop the halving there."""
    model, peer = steep
    with pytest.raises(AssertionError, match='not close'):
        peers.check(model, peer, trunks_of(peer), 32, single=False)


def test_the_last_hidden_state_equals_that_of_the_plain_model(awake):
    model, peer = build(awake, Swinv2Model, 256, 8, 0, add_pooling_layer=False)
    peer.layernorm.load_state_dict(model.norm3.state_dict())
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.double().eval()(x.double())[-1].flatten(2).transpose(1, 2)
        theirs = peers.trunks_in_float64(peer, peer, x).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
