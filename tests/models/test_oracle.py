"""The model equals the paper in plain loops and float64, to 1e-9."""
import itertools

import oracle
import pytest
import torch

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video

SMALL = dict(embed_dims=4, depths=(2, 2), num_heads=(1, 2))
TWO = dict(out_indices=(0, 1))
ONE_STAGE = dict(embed_dims=4, depths=(2,), num_heads=(2,))
ONE = dict(out_indices=(0,), patch_size=1)


def check(awake, model, *size, batch=1):
    """Features of an awake `model` equal the oracle's on random images of `size`."""
    model = awake(model).double().eval()
    with torch.no_grad():
        for stage in model.layers:
            for block in stage.blocks:
                # Above its cap (tau < 0.01), and steep enough for logits to reach over the seam:
                # there -100 is not the same as minus infinity.
                block.attn.logit_scale[0] = 5.0
    images = torch.randn(batch, model.in_channels, *size, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outs = model(images)
    expected = oracle.features(
        model.state_dict(), images, depths=model.arch.depths, num_heads=model.arch.num_heads,
        window_sizes=model.window_sizes, patch_size=model.patch_size,
        pretrained_window_sizes=model.pretrained_window_sizes, out_indices=model.out_indices,
        extra_norm_every=model.arch.extra_norm_every)
    outs = outs if isinstance(outs, tuple) else (outs,)
    assert len(outs) == len(expected)
    for out, reference in zip(outs, expected):
        assert out.shape == reference.shape
        torch.testing.assert_close(out, reference, rtol=0, atol=1e-9)


IMAGES = {
    'whole windows': ((32, 32), dict(window_size=4)),
    'one window in the second stage': ((32, 48), dict(window_size=4, patch_size=2)),
    'odd maps, odd patches': ((35, 27), dict(window_size=4)),
    'a seam and padding in the same window': ((26, 22), dict(window_size=(4, 3), patch_size=2)),
    'a window that is not square': ((14, 22), dict(window_size=(2, 5), patch_size=2)),
    'a window per stage': ((26, 15), dict(window_size=[4, (3, 2)], patch_size=2)),
    'a window longer than one side': ((6, 22), dict(window_size=5, patch_size=2)),
    'a window longer than both sides': ((6, 10), dict(window_size=16, patch_size=2)),
    'a single pixel': ((1, 1), dict(window_size=8)),
    'a window of one token': ((6, 6), dict(window_size=1, patch_size=2)),
    'a window with a side of one token': ((6, 10), dict(window_size=(1, 4), patch_size=2)),
    'patches that are not square': ((10, 9), dict(window_size=3, patch_size=(2, 1))),
    'a pretrained window': ((18, 14), dict(
        window_size=4, pretrained_window_sizes=3, patch_size=2)),
    'a pretrained window that is not square': ((18, 14), dict(
        window_size=4, pretrained_window_sizes=(6, 2), patch_size=2)),
    'a pretrained window per stage': ((18, 14), dict(
        window_size=4, pretrained_window_sizes=[6, (3, 8)], patch_size=2)),
    'a pretrained window for one side of two': ((18, 14), dict(
        window_size=(4, 3), pretrained_window_sizes=[(0, 6), (3, 0)], patch_size=2)),
    'a pretrained window of one token': ((10, 10), dict(
        window_size=4, pretrained_window_sizes=1, patch_size=2)),
    'a pretrained window on a map shorter than the window': ((6, 10), dict(
        window_size=16, pretrained_window_sizes=(12, 0), patch_size=2)),
    'one out index': ((18, 14), dict(window_size=4, patch_size=2, out_indices=(1,))),
    'one input channel': ((18, 14), dict(window_size=4, patch_size=2, in_channels=1)),
}


@pytest.mark.parametrize('size, settings', IMAGES.values(), ids=IMAGES.keys())
def test_the_image_model_equals_the_oracle(awake, size, settings):
    check(awake, SwinTransformerV2(SMALL, **(TWO | settings)), *size, batch=2)


VIDEOS = {
    'whole windows': ((4, 16, 16), dict(window_size=(2, 4, 4), patch_size=2)),
    'odd maps and a default patch': ((5, 26, 22), dict(window_size=(2, 3, 4))),
    'a window longer than the clip': ((3, 10, 14), dict(window_size=(8, 3, 3), patch_size=2)),
    'a window longer than all sides': ((3, 6, 7), dict(window_size=8, patch_size=(1, 2, 2))),
    'a window per stage, pretrained too': ((5, 10, 14), dict(
        window_size=[(3, 2, 4), 3], pretrained_window_sizes=[(0, 4, 2), 5],
        patch_size=(1, 2, 2))),
}


@pytest.mark.parametrize('size, settings', VIDEOS.values(), ids=VIDEOS.keys())
def test_the_video_model_equals_the_oracle(awake, size, settings):
    check(awake, SwinTransformerV2Video(SMALL, **(TWO | settings)), *size)


@pytest.mark.parametrize('every', [1, 2])
def test_the_extra_trunk_norms_equal_the_oracle(awake, every):
    arch = dict(embed_dims=4, depths=(1, 3), num_heads=(1, 1), extra_norm_every=every)
    check(awake, SwinTransformerV2(arch, window_size=3, patch_size=2, **TWO), 10, 14)


def test_the_four_stages_of_nano_equal_the_oracle(awake):
    check(awake, SwinTransformerV2('nano', window_size=3), 45, 37)


@pytest.mark.parametrize('window', [(2, 2), (3, 3), (2, 3)], ids=str)
def test_every_map_of_one_to_three_windows_equals_the_oracle(awake, window):
    model = SwinTransformerV2(ONE_STAGE, window_size=window, **ONE)
    for size in itertools.product(*(range(1, 3 * w + 1) for w in window)):
        check(awake, model, *size)


def test_every_short_clip_of_one_to_three_windows_equals_the_oracle(awake):
    model = SwinTransformerV2Video(ONE_STAGE, window_size=2, **ONE)
    for size in itertools.product((1, 2, 3, 5), (1, 4, 5), (2, 3, 6)):
        check(awake, model, *size)
