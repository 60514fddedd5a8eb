"""A few windows at a time gives what all at once gives: outputs, gradients, under every setting."""
import contextlib
import copy
import math
import os
import warnings

import pytest
import torch
from helpers import needs, paired
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.models import mlp, native, sequential, windows
from swinv2_mm.models.swin import Block
from swinv2_mm.utils import versions

PAIR = dict(arch=dict(embed_dims=16, depths=(2, 1), num_heads=(2, 4)), out_indices=(0, 1),
            drop_path_rate=0.0)
# Sums in another order round otherwise; values and gradients here are of the size of 1 to 1e3.
CLOSE = dict(rtol=1e-9, atol=1e-9)


def pairs():
    """Name -> a model and an input that is padded, shifted and of more than one image."""
    yield 'image', SwinTransformerV2, dict(window_size=4), (2, 3, 60, 44)
    yield 'unpadded', SwinTransformerV2, dict(window_size=4), (3, 3, 64, 32)
    yield 'oblong', SwinTransformerV2, dict(window_size=(5, 3)), (2, 3, 37, 90)
    yield 'small map', SwinTransformerV2, dict(window_size=16), (2, 3, 40, 64)
    yield 'video', SwinTransformerV2Video, dict(window_size=(2, 3, 4)), (2, 3, 6, 44, 52)


@pytest.fixture(params=list(pairs()), ids=lambda pair: pair[0])
def case(request, awake):
    _, kind, settings, shape = request.param
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return awake(kind(**PAIR, **settings)).double(), x


@pytest.fixture(params=[1, 20_000, 8 << 20], ids=lambda size: f'{size} bytes')
def part_bytes(request, monkeypatch):
    """One window and one head at a time; a few; all at once."""
    monkeypatch.setitem(sequential.PART_BYTES, 'cpu', request.param)


@pytest.mark.parametrize('tokens', [1, 50, 10 ** 6])
@pytest.mark.parametrize('size, window', [
    ((9, 12), (4, 5)), ((8, 8), (4, 4)), ((3, 20), (4, 4)), ((5, 6, 7), (2, 3, 3))], ids=str)
