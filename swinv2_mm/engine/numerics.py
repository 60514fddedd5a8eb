"""Losses and gradients that are not finite: what to do, and where they come from.

A step is judged between its backward pass and the optimizer, where nothing is lost yet. Processes
that train together decide together.
"""
import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..registry import HOOKS
from . import randomness
from .optimizer import NORMS, plain_name

FILES = ('img_path', 'filename', 'file_name', 'video_path')  # a sample's file, by name of the entry


class Part(NamedTuple):
    """A forward or backward pass since the last step; several where gradients accumulate."""

    loss: Tensor
    batch: object
    place: tuple[int, int]
    random: dict[str, Tensor]


class _Found(Exception):
    """Ends the search for the first value that is not finite; its message is the place."""


@HOOKS.register_module()
class NumericsHook(Hook):
    """Keep NaN and infinity out of the weights.

    A step whose loss or gradient is not finite is left out, or ends the run. Either way it is said
    which step it was, the files of its batch, and the first module or the last parameter (backward
    passes run from the last to the first) that is not finite.

    Under a gradient scaler, gradients that overflow while the loss is finite are its everyday
    business: it leaves the step out and lowers the scale, and nothing is said until the scale is
    down to 1. A loss that is not finite leaves the scale as it was.

    The loss of a step that is left out stays out of the log, too, where it would turn the mean of
    the next 50 into NaN.

    Args:
        policy: 'skip' leaves the step out, 'stop' ends the run.
        max_skips: under 'skip', the run ends at that many in a row: weights or data are at fault.
            It ends at the first if the weights themselves are not finite.
    """

    priority = 'HIGHEST'  # before what logs the losses

    def __init__(self, policy: str = 'skip', max_skips: int = 10):
        if policy not in ('skip', 'stop'):
            raise ValueError(f"policy must be 'skip' or 'stop', got {policy!r}.")
        if max_skips < 1:
            raise ValueError(f'max_skips must be at least 1, got {max_skips}.')
        self.policy, self.max_skips = policy, max_skips
        self.in_a_row = 0
        self._parts: list[Part] = []
        self._bad = False

    def before_train(self, runner) -> None:
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            # Several optimizers, or those of another library.
            runner.logger.warning(f'Losses and gradients of a {type(wrapper).__name__} are not '
                                  'watched: NaN goes unnoticed.')
            return
        wrapper.backward = functools.partial(self._backward, wrapper.backward)
        wrapper.step = functools.partial(self._step, runner, wrapper.step)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._bad = False
        epoch = getattr(runner.train_dataloader.batch_sampler.sampler, 'epoch', 0)
        self._current = data_batch, (epoch, batch_idx), randomness.states()
        if not self._parts:
            self._running = [(buffer, buffer.clone()) for buffer in _running(runner.model)]

    def _backward(self, backward: Callable, loss: Tensor, **kwargs) -> None:
        self._parts.append(Part(loss.detach(), *self._current))
        backward(loss, **kwargs)

    def _step(self, runner, step: Callable, **kwargs) -> None:
        parts, self._parts = self._parts, []
        gradients = [_here(p.grad) for group in runner.optim_wrapper.optimizer.param_groups
                     for p in group['params'] if p.grad is not None]
        bad_loss, bad_gradient = _not_finite(parts, gradients)
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is not None and bad_gradient and not bad_loss:
            scale = scaler.get_scale()
            step(**kwargs)  # which leaves the step out and lowers the scale
            bad_gradient = scale <= 1
        elif not bad_loss and not bad_gradient:
            step(**kwargs)
        if not bad_loss and not bad_gradient:
            self.in_a_row = 0
            return
        self._bad = True
        self.in_a_row += 1
        for buffer, before in self._running:  # means that the forward pass has moved
            buffer.copy_(before)
        total = runner.message_hub.get_info('skipped_steps', 0) + 1
        runner.message_hub.update_info('skipped_steps', total)
        self._tell(runner, parts, bad_loss, total)

    def _tell(self, runner, parts: list[Part], bad_loss: bool, total: int) -> None:
        """Say what was found; raise where the policy is to stop."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights = [name for name, p in model.named_parameters() if not _finite(_whole(p))]
        if weights:
            where = f'weights are not finite before the step: {_listed(weights)}'
        else:
            where = first_bad(runner, parts, model)
        what = 'the loss is finite, its gradient is not'
        if bad_loss:
            losses = [f'{float(part.loss):g}' for part in parts if not part.loss.isfinite()]
            what = f'the loss is {losses[0] if losses else "not finite in another process"}'
        text = (f'Step {runner.iter + 1}: {what}; {where}; the batch is '
                f'{", ".join(name for part in parts for name in _files(runner, part))}')
        if weights:
            raise ValueError(f'{text}: go back to a checkpoint from before.')
        if self.policy == 'stop':
            raise ValueError(f'{text}: look at these, lower the learning rate, or let '
                             "default_hooks.numerics.policy be 'skip'.")
        if self.in_a_row >= self.max_skips:
            raise ValueError(f'{text}. It is number {self.in_a_row} in a row, as many as '
                             'default_hooks.numerics.max_skips allows: lower the learning rate, or '
                             'go back to an earlier checkpoint.')
        runner.logger.warning(f'{text}. Left out, as {total - 1} before it.')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self._bad and outputs:
            for key in [key for key, value in outputs.items()
                        if not bool(torch.as_tensor(value).isfinite().all())]:
                del outputs[key]


def _not_finite(parts: list[Part], gradients: list[Tensor]) -> tuple[bool, bool]:
    """Whether any loss, and any gradient, of any process is not finite."""
    losses = torch.stack([part.loss.float() for part in parts]) if parts else torch.zeros(1)
    flags = [~losses.isfinite().all()]
    # The largest magnitude, in which NaN counts as larger than all.
    by_kind: dict = {}
    for gradient in gradients:
        if gradient.numel():  # of a few rows, a process may have none
            by_kind.setdefault((gradient.device, gradient.dtype), []).append(gradient)
    sizes = [torch.stack(torch._foreach_norm(same, float('inf'))).max().float().to(losses.device)
             for same in by_kind.values()]
    flags.append(~torch.stack(sizes).isfinite().all() if sizes else torch.zeros_like(flags[0]))
    both = torch.stack(flags).int()
    if get_world_size() > 1:
        all_reduce(both, 'max')
    loss, gradient = both.tolist()
    return bool(loss), bool(gradient)


def _running(model: nn.Module) -> list[Tensor]:
    """Running means and variances of norms."""
    return [buffer for module in model.modules() if isinstance(module, NORMS)
            for buffer in module.buffers(recurse=False)]


def _here(value: Tensor) -> Tensor:
    """What this process has of a tensor that full sharding has divided."""
    return value.to_local() if hasattr(value, 'placements') else value


def _whole(value: Tensor) -> Tensor:
    """All of a tensor that full sharding has divided; then, all processes must ask."""
    return value.full_tensor() if hasattr(value, 'placements') else value


def first_bad(runner, parts: list[Part], model: nn.Module) -> str:
    """Where the first value that is not finite arises: the forward pass once more, watched.

    Not under full sharding, where all processes must walk all of it: gradients alone are looked at.
    """
    gradients = [plain_name(name) for name, p in model.named_parameters()
                 if p.grad is not None and not _finite(_whole(p.grad))]
    if any(hasattr(p, 'placements') for p in model.parameters()):
        return (f'first in the gradient of {gradients[-1]}, of {len(gradients)} parameters'
                if gradients else 'its place is not looked for in a sharded model')
    part = next((part for part in parts if not bool(part.loss.isfinite())), parts[-1])
    after, buffers, handles = randomness.states(), [b.clone() for b in model.buffers()], []
    try:
        randomness.restore(part.random)
        with torch.no_grad(), runner.optim_wrapper.optim_context(runner.model):
            data = model.data_preprocessor(part.batch, True)
            if not _finite(data['inputs'] if isinstance(data, dict) else data):
                return 'the batch itself is not finite'
            handles = [handle for name, module in model.named_modules()
                       for handle in _watch(plain_name(name), module)]
            losses = runner.model(**data, mode='loss') if isinstance(data, dict) else (
                runner.model(*data, mode='loss'))
        bad = [name for name, value in losses.items() if not _finite(value)]
        if bad:
            return f'first in the loss {bad[0]}'
    except _Found as found:
        return f'first in {found}'
    finally:
        for handle in handles:
            handle.remove()
        randomness.restore(after)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers):
                buffer.copy_(value)
    if gradients:
        return f'first in the gradient of {gradients[-1]}, of {len(gradients)} parameters'
    return 'not found again in a second pass'


def _watch(name: str, module: nn.Module) -> list:
    """Hooks that end a forward pass at the first module whose output is not finite."""
    def before(module, args, kwargs):
        if not _finite((args, kwargs)):  # and no module gave it
            above = name.rpartition('.')[0] or 'the model'
            raise _Found(f'{above}, before its {name.rpartition(".")[2] or "first layer"}')

    def after(module, args, kwargs, output):
        if not _finite(output):
            raise _Found(f'{name or "the model"} ({type(module).__name__})')

    return [module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True)]


def _finite(value) -> bool:
    """Whether all floating-point tensors in tuples, lists and dicts are finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, (tuple, list)) or all(map(_finite, value))


def _files(runner, part: Part) -> list[str]:
    """Names of the files of a batch: from its samples, else from the data set, else indices."""
    samples = part.batch.get('data_samples') if isinstance(part.batch, dict) else None
    infos = [getattr(sample, 'metainfo', {}) for sample in samples or []]
    names = [next((str(info[key]) for key in FILES if key in info), None) for info in infos]
    if names and all(names):
        return names
    loader = runner.train_dataloader
    indices = getattr(loader.batch_sampler, 'indices', lambda place: None)(part.place)
    if indices is None:
        return [f'number {part.place[1]} of epoch {part.place[0]}']
    read = getattr(loader.dataset, 'get_data_info', None)
    infos = [read(index) if read else {} for index in indices]
    return [next((str(info[key]) for key in FILES if key in info), f'sample {index}')
            for info, index in zip(infos, indices)]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f'{names[0]} and {len(names) - 1} more'
