"""What must hold of SwinV2 whatever its weights: each test is a sentence."""
import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import needs, weights

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.models import sequential, windows
from swinv2_mm.models.swin import DropPath

PAIR = dict(arch=dict(embed_dims=8, depths=(2, 2), num_heads=(1, 2)), out_indices=(0, 1))
EXACT = dict(rtol=0, atol=1e-12)


def images(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_an_awake_model_feels_its_attention_being_scrambled_and_a_fresh_one_does_not(awake):
    def change(model):
        before = model(images(1, 3, 40, 40, dtype=torch.float32))
        for stage in model.layers:
            for block in stage.blocks:
                for weight in (block.attn.qkv.weight, block.attn.cpb_mlp[2].weight):
                    weight.copy_(weight.flip(0))
        after = model(images(1, 3, 40, 40, dtype=torch.float32))
        return max((a - b).abs().max() for a, b in zip(after, before))

    with torch.no_grad():
        assert change(awake(SwinTransformerV2('nano', window_size=4)).eval()) > 0.5
        assert change(SwinTransformerV2('nano', window_size=4).eval()) == 0


@pytest.mark.parametrize('window, grid', [
    ((3, 5), (2, 4)), ((4, 4), (1, 3)), ((1, 2), (5, 1)), ((2, 3, 1), (2, 1, 4)), ((2,), (3,))])
def test_partition_then_merge_is_the_identity(window, grid):
    size = tuple(w * g for w, g in zip(window, grid))
    x = images(2, *size, 3)
    parts = windows.partition(x, window)
    assert parts.shape == (2, math.prod(grid), math.prod(window), 3)
    assert torch.equal(windows.merge(parts, window, size), x)
    # and a window is a rectangle of the map: the last one is its far corner
    corner = x[(slice(None), *(slice(-w, None) for w in window))]
    assert torch.equal(parts[:, -1], corner.reshape(2, -1, 3))


SHIFTED = [((3, 3), 9), ((4, 2), 9), ((2, 5), 11), ((1, 4), 9), ((2, 2, 3), 6)]


@pytest.mark.parametrize('window, longest', SHIFTED, ids=str)
def test_every_token_is_in_one_window_and_comes_back_to_its_place(window, longest):
    for size in itertools.product(range(1, longest + 1), repeat=len(window)):
        layout = windows.plan(size, window, tuple(w // 2 for w in window), torch.empty(0))
        x = torch.arange(1., 1 + math.prod(size)).reshape(1, *size, 1)
        parts = windows.to_windows(x, layout)
        assert sorted(parts[parts > 0].tolist()) == x.flatten().tolist()
        assert torch.equal(windows.from_windows(parts, layout), x)


@pytest.mark.parametrize('window, longest', SHIFTED, ids=str)
def test_a_token_sees_all_of_its_window_but_padding_and_strangers_only_across_the_seam(
        window, longest):
    for size in itertools.product(range(1, longest + 1), repeat=len(window)):
        for shift in (tuple(w // 2 for w in window), (0,) * len(window)):
            layout = windows.plan(size, window, shift, torch.empty(0, dtype=torch.float64))
            count = math.prod(p // w for p, w in zip(layout.padded, layout.window))
            tokens = math.prod(layout.window)
            mask = torch.full((count, tokens, tokens), torch.nan, dtype=torch.float64)
            for index, part in layout.groups:
                rows = slice(None) if index is None else index
                assert mask[rows].isnan().all()  # no window is in two groups
                mask[rows] = torch.zeros(1).double() if part is None else part
            # Where each token of each window comes from, counted from 1; 0 is padding.
            places = torch.stack(torch.meshgrid(
                *(torch.arange(1, s + 1) for s in size), indexing='ij'), dim=-1)
            places = windows.to_windows(places[None].double(), layout)[0]  # (W, N, ndim)
            seats = torch.cartesian_prod(*map(torch.arange, layout.window)).reshape(tokens, -1)
            apart = places[:, :, None] - places[:, None, :]
            strangers = (apart != seats[:, None] - seats[None, :]).any(-1)
            real = places[..., 0] > 0
            expected = torch.where(strangers, -100.0, 0.0).double()
            expected = expected.masked_fill(~real[:, None, :], -math.inf)
            assert torch.equal(mask[real], expected[real])
            assert not mask.isneginf().all(-1).any()  # no row without any key: that is 0 / 0


@pytest.mark.parametrize('dtype', [torch.float64, needs('float16 on a CPU', torch.float16)])
def test_whatever_stands_in_the_padding_no_token_sees_it(awake, monkeypatch, dtype):
    model = awake(SwinTransformerV2('nano', window_size=(4, 5))).eval().to(dtype)
    x = images(1, 3, 76, 50, dtype=dtype)
    with torch.no_grad(), sequential.plain_path():  # the other path makes no padding to look into
        zeros = model(x)
        rubbish = windows.F.pad  # the padding to whole windows, and nothing else, is replaced

        class Dirty:
            @staticmethod
            def pad(x, ends):
                dirty.append(ends)
                return rubbish(x, ends, value=3.0)

        dirty = []
        monkeypatch.setattr(windows, 'F', Dirty)
        for a, b in zip(model(x), zeros):
            assert torch.equal(a, b)
        assert len(dirty) >= 4


def test_features_do_not_depend_on_batch_size_or_on_other_images(awake):
    model = awake(SwinTransformerV2('nano', window_size=4)).double().eval()
    x = images(3, 3, 70, 50)
    with torch.no_grad():
        together = model(x)
        for i in range(3):
            for a, b in zip(together, model(x[i:i + 1])):
                torch.testing.assert_close(a[i:i + 1], b, **EXACT)
        other = torch.cat([x[:1], 100 * images(4, 3, 70, 50, seed=2)])
        for a, b in zip(together, model(other)):
            torch.testing.assert_close(a[:1], b[:1], **EXACT)


def test_rows_and_columns_are_not_mixed_up(awake):
    """A transposed image through a transposed model gives transposed features."""
    model = awake(SwinTransformerV2(**PAIR, window_size=(4, 3), patch_size=(2, 4),
                                    pretrained_window_sizes=(6, 0))).double().eval()
    turned = SwinTransformerV2(**PAIR, window_size=(3, 4), patch_size=(4, 2),
                               pretrained_window_sizes=(0, 6)).double().eval()
    state = weights(model)
    for name, value in state.items():
        if name.endswith('patch_embed.proj.weight'):
            state[name] = value.transpose(2, 3)
        elif name.endswith('cpb_mlp.0.weight'):
            state[name] = value.flip(1)
        elif name.endswith('reduction.weight'):  # corners 00, 10, 01, 11
            state[name] = value.unflatten(1, (4, -1))[:, [0, 2, 1, 3]].flatten(1)
    turned.load_state_dict(state)
    x = images(1, 3, 23, 54)
    with torch.no_grad():
        for a, b in zip(model(x), turned(x.transpose(2, 3))):
            torch.testing.assert_close(a, b.transpose(2, 3), **EXACT)


def test_a_map_no_longer_than_the_window_shrinks_it_and_drops_the_shift(awake):
    assert windows.fit_window((5, 20), (8, 8), (4, 4)) == ((5, 8), (0, 4))
    assert windows.fit_window((8, 9), (8, 8), (4, 4)) == ((8, 8), (0, 4))

    def features(window, pretrained):
        model = SwinTransformerV2(**PAIR, window_size=window, pretrained_window_sizes=pretrained)
        with torch.no_grad():
            return awake(model).double().eval()(images(1, 3, 8 * 4, 6 * 4))

    # The official rule: each stage's window becomes its map, 8 x 6 tokens and then 4 x 3.
    for pretrained in (0, 12):
        shrunk = features(16, pretrained)
        for a, b in zip(shrunk, features([(8, 6), (4, 3)], pretrained)):
            assert torch.equal(a, b)
    # Positions stay normalised by the window of pre-training, not by the shrunk one.
    assert not torch.allclose(features(16, 12)[0], features(16, 0)[0], atol=1e-3)


@pytest.mark.parametrize('frames, window', [(4, (2, 3, 4)), (5, (2, 3, 4)), (6, (8, 4, 3))])
def test_a_video_of_equal_frames_has_the_features_of_its_image(awake, frames, window):
    image_model = awake(SwinTransformerV2(
        **PAIR, window_size=window[1:], pretrained_window_sizes=6)).double().eval()
    model = SwinTransformerV2Video(**PAIR, window_size=window, patch_size=(2, 4, 4),
                                   pretrained_window_sizes=(0, 6, 6)).double().eval()
    state = weights(image_model)
    for name, value in state.items():
        if name == 'patch_embed.proj.weight':
            state[name] = value[:, :, None].repeat(1, 1, 2, 1, 1) / 2
        elif name.endswith('cpb_mlp.0.weight'):  # a bias that does not depend on time
            state[name] = F.pad(value, (1, 0))
    model.load_state_dict(state)
    x = images(2, 3, 38, 46)
    clip = x[:, :, None].repeat(1, 1, 2 * ((frames + 1) // 2), 1, 1)
    with torch.no_grad():
        for still, moving in zip(image_model(x), model(clip)):
            for t in range(moving.shape[2]):
                torch.testing.assert_close(moving[:, :, t], still, **EXACT)


def test_a_video_model_reads_time(awake):
    # Patches of one frame, and an even number of frames in windows of two: all but the position
    # bias is the same for a clip that runs backwards.
    model = awake(SwinTransformerV2Video('nano', window_size=(2, 4, 4), patch_size=(1, 4, 4),
                                         out_indices=(3,))).double().eval()
    clip = images(1, 3, 4, 32, 32)
    with torch.no_grad():
        forward, backward = model(clip), model(clip.flip(2))
        assert (forward.flip(2) - backward).abs().max() > 0.1
        for stage in model.layers:
            for block in stage.blocks:
                block.attn.cpb_mlp[0].weight[:, 0] = 0  # the column of time
        forward, backward = model(clip), model(clip.flip(2))
    torch.testing.assert_close(forward.flip(2), backward, **EXACT)


def test_a_constant_image_and_a_scale_at_its_cap_stay_finite(awake):
    model = awake(SwinTransformerV2('nano', window_size=4))
    capped = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in capped.named_parameters():
            if name.endswith('logit_scale'):
                parameter.fill_(1e4)
    for network, fill in itertools.product((model, capped), (0.0, 1.0, 1e4)):
        network.zero_grad()
        outs = network(torch.full((1, 3, 38, 50), fill))
        sum(out.sum() for out in outs).backward()
        assert all(out.isfinite().all() for out in outs)
        assert all(p.grad.isfinite().all() for p in network.parameters())


def test_a_temperature_below_its_floor_is_the_floor(awake):
    model = awake(SwinTransformerV2('nano', window_size=4)).double().eval()
    outs = []
    for value in (math.log(100), math.log(101), 50.0):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith('logit_scale'):
                    parameter.fill_(value)
            outs.append(model(images(1, 3, 40, 40))[-1])
    torch.testing.assert_close(outs[1], outs[0], **EXACT)
    torch.testing.assert_close(outs[2], outs[0], **EXACT)


def test_drop_path_zeroes_whole_samples_and_keeps_their_mean():
    x = torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    out = DropPath(0.25)(x)
    assert (out == out[:, :1, :1]).all()
    assert set(out[:, 0, 0].tolist()) == {0.0, (1 / torch.tensor(0.75)).item()}
    assert abs(out.mean() - 1) < 5 * (0.25 / 0.75 / 4000) ** 0.5  # standard errors
    assert DropPath(0.25).eval()(x) is x


def test_a_rate_of_0_draws_no_random_numbers():
    before, x = torch.get_rng_state(), torch.ones(2, 3)
    assert DropPath(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)
