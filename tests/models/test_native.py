"""Compiled attention and GELU on a CPU: held to the definition in float64, and left where in doubt.

Bounds are those of float32 sums in any order: a few roundings of each term, of the largest value.
"""
import copy
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from helpers import logged

from swinv2_mm import SwinTransformerV2
from swinv2_mm.models import attention, mlp, native, sequential
from swinv2_mm.models.windows import pairs, plan

pytestmark = pytest.mark.skipif(not shutil.which('g++'), reason='there is no g++')
# size, window, shift, heads, width: even; a seam and padding on each side; films; one that covers
# the map; a side of one token; heads wider and narrower than a vector; more rows than a strip.
CASES = [((16, 24), (8, 8), (0, 0), 3, 32), ((13, 21), (8, 8), (4, 4), 2, 32),
         ((11, 9), (5, 3), (2, 1), 2, 20), ((5, 9, 10), (2, 7, 7), (1, 3, 3), 2, 16),
         ((7, 5), (7, 5), (0, 0), 1, 40), ((9, 1), (4, 1), (2, 0), 2, 3),
         ((17, 18), (16, 16), (8, 8), 2, 8), ((30, 24), (24, 24), (12, 0), 1, 64)]
EPS = torch.finfo(torch.float32).eps


def inputs(size, window, heads, width, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    channels = heads * width
    qkv = normal(2, *size, 3 * channels).to(dtype)
    scale = 10 + normal(heads, 1, 1)
    table = 8 + 4 * normal(*(2 * w - 1 for w in window), heads).movedim(-1, 0)  # no plain strides
    return qkv, 0.5 * normal(3 * channels), scale, table


def answers(function, tensors, grad):
    """The output, and the gradient of each of `tensors`."""
    tensors = [x.clone().requires_grad_() for x in tensors]
    out = function(*tensors)
    return out, *torch.autograd.grad(out, tensors, grad.to(out.dtype))


def definition(layout):
    return lambda qkv, added, scale, table: attention._attend(
        qkv + added, layout, scale, pairs(table, layout.window))


@pytest.mark.parametrize('size, window, shift, heads, width', CASES, ids=str)
def test_outputs_and_gradients_are_those_of_the_definition(size, window, shift, heads, width):
    tensors = inputs(size, window, heads, width)
    layout = plan(size, window, shift, tensors[0])
    grad = torch.randn(2, *size, heads * width, generator=torch.Generator().manual_seed(1))
    found = answers(lambda qkv, added, scale, table: native.attend(
        qkv, added, layout, scale, table), tensors, grad)
    exact = answers(definition(plan(size, window, shift, tensors[0].double())),
                    [x.double() for x in tensors], grad)
    # a logit of up to 40 is rounded before its exponential, and sums have up to so many terms
    terms = math.sqrt(max(2 * math.prod(size), math.prod(window) * width))
    for a, b in zip(found, exact):
        assert (a - b).abs().max() <= 40 * terms * EPS * b.abs().max()


def test_bfloat16_is_read_and_written_and_nothing_else():
    tensors = inputs((7, 5), (4, 3), 2, 24, torch.bfloat16)
    layout = plan((7, 5), (4, 3), (2, 1), torch.empty(0))
    grad = torch.randn(2, 7, 5, 48, generator=torch.Generator().manual_seed(1)).bfloat16()
    found = answers(lambda qkv, added, scale, table: native.attend(
        qkv, added, layout, scale, table), tensors, grad)
    exact = answers(definition(plan((7, 5), (4, 3), (2, 1), torch.empty(0).double())),
                    [x.double() for x in tensors], grad)
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    rounding = torch.finfo(torch.bfloat16).eps / 2
    for a, b in zip(found[:2], exact):  # each number rounded once, not the largest alone
        assert ((a - b).abs() <= rounding * b.abs() + 1e-4 * b.abs().max()).all()


def alone(v, added):
    """What windows of one token give of v in bfloat16 and its bias, once it is rounded."""
    qkv = torch.zeros(1, 1, len(v), 3)
    qkv[..., 2] = v
    layout = plan((1, len(v)), (1, 1), (0, 0), qkv)
    added = torch.cat([torch.zeros(2), added])
    return native.attend(qkv.bfloat16(), added, layout, torch.ones(1, 1, 1),
                         torch.zeros(1, 1, 1)).flatten()


def test_bfloat16_is_rounded_to_the_nearest_and_no_number_stays_none():
    steps = 1 + torch.arange(4) * 2 ** -7
    for half in (2 ** -8, -2 ** -8):  # as far from the one as from the other: to the even one
        assert torch.equal(alone(steps, torch.tensor([half])), (steps + half).bfloat16())
    widest = torch.tensor([2 ** 31 - 1], dtype=torch.int32).view(torch.float32)  # all its bits set
    assert alone(steps, widest).isnan().all()


def test_padding_takes_no_part_where_all_else_is_as_unlikely():
    """Keys opposite to a query lie as low, at the least temperature, as what a seam lowers."""
    qkv = torch.ones(1, 3, 3, 24)
    qkv[..., :8] = -1
    layout = plan((3, 3), (2, 2), (0, 0), qkv)
    out = native.attend(qkv, torch.zeros(24), layout, torch.full((1, 1, 1), 100.),
                        torch.full((1, 3, 3), 16.))
    assert (out - 1).abs().max() < 8 * EPS


def test_short_vectors_are_directions_too():
    qkv, added, scale, table = inputs((4, 4), (4, 4), 1, 8)
    layout = plan((4, 4), (4, 4), (0, 0), qkv)
    out, short = (native.attend(x, 0 * added, layout, scale, table) for x in (
        qkv, torch.cat([qkv[..., :16] * 2 ** -12, qkv[..., 16:]], -1)))
    assert torch.equal(out, short)


def test_two_runs_are_equal_bit_for_bit_and_threads_do_not_change_the_output():
    tensors = inputs((16, 16), (4, 4), 3, 16)
    layout = plan((16, 16), (4, 4), (2, 2), tensors[0])
    grad = torch.randn(2, 16, 16, 48, generator=torch.Generator().manual_seed(1))

    def run(threads):
        torch.set_num_threads(threads)
        return answers(lambda qkv, added, scale, table: native.attend(
            qkv, added, layout, scale, table), tensors, grad)

    before = torch.get_num_threads()
    try:
        one, two, again = run(1), run(2), run(2)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, two, again))
    assert all(map(torch.equal, one[:2], two[:2]))


