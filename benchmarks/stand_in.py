"""Once imported, takes the place of mmengine and pytest, for a machine that has neither.

The backbone and the benchmarks need these few names of them alone, to be there; nothing is trained
or configured with them.
"""
import logging
import sys
import types
from importlib.machinery import ModuleSpec

from torch import nn


class BaseModule(nn.Module):
    def __init__(self, init_cfg=None):
        super().__init__()
        self.init_cfg, self._is_init = init_cfg, False

    def init_weights(self):
        self._is_init = True


class Registry:
    def __init__(self, *args, **kwargs):
        pass

    def register_module(self, *args, **kwargs):
        return lambda thing: thing


class MMLogger:
    _instance_dict: dict = {}

    @staticmethod
    def get_current_instance():
        return logging.getLogger('swinv2_mm')


def fixture(*args, **kwargs):
    return args[0] if args else lambda function: function


def print_log(text, *args, **kwargs):
    print(text, flush=True)


registries = {name: Registry() for name in (
    'MODELS', 'WEIGHT_INITIALIZERS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'HOOKS', 'VISBACKENDS',
    'TRANSFORMS', 'STRATEGIES')}
scope = types.SimpleNamespace(_instance_dict={})
contents = {
    'mmengine': {}, 'mmengine.model': dict(BaseModule=BaseModule),
    'mmengine.registry': dict(Registry=Registry, DefaultScope=scope, **registries),
    'mmengine.logging': dict(MMLogger=MMLogger, print_log=print_log),
    'pytest': dict(fixture=fixture)}
for name, names in contents.items():
    module = sys.modules[name] = types.ModuleType(name)
    vars(module).update(names, __spec__=ModuleSpec(name, None))
    if '.' in name:
        setattr(sys.modules['mmengine'], name.partition('.')[2], module)
