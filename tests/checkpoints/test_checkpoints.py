"""Loading: official files, wrappers, windows that must agree, and files that must be refused."""
import copy

import pytest
import torch
from helpers import weights
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import load_backbone, pretrained_windows, read_checkpoint

ARCH = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 2))
OTHER_ARCH = dict(ARCH, embed_dims=16)

# Windows of a released file, one per stage: `window` as the config of its training says, cut to
# the map; `normaliser` its pretrained_window_sizes, or the window where those are 0.
TRAINED = {  # stem: (image size, window per stage, normaliser per stage)
    'window8_256': (256, [8, 8, 8, 8], [8, 8, 8, 8]),
    'window16_256': (256, [16, 16, 16, 8], [16, 16, 16, 8]),
    'window12_192_22k': (192, [12, 12, 12, 6], [12, 12, 12, 6]),
    'window12to16_192to256': (256, [16, 16, 16, 8], [12, 12, 12, 6]),
    'window12to24_192to384': (384, [24, 24, 24, 12], [12, 12, 12, 6]),
}


def coords_table(window, normaliser):
    """(1, 2w-1, 2w-1, 2): sign(x) log2(1 + |x|) / log2(8), x = 8 offset / (normaliser - 1)."""
    offsets = torch.arange(-(window - 1), window, dtype=torch.float32)
    y, x = torch.meshgrid(offsets, offsets, indexing='ij')
    table = torch.stack([y, x], dim=-1)[None] / (normaliser - 1) * 8
    return table.sign() * torch.log2(table.abs() + 1) / torch.log2(torch.tensor(8.0))


