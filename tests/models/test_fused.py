"""The operator around the GPU kernels: chosen, recorded by compilers, and proved before use.

Here on a CPU, where it is told that the kernels' interpreter is on but not allowed to start any;
test_triton_attention.py runs the kernels themselves.
"""
import pytest
import torch
from helpers import logged, needs
from torch import distributed

from swinv2_mm import SwinTransformerV2
from swinv2_mm.models import fused, launch, sequential
from swinv2_mm.models.attention import WindowAttention
from swinv2_mm.models.windows import plan
from swinv2_mm.utils import versions

pytestmark = pytest.mark.skipif(not versions.can(fused.KERNEL) or not fused.HAS_TRITON,
                                reason='kernels need torch 2.4 and triton')
WINDOW, SHIFT, SIZE = (4, 4), (2, 2), (9, 10)


def refuse(*args, **kwargs):
    raise RuntimeError('no compiler here\nand more')


@pytest.fixture
def told(monkeypatch):
    """Lines of the log; the operator is taken on this CPU, and starting a kernel fails."""
    monkeypatch.setattr(fused, 'INTERPRETED', True)
    monkeypatch.setattr(fused, '_verdicts', {})
    monkeypatch.setattr(fused, '_said', set())
    monkeypatch.setattr(launch, 'start', refuse)
    with logged() as lines:
        yield lines


def layer(awake, dim=32, heads=2, ndim=2):
    torch.manual_seed(0)  # and so what a test draws after it
    return awake(WindowAttention(ndim, dim, heads, (0,) * ndim))


def run(call, model, x, layout):
    """The output and all gradients."""
    x = x.clone().requires_grad_()
    out = call(x, layout)
    return [out, *torch.autograd.grad(out.float().square().sum(), [x, *model.parameters()])]


def test_where_no_kernel_starts_the_plain_path_is_taken_and_the_log_says_so_once(awake, told):
    model, x = layer(awake), torch.randn(2, *SIZE, 32)
    layout = plan(SIZE, WINDOW, SHIFT, x)
    found = [run(model, model, x, layout) for _ in range(2)][1]
    assert told == ['Attention takes the plain path and not its GPU kernels: RuntimeError: no '
                    'compiler here; torch.float32, window (4, 4), heads of 16 channels on cpu.']
    with sequential.plain_path():
        expected = run(model, model, x, layout)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('shift', [SHIFT, (0, 0)])
def test_compilers_record_one_node_without_a_break(awake, told, shift):
    model, x = layer(awake), torch.randn(2, *SIZE, 32)
    layout, graphs = plan(SIZE, WINDOW, shift, x), []

    def record(module, inputs):
        graphs.append([str(node.target) for node in module.graph.nodes])
        return module

    torch.compile(model, fullgraph=True, backend=record)(x, layout)
    assert [sum('swinv2_mm.attention' in name for name in graph) for graph in graphs] == [1]
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    for a, b in zip(run(compiled, model, x, layout), run(model, model, x, layout)):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()


@pytest.mark.skipif(not versions.can('export'), reason='export needs torch 2.6')
def test_a_whole_backbone_is_exported_with_the_operator(awake, told):
    model = awake(SwinTransformerV2(dict(embed_dims=16, depths=(2,), num_heads=(1,)),
                                    window_size=4, out_indices=(0,))).eval()
    x = torch.randn(1, 3, 40, 36)
    program = torch.export.export(model, (x,))
    assert sum('swinv2_mm.attention' in str(node.target) for node in program.graph.nodes) == 2
    torch.testing.assert_close(program.module()(x)[0], model(x)[0])


def test_the_registrations_keep_what_torch_asks_of_an_operator(told):
    heads, width = 2, 16
    torch.manual_seed(0)
    qkv = torch.randn(1, 6, 5, 3 * heads * width, requires_grad=True)
    scale = torch.tensor([5., 9.]).view(2, 1, 1).requires_grad_()
    bias = torch.rand(heads, 16, 16, requires_grad=True)
    torch.library.opcheck(torch.ops.swinv2_mm.attention, (qkv, scale, bias, WINDOW, SHIFT))


def test_autocast_and_checkpointing_go_through_the_operator(awake, told):
    model, x = layer(awake), torch.randn(2, *SIZE, 32)
    layout = plan(SIZE, WINDOW, SHIFT, x)
    expected = run(model, model, x, layout)

    def checkpointed(x, layout):
        return torch.utils.checkpoint.checkpoint(model, x, layout, use_reentrant=False)

    for a, b in zip(run(checkpointed, model, x, layout), expected):
        torch.testing.assert_close(a, b)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = model(x, layout)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected[0], atol=0.1, rtol=0.1)


@pytest.fixture
def group(tmp_path):
    distributed.init_process_group('gloo', f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize('wrap', ['data parallel', needs('full sharding', 'full sharding')])
def test_wrappers_of_several_processes_go_through_the_operator(awake, told, group, wrap):
    model, x = layer(awake), torch.randn(2, *SIZE, 32)
    layout = plan(SIZE, WINDOW, SHIFT, x)
    expected = run(model, model, x, layout)
    if wrap == 'data parallel':
        call = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.fsdp import fully_shard

        call = fully_shard(model)
    out = call(x, layout)
    assert len(told) == 1  # the operator was asked
    out.square().sum().backward()
    grads = [getattr(p.grad, 'full_tensor', lambda p=p: p.grad)() for p in model.parameters()]
    for a, b in zip([out, *grads], [expected[0], *expected[2:]]):
        torch.testing.assert_close(a, b)


def test_second_gradients_are_refused_and_not_wrong(awake, told):
    model, x = layer(awake), torch.randn(1, *SIZE, 32, requires_grad=True)
    out = model(x, plan(SIZE, WINDOW, SHIFT, x))
    grad, = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='attention_gradients'):
        grad.sum().backward()


@pytest.mark.parametrize('dtype, heads, window, why', [
    (torch.float64, 2, (4, 4), 'torch.float64'),
    (torch.float32, 1, (4, 4), 'heads of 256 channels, over 128'),
    (torch.float32, 2, (65, 65), 'windows of 4225 tokens, over 4096')])
def test_what_kernels_are_not_for_goes_another_way_with_one_line(told, dtype, heads, window, why):
    qkv = torch.empty(1, 70, 70, 3 * 256, dtype=dtype)[:, :70]
    for _ in range(2):
        assert not fused.fits(qkv, heads, window)
    assert told == [f'Attention takes the plain path and not its GPU kernels: {why} on cpu.']


def test_old_environments_go_another_way(told, monkeypatch):
    qkv = torch.empty(1, 8, 8, 96)
    assert fused.fits(qkv, 2, WINDOW)
    monkeypatch.setattr(fused, 'HAS_TRITON', False)
    assert not fused.fits(qkv, 2, WINDOW)
    monkeypatch.setattr(fused, 'HAS_TRITON', True)
    monkeypatch.setattr(versions, 'TORCH', (2, 3))
    assert not fused.fits(qkv, 2, WINDOW)
    assert [line.partition('kernels: ')[2] for line in told] == [
        'triton is not installed on cpu.', f'torch {torch.__version__} is older than 2.4 on cpu.']


def test_a_cpu_and_the_plain_path_never_ask_for_it(monkeypatch):
    qkv = torch.empty(1, 8, 8, 96)
    monkeypatch.setattr(fused, 'INTERPRETED', True)
    with sequential.plain_path():
        assert not fused.fits(qkv, 2, WINDOW)
    monkeypatch.setattr(fused, 'INTERPRETED', False)
    assert not fused.fits(qkv, 2, WINDOW)
