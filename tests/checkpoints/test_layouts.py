"""Every public layout, there and back, with the libraries' own models where they are installed."""
import peers
import pytest
import timm
import torch
from conftest import awaken
from helpers import paired, weights
from layout_checks import (
    WINDOWS,
    equal,
    fits_by_shape,
    loads_with_equal_features,
    takes_ours_strictly,
)
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint
from mmpretrain.registry import MODELS as MMPRETRAIN
from timm.models._hub import save_for_hf
from timm.models.swin_transformer_v2 import checkpoint_filter_fn
from torchvision.models import swin_transformer

from swinv2_mm import ARCHS, SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.checkpoints import (
    LAYOUTS,
    detect_layout,
    from_native,
    load_backbone,
    plan,
    plan_back,
    to_native,
)
from swinv2_mm.checkpoints.libraries import CHANGES
from swinv2_mm.checkpoints.names import match
from swinv2_mm.checkpoints.transfer import SIZES

SMALL = dict(embed_dims=8, depths=(2, 1, 2), num_heads=(1, 2, 2))


def build_timm(arch, **settings):
    return timm.create_model(f'swinv2_{arch}_window8_256' if arch != 'large' else
                             'swinv2_large_window12to16_192to256', window_size=8,
                             pretrained_window_sizes=(0, 0, 0, 0), num_classes=10, **settings)


def build_torchvision(arch):
    size = ARCHS[arch]
    return swin_transformer.SwinTransformer(
        [4, 4], size.embed_dims, size.depths, size.num_heads, [8, 8], num_classes=10,
        block=swin_transformer.SwinTransformerBlockV2,
        downsample_layer=swin_transformer.PatchMergingV2)


def build_mmpretrain(arch, out_indices=(3,)):
    channels = ARCHS[arch].embed_dims * 8
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MMPRETRAIN.build(dict(
            type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
            backbone=dict(type='SwinTransformerV2', arch=arch, window_size=8,
                          out_indices=out_indices),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=channels)))


def timm_blocks(peer):
    return [stage.blocks[-1] for stage in peer.layers]


def torchvision_blocks(peer):
    return [stage[-1] for stage in peer.features[1::2]]


def mmpretrain_blocks(peer):
    return [stage.blocks[-1] for stage in peer.backbone.stages]


def save_timm(peer, folder):
    save_for_hf(peer, folder, safe_serialization=True)
    return folder / 'model.safetensors'


def save_torchvision(peer, folder):
    torch.save(peer.state_dict(), folder / 'model.pth')
    return folder / 'model.pth'


def save_mmpretrain(peer, folder):
    save_checkpoint({'meta': {}, 'state_dict': peer.state_dict()}, str(folder / 'epoch_1.pth'))
    return folder / 'epoch_1.pth'


PEERS = {
    'timm': (build_timm, timm_blocks, save_timm),
    'torchvision': (build_torchvision, torchvision_blocks, save_torchvision),
    'mmpretrain': (build_mmpretrain, mmpretrain_blocks, save_mmpretrain),
}


@pytest.mark.parametrize('layout', PEERS)
def test_a_tiny_model_that_a_peer_saved_loads_with_equal_features_and_logits(layout, tmp_path):
    build, blocks, save = PEERS[layout]
    peer = awaken(build('tiny'), seed=5)
    file = save(peer, tmp_path)
    loads_with_equal_features(peer, file, layout, blocks(peer), peer)


@pytest.mark.parametrize('layout', PEERS)
def test_a_peer_takes_our_tiny_model_strictly_with_equal_outputs(layout, awake):
    build, blocks, _ = PEERS[layout]
    if layout == 'mmpretrain':
        peer = build('tiny', out_indices=(0, 1, 2, 3))
        # Takes the buffers out before a load, so that it does not even load its own state dict.
        peer.backbone._load_state_dict_pre_hooks.clear()
    else:
        peer = build('tiny')
    model = awake(SwinTransformerV2('tiny', window_size=8), seed=6)
    takes_ours_strictly(model, peer, layout, blocks(peer), peer)


@pytest.mark.parametrize('arch', ['small', 'base', 'large'])
@pytest.mark.parametrize('layout', PEERS)
def test_larger_models_of_a_peer_fit_by_shape(layout, arch, monkeypatch):
    linspace = torch.linspace  # drop path rates, whose values are read while building
    monkeypatch.setattr(torch, 'linspace', lambda *args, **kwargs: linspace(
        *args, **kwargs | {'device': 'cpu'}))
    fits_by_shape(PEERS[layout][0], layout, arch)


