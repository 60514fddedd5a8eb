"""Count multiply-adds and parameters of a config's model: python tools/analysis/flops.py CONFIG.

One multiply-add is one FLOP here, as in the tables of the papers and of the official zoo. PyTorch's
own counter (torch.utils.flop_counter) sees every matrix product, convolution and attention that is
run, whichever module or function runs it; norms, softmax, GELU and sampling are not counted. Nor is
the network of the position bias: a prediction computes it once and then reuses it.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import json
from unittest import mock

import torch
from torch import nn

from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.models.attention import WindowAttention
from swinv2_mm.utils import entry, versions

COUNTER = (f'torch.utils.flop_counter of torch {torch.__version__}: multiply-adds of matrix '
           'products, convolutions and attention')


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='+', help='paths of configs')
    parser.add_argument('--size', nargs='+', type=int, metavar='SIDE',
                        help='H W of the input, T H W of a video (default: what the config tests '
                        'at; segmentation: what it trains on)')
    parser.add_argument('--depth', type=int, default=1, help='levels of modules to list (1)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of tables')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the configs')
    return parser.parse_args(argv)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def give_position_bias(model: nn.Module) -> None:
    """Let the position bias of every attention be there already, as in every prediction but one."""
    for module in model.modules():
        if isinstance(module, WindowAttention):
            module.bias_table = functools.partial(_given, module)


def _given(attention: WindowAttention, window: tuple[int, ...]) -> torch.Tensor:
    return attention.logit_scale.new_zeros(attention.num_heads, *(2 * w - 1 for w in window))


@contextlib.contextmanager
def no_autocast():
    """torch.autocast refuses the device 'meta', and so does the question whether it is on."""
    with mock.patch('torch.autocast', lambda *args, **kwargs: contextlib.nullcontext()):
        with mock.patch.object(versions, 'autocast_dtype', lambda kind: None):
            yield


def multiply_adds(model: nn.Module, run) -> dict[str, int]:
    """Multiply-adds of `run()` in each submodule of `model`, by its dotted name; '' is the whole.
    """
    give_position_bias(model)
    with torch.no_grad(), no_autocast(), versions.flop_counter(model) as counter:
        run()
    root = f'{type(model).__name__}.'
    found = {name.removeprefix(root): sum(operations.values()) // 2
             for name, operations in counter.get_flop_counts().items() if name.startswith(root)}
    for name, module in reversed(list(model.named_modules())):  # lists are never called themselves
        if name and name not in found:
            found[name] = sum(found[f'{name}.{child}'] for child, _ in module.named_children())
    return found | {'': counter.get_total_flops() // 2}


def count(cfg, size: tuple[int, ...] | None = None) -> dict:
    """What a config's model costs for one input: size, parameters, multiply-adds, by module.

    Weights and features have shapes and no storage (device 'meta'), so that size costs nothing. A
    model with deformable attention, which reads its own tensors, is run on the CPU instead.
    """
    model = model_inputs.build(cfg, 'meta')
    if any(type(module).__name__.startswith('MultiScaleDeform') for module in model.modules()):
        model = model_inputs.build(cfg, 'cpu')
    size = tuple(size or model_inputs.input_size(cfg))
    ready = model_inputs.example(cfg, model, size)
    found = multiply_adds(model, lambda: model_inputs.forward(model, **ready))
    modules = {name: dict(parameters=parameters(module), multiply_adds=found[name])
               for name, module in model.named_modules() if name and parameters(module)}
    return dict(size=size, parameters=parameters(model), multiply_adds=found[''], modules=modules)


def table(result: dict, depth: int) -> str:
    """Rows of modules down to `depth`, the whole last."""
    rows = [(name, row) for name, row in result['modules'].items() if name.count('.') < depth]
    rows.append(('all', result))
    width = max(len(name) for name, _ in rows)
    lines = [f'{"module":{width}}  {"parameters":>12}  {"GFLOPs":>10}']
    lines += [f'{name:{width}}  {row["parameters"]:>12,}  {row["multiply_adds"] / 1e9:>10.3f}'
              for name, row in rows]
    return '\n'.join(lines)


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    model_inputs.quiet()
    results = []
    for path in args.config:
        result = count(model_inputs.read(path, args.cfg_options), args.size)
        result['modules'] = {name: row for name, row in result['modules'].items()
                             if name.count('.') < args.depth}
        results.append(dict(config=path, counter=COUNTER, **result))
        if not args.json:
            regions = (f', {model_inputs.REGIONS} regions, {model_inputs.MASKS} masks'
                       if 'roi_head' in result['modules'] else '')
            print(f'{path}: one input of {" x ".join(map(str, result["size"]))}{regions}\n'
                  f'{table(result, args.depth)}\n', flush=True)
    print(json.dumps(results, indent=1) if args.json else f'counter: {COUNTER}')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
