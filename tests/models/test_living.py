"""A living model: other windows, and the features inside, as timm has them."""
import pytest
import torch
from conftest import awaken

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video

ARCH = dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])


def model(kind=SwinTransformerV2, **settings):
    torch.manual_seed(0)
    return awaken(kind(ARCH, **settings)).eval()


def out(backbone, x):
    with torch.no_grad():
        found = backbone(x)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize('before, after, normalisers', [
    (dict(window_size=4), 8, 4), (dict(window_size=8, pretrained_window_sizes=6), 4, 6),
    (dict(window_size=4), [8, 8, (4, 8), 2], 4)], ids=str)
def test_new_windows_are_those_of_a_model_built_with_them(before, after, normalisers):
    """With the weights of the old one, and its normalisers."""
    grown = model(**before)
    x = torch.rand(2, 3, 96, 128)
    old = out(grown, x)  # fills the caches
    weights = [p.data_ptr() for p in grown.parameters()]
    optimizer = torch.optim.AdamW(grown.parameters())
    grown.set_window_sizes(after)
    fresh = model(window_size=after, pretrained_window_sizes=normalisers)
    fresh.load_state_dict(grown.state_dict())
    assert grown.window_sizes == fresh.window_sizes
    assert grown.pretrained_window_sizes == fresh.pretrained_window_sizes
    assert all(torch.equal(a, b) for a, b in zip(out(grown, x), out(fresh, x)))
    assert not torch.allclose(out(grown, x)[0], old[0], atol=1e-3)
    assert [p.data_ptr() for p in grown.parameters()] == weights
    assert [p for group in optimizer.param_groups for p in group['params']] == list(
        grown.parameters())


def test_the_way_back_gives_the_features_of_before():
    backbone, x = model(window_size=4), torch.rand(1, 3, 128, 128)  # no window is shrunk
    old = out(backbone, x)
    backbone.set_window_sizes(2)
    assert all(not any(block.attn._tables for block in stage.blocks)
               for stage in backbone.layers)
    backbone.set_window_sizes(4)
    assert all(torch.equal(a, b) for a, b in zip(out(backbone, x), old))


def test_modes_are_left_and_the_record_in_the_weights_follows():
    from swinv2_mm.checkpoints import load_backbone
    backbone = model(window_size=8, pretrained_window_sizes='from_checkpoint', frozen_stages=1)
    load_backbone(backbone, model(window_size=8, pretrained_window_sizes='from_checkpoint'
                                  ).state_dict() | {'pretrained_windows': torch.full((2, 4, 2), 6)})
    backbone.train()
    backbone.set_window_sizes(4)
    assert not backbone.layers[0].blocks[0].attn.training
    assert backbone.layers[1].blocks[0].attn.training
    assert backbone.pretrained_windows.unique(dim=1).squeeze(1).tolist() == [
        [4, 4], [6, 6], [6, 6]]


def test_windows_of_videos_change_in_time_too():
    grown = model(SwinTransformerV2Video, window_size=(2, 4, 4), pretrained_window_sizes=(0, 4, 4))
    grown.set_window_sizes((4, 4, 4))
    assert grown.pretrained_window_sizes == [(2, 4, 4)] * 4
    assert out(grown, torch.rand(1, 3, 16, 32, 32))[0].isfinite().all()


def test_windows_that_are_none_are_refused_and_nothing_changes():
    backbone = model(window_size=8)
    with pytest.raises(ValueError, match='window_size'):
        backbone.set_window_sizes([8, 8])
    assert backbone.window_sizes == [(8, 8)] * 4
    assert backbone.pretrained_window_sizes == [(0, 0)] * 4


@pytest.mark.parametrize('kind, size', [
    (SwinTransformerV2, (64, 96)), (SwinTransformerV2Video, (8, 32, 32))])
def test_intermediates_with_norms_are_what_forward_gives(kind, size):
    backbone = model(kind, window_size=4)
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        final, found = backbone.forward_intermediates(x, norm=True)
        assert all(torch.equal(a, b) for a, b in zip(found, out(backbone, x)))
        assert torch.equal(final.movedim(-1, 1), found[-1])
        plain = backbone.forward_intermediates(x, -1 % 4, intermediates_only=True)
        assert len(plain) == 3 and not torch.allclose(plain[-1], found[-1])
        last = backbone.forward_intermediates(x, [-1], output_fmt='NHWC', intermediates_only=True)
        assert torch.equal(last[0].movedim(-1, 1), plain[-1])
    for info, map_ in zip(backbone.feature_info, found):
        assert info['num_chs'] == map_.shape[1]
        stride = info['reduction'] if isinstance(info['reduction'], tuple) else (
            info['reduction'],) * len(size)
        assert tuple(s // r for s, r in zip(size, stride)) == tuple(map_.shape[2:])


def test_stopping_early_runs_no_later_stage(monkeypatch):
    backbone, x = model(window_size=4), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = backbone.forward_intermediates(x, [1], intermediates_only=True)[0]
        monkeypatch.setattr(backbone.layers[2], 'forward', lambda x: pytest.fail('it ran'))
        final, (found,) = backbone.forward_intermediates(x, [1], stop_early=True)
    assert torch.equal(found, wanted)
    assert torch.equal(final, backbone.norm1(wanted.movedim(1, -1)))


@pytest.mark.parametrize('settings, message', [
    (dict(indices=[4]), 'stages from 0 to 3'), (dict(indices=[]), 'stages from 0 to 3'),
    (dict(indices=9), 'stages from 0 to 3'),
    (dict(output_fmt='NLC'), "'NCHW' or 'NHWC'"),
    (dict(norm=True), r'got none in stages \[0, 1\]')])
def test_what_cannot_be_given_is_refused(settings, message):
    backbone = model(window_size=4, out_indices=(2, 3))
    with pytest.raises(ValueError, match=message):
        backbone.forward_intermediates(torch.rand(1, 3, 32, 32), **settings)


def test_features_and_their_description_are_those_of_timm():
    timm = pytest.importorskip('timm.models.swin_transformer_v2')
    from swinv2_mm.checkpoints import load_backbone
    torch.manual_seed(0)
    theirs = awaken(timm.SwinTransformerV2(
        img_size=128, window_size=4, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 1, 2, 2),
        num_classes=0)).eval()
    ours = model(window_size=4, out_indices=(3,))
    load_backbone(ours, theirs.state_dict())
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        for settings in (dict(), dict(indices=2), dict(indices=[0, 2], stop_early=True)):
            (_, a), (_, b) = (m.forward_intermediates(x, **settings) for m in (ours, theirs))
            assert len(a) == len(b)
            for one, two in zip(a, b):
                torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(ours.forward_intermediates(x)[0],
                                   theirs.forward_intermediates(x)[0], atol=2e-4, rtol=1e-3)
    assert ours.feature_info == [dict(info) for info in theirs.feature_info]
