"""Half precision, held against float64 within budgets that follow from the dtype."""
import contextlib
import copy

import pytest
import torch
from helpers import needs

from swinv2_mm import SwinTransformerV2

# Window 4 and maps of 10 x 13, 5 x 7, 3 x 4 and 2 x 2: padding in the first two stages.
SETTINGS = dict(arch='nano', window_size=4, drop_path_rate=0)
SIZE = (1, 3, 38, 50)
BRANCHES = 2 * 8  # attention and MLP of the eight blocks of nano

PRECISIONS = {
    'half': (torch.float16, torch.float16, contextlib.nullcontext),
    'bfloat16': (torch.bfloat16, torch.bfloat16, contextlib.nullcontext),
    'autocast to float16': (
        torch.float16, torch.float32, lambda: torch.autocast('cpu', torch.float16)),
    'autocast to bfloat16': (
        torch.bfloat16, torch.float32, lambda: torch.autocast('cpu', torch.bfloat16)),
}
each_precision = pytest.mark.parametrize('dtype, weights, context', [
    needs('float16 on a CPU', *case) if case[0] == torch.float16 else case
    for case in PRECISIONS.values()], ids=PRECISIONS.keys())


def images(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(model, x, context=contextlib.nullcontext):
    """Outputs and gradients in float64, of a loss that weighs every output element."""
    with context():
        outs = model(x)
    sum((out.double() * images(*out.shape, seed=9)).mean() for out in outs).mul(100).backward()
    return ([out.detach().double() for out in outs],
            {name: p.grad.double() for name, p in model.named_parameters()})


def error(values, references):
    """Root mean square of the difference, relative to that of the reference."""
    difference = torch.cat([(v - r).flatten() for v, r in zip(values, references)])
    return (difference.norm() / torch.cat([r.flatten() for r in references]).norm()).item()


def attentions(model):
    return [block.attn for stage in model.layers for block in stage.blocks]


def roundoff(dtype):
    return torch.finfo(dtype).eps / 2


@each_precision
def test_outputs_and_gradients_with_padding_are_finite_and_near_those_of_float64(
        awake, dtype, weights, context):
    model = awake(SwinTransformerV2(**SETTINGS))
    exact, exact_gradients = run(copy.deepcopy(model).double(), images(*SIZE))
    outs, gradients = run(model.to(weights), images(*SIZE).to(weights), context)
    assert all(out.isfinite().all() for out in outs)
    assert [name for name, grad in gradients.items() if not grad.isfinite().all()] == []
    # A branch ends in a norm, so it joins the trunk with the trunk's size, and brings one rounding
    # of its own and one of the sum. The backward pass takes the same way once more.
    budget = 2 * BRANCHES * roundoff(dtype)
    for out, reference in zip(outs, exact):
        assert error([out], [reference]) < budget
    assert error(gradients.values(), exact_gradients.values()) < 2 * budget


def test_float32_is_as_near_to_float64_as_its_digits_allow(awake):
    model = awake(SwinTransformerV2(**SETTINGS))
    exact, exact_gradients = run(copy.deepcopy(model).double(), images(*SIZE))
    outs, gradients = run(model, images(*SIZE).float())
    # Here the sums inside a branch round as well: their longest has 4 C = 1024 terms.
    budget = 2 * BRANCHES * 1024 ** 0.5 * roundoff(torch.float32)
    for out, reference in zip(outs, exact):
        assert error([out], [reference]) < budget
    assert error(gradients.values(), exact_gradients.values()) < 2 * budget


@each_precision
def test_the_position_bias_is_computed_in_float32_and_rounded_once(awake, dtype, weights, context):
    attention = awake(SwinTransformerV2('nano')).to(weights).layers[1].blocks[0].attn
    wide = copy.deepcopy(attention).float()
    for window in ((4, 4), (7, 3)):
        with context():
            bias = attention.position_bias(window, dtype)
        assert bias.dtype == dtype
        assert torch.equal(bias, wide.position_bias(window).to(dtype))


@each_precision
@pytest.mark.parametrize('factor', [1e-2, 3e2])
def test_the_length_of_queries_and_keys_does_not_matter(awake, dtype, weights, context, factor):
    """The squares of their elements leave the range of float16 on either side."""
    model = awake(SwinTransformerV2(**SETTINGS))
    exact, _ = run(copy.deepcopy(model).double(), images(*SIZE))
    with torch.no_grad():
        for attention in attentions(model):
            attention.qkv.weight[:2 * len(attention.q_bias)] *= factor
            attention.q_bias *= factor
    outs, gradients = run(model.to(weights), images(*SIZE).to(weights), context)
    assert all(grad.isfinite().all() for grad in gradients.values())
    for out, reference in zip(outs, exact):
        assert error([out], [reference]) < 2 * BRANCHES * roundoff(dtype)


@each_precision
def test_a_query_whose_length_float16_cannot_hold_is_normalised(awake, dtype, weights, context):
    model = awake(SwinTransformerV2(**SETTINGS))
    with torch.no_grad():
        for attention in attentions(model):
            attention.q_bias.copy_(3e4 * attention.q_bias.sign())  # 32 of them: 1.7e5 long
    exact, _ = run(copy.deepcopy(model).double(), images(*SIZE))
    outs, gradients = run(model.to(weights), images(*SIZE).to(weights), context)
    assert all(grad.isfinite().all() for grad in gradients.values())
    for out, reference in zip(outs, exact):
        assert error([out], [reference]) < 2 * BRANCHES * roundoff(dtype)


@each_precision
@pytest.mark.parametrize('fill', [0.0, 1.0])
def test_a_constant_image_and_a_scale_at_its_cap_stay_finite(awake, dtype, weights, context, fill):
    model = awake(SwinTransformerV2(**SETTINGS)).to(weights)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('logit_scale'):
                parameter.fill_(20.0)
    outs, gradients = run(model, torch.full((1, 3, 38, 50), fill, dtype=weights), context)
    assert all(out.isfinite().all() for out in outs)
    assert [name for name, grad in gradients.items() if not grad.isfinite().all()] == []


def test_a_key_of_zeros_has_a_finite_gradient(awake):
    """The official epsilon of 1e-12 would make it 1e12 times the gradient of its cosine."""
    model = awake(SwinTransformerV2(**SETTINGS))
    with torch.no_grad():
        for attention in attentions(model):
            attention.qkv.weight[:2 * len(attention.q_bias)] = 0
    outs, gradients = run(model, images(*SIZE).float())
    assert all(out.isfinite().all() for out in outs)
    assert max(grad.abs().max() for grad in gradients.values()) < 1e8