def position_index(window):
    """(N, N): (dy + w - 1) (2w - 1) + (dx + w - 1) between tokens of a window."""
    y, x = (axis.flatten() for axis in torch.meshgrid(
        torch.arange(window), torch.arange(window), indexing='ij'))
    dy, dx = y[:, None] - y[None], x[:, None] - x[None]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def seam_mask(size, window):
    """(W, N, N): 0 or -100, for a square map shifted by half a window."""
    edges = torch.zeros(size, dtype=torch.long)
    edges[-window:], edges[-(window // 2):] = 1, 2
    regions = edges[:, None] * 3 + edges[None]
    cut = regions.view(size // window, window, size // window, window).transpose(1, 2)
    cut = cut.reshape(-1, window * window)
    return (cut[:, None] != cut[:, :, None]) * -100.0


def official(model, stem='window8_256'):
    """The state dict of a classifier on this backbone, as the official code saves it."""
    size, windows, normalisers = TRAINED[stem]
    state = {}
    for key, value in weights(model).items():
        if not key.startswith(('norm0', 'norm1', 'norm2')):  # V2 classifiers have the last one only
            state[key.replace('norm3', 'norm') if key.startswith('norm3') else key] = value.clone()
    for i, (window, normaliser) in enumerate(zip(windows, normalisers)):
        side = size // 4 >> i
        for j in range(2):
            block = f'layers.{i}.blocks.{j}'
            state[f'{block}.attn.relative_coords_table'] = coords_table(window, normaliser)
            state[f'{block}.attn.relative_position_index'] = position_index(window)
            if j % 2 and side > window:  # only shifted blocks have one
                state[f'{block}.attn_mask'] = seam_mask(side, window)
    channels = model.out_channels[-1]
    state['head.weight'], state['head.bias'] = torch.randn(10, channels), torch.zeros(10)
    return state


def backbone(**settings):
    return SwinTransformerV2(**{'arch': ARCH, 'window_size': 16, **settings})


@pytest.fixture(scope='module')
def source():
    from conftest import awaken
    return awaken(backbone(), seed=3)


@pytest.fixture
def file(source, tmp_path):
    path = tmp_path / 'swinv2.pth'
    torch.save({'model': official(source), 'epoch': 299}, path)
    return path


def assert_same_weights(model, source, prefix=''):
    wanted = {k: v for k, v in weights(source).items() if k.startswith(prefix)}
    wanted = {k: v for k, v in wanted.items() if not k.startswith(('norm0', 'norm1', 'norm2'))}
    own = weights(model)
    assert wanted and all(torch.equal(own[key], value) for key, value in wanted.items())


def test_an_official_file_loads_and_only_its_head_and_buffers_are_left_out(file, source):
    model = backbone(pretrained_window_sizes=8)
    report = load_backbone(model, file)
    assert_same_weights(model, source)
    assert report.dropped == ['head.weight', 'head.bias']
    assert report.fresh == [f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')]
    assert len(report.loaded) + len(report.fresh) == len(weights(model))
    # Not in any file: the output norms of earlier stages stay as they were initialised.
    assert torch.equal(model.norm0.weight, torch.ones(8))
    assert str(len(report.loaded)) in str(report)


def test_the_window_of_a_file_is_read_from_its_tables(source):
    for stem, (_, windows, normalisers) in TRAINED.items():
        assert pretrained_windows(official(source, stem)) == [
            ((w, w), (n, n)) for w, n in zip(windows, normalisers)], stem
    assert pretrained_windows(weights(source)) is None


@pytest.mark.parametrize('window', [2, 7, 12, 24, 32, 48])
def test_the_normaliser_is_read_exactly_for_every_window(window):
    key = 'layers.0.blocks.0.attn.relative_coords_table'
    some = {'patch_embed.proj.weight': None, 'layers.0.blocks.0.attn.logit_scale': None}
    for normaliser in range(2, 65):
        read = pretrained_windows(some | {key: coords_table(window, normaliser)})
        assert read == [((window, window), (normaliser, normaliser))]


@pytest.mark.parametrize('stem, settings', [
    ('window8_256', dict(window_size=8)),
    ('window8_256', dict(window_size=16, pretrained_window_sizes=8)),
    ('window16_256', dict(window_size=[16, 16, 16, 8])),
    ('window16_256', dict(window_size=16, pretrained_window_sizes=[16, 16, 16, 8])),
    ('window12_192_22k', dict(window_size=16, pretrained_window_sizes=[12, 12, 12, 6])),
    ('window12to16_192to256', dict(window_size=24, pretrained_window_sizes=[12, 12, 12, (6, 6)])),
    ('window12to24_192to384', dict(window_size=(16, 20), pretrained_window_sizes=[12, 12, 12, 6])),
], ids=str)
def test_settings_that_normalise_as_the_file_did_are_taken(source, stem, settings):
    model = backbone(**settings)
    load_backbone(model, official(source, stem))
    assert_same_weights(model, source)


@pytest.mark.parametrize('stem, settings, advice', [
    ('window8_256', dict(), 'pretrained_window_sizes=[8, 8, 8, 8]'),
    ('window12_192_22k', dict(pretrained_window_sizes=12),  # right but for the last stage
     'pretrained_window_sizes=[12, 12, 12, 6]'),
    ('window12to16_192to256', dict(), 'pretrained_window_sizes=[12, 12, 12, 6]'),
    ('window16_256', dict(), 'pretrained_window_sizes=[16, 16, 16, 8]'),
    ('window16_256', dict(window_size=(16, 8)), 'pretrained_window_sizes=[16, 16, 16, 8]'),
], ids=str)
def test_settings_that_would_normalise_otherwise_are_refused_with_the_right_ones(
        source, stem, settings, advice):
    model = backbone(**settings)
    before = copy.deepcopy(weights(model))
    with pytest.raises(ValueError) as error:
        load_backbone(model, official(source, stem))
    assert advice in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in weights(model).items())
    sizes = eval(advice.partition('=')[2])  # the advice, taken, works
    load_backbone(backbone(**settings | dict(pretrained_window_sizes=sizes)),
                  official(source, stem))


WRAPPERS = {
    'bare': lambda state: state,
    'model': lambda state: {'model': state},
    'state_dict': lambda state: {'state_dict': state, 'meta': {'epoch': 3}},
    'module. of data parallel': lambda state: {'model': {f'module.{k}': v for k, v in
                                                         state.items()}},
    'backbone. of a detector': lambda state: {'state_dict': {
        **{f'backbone.{k}': v for k, v in state.items()}, 'neck.conv.weight': torch.ones(1)}},
    'both': lambda state: {'state_dict': {f'module.backbone.{k}': v for k, v in state.items()}},
}


@pytest.mark.parametrize('layout', ['official', 'native'])
@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_around_the_weights_are_taken_off(source, tmp_path, wrap, layout):
    state = official(source) if layout == 'official' else weights(source)
    torch.save(wrap(state), tmp_path / 'wrapped.pth')
    model = backbone(pretrained_window_sizes=8)
    report = load_backbone(model, tmp_path / 'wrapped.pth')
    assert_same_weights(model, source)
    assert bool(report.fresh) == (layout == 'official')
    assert ('neck.conv.weight' in report.dropped) == (wrap is WRAPPERS['backbone. of a detector'])


def test_weights_of_the_wrapped_file_still_say_their_windows(source, tmp_path):
    torch.save(WRAPPERS['both'](official(source)), tmp_path / 'wrapped.pth')
    with pytest.raises(ValueError, match='pretrained_window_sizes'):
        load_backbone(backbone(), tmp_path / 'wrapped.pth')


def test_a_model_without_the_last_stages_takes_what_it_has(source):
    model = backbone(out_indices=(0, 1), pretrained_window_sizes=8)
    report = load_backbone(model, official(source))
    own = weights(model)
    assert all(torch.equal(own[k], v) for k, v in weights(source).items()
               if k in own and not k.startswith('norm'))
    assert 'norm3.weight' in report.dropped
    assert {key for key in report.dropped if key.startswith('layers.')} == {
        key for key in weights(source) if key.startswith(('layers.2', 'layers.3'))} | {
        f'layers.1.downsample.{name}' for name in ('reduction.weight', 'norm.weight', 'norm.bias')}


def test_a_url_is_fetched_and_one_that_is_not_there_is_named(file, source, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    model = backbone(pretrained_window_sizes=8)
    load_backbone(model, file.as_uri())
    assert_same_weights(model, source)
    with pytest.raises(OSError, match='nowhere.pth could not be read .* give its path'):
        read_checkpoint((tmp_path / 'nowhere.pth').as_uri())


class Code:
    """Pickles to a call that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), 'w')


def test_a_pickle_with_code_is_refused_and_not_run(source, tmp_path):
    trace = tmp_path / 'ran'
    torch.save({'model': official(source), 'extra': Code(trace)}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='evil.pth must be a torch file.*: save its') as error:
        read_checkpoint(tmp_path / 'evil.pth')
    assert not trace.exists()
    assert 'trust' not in str(error.value)  # torch's own advice is to load it unsafely
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert trace.exists()  # so the file was as dangerous as it looks


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='There is no checkpoint at .*nope.pth.*give the'):
        read_checkpoint(tmp_path / 'nope.pth')
    for name, content in ('empty.pth', b''), ('text.pth', b'hello\n'), ('cut.pth', b'PK\x03\x04'):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name} must be a torch file') as error:
            read_checkpoint(tmp_path / name)
        assert 'trust' not in str(error.value)  # torch's own advice is to load it unsafely
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='list.pth must hold a state dict of tensors, got list'):
        read_checkpoint(tmp_path / 'list.pth')


def test_other_architectures_are_refused(source):
    v1 = official(source) | {
        'layers.0.blocks.0.attn.relative_position_bias_table': torch.zeros(169, 1)}
    with pytest.raises(ValueError, match='Swin V1'):
        load_backbone(backbone(pretrained_window_sizes=8), v1)
    with pytest.raises(ValueError, match='must be of a SwinV2 in one of .* conv1.weight'):
        load_backbone(backbone(), {'conv1.weight': torch.zeros(1)})
    for arch in (OTHER_ARCH, dict(ARCH, depths=(2, 2, 4, 2)),
                 dict(ARCH, depths=(2, 2, 1, 2)), dict(ARCH, extra_norm_every=2)):
        with pytest.raises(ValueError, match='does not fit the model: .* set arch'):
            load_backbone(backbone(arch=arch, pretrained_window_sizes=8), official(source))
    flat = official(source) | {'patch_embed.proj.weight': torch.zeros(8, 48)}
    with pytest.raises(ValueError, match='must be of a backbone for images or videos, .* 48'):
        load_backbone(backbone(pretrained_window_sizes=8), flat)


def detector(**settings):
    """The nano detector with a SwinV2 of these settings, its weights initialised."""
    cfg = Config.fromfile('configs/demo/det_nano.py')
    cfg.model.backbone.update(settings)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def test_init_cfg_loads_the_file_inside_a_detector(tmp_path, awake):
    nano = awake(SwinTransformerV2('nano', window_size=8))
    torch.save({'model': official(nano)}, tmp_path / 'nano.pth')
    init = dict(type='swinv2_mm.PretrainedSwinV2', checkpoint=str(tmp_path / 'nano.pth'))
    assert_same_weights(detector(window_size=8, init_cfg=init).backbone, nano)
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[8, 8, 8, 8\]'):
        detector(window_size=4, init_cfg=init)
