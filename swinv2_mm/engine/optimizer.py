"""Learning rate and weight decay of each parameter of a model with SwinV2 backbones.

    model -> a `Parameter` each -> the rules, which must all match something -> merged groups
"""
from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # batch and instance norms

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
# Put into names by torch's wrappers for checkpointing, sharding and compiling.
WRAPPERS = re.compile(r'\b(_checkpoint_wrapped_module|_fsdp_wrapped_module|_orig_mod)(\.|$)')
# In a backbone: a block, or what else a stage has, or what stands beside the stages.
UNIT = re.compile(r'layers\.\d+\.(blocks\.\d+|\w+)|\w+')


class Parameter(NamedTuple):
    """A parameter, and what the rules look at."""

    name: str
    value: nn.Parameter
    norm: bool  # of a normalisation layer
    backbone: str | None = None  # name of the backbone it is in, with a dot behind
    depth: int = 0  # layers between it and the last layer

    @property
    def bias(self) -> bool:
        return self.name.rpartition('.')[2] == 'bias'

    @property
    def flat(self) -> bool:
        return self.value.ndim <= 1


# A setting -> the parameters it is for.
MATCHES: dict[str, Callable[[Parameter], bool]] = {
    'layer_decay_rate': lambda p: p.backbone is not None,
    'backbone_lr_mult': lambda p: p.backbone is not None,
    'norm_decay_mult': lambda p: p.norm,
    'bias_decay_mult': lambda p: p.bias,
    'flat_decay_mult': lambda p: p.flat,
}
WITHOUT_DECAY = ('cpb_mlp', 'logit_scale', 'mask_token')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SwinV2OptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Build an optimizer with layer-wise learning rates and SwinV2's own rules of weight decay.

    A parameter's learning rate is the product of `optimizer.lr`, `backbone_lr_mult` in a backbone,
    `layer_decay_rate ** (layers - 1 - layer)` in a backbone, and `lr_mult` of its custom key.
    Layers are those of the official code, see `get_layer_depth` of the backbone. Everything
    outside a backbone counts as the last layer, and so do the output norms norm0, norm1, ...: the
    official code has its one `norm` there, and the others are in no published file, so that they
    start as new as the neck that reads them.

    No weight decay, as in the official code: 1-D parameters of the whole model; in a backbone also
    `cpb_mlp`, `logit_scale` and SimMIM's `mask_token`. The rest has that of the optimizer.

    Parameters with requires_grad=False are left out, shared ones are taken once, under their first
    name. Those with equal settings form one group of the optimizer, lowest learning rate first; a
    group also holds `lr_scale`, its share of `optimizer.lr`, and `names`. Schedulers scale each
    group's own rate; their `eta_min` is the same number for all groups, `eta_min_ratio` a share.

    Args:
        optim_wrapper_cfg: mmengine's; `optimizer` must give `lr` and `weight_decay`.
        paramwise_cfg: None, or a dict with any of these keys:

            - layer_decay_rate: in (0, 1].
            - backbone_lr_mult: for all of a backbone.
            - custom_keys: {part of a name: dict(lr_mult=..., decay_mult=...)}, either or both. As
              in mmengine the longest key in a name counts, the first of the alphabet among equals.
              Unlike there, `lr_mult` multiplies what the other rules give, and without
              `decay_mult` the other rules decide on decay.
            - flat_decay_mult: for 1-D parameters; default 0.
            - norm_decay_mult, bias_decay_mult: for norms, and for what else is called `bias`, where
              it shall differ from flat_decay_mult.

    Raises:
        ValueError, KeyError: for a value out of range, an unknown key, or a rule that matches no
            parameter.

    >>> from swinv2_mm import SwinTransformerV2
    >>> cfg = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
    >>> build = SwinV2OptimWrapperConstructor(cfg, dict(layer_decay_rate=0.5))
    >>> optimizer = build(SwinTransformerV2('nano')).optimizer
    >>> [(g['lr_scale'], g['weight_decay']) for g in optimizer.param_groups[:3]]
    [(0.001953125, 0.05), (0.001953125, 0.0), (0.00390625, 0.05)]
    """

    def _validate_cfg(self) -> None:
        for key in ('lr', 'weight_decay'):
            _check_number(f'optimizer.{key}', self.optimizer_cfg.get(key))
        settings = self.paramwise_cfg
        _check_keys('paramwise_cfg', settings, [*MATCHES, 'custom_keys'])
        for key in settings:
            if key != 'custom_keys':
                _check_number(f'paramwise_cfg.{key}', settings[key])
        if not 0 < settings.get('layer_decay_rate', 1) <= 1:
            raise ValueError('paramwise_cfg.layer_decay_rate must be in (0, 1], got '
                             f'{settings["layer_decay_rate"]!r}: 1 is the same rate for all.')
        custom = settings.get('custom_keys', {})
        _check_keys('paramwise_cfg.custom_keys', custom, custom)
        for key, values in custom.items():
            where = f'paramwise_cfg.custom_keys[{key!r}]'
            _check_keys(where, values, ('lr_mult', 'decay_mult'))
            for name, value in values.items():
                _check_number(f'{where}.{name}', value)
        # mmengine makes no groups where this is empty.
        self.paramwise_cfg = {'custom_keys': {}, **settings}

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '',
                   is_dcn_module: int | float | None = None) -> None:
        """Append a group for each pair of learning rate and decay; log a table of them."""
        found = list(_parameters(module))
        self._check_matches(found)
        groups: dict[tuple[float, float], list[Parameter]] = {}
        for parameter in found:
            if parameter.value.requires_grad:
                scales = self._lr_scale(parameter), self._decay_scale(parameter)
                groups.setdefault(scales, []).append(parameter)
        ordered = sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1]))
        for (lr, decay), members in ordered:
            params.append(dict(
                params=[p.value for p in members], lr=self.base_lr * lr,
                weight_decay=self.base_wd * decay, lr_scale=lr, names=[p.name for p in members]))
        self._log(params, [members for _, members in ordered], found)

    def _check_matches(self, found: list[Parameter]) -> None:
        for key in self.paramwise_cfg['custom_keys']:
            if not any(key in p.name for p in found):
                raise ValueError(
                    'Each of paramwise_cfg.custom_keys must be part of the name of a parameter, '
                    f'got {key!r}, which is in none: take it out or correct it; near it are '
                    f'{_near(key, found)}.')
        for key, matches in MATCHES.items():
            if key in self.paramwise_cfg and not any(map(matches, found)):
                raise ValueError(f'paramwise_cfg.{key} must match a parameter, got '
                                 f'{self.paramwise_cfg[key]!r} for a model that has none of its '
                                 f'kind (parts: {_parts(found)}): take it out.')

    def _lr_scale(self, parameter: Parameter) -> float:
        scale = self._custom(parameter).get('lr_mult', 1.0)
        if parameter.backbone is not None:
            scale *= self.paramwise_cfg.get('backbone_lr_mult', 1.0)
            scale *= self.paramwise_cfg.get('layer_decay_rate', 1.0) ** parameter.depth
        return scale

    def _decay_scale(self, parameter: Parameter) -> float:
        settings = self.paramwise_cfg
        custom = self._custom(parameter)
        if 'decay_mult' in custom:
            return custom['decay_mult']
        if parameter.backbone is not None and any(key in parameter.name for key in WITHOUT_DECAY):
            return 0.0
        for key in ('norm_decay_mult', 'bias_decay_mult'):
            if key in settings and MATCHES[key](parameter):
                return settings[key]
        return settings.get('flat_decay_mult', 0.0) if parameter.flat else 1.0

    def _custom(self, parameter: Parameter) -> dict:
        custom = self.paramwise_cfg['custom_keys']
        keys = [key for key in custom if key in parameter.name]
        return custom[min(keys, key=lambda key: (-len(key), key))] if keys else {}

    def _log(self, params: list[dict], groups: list[list[Parameter]],
             found: list[Parameter]) -> None:
        rows = [('lr', 'decay', 'tensors', 'parameters', 'of')]
        for group, members in zip(params, groups):
            rows.append((f'{group["lr"]:.3g}', f'{group["weight_decay"]:.3g}', f'{len(members)}',
                         f'{_count(members):,}', self._layers(members)))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ['  '.join([*map(str.rjust, row[:4], widths), row[4]]) for row in rows]
        frozen = [p for p in found if not p.value.requires_grad]
        if frozen:
            lines.append(f'Frozen, left out: {len(frozen)} tensors, {_count(frozen):,} parameters '
                         f'of {self._layers(frozen)}')
        print_log('\n'.join(['Groups of the optimizer:', *lines]), logger='current')

    def _layers(self, members: list[Parameter]) -> str:
        """Where a group's parameters are; by layer where layers differ in their rate."""
        names = []
        for p in members:
            if p.backbone is not None and 'layer_decay_rate' in self.paramwise_cfg:
                names.append(p.backbone + UNIT.match(p.name.removeprefix(p.backbone))[0])
            else:
                names.append(p.name.partition('.')[0])
        return ', '.join(dict.fromkeys(names))


