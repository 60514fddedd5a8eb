"""Strategies of mmengine's FlexibleRunner for models too large to copy to every process.

    --cfg-options runner_type=FlexibleRunner strategy.type=swinv2_mm.ZeroStrategy

`ZeroStrategy` and `FSDPStrategy` train as plain data parallel does and save what it would: one file
with whole tensors under plain names, optimizer included. So a run may go on with another strategy,
or on another number of processes, and the files need no conversion to be tested or loaded.
`DeepSpeedStrategy` saves DeepSpeed's folders.
"""
from __future__ import annotations

import torch
from mmengine._strategy import DDPStrategy, deepspeed
from mmengine._strategy import DeepSpeedStrategy as _DeepSpeedStrategy
from mmengine._strategy import FSDPStrategy as _FSDPStrategy
from mmengine.device import get_device
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.utils._pytree import tree_map

from ..registry import STRATEGIES
from .optimizer import backbones, plain_name, remember_shapes


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
class FSDPStrategy(_FSDPStrategy):
    """Fully sharded: parameters, gradients and optimizer state are divided among the processes.

    Each block of a SwinV2 backbone, with its extra norm where it has one, and each merging is put
    together when its turn comes; all the rest of the model is one more unit.

    Args:
        model_wrapper: settings of MMFullyShardedDataParallel; `auto_wrap_policy` chooses units.
        kwargs: those of mmengine's FSDPStrategy; `state_dict_cfg` stays 'full'.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs):
        super().__init__(
            model_wrapper=dict(type='MMFullyShardedDataParallel')
            | _on_cpu(device_id=torch.device('cpu')) | (model_wrapper or {}),
            state_dict_cfg='full', **kwargs)
        if get_device() == 'cpu':
            # Moving to where they are, torch frees the tensors that it is about to read.
            self.state_dict_config.offload_to_cpu = False
            self.optim_state_dict_config.offload_to_cpu = False

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """As mmengine's; parameters keep note of their shapes, which sharding takes away."""
        model = super().build_model(model)
        remember_shapes(model)
        return model

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        units = set(map(id, _units(model)))

        def policy(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
            return recurse or id(module) in units

        self.model_wrapper.setdefault('auto_wrap_policy', policy)
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper: dict, model: nn.Module | None = None):
        """As mmengine's, with gradients clipped by the norm of all shards, not of one."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if wrapper.clip_grad_kwargs and wrapper.grad_name == 'grad_norm':
            wrapper.clip_func = lambda _, **settings: model.clip_grad_norm_(**settings)
        return wrapper

    def model_state_dict(self) -> dict:
        """Whole tensors under plain names; empty but in the first process."""
        return _plain(self.model.state_dict())

    def optim_state_dict(self) -> dict:
        """The state of the whole optimizer as torch saves it; empty but in the first process."""
        optimizer = self.optim_wrapper.optimizer
        state = FSDP.optim_state_dict(self.model, optimizer)
        if not state:
            return state
        numbers = {name: i for i, name in enumerate(self._names())}
        values = {numbers[name]: value for name, value in state['state'].items()}
        groups = [group | dict(params=[numbers[name] for name in group['params']])
                  for group in state['param_groups']]
        # Of the wrapper: base settings, and the scale of losses in mixed precision.
        rest = self.optim_wrapper.state_dict()
        return rest | dict(state=_plain(dict(sorted(values.items()))), param_groups=groups)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take this process's shards of the state of the whole optimizer."""
        names = self._names()
        named = dict(
            state={names[i]: value for i, value in state_dict['state'].items()},
            param_groups=[group | dict(params=[names[i] for i in group['params']])
                          for group in state_dict['param_groups']])
        shards = FSDP.optim_state_dict_to_load(self.model, self.optim_wrapper.optimizer, named)
        self.optim_wrapper.load_state_dict(state_dict | shards)

    def _names(self) -> list[str]:
        """Name of each parameter in the order of the optimizer."""
        names = {id(p): plain_name(name) for name, p in self.model.named_parameters()}
        return [names[id(p)] for group in self.optim_wrapper.optimizer.param_groups
                for p in group['params']]