def test_what_is_infinite_or_no_number_stays_so():
    """A loss that is no number must not be made one."""
    qkv, *others = inputs((4, 4), (4, 4), 1, 8)
    qkv[0, 1, 2, 3] = math.nan
    out = native.attend(qkv, *others[:1], plan((4, 4), (4, 4), (0, 0), qkv), *others[1:])
    assert out[0].isnan().any() and out[1].isfinite().all()


@pytest.mark.parametrize('columns', [5, 16, 33])
def test_gelu_is_that_of_float64(columns):
    x = torch.linspace(-14, 14, 20 * columns).view(20, columns)
    bias = torch.linspace(-1, 1, columns)
    inner = (x + bias).double().requires_grad_()
    exact = F.gelu(inner)
    grad = torch.randn(20, columns, generator=torch.Generator().manual_seed(0))
    slope, = torch.autograd.grad(exact, inner, grad.double())
    assert (native.gelu(x, bias) - exact).abs().max() < 14 * 2 * EPS
    again, found = native.gelu_backward(x, bias, grad.clone())
    assert torch.equal(again, native.gelu(x, bias))
    # the slope holds x times the density, whose exponent rounds 98 ulp at worst
    assert (found - slope).abs().max() < 16 * EPS * grad.abs().max()
    for odd in (math.inf, -math.inf, math.nan):
        value = torch.full((1, columns), odd)
        torch.testing.assert_close(native.gelu(value, torch.zeros(columns)).isnan(),
                                   F.gelu(value.double()).isnan())


@pytest.mark.parametrize('columns', [5, 16, 100])
@pytest.mark.parametrize('dropped', [False, True])
def test_the_norm_that_joins_the_trunk_is_that_of_float64(columns, dropped):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    x, branch, grad = normal(3, 50, columns) + 3, normal(3, 50, columns) + 3, normal(3, 50, columns)
    kept = torch.tensor([0, 1.25, 1.25]).view(3, 1, 1) if dropped else None
    norm = torch.nn.LayerNorm(columns)
    norm.weight.data, norm.bias.data = normal(columns), normal(columns)

    def run(join, norm, *tensors):
        out = join(*[tensor.requires_grad_() for tensor in tensors], norm)
        return out, *torch.autograd.grad(out, [*tensors, *norm.parameters()], grad.to(out.dtype))

    found = run(lambda x, branch, norm: native.add_norm(x, branch, norm, kept), norm, x, branch)
    exact = run(lambda x, branch, norm: x + norm(branch) * (1 if kept is None else kept),
                copy.deepcopy(norm).double(), x.detach().double(), branch.detach().double())
    # a mean of 3 is taken from numbers 1 apart; sums have `columns` terms, or a term for each row
    for a, b in zip(found, exact):
        assert (a - b).abs().max() < 8 * math.sqrt(max(columns, 150)) * EPS * b.abs().max()


