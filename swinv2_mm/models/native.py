"""What stands between the dense layers on a CPU: native.cpp, compiled at its first use.

    fits        whether an attention may come here, asked before it does
    attend      softmax(scale cos(q, k) + bias + mask) v on the map, with gradients
    gelu        of the MLP, with the bias before it
    add_norm    the norm at the end of a branch, its drop path, and what it is added to

g++ takes a few seconds, once: what it makes is kept in ~/.cache/swinv2_mm, for each kind of vector
instructions. It is compared with the definition where it is loaded. Where there is no compiler, or
anything is wrong, sequential.py does the same in more passes, and the log says so once.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import math
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..utils import versions
from . import fused, sequential
from .windows import Layout, Size, pairs, plan

SOURCE = Path(__file__).with_suffix('.cpp')
FLAGS = ('-O2', '-ftree-vectorize', '-fpeel-loops', '-ffp-contract=fast', '-fno-math-errno',
         '-fno-trapping-math', '-fno-tree-loop-distribute-patterns', '-std=c++17', '-fopenmp',
         '-shared', '-fPIC', '-Wno-psabi')
# What torch says of a processor -> what to compile for.
INSTRUCTIONS = {'AVX512': '-march=skylake-avx512', 'AVX2': '-march=haswell'}
SPARE = 16  # numbers that a vector may reach over the end of the table
LARGEST_WINDOW = 4096  # tokens
# By how much results may be off, over the largest value: sums in another order, which cancel out
# for a temperature, and one rounding.
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


def may_run(x: Tensor) -> bool:
    """Whether compiled code may take this tensor: on a CPU, while nobody watches operators."""
    return (type(x) is Tensor and x.device.type == 'cpu' and x.dtype in BOUNDS
            and sequential.may_run() and not torch._C._len_torch_dispatch_stack()
            and not fused.INTERPRETED  # then the kernels of a GPU run here
            and library() is not None)


def fits(x: Tensor, window: Size) -> bool:
    """Whether `attend` takes the q, k and v of these tokens (B, *S, C)."""
    return (may_run(x) and math.prod(window) <= LARGEST_WINDOW
            and (versions.autocast_dtype('cpu') or x.dtype) in BOUNDS)


def may_join(x: Tensor, branch: Tensor, norm: nn.LayerNorm, drop_path: nn.Module) -> bool:
    """Whether `add_norm` may take the place of these modules: float32, and nobody looks at them."""
    return (type(norm) is nn.LayerNorm and all(
                type(t) in (Tensor, nn.Parameter) and t.dtype == torch.float32 and t.is_cpu
                for t in (x, branch, norm.weight, norm.bias))
            and may_run(x) and versions.autocast_dtype('cpu') is None
            and not any(m._forward_hooks or m._forward_pre_hooks for m in (norm, drop_path)))


def attend(qkv: Tensor, bias: Tensor, layout: Layout, scale: Tensor, table: Tensor) -> Tensor:
    """(B, *S, 3C) -> (B, *S, C), with gradients but no second ones.

    bias (3C) is added to qkv; scale (h, 1, 1) is 1 / tau; table (h, *(2w - 1)) holds the position
    bias of each offset from key to query.
    """
    return _Attend.apply(qkv.contiguous(), bias.float(), scale.float(), table.float(), layout)


class _Attend(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *inputs) -> Tensor:
        ctx.save_for_backward(*inputs[:-1])
        ctx.layout = inputs[-1]
        return _forward(library(), *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return *_backward(library(), grad, *ctx.saved_tensors, ctx.layout), None


def _forward(code, qkv: Tensor, *others) -> Tensor:
    out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
    with _map(qkv, *others) as arguments:
        code.attend(*arguments, out.data_ptr(), torch.get_num_threads())
    return out


def _backward(code, grad: Tensor, qkv: Tensor, bias: Tensor, scale: Tensor, table: Tensor,
              layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad = grad.to(qkv.dtype).contiguous()
    grad_qkv, grad_scale, grad_table = (x.new_empty(x.shape) for x in (qkv, scale, table))
    with _map(qkv, bias, scale, table, layout) as arguments:
        code.attend_backward(
            *arguments, grad.data_ptr(), grad_qkv.data_ptr(), grad_scale.data_ptr(),
            grad_table.data_ptr(), torch.get_num_threads())
    grad_bias = grad_qkv.flatten(0, -2).sum(0, dtype=torch.float32)
    return grad_qkv, grad_bias, grad_scale, _turned(grad_table)


@contextlib.contextmanager
def _map(qkv: Tensor, bias: Tensor, scale: Tensor, table: Tensor,
         layout: Layout) -> Iterator[tuple]:
    """The first arguments of both functions, whose memory lives as long as this context."""
    heads = len(scale)
    sides = itertools.chain.from_iterable(
        (filler,) * (3 - len(side)) + tuple(side)
        for filler, side in ((1, layout.size), (1, layout.window), (0, layout.shift)))
    geometry = (ctypes.c_int * 12)(len(qkv), *sides, heads, qkv.shape[-1] // 3 // heads)
    kept = (bias.contiguous(), scale.contiguous(),
            torch.cat([_turned(table).flatten(), table.new_zeros(SPARE)]))
    yield (geometry, *(tensor.data_ptr() for tensor in kept), int(qkv.dtype == torch.bfloat16),
           qkv.data_ptr())


def gelu(x: Tensor, bias: Tensor, code=None) -> Tensor:
    """gelu(x + bias) for (L, C) and (C) in float32, without gradients."""
    out = torch.empty_like(x)
    (code or library()).gelu(x.data_ptr(), bias.contiguous().data_ptr(), out.data_ptr(), *x.shape,
                             torch.get_num_threads())
    return out


def gelu_backward(x: Tensor, bias: Tensor, grad: Tensor, code=None) -> tuple[Tensor, Tensor]:
    """The same once more, and the gradient of x, which takes the place of that of the result."""
    out = torch.empty_like(x)
    (code or library()).gelu_backward(
        x.data_ptr(), bias.contiguous().data_ptr(), grad.data_ptr(), out.data_ptr(), *x.shape,
        torch.get_num_threads())
    return out, grad


def add_norm(x: Tensor, branch: Tensor, norm: nn.LayerNorm, kept: Tensor | None = None,
             code=None) -> Tensor:
    """x + kept * norm(branch) for (B, ..., C) in float32, with gradients but no second ones.

    kept (B, 1, ...) is what `DropPath` multiplies a sample by.
    """
    kept = x.new_ones(len(x)) if kept is None else kept
    return _AddNorm.apply(x.contiguous(), branch.contiguous(), kept, norm.weight.contiguous(),
                          norm.bias.contiguous(), norm.eps, code or library())


class _AddNorm(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, branch: Tensor, kept: Tensor, weight: Tensor, bias: Tensor,
                eps: float, code) -> Tensor:
        ctx.save_for_backward(branch, kept, weight)
        ctx.eps, ctx.code = eps, code
        out = torch.empty_like(x)
        code.add_norm(*_norm_arguments(branch, weight, kept, eps), x.data_ptr(), bias.data_ptr(),
                      out.data_ptr(), torch.get_num_threads())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        branch, kept, weight = ctx.saved_tensors
        grad = grad.contiguous()
        of_branch, of_weight, of_bias = map(torch.empty_like, (branch, weight, weight))
        ctx.code.add_norm_backward(
            *_norm_arguments(branch, weight, kept, ctx.eps), grad.data_ptr(), of_branch.data_ptr(),
            of_weight.data_ptr(), of_bias.data_ptr(), torch.get_num_threads())
        return grad, of_branch, None, of_weight, of_bias, None, None


def _norm_arguments(branch: Tensor, weight: Tensor, kept: Tensor, eps: float) -> tuple:
    """The first arguments of both functions."""
    sizes = len(branch), math.prod(branch.shape[1:-1]), branch.shape[-1]
    return branch.data_ptr(), weight.data_ptr(), kept.data_ptr(), eps, *sizes


def _turned(table: Tensor) -> Tensor:
    """From the last offset to the first, so that the biases of keys side by side stand so."""
    return table.flip([*range(1, table.ndim)])


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where there are none that can be relied on."""
    try:
        code = _load(_compiled())
        fault = _fault(code)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        fault = str(error).strip().partition('\n')[0]
    if not fault:
        return code
    from mmengine.logging import print_log  # half a second that nobody else needs

    print_log(f'Attention on the CPU takes the path without compiled code: {fault}.', 'current')
    return None