def test_parts_share_out_the_windows_of_the_plain_path(size, window, tokens):
    batch, area = 2, math.prod(windows.fit_window(size, window, window)[0])
    for shift in (tuple(w // 2 for w in window), (0,) * len(window)):
        layout = windows.plan(size, window, shift, torch.empty(0))
        numbers = torch.arange(1, 1 + batch * math.prod(size)).view(batch, *size, 1)
        plain = windows.to_windows(numbers, layout)[..., 0]  # (B, W, N), 0 for padding
        found = []
        for part in windows.cut(layout, batch, tokens, torch.device('cpu')):
            assert part.count == 1 or part.count * part.area <= tokens
            assert part.area == area
            filled = torch.zeros(part.count * area, dtype=torch.int64)
            filled[slice(None) if part.places is None else part.places] = part.rows + 1
            found += [(row, part.mask) for row in filled.view(part.count, area)]
        expected = {}
        for index, mask in layout.groups:
            for row in plain if index is None else plain[:, index]:
                expected |= {tuple(places.tolist()): mask for places in row}
        assert len(found) == len(expected) == plain.shape[0] * plain.shape[1]
        for row, mask in found:
            assert mask is expected[tuple(row.tolist())]


def test_inference_equals_the_plain_path(case, part_bytes):
    model, x = case
    model.eval()
    with torch.no_grad():
        outs = model(x)
        with sequential.plain_path():
            expected = model(x)
    for out, reference in paired(outs, expected):
        torch.testing.assert_close(out, reference, **CLOSE)


def gradients(model, x):
    """Features, and gradients of the input and of every parameter, by name."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    outs = model(x)
    outs = outs if isinstance(outs, tuple) else (outs,)
    weights = [torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view_as(out) for out in outs]
    sum((out * weight).sum() for out, weight in zip(outs, weights)).backward()
    return outs, {'x': x.grad} | {n: p.grad.clone() for n, p in model.named_parameters()}


def test_training_equals_the_plain_path(case, part_bytes):
    model, x = case
    model.train()
    outs, grads = gradients(model, x)
    with sequential.plain_path():
        expected, expected_grads = gradients(model, x)
    for out, reference in paired(outs, expected):
        torch.testing.assert_close(out, reference, **CLOSE)
    for name, grad in grads.items():
        size = expected_grads[name].abs().max()
        assert size > 0, name
        assert (grad - expected_grads[name]).abs().max() <= 1e-9 * size, name


@pytest.mark.parametrize('size, shift', [((4, 4), (0, 0)), ((5, 3), (1, 1))], ids=str)
def test_gradients_of_the_core_are_those_of_differences(size, shift):
    layout = windows.plan(size, (4, 2), shift, torch.empty(0).double())
    torch.manual_seed(0)
    qkv = torch.randn(1, *size, 12, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(2, 1, 1, dtype=torch.float64).add(1).requires_grad_()
    area = math.prod(layout.window)
    bias = torch.rand(2, area, area, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *x: sequential.attend(x[0], layout, *x[1:]), (qkv, scale, bias))


def test_gradients_of_the_mlp_are_those_of_differences():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 5).double(), nn.Linear(5, 2).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    parameters = (first.weight, first.bias, second.weight, second.bias)
    assert torch.autograd.gradcheck(
        lambda x, *_: mlp.feed_forward(x, first, second), (x, *parameters))


def test_a_second_derivative_is_refused_and_the_plain_path_has_it(awake):
    model = awake(SwinTransformerV2(**PAIR, window_size=4)).double()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)

    def penalty():
        grad, = torch.autograd.grad(model(x)[0].square().sum(), x, create_graph=True)
        grad.square().sum().backward()

    with pytest.raises(RuntimeError, match='once_differentiable'):
        penalty()
    with sequential.plain_path():
        penalty()


def kept(block, x, layout):
    """Bytes of each thing that the forward pass keeps for the backward pass, but parameters."""
    own = {p.untyped_storage().data_ptr() for p in block.parameters()}
    found = {}

    def pack(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, layout)
    return [t.untyped_storage().nbytes() for key, t in found.items() if key not in own]


def test_no_logits_are_kept_for_the_backward_pass(awake):
    block = awake(Block(2, 32, 1, (0, 0), 0.0, False)).train()
    x = torch.randn(1, 64, 64, 32, requires_grad=True)  # four windows of 32 x 32
    layout = windows.plan((64, 64), (32, 32), (0, 0), x)
    one_window = 4 * 1024 ** 2
    lean = kept(block, x, layout)
    with sequential.plain_path():
        plain = kept(block, x, layout)
    assert max(plain) == 4 * one_window
    # Of a token: C for what enters qkv, 3 C for qkv, C each before proj and both norms, 5 C for the
    # MLP; that is 12. The position network has 63 ** 2 offsets and a width of 512.
    network = 63 ** 2 * 4 * (2 + 2 * 512 + 4)
    assert max(lean) < 4 * one_window
    assert sum(lean) < 12.1 * versions.nbytes(x) + one_window + network


class Factors(TorchDispatchMode):
    """Counts numbers in products of matrices that are below float32's normal ones, but not 0."""

    below = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.bmm.default, torch.ops.aten.mm.default):
            for x in args:
                tiny = torch.finfo(x.dtype).tiny
                self.below += int(((x != 0) & (x.abs() < tiny)).sum())
        return func(*args, **kwargs or {})


def test_no_product_of_the_backward_pass_meets_a_denormal_number(awake, monkeypatch):
    """A CPU takes many times as long for those, and the seam between windows is full of them."""
    monkeypatch.setattr(native, 'library', lambda: None)
    block = awake(Block(2, 32, 1, (0, 0), 0.0, False)).train()
    x = torch.randn(2, 16, 16, 32, requires_grad=True)
    layout = windows.plan((16, 16), (8, 8), (4, 4), x)
    found = {}
    for name, path in (('parts', contextlib.nullcontext), ('plain', sequential.plain_path)):
        with path():
            loss = block(x, layout).sum()
        with Factors() as factors:
            loss.backward()
        found[name] = factors.below
    assert found['parts'] == 0 < found['plain']


@pytest.mark.parametrize('tiles', [False, True])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('dtype', [
    torch.bfloat16, needs('float16 on a CPU', torch.float16)])
def test_autocast_gives_the_dtype_of_the_plain_path_and_no_less_precision(
        awake, monkeypatch, tiles, training, dtype):
    """Whether the processor is one with tiles for half precision or not."""
    monkeypatch.setattr(sequential, 'CPU_HAS_TILES', tiles)
    model = awake(SwinTransformerV2(**PAIR, window_size=4)).train(training)
    x = torch.randn(2, 3, 44, 60, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), sequential.plain_path():
        exact = copy.deepcopy(model).double().eval()(x.double())

    def run():
        with torch.set_grad_enabled(training), torch.autocast('cpu', dtype=dtype):
            return model(x)

    outs = run()
    with sequential.plain_path():
        plain = run()
    for out, reference, truth in paired(outs, plain, exact):
        assert out.dtype == reference.dtype
        error, usual = (out - truth).abs().mean(), (reference - truth).abs().mean()
        assert error < 1.2 * usual  # of sums in another order


@pytest.mark.parametrize('name', ['norm1', 'mlp', 'mlp.fc1', 'attn', 'drop_path'])
@pytest.mark.parametrize('training', [False, True])
def test_who_looks_into_a_block_sees_all_of_its_tokens(awake, name, training):
    block = awake(Block(2, 16, 2, (0, 0), 0.0, False)).train(training)
    x = torch.randn(2, 9, 9, 16)
    layout = windows.plan((9, 9), (4, 4), (2, 2), x)
    seen = []
    block.get_submodule(name).register_forward_hook(lambda m, args, out: seen.append(out.shape))
    with contextlib.nullcontext() if training else torch.no_grad():
        block(x, layout)
    assert {shape[:-1] for shape in seen} == {(2, 9, 9)}


def test_a_layer_put_in_place_of_another_is_called(awake):
    """As quantisation and low-rank adapters do."""
    block = awake(Block(2, 16, 2, (0, 0), 0.0, False)).train()
    x = torch.randn(2, 8, 8, 16)
    layout = windows.plan((8, 8), (4, 4), (2, 2), x)
    before = block(x, layout)

    class Louder(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    louder = Louder(16, 64)
    louder.load_state_dict(block.mlp.fc1.state_dict())
    block.mlp.fc1 = louder
    assert not torch.allclose(block(x, layout), before)


@pytest.mark.skipif(not versions.can('torch.compile of this backbone'), reason='needs torch 2.6')
@pytest.mark.parametrize('dynamic, backend, sizes', [
    (False, 'aot_eager', ((28, 24), (32, 16))),
    pytest.param(True, 'eager', ((28, 24), (20, 36)), marks=pytest.mark.slow)])
def test_it_compiles_to_one_graph_that_gives_the_same(awake, dynamic, backend, sizes):
    arch = dict(embed_dims=16, depths=(2,), num_heads=(2,))
    model = awake(SwinTransformerV2(arch, window_size=4, out_indices=(0,))).double().eval()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=dynamic,
                             backend=backend)
    torch._dynamo.utils.warn_once_cache.clear()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings('error', 'Dynamo detected')  # no user can do anything about it
        for size in sizes:
            x = torch.randn(2, 3, *size, dtype=torch.float64)
            for out, reference in zip(compiled(x), model(x)):
                torch.testing.assert_close(out, reference, **CLOSE)


@pytest.mark.slow
@pytest.mark.skipif(not versions.can('torch.compile of this backbone'), reason='needs torch 2.6')
@pytest.mark.skipif(os.environ.get('ATEN_CPU_CAPABILITY') == 'default',
                    reason="torch's compiler writes C++ for vector instructions alone")
def test_training_compiles_for_a_cpu(awake, quick_compiler):
    """With windows of two masks, padded; no further from float64 than what is not compiled."""
    arch = dict(embed_dims=16, depths=(1,), num_heads=(2,))
    model = awake(SwinTransformerV2(arch, window_size=4, out_indices=(0,)))
    x, found = torch.randn(2, 6, 8, 16), {}
    for name, step in (('exact', lambda m: m), ('plain', lambda m: m), ('compiled', torch.compile)):
        dtype = torch.float64 if name == 'exact' else torch.float32
        inner, picture = copy.deepcopy(model.layers[0].blocks[0].attn).to(dtype), x.to(dtype)
        out = step(inner)(picture, windows.plan((6, 8), (4, 4), (0, 2), picture))
        out.square().mean().backward()
        found[name] = [out, *(p.grad for p in inner.parameters())]
    for exact, plain, compiled in zip(*found.values()):
        least = torch.finfo(torch.float32).eps * exact.abs().max()
        bound = 4 * (plain - exact).abs().max() + 4 * least
        assert (compiled - exact).abs().max() <= bound
