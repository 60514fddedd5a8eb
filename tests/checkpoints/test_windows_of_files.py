"""Windows: read from files, checked, taken over, changed; and what the report says of them."""
import pytest
import torch
from conftest import awaken
from helpers import paired, weights
from mmengine.runner import load_state_dict
from test_checkpoints import TRAINED, coords_table, official

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.checkpoints import (
    from_native,
    load,
    load_backbone,
    pretrained_windows,
    to_native,
    windows_of_name,
)
from swinv2_mm.checkpoints.tables import position_table, read_table

ARCH = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 2))
FROM = dict(pretrained_window_sizes='from_checkpoint')


def backbone(**settings):
    return SwinTransformerV2(**{'arch': ARCH, 'window_size': 8, **settings})


@pytest.fixture(scope='module')
def source():
    return awaken(backbone(), seed=3)


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(load, 'print_log', lambda line, *args: lines.append(line))
    return lines


@torch.no_grad()
def features(model, size=(128, 96)):
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    return model.eval()(x)


def assert_equal(outs, others):
    assert all(torch.equal(out, other) for out, other in paired(outs, others))


def expected(stem):
    _, windows, normalisers = TRAINED[stem]
    return [((w, w), (n, n)) for w, n in zip(windows, normalisers)]


PUBLIC = {  # facts of every release: stem in TRAINED -> names of files and repositories
    'window8_256': [
        *(f'swinv2_{size}_patch4_window8_256.pth' for size in ('tiny', 'small', 'base')),
        *(f'swinv2_{size}_window8_256.ms_in1k' for size in ('tiny', 'small', 'base')),
        'microsoft/swinv2-tiny-patch4-window8-256',
        'hub/models--timm--swinv2_tiny_window8_256.ms_in1k/snapshots/0a1b/model.safetensors',
        'swin_v2_t-b137f0e2.pth', 'swin_v2_s-637d8ceb.pth', 'swin_v2_b-781e5279.pth',
        'swinv2-tiny-w8_3rdparty_in1k-256px_20220803-e318968f.pth'],
    'window16_256': [
        'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
        'swinv2_small_patch4_window16_256.pth', 'timm/swinv2_base_window16_256.ms_in1k',
        'microsoft/swinv2-small-patch4-window16-256/model.safetensors',
        'swinv2-base-w16_3rdparty_in1k-256px_20220803-5a1886b7.pth'],
    'window12_192_22k': [
        *(f'swinv2_{size}_patch4_window12_192_22k.pth' for size in ('base', 'large')),
        'swinv2_large_window12_192.ms_in22k', 'microsoft/swinv2-base-patch4-window12-192-22k',
        'swinv2-base-w12_3rdparty_in21k-192px_20220803-f7dc9763.pth'],
    'window12to16_192to256': [
        'swinv2_base_patch4_window12to16_192to256_22kto1k_ft.pth',
        'swinv2_large_window12to16_192to256.ms_in22k_ft_in1k',
        'swinv2-large-patch4-window12to16-192to256-22kto1k-ft/pytorch_model.bin',
        'swinv2-base-w16_in21k-pre_3rdparty_in1k-256px_20220803-8d7aa8ad.pth'],
    'window12to24_192to384': [
        'swinv2_large_patch4_window12to24_192to384_22kto1k_ft.pth',
        'swinv2_base_window12to24_192to384.ms_in22k_ft_in1k',
        'swinv2-base-patch4-window12to24-192to384-22kto1k-ft',
        'swinv2-large-w24_in21k-pre_3rdparty_in1k-384px_20220803-3b36c165.pth'],
}


@pytest.mark.parametrize('stem, name', [(s, n) for s, names in PUBLIC.items() for n in names])
def test_a_public_name_tells_the_windows(stem, name):
    assert windows_of_name(name) == expected(stem)


@pytest.mark.parametrize('name', [
    'my_swinv2_tiny_patch4_window8_256.pth', 'swinv2_tiny_patch4_window8_256_coco.pth',
    'swin_tiny_patch4_window7_224.pth', 'swin_v2_t.pth', 'epoch_36.pth', 'swinv2_cr_tiny_224',
    'swinv2_tiny_patch4_window8_256/work/dirs/epoch_1/a.pth', ''])
def test_a_name_that_is_not_exactly_public_tells_nothing(name):
    assert windows_of_name(name) is None


def test_a_public_name_stands_in_for_missing_tables(source, tmp_path, log):
    state = from_native(weights(source), 'timm')
    file = tmp_path / 'swinv2_tiny_window8_256.ms_in1k.pth'
    torch.save(state, file)
    report = load_backbone(backbone(), file)
    assert 'windows taken from the name of the file' in report.notes and not log
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[8, 8, 8, 8\]'):
        load_backbone(backbone(window_size=16), file)
    model = backbone(window_size=16, **FROM)
    load_backbone(model, file)
    assert model.pretrained_window_sizes == [(8, 8)] * 4


