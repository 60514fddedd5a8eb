"""The layout of transformers with its own models and files; see checkpoints/test_layouts.py."""
import pytest
import torch
from conftest import awaken
from layout_checks import equal, fits_by_shape, loads_with_equal_features, takes_ours_strictly
from transformers import (
    Swinv2Backbone,
    Swinv2Config,
    Swinv2ForImageClassification,
    Swinv2ForMaskedImageModeling,
    Swinv2Model,
)

from swinv2_mm import ARCHS, SwinTransformerV2
from swinv2_mm.checkpoints import from_native, load_backbone, plan, read_checkpoint, to_native


def config(arch, **settings):
    size = ARCHS[arch]
    return Swinv2Config(image_size=256, embed_dim=size.embed_dims, depths=list(size.depths),
                        num_heads=list(size.num_heads), window_size=8, num_labels=10, **settings)


def build(arch):
    return Swinv2ForImageClassification(config(arch))


def blocks(peer):
    return [stage.blocks[-1] for stage in peer.swinv2.encoder.layers]


@pytest.mark.parametrize('shards', [{}, {'max_shard_size': '20MB'}], ids=['one file', 'shards'])
def test_a_tiny_model_that_it_saved_loads_with_equal_features_and_logits(shards, tmp_path):
    peer = awaken(build('tiny'), seed=5)
    peer.save_pretrained(tmp_path, **shards)
    assert (tmp_path / 'model.safetensors.index.json').exists() == bool(shards)
    loads_with_equal_features(
        peer, tmp_path, 'transformers', blocks(peer), lambda x: peer(x).logits)


def test_it_takes_our_tiny_model_strictly_with_equal_outputs(awake):
    peer = build('tiny')
    model = awake(SwinTransformerV2('tiny', window_size=8), seed=6)
    takes_ours_strictly(model, peer, 'transformers', blocks(peer), lambda x: peer(x).logits)


@pytest.mark.parametrize('arch', ['small', 'base', 'large'])
def test_larger_models_fit_by_shape(arch, monkeypatch):
    linspace = torch.linspace  # drop path rates, whose values are read while building
    monkeypatch.setattr(torch, 'linspace', lambda *args, **kwargs: linspace(
        *args, **kwargs | {'device': 'cpu'}))
    fits_by_shape(build, 'transformers', arch)


@pytest.mark.parametrize('cls, lacks', [
    (Swinv2Model, ('head', 'decoder', 'mask_token')),
    (Swinv2Backbone, ('head', 'decoder', 'mask_token', 'norm3')),
    (Swinv2ForImageClassification, ('decoder', 'mask_token')),
    (Swinv2ForMaskedImageModeling, ('head',))], ids=lambda value: getattr(value, '__name__', ''))
def test_files_of_every_class_go_there_and_back_and_into_our_model(cls, lacks, tmp_path):
    peer = awaken(cls(config('nano')), seed=3)
    peer.save_pretrained(tmp_path)
    state = read_checkpoint(tmp_path)
    native = to_native(state)
    assert all(step.change != 'dropped' for step in plan(state))
    wanted = {'head.weight', 'decoder.0.weight', 'mask_token', 'norm3.weight'}
    assert wanted - native.keys() == {name for name in wanted if name.startswith(lacks)}
    prefix = '' if cls in (Swinv2Model, Swinv2Backbone) else None
    back = from_native(native, 'transformers', prefix=prefix)
    assert equal(back, state)
    peer.load_state_dict(back, strict=True)

    model = SwinTransformerV2('nano', window_size=8)
    report = load_backbone(model, tmp_path)
    assert ('norm3.weight' in report.fresh) == (cls is Swinv2Backbone)
    assert equal({k: v for k, v in model.state_dict().items() if k in native},
                 {k: v for k, v in native.items() if k in model.state_dict()})


def test_absolute_position_embeddings_are_refused_by_name():
    state = Swinv2Model(config('nano', use_absolute_embeddings=True)).state_dict()
    with pytest.raises(ValueError, match='without absolute position .* embeddings.position_emb'):
        load_backbone(SwinTransformerV2('nano', window_size=8), state)
