"""Any size, window, layout and mode of autograd, drawn by hypothesis, against the plain loops."""
import contextlib

import oracle
import pytest
import torch
from conftest import awaken
from helpers import paired
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.utils import versions

ARCH = dict(embed_dims=4, depths=(2, 2), num_heads=(1, 2))
ANY = dict(deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
MODES = {'grad': contextlib.nullcontext, 'no_grad': torch.no_grad,
         'inference_mode': torch.inference_mode}


def images(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def sides(ndim, low, high):
    return st.tuples(*[st.integers(low, high)] * ndim)


@st.composite
def cases(draw, ndim):
    """(model in float64, its input, name of a mode), all of any shape that a CPU takes quickly."""
    longest = 22 if ndim == 2 else 9
    window = draw(st.one_of(st.integers(1, 5), sides(ndim, 1, 5)))
    pretrained = draw(st.one_of(st.integers(0, 6), sides(ndim, 0, 6)))
    patch = draw(sides(ndim, 1, 3))
    kind = SwinTransformerV2 if ndim == 2 else SwinTransformerV2Video
    model = awaken(kind(
        ARCH, window_size=window, pretrained_window_sizes=pretrained, patch_size=patch,
        in_channels=draw(st.integers(1, 3)), with_cp=draw(st.booleans()), drop_path_rate=0,
        out_indices=(0, 1)), seed=draw(st.integers(0, 9))).double()
    size = draw(sides(ndim, 1, longest))
    x = images(draw(st.integers(1, 3)), model.in_channels, *size, seed=draw(st.integers(0, 9)))
    layout = draw(st.sampled_from(LAYOUTS))
    return (model.train(draw(st.booleans())), layout(x).requires_grad_(draw(st.booleans())),
            draw(st.sampled_from(sorted(MODES))))


def strided(x):
    """Every second number of a larger tensor along the last axis."""
    return torch.stack([x, torch.full_like(x, 7)], -1).flatten(-2)[..., ::2]


def turned(x):
    """Stored with the last two axes the other way round."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


def channels_last(x):
    """Stored as the libraries that read images store them: (B, *S, C)."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def shared(x):
    """One image or clip for the whole batch, stored once."""
    return x[:1].expand_as(x)


def offset(x):
    """Stored somewhere inside a larger storage."""
    return torch.cat([images(3), x.flatten()])[3:].view(x.shape)


LAYOUTS = (lambda x: x, strided, turned, channels_last, shared, offset)


def expected(model, x):
    return oracle.features(
        model.state_dict(), x.detach(), depths=model.arch.depths, num_heads=model.arch.num_heads,
        window_sizes=model.window_sizes, patch_size=model.patch_size,
        pretrained_window_sizes=model.pretrained_window_sizes, out_indices=model.out_indices)


def assert_near(outs, references, atol=1e-9):
    for out, reference in paired(outs, references):
        assert out.shape == reference.shape
        torch.testing.assert_close(out.detach(), reference, rtol=0, atol=atol)


def check(model, x, mode):
    before = x.detach().clone()
    with MODES[mode]():
        outs = model(x)
        again = model(x)
    assert_near(outs, expected(model, x))
    assert_near(again, [out.detach() for out in outs], atol=1e-12)  # with what was kept by then
    assert torch.equal(x.detach(), before)
    tracked = mode == 'grad'  # and parameters always ask for it
    assert all(out.requires_grad == tracked for out in outs)


@given(cases(2))
@settings(max_examples=50, **ANY)
def test_an_image_of_any_shape_has_the_features_of_the_definition(case):
    check(*case)


@given(cases(3))
@settings(max_examples=25, **ANY)
def test_a_clip_of_any_shape_has_the_features_of_the_definition(case):
    check(*case)


def weighted(outs):
    return sum((out * images(*out.shape, seed=5 + i)).sum() for i, out in enumerate(outs))


@given(st.one_of(cases(2), cases(3)), st.integers(0, 99))
@settings(max_examples=25, **ANY)
def test_gradients_are_the_slope_of_the_features_along_any_direction(case, seed):
    """Those of all parameters and of the input at once, against a difference of two evaluations."""
    model, x, _ = case
    x = x.detach().clone().requires_grad_()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('logit_scale'):
                parameter.clamp_(max=4)  # below the cap, which has a corner
    weighted(model(x)).backward()
    tensors = [x, *model.parameters()]
    ways = [images(*tensor.shape, seed=seed + i) for i, tensor in enumerate(tensors)]
    slope = sum((tensor.grad * way).sum() for tensor, way in zip(tensors, ways)
                if tensor.grad is not None)

    def moved(step):
        with torch.no_grad():
            for tensor, way in zip(tensors, ways):
                tensor.add_(way, alpha=step)
            value = weighted(model(x))
            for tensor, way in zip(tensors, ways):
                tensor.sub_(way, alpha=step)
        return value

    # Short, since the position network has corners, and what is beyond one counts by the step; not
    # shorter, since rounding is divided by it.
    step = 1e-7
    difference = (moved(step) - moved(-step)) / 2 / step
    size = sum(tensor.grad.norm() * way.norm() for tensor, way in zip(tensors, ways)
               if tensor.grad is not None)
    assert abs(slope - difference).item() <= (1e-5 * size + 1e-5).item()


DTYPES = [torch.float32, torch.bfloat16] + (
    [torch.float16] if versions.can('float16 on a CPU') else [])


@given(st.one_of(cases(2), cases(3)), st.sampled_from(DTYPES))
@settings(max_examples=30, **ANY)
def test_any_dtype_and_layout_gives_finite_features_of_that_dtype(case, dtype):
    """How near they are is in test_precision.py; here are maps and windows of single tokens."""
    model, x, mode = case
    model = model.to(dtype)
    with MODES[mode]():
        outs = model(x.to(dtype))
    for out, reference in paired(outs, model(x.detach().contiguous().to(dtype))):
        assert out.dtype == dtype and out.shape == reference.shape and out.isfinite().all()


@pytest.mark.parametrize('ndim', [2, 3])
def test_maps_that_come_out_can_be_written_to_and_are_not_shared(ndim):
    kind = SwinTransformerV2 if ndim == 2 else SwinTransformerV2Video
    model = awaken(kind(ARCH, window_size=4, out_indices=(0, 1))).eval()
    x = images(1, 3, *(8, 40, 40)[-ndim:], dtype=torch.float32)
    with torch.no_grad():
        first = [out.clone() for out in model(x)]
        for out in model(x):
            out.zero_()  # as an in-place activation of a neck does
        assert all(torch.equal(a, b) for a, b in zip(model(x), first))