def test_windows_that_nothing_tells_give_one_log_line(source, log):
    load_backbone(backbone(), from_native(weights(source), 'timm'))
    assert len(log) == 1 and 'does not tell which windows' in log[0] and '(0, 0)' in log[0]
    with pytest.raises(ValueError, match='must tell its windows .* set pretrained_window_sizes to'):
        load_backbone(backbone(**FROM), from_native(weights(source), 'timm'))


@pytest.mark.parametrize('stem', TRAINED)
@pytest.mark.parametrize('layout', ['official', 'simmim', 'torchvision', 'mmpretrain'])
def test_tables_tell_the_windows_in_every_layout_that_has_them(source, layout, stem):
    state = from_native(weights(source), layout, expected(stem))
    assert pretrained_windows(state) == expected(stem)
    names = [name for name in state if name.endswith('relative_coords_table')]
    assert len(names) == 8
    for i, name in enumerate(names):
        window, normaliser = (sides[0] for sides in expected(stem)[i // 2])
        assert torch.equal(state[name], coords_table(window, normaliser))  # as released


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_tables_in_another_dtype_tell_the_same(source, dtype):
    for stem in TRAINED:
        state = {k: v.to(dtype) if v.is_floating_point() else v
                 for k, v in official(source, stem).items()}
        assert pretrained_windows(state) == expected(stem)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_coarse_dtype_does_not_turn_a_wide_window_into_another(dtype):
    for w in range(1, 257):
        table = position_table((w, 8), (w, 8)).to(dtype)
        assert read_table(table) == ((w, 8), (w, 8))


TABLE = 'layers.1.blocks.1.attn.relative_coords_table'


@pytest.mark.parametrize('table, message', [
    (torch.full((1, 15, 15, 2), torch.nan), 'largest entry .* got nan'),
    (torch.full((1, 15, 15, 2), torch.inf), 'largest entry .* got inf'),
    (torch.zeros(1, 15, 15, 2), 'largest entry .* got 0.0 for w = 8'),
    (torch.zeros(15), r'must be \(1, 2 h - 1, 2 w - 1, 2\) of floats, got \(15,\)'),
    (torch.zeros(1, 15, 15, 3), 'must be .* got .1, 15, 15, 3.'),
    (torch.zeros(1, 15, 15, 2, dtype=torch.int64), 'must be .* of floats, got .* of torch.int64'),
    (coords_table(8, 6), r'within a stage must be equal, got .*\(6, 6\).* in stage 1'),
], ids=lambda value: value if isinstance(value, str) else '')
def test_damaged_tables_are_refused(source, table, message):
    with pytest.raises(ValueError, match=f'{message}.*: .*use another copy'):
        load_backbone(backbone(), official(source) | {TABLE: table})


def test_tables_of_some_stages_only_are_refused(source):
    state = {k: v for k, v in official(source).items() if 'layers.1' not in k or 'coords' not in k}
    with pytest.raises(ValueError, match=r'of every stage or of none, got those of .*\[0, 2, 3\]'):
        pretrained_windows(state)


@pytest.mark.parametrize('pretrained', [8, 'from_checkpoint'])
def test_load_at_8_run_at_any_window_save_resume_and_load_at_8_again(source, tmp_path, pretrained):
    start = tmp_path / 'official.pth'
    torch.save({'model': official(source)}, start)
    first = backbone()
    load_backbone(first, start)
    file = start
    for window in (16, 24, (16, 12)):
        settings = dict(window_size=window, pretrained_window_sizes=pretrained)
        model = backbone(**settings)
        load_backbone(model, file)
        outs = features(model)
        assert not torch.equal(outs[0], features(first)[0])
        file = tmp_path / 'epoch.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, file)
        resumed = backbone(**settings)
        state = torch.load(file, weights_only=True)['state_dict']
        load_state_dict(resumed, state, strict=True)  # mmengine's, which every runner uses
        assert_equal(features(resumed), outs)
    again = backbone()
    load_backbone(again, file)
    assert_equal(features(again), features(first))


def test_from_checkpoint_takes_the_windows_over_as_if_they_were_given(source):
    for stem in TRAINED:
        model = backbone(window_size=(16, 12), **FROM)
        assert model.pretrained_window_sizes is None
        with pytest.raises(ValueError, match="'from_checkpoint' must get them .*load_backb"):
            features(model)
        load_backbone(model, official(source, stem))
        given = backbone(window_size=(16, 12), pretrained_window_sizes=TRAINED[stem][2])
        load_backbone(given, official(source, stem))
        assert_equal(features(model), features(given))
        assert model.pretrained_window_sizes == given.pretrained_window_sizes


def test_what_from_checkpoint_took_travels_with_the_weights(source, tmp_path):
    model = backbone(window_size=16, **FROM)
    load_backbone(model, official(source, 'window12_192_22k'))
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'epoch.pth')
    assert pretrained_windows(state) == [((16, 16), (n, n)) for n in (12, 12, 12, 6)]
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[12, 12, 12, 6\]'):
        load_backbone(backbone(window_size=16), tmp_path / 'epoch.pth')
    again = backbone(window_size=16, **FROM)
    report = load_backbone(again, tmp_path / 'epoch.pth')
    assert not report.dropped and not report.fresh
    assert_equal(features(again), features(model))
    # Before weights are known the record is empty, and says nothing.
    assert pretrained_windows(backbone(**FROM).state_dict()) is None


def test_a_video_model_takes_the_windows_of_images_over_for_space_only(source):
    model = SwinTransformerV2Video(ARCH, window_size=(4, 16, 16), **FROM)
    load_backbone(model, official(source))
    assert model.pretrained_window_sizes == [(0, 8, 8)] * 4
    with pytest.raises(ValueError, match=r'by \(4, 8, 8\) in stage 0, .* by \(4, 16, 16\): set '
                       r'pretrained_window_sizes=\[\(0, 8, 8\), \(0, 8, 8\), '):
        load_backbone(SwinTransformerV2Video(ARCH, window_size=(4, 16, 16)), official(source))
    given = SwinTransformerV2Video(ARCH, window_size=(4, 16, 16),
                                   pretrained_window_sizes=(0, 8, 8))
    load_backbone(given, official(source))
    # Back from a video that carries its windows: those in space count.
    load_backbone(backbone(), model.state_dict())
    with pytest.raises(ValueError, match='pretrained_window_sizes'):
        load_backbone(backbone(window_size=16), model.state_dict())


@pytest.mark.parametrize('stem, settings, note', [
    ('window8_256', {}, 'trained with windows [8, 8, 8, 8] at 256 x 256, now [8, 8, 8, 8]; beyond '
     'the positions of training by 0%, 0%, 0%, 0%'),
    # log2(1 + 8 * 15 / 7) / log2(9) = 1.32, log2(1 + 8 * 31 / 7) / log2(9) = 1.64 and so on
    ('window8_256', dict(window_size=[16, 16, 32, 4], pretrained_window_sizes=8),
     'trained with windows [8, 8, 8, 8] at 256 x 256, now [16, 16, 32, 4]; beyond the positions of '
     'training by 32%, 32%, 64%, 0%'),
    ('window12_192_22k', dict(window_size=[16, 16, 16, 8], **FROM),
     'trained with windows [12, 12, 12, 6] at 192 x 192, now [16, 16, 16, 8]; beyond the positions '
     'of training by 13%, 13%, 13%, 14%'),
    ('window12to16_192to256', dict(window_size=(16, 24), **FROM),
     'trained with windows [16, 16, 16, 8] at 256 x 256, now [(16, 24), (16, 24), (16, 24), '
     '(16, 24)]; beyond the positions of training by 16%, 16%, 16%, 45%'),
], ids=str)
def test_the_report_says_what_changes(source, stem, settings, note):
    report = load_backbone(backbone(**settings), official(source, stem))
    assert note in report.notes and note in str(report)


def test_the_report_says_that_torchvision_has_no_pretrained_windows(source):
    state = from_native(weights(source), 'torchvision', expected('window8_256'))
    report = load_backbone(backbone(window_size=16, **FROM), state)
    assert 'torchvision trains without pretrained windows' in str(report)
    assert to_native(state).keys() == weights(source).keys() - {
        f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')}


def test_metadata_of_a_published_file_tells_the_windows(source, tmp_path):
    from safetensors.torch import save_file
    file, state = tmp_path / 'mine.safetensors', from_native(weights(source), 'timm')
    save_file(state, file, {'swinv2_windows': str([[[8, 8], [n, n]] for n in (12, 12, 12, 6)])})
    model = backbone(window_size=16, **FROM)
    report = load_backbone(model, file)
    assert model.pretrained_window_sizes == [(n, n) for n in (12, 12, 12, 6)]
    assert 'windows taken from the metadata of the file' in report.notes
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[12, 12, 12, 6\]'):
        load_backbone(backbone(window_size=16), file)
    for wrong in ('12', '[]', '[[8, 8]]', 'eight', '[[[8, 8]]]', '[[[0, 8], [8, 8]]]',
                  '[[[], []]]'):
        save_file(state, file, {'swinv2_windows': wrong})
        with pytest.raises(ValueError, match='metadata swinv2_windows must be a list of .* got'):
            load_backbone(backbone(), file)


@pytest.mark.parametrize('record', [
    torch.ones(2, 4, 2), torch.ones(4, 4, 2).long(), torch.ones(2, 4).long(), -torch.ones(2, 4, 2),
    torch.ones(2, 4, 4).long()], ids=lambda record: f'{record.dtype} {tuple(record.shape)}')
def test_a_damaged_record_of_windows_is_refused(source, record):
    with pytest.raises(ValueError, match='pretrained_windows must be positive integers, .3, stag'):
        load_backbone(backbone(), weights(source) | {'pretrained_windows': record})