def _load(path: Path) -> ctypes.CDLL:
    code = ctypes.CDLL(str(path))
    pointer, number, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    map_ = [*[pointer] * 4, number, pointer]
    norm = [*[pointer] * 3, ctypes.c_float, count, count, count]
    for function, arguments in (
            (code.attend, [*map_, pointer]),
            (code.attend_backward, [*map_, *[pointer] * 4]),
            (code.gelu, [*[pointer] * 3, count, count]),
            (code.gelu_backward, [*[pointer] * 4, count, count]),
            (code.add_norm, [*norm, *[pointer] * 3]),
            (code.add_norm_backward, [*norm, *[pointer] * 4])):
        function.argtypes, function.restype = [*arguments, number], None  # threads come last
    return code


def _compiled() -> Path:
    """The shared library, compiled now if it is not there."""
    if platform.system() != 'Linux':
        raise RuntimeError(f'it is compiled on Linux alone, this is {platform.system()}')
    kind = versions.cpu_capability()
    flags = [*FLAGS, *[INSTRUCTIONS[name] for name in INSTRUCTIONS if kind.startswith(name)]]
    key = hashlib.sha256(' '.join(flags).encode() + SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'swinv2_mm')
    path = folder / f'native-{platform.machine()}-{key}.so'
    if not path.is_file():
        compiler = os.environ.get('CXX') or shutil.which('g++') or shutil.which('c++')
        if not compiler:
            raise RuntimeError('there is no g++')
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as new:
            made = Path(new, 'made.so')
            done = subprocess.run([*compiler.split(), *flags, str(SOURCE), '-o', str(made)],
                                  capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise RuntimeError(f'{compiler} fails: {done.stderr}')
            os.replace(made, path)  # whole or not at all, whoever else compiles it as well
    return path


@torch.inference_mode(False)  # whatever the first call is part of
@torch.autocast('cpu', enabled=False)
def _fault(code) -> str | None:
    """What is wrong with outputs or gradients of small inputs."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, device='cpu', dtype=torch.float32)

    with torch.enable_grad():
        for name, dtype, found, expected in itertools.chain(
                _compare_attention(code, normal), _compare_others(code, normal)):
            off = (found.float().flatten() - expected.flatten()).abs().max() / expected.abs().max()
            if not off <= BOUNDS[dtype]:
                return f'its {name} in {dtype} is off by {off:.1g}, over {BOUNDS[dtype]}'
    return None


def _compare_attention(code, normal) -> Iterator[tuple]:
    """On a map with padding and seams: what, of which dtype, found, expected."""
    layout = plan((7, 5), (4, 3), (2, 1), torch.empty(0, device='cpu'))
    added, scale, table = normal(60), 8 + normal(2, 1, 1), normal(2, 7, 5)
    bias = pairs(table.requires_grad_(), layout.window)
    for dtype in BOUNDS:
        qkv, grad = normal(2, 7, 5, 60).to(dtype), normal(2, 7, 5, 20).to(dtype)
        inputs = qkv, added, scale, table.detach(), layout
        found = _forward(code, *inputs), *_backward(code, grad, *inputs)
        rows = (qkv + added).flatten(0, -2), scale, bias.detach()
        parts = sequential.parts_for(qkv.float(), layout, bias)
        of_qkv, of_scale, of_bias = sequential.backward_parts(
            grad.float().flatten(0, -2), *rows, parts)
        of_table, = torch.autograd.grad(bias, table, of_bias, retain_graph=True)
        out = sequential.forward_parts(*rows, parts)
        names = ('output', 'gradient of q, k, v', 'gradient of their bias',
                 'gradient of the temperature', 'gradient of the position bias')
        for name, a, b in zip(names, found, (out, of_qkv, of_qkv.sum(0), of_scale, of_table)):
            yield name, dtype, a, b


def _compare_others(code, normal) -> Iterator[tuple]:
    """GELU and the norm, with rows that do not fill their vectors."""
    dtype, x, bias, grad = torch.float32, normal(7, 20).requires_grad_(), normal(20), normal(7, 20)
    exact = F.gelu(x + bias)
    out, of_x = gelu_backward(x.detach(), bias, grad.clone(), code)
    yield 'GELU', dtype, gelu(x.detach(), bias, code), exact.detach()
    yield 'GELU', dtype, out, exact.detach()
    yield 'gradient of GELU', dtype, of_x, torch.autograd.grad(exact, x, grad)[0]
    norm, kept = nn.LayerNorm(20, device='cpu', dtype=dtype), 1 + normal(7, 1)
    inputs = x, normal(7, 20).requires_grad_(), *norm.parameters()
    for parameter in norm.parameters():
        parameter.data.copy_(normal(20))
    found = add_norm(*inputs[:2], norm, kept, code)
    exact = x + kept * norm(inputs[1])
    names = 'norm', *(f'gradient of the norm, of its {name},'
                      for name in ('trunk', 'branch', 'weight', 'bias'))
    for name, a, b in zip(names, (found.detach(), *torch.autograd.grad(found, inputs, grad)),
                          (exact.detach(), *torch.autograd.grad(exact, inputs, grad))):
        yield name, dtype, a, b
