"""What a training step holds in memory, found by running it on tensors without data.

torch's fake tensors have shapes, dtypes and lifetimes but no contents. So forward, backward and
optimizer step of a model of any size run here in seconds, and every allocation and release is seen.
"""
import contextlib
import copy
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from swinv2_mm.models import native, sequential, windows
from swinv2_mm.utils import versions

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)


class Step(NamedTuple):
    """How a training step is run.

    shape: of the input, (B, C, *S).
    precision: a key of DTYPES; all but fp32 by autocast, with weights in float32.
    sequential: attention a few windows at a time; else all windows at once.
    keep_grads: False where gradients leave each process as they come, as in ZeRO 2 and 3.
    device: 'cuda' or 'cpu', whose rules on parts of attention, autocast and AdamW are followed.
    """

    shape: tuple[int, ...]
    precision: str = 'fp32'
    sequential: bool = True
    keep_grads: bool = True
    device: str = 'cuda'


class Held(NamedTuple):
    """Bytes of a training step.

    weights: parameters and buffers; gradients: of what is trained; optimizer: AdamW's state.
    stages: kept for the backward pass by (patch embedding, each stage with its merging and output
        norm, and what follows the backbone), at the end of the forward pass.
    training: most that forward and backward hold at once beside weights and optimizer.
    update: most that the optimizer's step holds beside weights and optimizer.
    """

    weights: int
    gradients: int
    optimizer: int
    stages: list[int]
    training: int
    update: int


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and the most there were at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in tree_flatten(out)[0]:
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def restart(self) -> int:
        """Forget the peak so far; what is alive now."""
        self.peak = self.now
        return self.now


def trace(model: nn.Module, features: Callable[[nn.Module, Tensor], Iterable[Tensor]],
          step: Step) -> Held:
    """Run one training step of a model built on the meta device, which is left as it was.

    `features(model, x)` is its forward pass, up to where shapes no longer depend on shapes alone.
    """
    model = copy.deepcopy(model)
    with FakeTensorMode(), Live() as live, _as_on(step.device), _attention(step.sequential):
        _fill(model)
        weights = live.restart()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer, update = _update(trained, live, step.device)  # kept, for its state
        before = live.restart()
        x = torch.empty(step.shape)
        stages = _watch(model, live)
        if not step.keep_grads:
            for p in trained:
                p.register_post_accumulate_grad_hook(_leave)
        with torch.autocast('cpu', DTYPES[step.precision], enabled=step.precision != 'fp32'):
            outs = [out for out in features(model, x) if out.requires_grad]
        stages.append(live.now)
        torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
        training = live.peak - before
    kept = [after - earlier for earlier, after in zip([before, *stages], stages)]
    gradients = sum(map(versions.nbytes, trained))
    return Held(weights, gradients, before - weights, kept, training, update)


def _leave(parameter: nn.Parameter) -> None:
    parameter.grad = None


def _fill(model: nn.Module) -> None:
    """Fake tensors in the place of those on the meta device."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                fake = torch.empty(p.shape, dtype=p.dtype)
                module._parameters[name] = nn.Parameter(fake, p.requires_grad)
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype)


def _update(trained: list[nn.Parameter], live: Live, device: str):
    """An AdamW whose state is there, and the most its step holds beside weights and state."""
    optimizer = torch.optim.AdamW(trained, foreach=device == 'cuda')
    for p in trained:
        p.grad = torch.empty_like(p)
    optimizer.step()
    live.restart()
    optimizer.step()  # the first one made the state
    peak = live.peak
    optimizer.zero_grad()
    return optimizer, peak - live.now


def _watch(model: nn.Module, live: Live) -> list[int]:
    """A list that gets what is alive after the patch embedding and after each stage."""
    marks: list[int] = []
    backbone = getattr(model, 'backbone', model)
    ends = [backbone.patch_embed]
    for i, stage in enumerate(backbone.layers):
        last = getattr(backbone, f'norm{i}', stage)
        ends.append(stage.downsample if stage.downsample is not None else last)
    for end in ends:
        end.register_forward_hook(lambda *_: marks.append(live.now))
    return marks


@contextlib.contextmanager
def _as_on(device: str) -> Iterator[None]:
    """Rules of a device, and geometry worked out with real tensors, which it looks into."""
    patches = [mock.patch.object(windows, name, _outside(getattr(windows, name)))
               for name in ('_regions', '_rows')]
    with _disable_current_modes():
        compiled = native.library()
    if device == 'cuda':
        patches += [
            mock.patch.dict(sequential.PART_BYTES, cpu=sequential.PART_BYTES['cuda']),
            mock.patch.object(sequential, 'core_dtype', lambda qkv: qkv.dtype),
            mock.patch.object(F, 'layer_norm', _wide(F.layer_norm))]
    elif compiled:  # it takes no fake tensors: this is what it makes of them
        patches += [mock.patch.object(native, name, function) for name, function in (
            ('may_run', lambda x: x.dtype in native.BOUNDS and sequential.may_run()),
            ('_forward', lambda code, qkv, *_: qkv.new_empty(
                *qkv.shape[:-1], qkv.shape[-1] // 3)),
            ('_backward', lambda code, grad, *inputs: tuple(
                x.new_empty(x.shape) for x in inputs[:4])),
            ('gelu', lambda x, bias: torch.empty_like(x)),
            ('gelu_backward', lambda x, bias, grad: (torch.empty_like(x), grad)))]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def _wide(norm: Callable) -> Callable:
    """As CUDA's autocast has it: norms take and give float32."""
    def wide(x: Tensor, *args, **kwargs) -> Tensor:
        return norm(x.float(), *args, **kwargs)
    return wide


_inside = False


def _outside(function: Callable) -> Callable:
    """A cached function of geometry, run on real tensors; its results are fake again."""
    known = {}

    def outside(*args):
        global _inside
        if _inside:  # called by the other one
            return function(*args)
        if args not in known:
            _inside = True
            try:
                with _disable_current_modes():
                    real = function(*args)
            finally:
                _inside = False
            known[args] = tree_map(_like, real)
        return known[args]
    return outside


def _like(value):
    return torch.empty(value.shape, dtype=value.dtype) if isinstance(value, Tensor) else value


def _attention(is_sequential: bool) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext() if is_sequential else sequential.plain_path()
