"""How large activations grow from block to block: what the paper's figure 2 shows of a training.

In the first Swin the trunk of a large model grew by a factor of 10,000 from its first to its last
blocks, and the training diverged; norms after the branches (section 3.2) are there to prevent it.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from ..registry import HOOKS
from .optimizer import WRAPPERS


class Amplitude(NamedTuple):
    """Of the trunk behind one block: root mean square, and largest magnitude."""

    rms: float
    largest: float


class Amplitudes:
    """Watch the blocks of SwinV2 backbones: measures each block's output in every forward pass.

    Args:
        model: whatever holds the backbones.

    Raises:
        ValueError: there is no block in the model.

    >>> import torch
    >>> from swinv2_mm import SwinTransformerV2
    >>> with Amplitudes(model := SwinTransformerV2('nano')) as amplitudes:
    ...     _ = model(torch.rand(1, 3, 64, 64))
    >>> list(amplitudes.read())[:2]
    ['layers.0.blocks.0', 'layers.0.blocks.1']
    """

    def __init__(self, model: nn.Module):
        # By what it has: a hook must not import the models.
        self.blocks = {WRAPPERS.sub('', name): module for name, module in model.named_modules()
                       if all(hasattr(module, part) for part in ('attn', 'norm2', 'drop_path'))}
        if not self.blocks:
            raise ValueError('The model must have a SwinV2 backbone, got one without its blocks, '
                             f'{type(model).__name__}: leave the hook out.')
        self.on = True
        self._found: dict[str, Tensor] = {}
        self._handles = []

    def __enter__(self) -> Amplitudes:
        for name, block in self.blocks.items():
            self._handles.append(block.register_forward_hook(
                lambda module, args, output, name=name: self._measure(name, output)))
        return self

    def __exit__(self, *args) -> None:
        while self._handles:
            self._handles.pop().remove()

    @torch.no_grad()
    def _measure(self, name: str, output: Tensor) -> None:
        if self.on:
            wide = output.detach().float()  # the square of a float16 overflows at 256
            self._found[name] = torch.stack([wide.square().mean().sqrt(), wide.abs().amax()])

    def read(self) -> dict[str, Amplitude]:
        """What the blocks gave since the last time, in the order of the forward pass."""
        found, self._found = self._found, {}
        values = torch.stack(list(found.values())).tolist() if found else []
        return {name: Amplitude(*pair) for name, pair in zip(found, values)}


def first_above(found: dict[str, Amplitude], limit: float) -> str | None:
    """The first block with a magnitude above a limit, or one that is not finite; None if none."""
    return next((name for name, value in found.items() if not value.largest <= limit), None)


@HOOKS.register_module()
class ActivationHook(Hook):
    """Log how large the trunk is behind each block, and name the first block where it is too large.

    The root mean square goes to the visualizer, and so to TensorBoard where the config has it, as
    `activations/backbone.layers.0.blocks.0` and so on.

    Args:
        interval: iterations between two measurements.
        limit: largest magnitude allowed; float16 ends at 65504.
        policy: 'warn' says which block was the first above it, 'stop' ends the run as well.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 50, limit: float = 1e4, policy: str = 'warn'):
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}.')
        if not limit > 0:
            raise ValueError(f'limit must be above 0, got {limit}.')
        if policy not in ('warn', 'stop'):
            raise ValueError(f"policy must be 'warn' or 'stop', got {policy!r}.")
        self.interval, self.limit, self.policy = interval, limit, policy

    def before_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.amplitudes = Amplitudes(model).__enter__()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.amplitudes.on = self.every_n_train_iters(runner, self.interval)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.amplitudes.on = False  # validation is not measured
        found = self.amplitudes.read()
        if not found:
            return
        step = runner.iter + 1
        runner.visualizer.add_scalars(
            {f'activations/{name}': value.rms for name, value in found.items()}, step=step)
        name = first_above(found, self.limit)
        if name is None:
            return
        text = (f'Step {step}: activations must stay finite and at most {self.limit:g}, the first '
                f'block that does not is {name} with {found[name].largest:g} (root mean square '
                f'{found[name].rms:g})')
        if self.policy == 'stop':
            raise ValueError(f'{text}: lower the learning rate, or go back to a checkpoint from '
                             'before.')
        runner.logger.warning(f'{text}.')

    def after_train(self, runner) -> None:
        self.amplitudes.__exit__()