def whole(seed=0):
    """A native state dict with everything that some layout has."""
    model = awaken(SwinTransformerV2(SMALL, out_indices=(0, 1, 2)), seed)
    channels = model.out_channels[-1]
    extra = {'head.weight': (10, channels), 'head.bias': (10,), 'mask_token': (1, 1, 8),
             'decoder.0.weight': (48, channels, 1, 1), 'decoder.0.bias': (48,)}
    generator = torch.Generator().manual_seed(seed)
    return weights(model) | {name: torch.randn(shape, generator=generator)
                                 for name, shape in extra.items()}


NAMES = {  # of a classifier: what each library calls the same six tensors
    'official': ('patch_embed.proj.bias', 'layers.0.downsample.norm.bias',
                 'layers.1.blocks.0.mlp.fc1.bias', 'layers.1.blocks.0.attn.cpb_mlp.0.bias',
                 'norm.bias', 'head.bias'),
    'simmim': ('encoder.patch_embed.proj.bias', 'encoder.layers.0.downsample.norm.bias',
               'encoder.layers.1.blocks.0.mlp.fc1.bias',
               'encoder.layers.1.blocks.0.attn.rpe_mlp.0.bias', 'encoder.norm.bias', 'head.bias'),
    'timm': ('patch_embed.proj.bias', 'layers.1.downsample.norm.bias',
             'layers.1.blocks.0.mlp.fc1.bias', 'layers.1.blocks.0.attn.cpb_mlp.0.bias',
             'norm.bias', 'head.fc.bias'),
    'torchvision': ('features.0.0.bias', 'features.2.norm.bias', 'features.3.0.mlp.0.bias',
                    'features.3.0.attn.cpb_mlp.0.bias', 'norm.bias', 'head.bias'),
    'mmpretrain': ('backbone.patch_embed.projection.bias',
                   'backbone.stages.1.downsample.norm.bias',
                   'backbone.stages.1.blocks.0.ffn.layers.0.0.bias',
                   'backbone.stages.1.blocks.0.attn.w_msa.cpb_mlp.0.bias', 'backbone.norm2.bias',
                   'head.fc.bias'),
    'transformers': ('swinv2.embeddings.patch_embeddings.projection.bias',
                     'swinv2.encoder.layers.0.downsample.norm.bias',
                     'swinv2.encoder.layers.1.blocks.0.intermediate.dense.bias',
                     'swinv2.encoder.layers.1.blocks.0.attention.self.'
                     'continuous_position_bias_mlp.0.bias', 'swinv2.layernorm.bias',
                     'classifier.bias'),
    'native': ('patch_embed.proj.bias', 'layers.0.downsample.norm.bias',
               'layers.1.blocks.0.mlp.fc1.bias', 'layers.1.blocks.0.attn.cpb_mlp.0.bias',
               'norm2.bias', 'head.bias'),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_names_are_those_of_the_library(layout):
    native = whole()
    state = from_native(native, layout)
    for ours, theirs in paired(NAMES['native'], NAMES[layout]):
        assert torch.equal(state[theirs], native[ours])


@pytest.mark.parametrize('pattern, name, found', [
    ('a.{i}.b', 'a.3.b.weight', ({'i': 3}, '.weight')), ('a.{i}.b', 'a.3.bias', None),
    ('a.{i+1}', 'a.3', ({'i': 2}, '')), ('a.{i+1}', 'a.0', None), ('a.{2i+1}', 'a.4', None),
    ('a.{2i+1}.{j}', 'a.5.1.x.y', ({'i': 2, 'j': 1}, '.x.y')), ('a.{i}.{i}', 'a.1.2', None),
    ('/a', 'a.b', ({}, '.b')), ('/a', '/a', ({}, '')), ('a', '/a', None), ('a.b', 'axb', None),
    ('a.{i}', 'a.\u0663', None)])
def test_patterns_of_names_are_read_backwards(pattern, name, found):
    assert match(pattern, name) == found


LACKS = {  # native names that have no place in a layout
    'native': (), 'mmpretrain': ('mask_token', 'decoder'), 'transformers': ('norm0', 'norm1'),
    'simmim': ('norm0', 'norm1'), **dict.fromkeys(
        ('official', 'timm', 'torchvision'), ('norm0', 'norm1', 'mask_token', 'decoder'))}


@pytest.mark.parametrize('prefix', [None, '', 'model.backbone.'], ids=repr)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_there_and_back_gives_equal_tensors(layout, prefix):
    native = whole()
    state = from_native(native, layout, prefix=prefix)
    assert detect_layout(state) == layout
    kept = {k: v for k, v in native.items() if not k.startswith(LACKS[layout])}
    assert equal(to_native(state), kept) and equal(to_native(state, layout), kept)
    assert equal(from_native(to_native(state), layout, prefix=prefix), state)
    left_out = {name for step in plan_back(native, layout) if step.change == 'dropped'
                for name in step.sources}
    assert left_out == native.keys() - kept.keys()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_buffers_are_added_where_the_library_saves_them_and_are_told_apart(layout):
    native = whole()
    state = from_native(native, layout, WINDOWS)
    added = state.keys() - from_native(native, layout).keys()
    saves = layout in ('official', 'simmim', 'torchvision', 'mmpretrain')
    assert len(added) == 10 * saves
    assert detect_layout(state) == layout
    assert added == {step.sources[0] for step in plan(state) if step.change == 'buffer'}
    with pytest.raises(ValueError, match='an entry for each stage .* got 2 .* add the missing'):
        from_native(native, 'official', WINDOWS[:2])


def test_an_official_file_of_ours_passes_timms_own_filter_strictly(awake):
    """The filter knows official files, whose own code is not installable."""
    model = awake(SwinTransformerV2('tiny', window_size=8), seed=7)
    peer = build_timm('tiny')

    class Filtered:
        def load_state_dict(self, state, strict):
            assert sum('relative_coords_table' in name for name in state) == 12
            peer.load_state_dict(checkpoint_filter_fn({'model': state}, peer), strict=strict)

        def __getattr__(self, name):
            return getattr(peer, name)

        def __call__(self, x):
            return peer(x)

    takes_ours_strictly(model, Filtered(), 'official', timm_blocks(peer), peer)


def test_an_official_file_with_timms_name_for_the_head_is_read():
    native = whole()
    state = from_native(native, 'official')
    other = {name.replace('head.', 'head.fc.'): value for name, value in state.items()}
    assert detect_layout(other) == 'official' and equal(to_native(other), to_native(state))


def test_files_of_masked_image_modelling_load(awake):
    native = whole()
    state = from_native(native, 'simmim')
    assert {'encoder.mask_token', 'encoder.layers.0.blocks.0.attn.rpe_mlp.0.weight',
            'encoder.norm.weight', 'decoder.0.weight'} <= state.keys()
    newer = {name.replace('rpe_mlp', 'cpb_mlp'): value for name, value in state.items()}
    for file in (state, newer):
        model = SwinTransformerV2(SMALL, window_size=8, out_indices=(0, 1, 2))
        report = load_backbone(model, file)
        assert report.layout == 'simmim'
        assert {'mask_token', 'decoder.0.weight', 'decoder.0.bias'} <= set(report.dropped)
        assert all(torch.equal(value, native[name]) for name, value in weights(model).items()
                   if not name.startswith(('norm0', 'norm1')))


def test_a_timm_model_for_features_only_loads(awake):
    peer = awake(timm.create_model('swinv2_tiny_window8_256', features_only=True))
    model = SwinTransformerV2('tiny', window_size=8)
    report = load_backbone(model, peer.state_dict())
    assert report.layout == 'timm' and not report.dropped
    assert {name.split('.')[0] for name in report.fresh} == {'norm0', 'norm1', 'norm2', 'norm3'}
    with torch.no_grad():
        x = torch.randn(1, 3, 256, 256)
        trunk = peers.trunks_in_float64(peer, peer, x)[1]  # (B, H, W, C)
        torch.testing.assert_close(model.double().eval()(x.double())[1],
                                   model.norm1(trunk).permute(0, 3, 1, 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('prefix, around', [
    ('backbone.', ['neck.conv.weight', 'roi_head.bbox_head.0.fc_cls.weight']),  # a detector
    ('backbone.', ['decode_head.conv_seg.weight', 'auxiliary_head.conv_seg.bias']),  # a segmentor
    ('backbone.', ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']),  # a recognizer
    ('pretrained.model.', ['scratch.layer1_rn.weight'])], ids=str)
def test_a_backbone_is_found_inside_a_larger_model(layout, prefix, around):
    native = {name: value for name, value in whole().items()
              if not name.startswith(('head', 'mask', 'decoder'))}
    state = from_native(native, layout, prefix=prefix) | {n: torch.ones(10) for n in around}
    assert detect_layout(state) == layout
    read = to_native(state)
    if layout == 'native' and around[0] == 'cls_head.fc_cls.weight':  # of a classifier of ours
        assert read.pop('head.weight').sum() == read.pop('head.bias').sum() == 10
        around = []
    assert read.keys() == {k for k in native if not k.startswith(LACKS[layout])}
    assert around == [step.sources[0] for step in plan(state) if step.change == 'dropped']


def test_the_plan_says_what_is_joined_permuted_and_left_out():
    state = from_native(whole(), 'transformers')
    state['swinv2.pooler.x'] = torch.ones(1)
    steps = {step.targets[:1]: step for step in plan(state)}
    start = 'swinv2.encoder.layers.1.blocks.0.attention.self.'
    step = steps['layers.1.blocks.0.attn.qkv.weight',]
    assert step.change == 'split'
    assert step.sources == tuple(f'{start}{part}.weight' for part in ('query', 'key', 'value'))
    assert steps[()] == (('swinv2.pooler.x',), (), 'dropped')
    permuted = [s for s in plan(from_native(whole(), 'mmpretrain')) if s.change == 'unfolded']
    assert [s.targets for s in permuted] == [
        (f'layers.{i}.downsample.reduction.weight',) for i in (0, 1)]
    packed = [s for s in plan(from_native(whole(), 'torchvision')) if s.change == 'packed']
    assert len(packed) == 5 and packed[0].sources == ('features.1.0.attn.qkv.bias',)
    bias = from_native(whole(), 'torchvision')['features.1.0.attn.qkv.bias']
    assert bias[:8].all() and not bias[8:16].any() and bias[16:].all()  # a key has none


def v1(layout):
    return from_native(whole(), layout) | {
        'x.attn.relative_position_bias_table': torch.zeros(169, 1)}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_swin_v1_is_refused_by_name(layout):
    with pytest.raises(ValueError, match='is of Swin V1 .* use a SwinV2 file'):
        to_native(v1(layout))


def test_swinv2_cr_and_other_models_are_refused_by_name():
    with torch.device('meta'):
        others = [timm.create_model(f'swinv2_cr_{kind}', num_classes=1)
                  for kind in ('tiny_224', 'tiny_ns_224')]
        vit = timm.create_model('vit_tiny_patch16_224')
    for other in others:
        with pytest.raises(ValueError, match='swinv2_cr, another model .* swinv2_\\* models'):
            load_backbone(SwinTransformerV2('tiny'), other.state_dict())
    for state in (vit.state_dict(), {'conv1.weight': torch.ones(1)}, {}):
        with pytest.raises(ValueError, match='must be of a SwinV2 in one of the layouts .* got'):
            detect_layout(state)


def mixtures():
    native = whole()
    official = from_native(native, 'official')
    for other in LAYOUTS:
        state = from_native(native, other)
        if other not in ('official', 'native', 'simmim'):
            yield f'official and {other}', official | state
        if other not in ('official', 'timm', 'simmim'):
            # a block under another name
            block = {k: v for k, v in state.items() if '1.1' in k or '1.blocks.0' in k}
            first = 'layers.1.blocks.0'
            yield f'a block of {other}', {
                k: v for k, v in official.items() if not k.startswith(first)} | block
    merging = {'layers.2.downsample.norm.bias': torch.ones(1)}
    yield 'merging at both ends', official | merging
    yield 'two output norms', official | {'norm2.weight': torch.ones(1)}
    yield 'two heads', official | {'head.fc.weight': torch.ones(1)}


MIXTURES = [(name, state) for name, state in mixtures() if name != 'a block of native']


@pytest.mark.parametrize('state', [s for _, s in MIXTURES], ids=[n for n, _ in MIXTURES])
def test_mixed_layouts_are_refused(state):
    with pytest.raises(ValueError, match='must be in one layout, got .* keep the names of one'):
        to_native(state)


def test_a_layout_that_is_named_must_be_known_and_that_of_the_file():
    with pytest.raises(KeyError, match='layout must be one of transformers, .* got .detectron.'):
        to_native(from_native(whole(), 'official'), 'detectron')
    with pytest.raises(KeyError, match='layout must be one of'):
        from_native(whole(), 'detectron')
    with pytest.raises(ValueError, match='must be of a SwinV2 in one of the layouts mmpretrain'):
        to_native(from_native(whole(), 'official'), 'mmpretrain')


def test_two_backbones_in_one_file_are_refused_unless_one_is_called_so():
    student = from_native(whole(), 'official', prefix='student.')
    teacher = from_native(whole(1), 'official', prefix='teacher.')
    with pytest.raises(ValueError, match='must hold one backbone, got 2 under student., teacher.'):
        to_native(student | teacher)
    ours = from_native(whole(), 'official', prefix='backbone.')
    assert equal(to_native(teacher | ours), to_native(ours))


@pytest.mark.parametrize('theirs, ours', [
    ('small', 'tiny'), ('tiny', 'small'), ('base', 'small'), ('large', 'base'), ('tiny', 'nano')])
def test_a_larger_or_smaller_model_is_refused_with_both_named(theirs, ours):
    with torch.device('meta'):
        state = SwinTransformerV2(theirs, window_size=8).state_dict()
        model = SwinTransformerV2(ours, window_size=8)
    names = rf'it is of {theirs} \(embed_dims=.*, and the model of {ours} \(embed_dims='
    with pytest.raises(ValueError, match=f'does not fit the model: {names}.* set arch to that of'):
        load_backbone(model, from_native(state, 'timm'))


def test_sizes_are_named_as_the_models_are():
    assert SIZES == {(arch.embed_dims, arch.depths): name for name, arch in ARCHS.items()}


@pytest.mark.parametrize('layout', ['transformers', 'torchvision', 'timm'])
def test_a_file_with_a_tensor_missing_is_refused(layout):
    model = SwinTransformerV2(SMALL, out_indices=(0, 1, 2))
    before = {name: value.clone() for name, value in weights(model).items()}
    state = from_native(whole(), layout)
    for lost in [name for name in state if '1.0.' in name or '.1.blocks.0.' in name]:
        with pytest.raises(ValueError, match='does not fit the model') as error:
            load_backbone(model, {k: v for k, v in state.items() if k != lost})
        assert '1 tensors missing' in str(error.value) or lost.endswith('logit_scale') or (
            '2 tensors missing' in str(error.value) and lost.endswith('qkv.bias'))
    assert equal(weights(model), before)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_tensor_of_any_other_shape_is_refused(layout):
    state = from_native(whole(), layout, WINDOWS)
    models = (SwinTransformerV2(SMALL, out_indices=(0, 1, 2)),
              SwinTransformerV2Video(SMALL, out_indices=(0, 1, 2)))
    for step in plan(state):
        if step.change not in CHANGES or step.targets[0].startswith(('head', 'mask', 'decoder')):
            continue
        for shape in ((), (7,), (2, 3), (1, 2, 3, 4, 5)):
            for model in models:
                with pytest.raises(ValueError, match='must|does not fit the model'):
                    load_backbone(model, state | {step.sources[0]: torch.ones(shape)})


def test_weights_that_are_not_floats_are_refused():
    state = from_native(whole(), 'official')
    name = 'layers.0.blocks.0.mlp.fc1.weight'
    with pytest.raises(ValueError, match=f'1 not of floats .{name} of torch.int8.; use a whole'):
        load_backbone(SwinTransformerV2(SMALL, out_indices=(0, 1, 2)),
                      state | {name: state[name].to(torch.int8)})


@torch.no_grad()
def test_a_model_built_on_the_meta_device_becomes_real_by_loading(awake):
    source = awake(SwinTransformerV2(SMALL, window_size=8, out_indices=(0, 1, 2))).eval()
    with torch.device('meta'):
        model = SwinTransformerV2(SMALL, window_size=8, out_indices=(0, 1, 2)).eval()
    load_backbone(model, weights(source))
    x = torch.randn(1, 3, 64, 64)
    assert all(map(torch.equal, model(x), source(x)))