@pytest.mark.parametrize('change', [
    lambda norm: setattr(norm, 'bias', None), torch.nn.Module.double, torch.nn.Module.bfloat16,
    lambda norm: norm.register_forward_hook(lambda module, inputs, out: 2 * out)],
    ids=['no bias', 'float64', 'bfloat16', 'hook'])
def test_a_norm_of_another_kind_is_left_alone(change):
    block = SwinTransformerV2('nano', window_size=4).layers[0].blocks[0]
    norm = block.norm1
    torch.nn.init.normal_(norm.weight)  # it begins at 0, and a branch with it
    change(norm)
    x = torch.randn(2, 3, len(norm.weight), dtype=norm.weight.dtype)
    with torch.no_grad():
        assert torch.equal(block._join(x, norm, x), x + norm(x))


def test_it_serves_a_model_that_trains_and_one_that_predicts(awake, monkeypatch):
    model = awake(SwinTransformerV2('nano', window_size=4))
    ran = []
    for name in ('_forward', '_backward', 'gelu', 'gelu_backward', 'add_norm'):
        original = getattr(native, name)
        monkeypatch.setattr(native, name, lambda *args, name=name, original=original: (
            ran.append(name) or original(*args)))
    x = torch.randn(1, 3, 64, 64)
    model(x)[0].sum().backward()
    assert set(ran) == {'_forward', '_backward', 'gelu', 'gelu_backward', 'add_norm'}
    ran.clear()
    with torch.inference_mode():
        model.eval()(x)
    assert set(ran) == {'_forward', 'gelu', 'add_norm'}
    ran.clear()
    copy.deepcopy(model).bfloat16()(x.bfloat16())
    assert set(ran) - {'gelu'} == {'_forward'}  # GELU where half precision is widened
    ran.clear()
    copy.deepcopy(model).double()(x.double())  # more digits than it has
    with sequential.plain_path():
        model(x)
    assert ran == []


def broken(monkeypatch, tmp_path, source=None, compiler=None):
    """Let the code be compiled anew, of another source or by another compiler."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(native, 'FLAGS', ('-O0', *native.FLAGS[3:]))  # a second, not four
    if compiler:
        monkeypatch.setenv('CXX', compiler)
    if source:
        path = tmp_path / 'native.cpp'
        path.write_text(native.SOURCE.read_text().replace(*source))
        monkeypatch.setattr(native, 'SOURCE', path)
    native.library.cache_clear()


@pytest.fixture
def fresh_library():
    yield
    native.library.cache_clear()


@pytest.fixture
def told():
    """Lines of the log."""
    with logged() as lines:
        yield lines


@pytest.mark.parametrize('settings, reason', [
    (dict(source=('SEAM = -100.f', 'SEAM = -1.f')), 'its output in torch.float32 is off by'),
    (dict(source=('due += along', 'due -= along')), 'its gradient of the temperature'),
    (dict(source=('0.398942280f', '0.4f')), 'its gradient of GELU'),
    (dict(source=(' - unit * lean', '')), 'its gradient of the norm, of its branch,'),
    (dict(compiler='false'), 'false fails'),
    (dict(compiler='/no/such/compiler'), 'No such file'),
], ids=[
    'wrong output', 'wrong gradient', 'wrong GELU', 'wrong norm', 'no result', 'no compiler'])
def test_code_that_is_wrong_or_cannot_be_made_is_left_and_the_log_says_so_once(
        awake, monkeypatch, tmp_path, fresh_library, told, settings, reason):
    model = awake(SwinTransformerV2('nano', window_size=4)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), sequential.plain_path():
        expected = model(x)
    broken(monkeypatch, tmp_path, **settings)
    with torch.no_grad():
        for _ in range(2):
            for a, b in zip(model(x), expected):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert native.library() is None
    lines = [line for line in told if 'without compiled code' in line]
    assert len(lines) == 1 and reason in lines[0]


def test_it_is_compiled_once_for_all_processes(monkeypatch, tmp_path, fresh_library):
    broken(monkeypatch, tmp_path)
    assert native.library() is not None
    made, = (tmp_path / 'swinv2_mm').iterdir()
    before = made.stat().st_mtime_ns
    native.library.cache_clear()
    monkeypatch.setenv('CXX', 'false')  # nobody asks it
    assert native.library() is not None and made.stat().st_mtime_ns == before


def test_the_mlp_keeps_nothing_where_nobody_asks_for_gradients(monkeypatch):
    kept = []
    original = mlp._forward
    monkeypatch.setattr(mlp, '_forward', lambda *args, keep: (
        kept.append(keep) or original(*args, keep=keep)))
    layer, x = mlp.Mlp(8), torch.randn(3, 8)
    layer(x)
    with torch.no_grad():
        layer(x)
    layer.requires_grad_(False)(x)
    assert kept == [True, False, False]
