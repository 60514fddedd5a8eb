"""Strategies of mmengine's FlexibleRunner for models too large to copy to every process.

    --cfg-options runner_type=FlexibleRunner strategy.type=swinv2_mm.ZeroStrategy

Both train as plain data parallel does. `ZeroStrategy` saves what that would: one file with whole
tensors under plain names, optimizer included. `FSDPStrategy` saves a folder, to which each process
writes its part. Either of them, and a run without strategy, goes on from either, on any number of
processes.
"""
from __future__ import annotations

import functools
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp

from ..checkpoints.sharded import OPTIMIZER, RUN, STATE, is_sharded, read_metadata, reader
from ..registry import STRATEGIES
from ..utils import versions
from .optimizer import backbones
from .reading import read_run


@STRATEGIES.register_module()
class ZeroStrategy(DDPStrategy):
    """Data parallel with the optimizer's state divided among the processes (ZeRO stage 1).

    The optimizer of the config becomes torch's ZeroRedundancyOptimizer around it. Whole parameters
    are dealt out, so the largest one bounds how even the shares are.

    Args:
        model_wrapper: settings of MMDistributedDataParallel.
        kwargs: those of mmengine's DDPStrategy.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs):
        super().__init__(
            model_wrapper=dict(type='MMDistributedDataParallel', broadcast_buffers=False)
            | _on_cpu(device_ids=None) | (model_wrapper or {}), **kwargs)

    def build_optim_wrapper(self, optim_wrapper: dict, model: nn.Module | None = None):
        """As mmengine's, from a config only; `optimizer` is of a class of torch.optim."""
        optimizer = dict(optim_wrapper['optimizer'])
        if optimizer['type'] != 'ZeroRedundancyOptimizer':
            optimizer = optimizer | dict(
                type='ZeroRedundancyOptimizer', optimizer_type=optimizer['type'])
        optim_wrapper = optim_wrapper | dict(optimizer=optimizer)
        return super().build_optim_wrapper(type(optim_wrapper)(optim_wrapper), model)

    def model_state_dict(self) -> dict:
        """Names without the `module.` of the wrapper."""
        return {name: value.cpu() for name, value in self.model.module.state_dict().items()}

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True, **kwargs) -> None:
        """The first process writes; all must call, since the optimizer's state is with all."""
        if save_optimizer and torch.distributed.get_rank() > 0:
            # What state_dict() does in the first process, which waits for the others.
            self.optim_wrapper.optimizer.consolidate_state_dict()
        super().save_checkpoint(filename, save_optimizer=save_optimizer, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take this process's share of the state of the whole optimizer."""
        super().load_optim_state_dict(state_dict)
        # A second copy of the share, which torch's class makes and never reads.
        self.optim_wrapper.optimizer.state.clear()


@STRATEGIES.register_module()
class FSDPStrategy(DDPStrategy):
    """Fully sharded (torch's `fully_shard`): each process holds a part of each parameter, gradient
    and optimizer state, and saves its part.

    Each block of a SwinV2 backbone, with its extra norm where it has one, and each merging is put
    together when its turn comes; all the rest of the model is one more unit.

    A checkpoint is a folder, see `checkpoints.sharded`. No process ever holds all of it, and any
    number of processes goes on from it. The folder appears under its name when all is written.

    Args:
        asynchronous: train on while a checkpoint is written; a copy of a process's part of it, in
            memory of the CPU, is what that takes.
        kwargs: those of mmengine's DDPStrategy, but `model_wrapper`.

    Raises:
        UserError: torch is older than 2.6.
    """

    def __init__(self, *, asynchronous: bool = True, **kwargs):
        versions.require('full sharding', 'set strategy.type=swinv2_mm.ZeroStrategy')
        super().__init__(**kwargs)
        self.asynchronous = asynchronous
        self.writing: Callable[[], None] | None = None  # waits for what is still being written

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        device = get_device()
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(device)  # it keeps the device in mind
        model = self.convert_model(model)
        mesh = init_device_mesh(device, (get_world_size(),))
        for module in [*_units(model), model]:
            fully_shard(module, mesh=mesh)
        # What is written meanwhile must not come between what training sends.
        self._group = torch.distributed.new_group(backend='gloo')
        return model

    def build_optim_wrapper(self, optim_wrapper: dict, model: nn.Module | None = None):
        """As mmengine's, with the norm that gradients are clipped to as a plain number."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if wrapper.clip_grad_kwargs and wrapper.grad_name == 'grad_norm':
            clip = wrapper.clip_func
            wrapper.clip_func = lambda *args, **settings: clip(*args, **settings).full_tensor()
        return wrapper

    # Saving --------------------------------------------------------------------------------------

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True,
                        save_param_scheduler: bool = True, extra_ckpt: dict | None = None,
                        callback: Callable | None = None) -> None:
        """Write a folder; all processes call. What is asynchronous ends with `self.writing()`."""
        rest = dict(state_dict=self.model.state_dict())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            rest['optimizer'] = self.optim_wrapper.state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            rest['param_schedulers'] = self.scheduler_state_dict()
        rest.update(extra_ckpt or {})
        rest.setdefault('meta', {}).update(
            seed=self.seed, time=time.strftime('%Y%m%d_%H%M%S'), mmengine=mmengine.__version__)
        if callback is not None:
            callback(rest)
        tensors = {f'{STATE}{name}': value for name, value in rest.pop('state_dict').items()}
        if 'optimizer' in rest:
            rest['optimizer'] = rest['optimizer'] | dict(state={})
            tensors.update(self._optimizer_tensors())
        if is_main_process():
            Path(filename).mkdir(parents=True, exist_ok=True)
            torch.save(rest, Path(filename) / RUN)
        writer = dcp.FileSystemWriter(filename)
        self.writing = functools.partial(_settle, dcp.async_save(
            tensors, storage_writer=writer, process_group=self._group))
        if not self.asynchronous:
            self.writing()
            self.writing = None

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {f'optimizer.{number}.{kind}': value
                for number, state in self.optim_wrapper.state_dict()['state'].items()
                for kind, value in state.items()}

    # Loading -------------------------------------------------------------------------------------

    def load_checkpoint(self, filename: str, *, callback: Callable | None = None,
                        **kwargs) -> dict:
        """As mmengine's; of the folder of a sharded run, each process reads its part alone."""
        if not is_sharded(filename):
            return super().load_checkpoint(filename, callback=callback, **kwargs)
        self.logger.info(f'Load checkpoint from {filename}')
        folder = Path(filename)
        saved = read_metadata(folder).state_dict_metadata
        # What the model lacks, or has in another shape, is a name and a shape without data.
        state = {name: torch.empty(value.size, device='meta')
                 for name, value in saved.items() if name.startswith(STATE)}
        for name, value in self.model.state_dict().items():
            if f'{STATE}{name}' in saved and saved[f'{STATE}{name}'].size == value.shape:
                state[f'{STATE}{name}'] = torch.empty_like(value)
        dcp.load({name: value for name, value in state.items() if not value.is_meta},
                 storage_reader=reader(folder))
        checkpoint = read_run(folder / RUN, 'cpu')
        checkpoint['state_dict'] = {name[len(STATE):]: value for name, value in state.items()}
        if 'optimizer' in checkpoint:
            checkpoint['optimizer']['folder'] = folder
        if callback is not None:
            callback(checkpoint)
        self.load_model_state_dict(checkpoint.pop('state_dict'))
        return checkpoint

    def load_model_state_dict(self, state_dict: dict, *, strict: bool = False,
                              revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
                              ) -> None:
        """Take this process's part of whole tensors; parts are taken as they are."""
        for pattern, text in revise_keys:
            state_dict = {re.sub(pattern, text, name): v for name, v in state_dict.items()}
        own = self.model.state_dict()
        parts = OrderedDict((name, _part_of(value, own.get(name)))
                            for name, value in state_dict.items())
        super().load_model_state_dict(parts, strict=strict, revise_keys=[])

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take this process's part of the state of the whole optimizer."""
        parameters = [p.detach() for group in self.optim_wrapper.optimizer.param_groups
                      for p in group['params']]
        if (folder := state_dict.pop('folder', None)) is not None:
            tensors = {}
            for name, value in read_metadata(folder).state_dict_metadata.items():
                if match := OPTIMIZER.fullmatch(name):
                    like, dtype = parameters[int(match[1])], value.properties.dtype
                    tensors[name] = (torch.empty_like(like, dtype=dtype)
                                     if like.shape == value.size else
                                     torch.empty(value.size, dtype=dtype))
            dcp.load(tensors, storage_reader=reader(folder))
            state: dict = {}
            for name, value in tensors.items():
                number, kind = OPTIMIZER.fullmatch(name).groups()
                state.setdefault(int(number), {})[kind] = value
        else:
            state = {number: {kind: _part_of(value, parameters[number])
                              for kind, value in values.items()}
                     for number, values in state_dict['state'].items()}
        super().load_optim_state_dict(state_dict | dict(state=state))


def _part_of(value: Tensor, like: Tensor | None) -> Tensor:
    """The part of a whole tensor that this process has of `like`; as it is for any other shape."""
    if (not hasattr(like, 'placements') or hasattr(value, 'placements')
            or like.shape != value.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def _settle(writing: Future) -> None:
    """Wait for what is being written. Raises OSError with the reason of the first to fail."""
    try:
        writing.result()
    except dcp.CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise (reason if isinstance(reason, OSError) else OSError(str(reason))) from error


def _units(model: nn.Module) -> list[nn.Module]:
    """Modules of SwinV2 backbones whose parameters are put together at a time."""
    stages = [stage for backbone in backbones(model).values() for stage in backbone.layers]
    blocks = [block for stage in stages for block in stage.blocks]
    return blocks + [stage.downsample for stage in stages if stage.downsample is not None]


def _on_cpu(**settings) -> dict:
    """Settings that the wrappers of models need where there is no accelerator."""
    return settings if get_device() == 'cpu' else {}