def backbones(model: nn.Module) -> dict[str, nn.Module]:
    """SwinV2 backbones in a model, by the beginning of the names of their parameters."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        # By what it has: the optimizer must not import the models.
        if all(hasattr(module, key) for key in ('get_layer_depth', 'arch', 'layers', 'ndim')):
            found.setdefault(plain_name(f'{name}.' if name else ''), module)
    return found


def plain_name(name: str) -> str:
    """A name without what wrappers put into it."""
    return WRAPPERS.sub('', name)


def _parameters(model: nn.Module) -> Iterator[Parameter]:
    """Every parameter once, in the order of the model."""
    inside = backbones(model)
    norms = set()
    for module in model.modules():
        if isinstance(module, NORMS):
            norms |= {id(p) for p in module.parameters(recurse=False)}
    for name, value in model.named_parameters():
        name = plain_name(name)
        if hasattr(value, '_fsdp_flattened'):  # torch's own mark
            raise ValueError('Rules of weight decay need the shapes that parameters had before '
                             f'they were sharded, got {name} without: set '
                             "strategy.type='swinv2_mm.FSDPStrategy'.")
        prefix = next((prefix for prefix in inside if name.startswith(prefix)), None)
        depth = 0
        if prefix is not None:
            layer, layers = inside[prefix].get_layer_depth(name, prefix)
            depth = layers - 1 - layer
        yield Parameter(name, value, id(value) in norms, prefix, depth)


def _count(parameters: list[Parameter]) -> int:
    return sum(p.value.numel() for p in parameters)


def _parts(found: list[Parameter]) -> str:
    return ', '.join(dict.fromkeys(p.name.partition('.')[0] for p in found)) or 'no parameters'


def _near(key: str, found: list[Parameter]) -> str:
    """Parts of names, as long as `key` in words, that are most like it."""
    words = key.strip('.').count('.') + 1
    parts = {}
    for p in found:
        split = p.name.split('.')
        parts |= {'.'.join(split[i:i + words]): None for i in range(len(split) - words + 1)}
    near = difflib.get_close_matches(key, parts, n=3, cutoff=0.6)
    return ', '.join(map(repr, near)) or _parts(found)


def _check_keys(where: str, given, known) -> None:
    if not isinstance(given, dict):
        raise ValueError(f'{where} must be a dict, got {given!r}.')
    if unknown := [key for key in given if key not in known]:
        raise KeyError(f'{where} takes {", ".join(known)}, got {", ".join(map(str, unknown))}: '
                       'take it out or correct it.')


def _check_number(where: str, value) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ValueError(f'{where} must be a number of at least 0, got {value!r}: set it.')
