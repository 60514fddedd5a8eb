"""What tests of configs share: the files, reading them, building their models, decay groups."""
import ast
import copy

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

FILES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / 'configs').rglob('*.py'))}
BASES = [name for name in FILES if name.startswith('configs/_base_/')]
LEAVES = [name for name in FILES if name not in BASES]
ZOO = 'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'


def load(name: str) -> Config:
    """The config at a path from the repository's root."""
    return Config.fromfile(FILES[name])


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse(FILES[name].read_text())) or ''


def follow(node, path: str):
    """The value at a dotted path into a config, numbers index lists; None where there is none."""
    for key in path.split('.'):
        node = node[int(key)] if isinstance(node, list) else node.get(key)
        if node is None:
            return None
    return node


def tidy(node):
    """A config without the entries that are None, which is the default of each of them here."""
    if isinstance(node, dict):
        return {key: tidy(value) for key, value in node.items() if value is not None}
    return [tidy(part) for part in node] if isinstance(node, (list, tuple)) else node


def assert_published(cfg: Config, published: dict) -> None:
    """Every path of a table of published values resolves to the value stated."""
    wrong = {path: (follow(cfg, path), value) for path, value in published.items()
             if follow(cfg, path) != value}
    assert not wrong, f'path: (in the config, published): {wrong}'


def build(cfg: Config, device: str = 'cpu') -> torch.nn.Module:
    """The model of a config, whose backbone starts at random instead of from a download."""
    model = copy.deepcopy(cfg.model)
    model.backbone.init_cfg = None
    with torch.device(device), DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(model)


def assert_decay(cfg: Config) -> None:
    """Vectors, position network and temperature are not decayed, and everything else is."""
    model = build(cfg, 'meta')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decays = {id(p): group['weight_decay'] for group in optimizer.param_groups
              for p in group['params']}
    decay = cfg.optim_wrapper.optimizer.weight_decay
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim <= 1 or any(
                part in key for part in ('cpb_mlp', 'logit_scale', 'mask_token'))
            assert decays[id(parameter)] == pytest.approx(0 if free else decay), key