@STRATEGIES.register_module()
class DeepSpeedStrategy(_DeepSpeedStrategy):
    """DeepSpeed's ZeRO, of stage 1 unless `zero_optimization` says otherwise.

    What the config says of its optimizer goes to where DeepSpeed looks for it: `clip_grad` to
    gradient_clipping, `accumulative_counts` to gradient_accumulation_steps, and AmpOptimWrapper
    with its `dtype` to torch_autocast.

    Args:
        zero_optimization: DeepSpeed's settings of that name.
        kwargs: those of mmengine's DeepSpeedStrategy, DeepSpeed's own among them.

    Raises:
        ValueError: DeepSpeed is not installed, or gradients shall be clipped by value.
    """

    def __init__(self, *, zero_optimization: dict | None = None, **kwargs):
        if deepspeed.deepspeed is None:  # mmengine's module tried to import it
            raise ValueError('DeepSpeedStrategy needs DeepSpeed, which cannot be imported here: '
                             'pip install deepspeed.')
        super().__init__(zero_optimization=dict(stage=1) | (zero_optimization or {}), **kwargs)

    def prepare(self, model: nn.Module | dict, *, dispatch_kwargs: dict, **kwargs):
        """As mmengine's, with the batch size of a process passed on."""
        size = 'train_micro_batch_size_per_gpu'
        self.config[size] = dispatch_kwargs.get(size, 1)
        return super().prepare(model, dispatch_kwargs=dispatch_kwargs, **kwargs)

    def build_optim_wrapper(self, optim_wrapper: dict, model: nn.Module | None = None):
        """As mmengine's, from the config of an OptimWrapper or AmpOptimWrapper."""
        settings = optim_wrapper.copy()
        clip = settings.pop('clip_grad', None) or {}
        if clip.get('type', 'norm') != 'norm':
            raise ValueError('DeepSpeed clips gradients by their norm, got '
                             f'optim_wrapper.clip_grad={clip}: give max_norm, or leave it out.')
        if 'max_norm' in clip:
            self.config['gradient_clipping'] = clip['max_norm']
        if (counts := settings.pop('accumulative_counts', 1)) > 1:
            self.config['gradient_accumulation_steps'] = counts
        dtype = settings.pop('dtype', 'float16')
        settings.pop('loss_scale', None)
        if settings.get('type') == 'AmpOptimWrapper':
            self.config['torch_autocast'] = dict(enabled=True, dtype=dtype)
        return super().build_optim_wrapper(settings | dict(type='DeepSpeedOptimWrapper'), model)

    def save_checkpoint(self, filename: str, *, extra_ckpt: dict | None = None, callback=None,
                        **kwargs) -> None:
        """As mmengine's, with what hooks add to a checkpoint."""
        extra_ckpt = extra_ckpt or {}
        if callback is not None:
            callback(extra_ckpt)
        super().save_checkpoint(filename, extra_ckpt=extra_ckpt, **kwargs)


def _plain(state: dict) -> dict:
    """Tensors without the notes that FSDP leaves on them, which a safe reader of files refuses."""
    return tree_map(lambda value: value.detach() if isinstance(value, Tensor) else value, state)


def _units(model: nn.Module) -> list[nn.Module]:
    """Modules of SwinV2 backbones whose parameters are put together at a time."""
    stages = [stage for backbone in backbones(model).values() for stage in backbone.layers]
    blocks = [block for stage in stages for block in stage.blocks]
    return blocks + [stage.downsample for stage in stages if stage.downsample is not None]


def _on_cpu(**settings) -> dict:
    """Settings that the wrappers of models need where there is no accelerator."""
    return settings if get_device() == 'cpu' else {}
