"""Measure how fast a config's model is on this machine: python tools/analysis/throughput.py CONFIG.

Timed is one forward pass with random weights on random inputs, and with --train a training step of
the backbone: forward, backward and no optimizer. Inputs are there already: reading and augmenting
pictures is not in it, nor is NMS. Runs of all configs take turns, so that a machine that slows down
slows all of them, and the ratio to the first config is that of runs side by side.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import time

import torch

from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='+', help='paths of configs; the first is compared with')
    parser.add_argument('--size', nargs='+', type=int, metavar='SIDE',
                        help='H W of the input, T H W of a video (default: as flops.py)')
    parser.add_argument('--batch-size', type=int, default=1, help='inputs at once (1)')
    parser.add_argument('--backbone', action='store_true', help='time the backbone alone')
    parser.add_argument('--train', action='store_true',
                        help='time forward and backward of the backbone in training')
    parser.add_argument('--dtype', choices=DTYPES, default='float32',
                        help='other than float32: autocast to it (float32)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--runs', type=int, default=10, help='timed runs of each (10)')
    parser.add_argument('--warm-up', type=int, default=3, help='runs before them (3)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the configs')
    args = parser.parse_args(argv)
    for name in ('batch_size', 'runs'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, got '
                         f'{getattr(args, name)}.')
    if torch.device(args.device).type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {args.device} needs a GPU that torch sees, and there is none: '
                        'leave it out.')
    return args


def prepared(path: str, args):
    """(function that does one run, size) of a config."""
    cfg = model_inputs.read(path, args.cfg_options)
    model = model_inputs.build(cfg, 'cpu').to(args.device)
    size = tuple(args.size or model_inputs.input_size(cfg))
    ready = model_inputs.example(cfg, model, size, args.batch_size)
    cast = (contextlib.nullcontext if args.dtype == 'float32' else
            lambda: torch.autocast(torch.device(args.device).type, DTYPES[args.dtype]))
    inputs = ready['inputs'].flatten(0, 1) if model.backbone.ndim == 3 else ready['inputs']

    def train():
        with cast():
            outs = model.backbone(inputs)
            loss = sum(out.float().mean() for out in (outs if isinstance(outs, tuple) else [outs]))
        loss.backward()
        model.zero_grad(set_to_none=True)

    def predict():
        with torch.no_grad(), cast():
            if args.backbone:
                model.backbone(inputs)
            else:
                model_inputs.forward(model, **ready)

    model.train(args.train)
    return train if args.train else predict, size


def seconds(run, device: torch.device) -> float:
    """Wall-clock time of one call, with everything it started on the device finished."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(runs: list, device: torch.device, number: int, warm_up: int) -> list[list[float]]:
    """Seconds of each of `runs`, `number` times in turn."""
    for run in runs:
        for _ in range(warm_up):
            run()
    times = [[] for _ in runs]
    for _ in range(number):
        for taken, run in zip(times, runs):
            taken.append(seconds(run, device))
    return times


def describe(config: str, size, taken: list[float], first: list[float], batch: int) -> dict:
    """Median and quartiles of a config's runs, and the median ratio to the first config's."""
    low, median, high = (statistics.quantiles(taken, n=4, method='inclusive')
                         if len(taken) > 1 else taken * 3)
    ratio = statistics.median(one / other for one, other in zip(first, taken))
    return dict(config=config, size=list(size), inputs_per_second=batch / median,
                milliseconds=median * 1e3, quartiles=[low * 1e3, high * 1e3], speed_ratio=ratio)


def conditions(args) -> dict:
    """What a figure must be read with."""
    device = torch.device(args.device)
    name = (torch.cuda.get_device_name(device) if device.type == 'cuda' else
            f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads')
    what = ('backbone, forward and backward' if args.train else
            'backbone, forward' if args.backbone else 'whole model, forward')
    return dict(device=f'{device.type}: {name}', torch=torch.__version__, dtype=args.dtype,
                batch_size=args.batch_size, timed=what, runs=args.runs)


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    model_inputs.quiet()
    made = [prepared(path, args) for path in args.config]
    times = measure([run for run, _ in made], torch.device(args.device), args.runs, args.warm_up)
    rows = [describe(path, size, taken, times[0], args.batch_size)
            for path, (_, size), taken in zip(args.config, made, times)]
    if args.json:
        print(json.dumps(dict(conditions=conditions(args), rows=rows), indent=1))
        return
    print('; '.join(f'{name} {value}' for name, value in conditions(args).items()))
    width = max(len(path) for path in args.config)
    print(f'{"config":{width}}  {"size":>14}  {"inputs/s":>9}  {"ms":>9}  {"quartiles":>19}  ratio')
    for row in rows:
        low, high = row['quartiles']
        print(f'{row["config"]:{width}}  {" x ".join(map(str, row["size"])):>14}  '
              f'{row["inputs_per_second"]:>9.2f}  {row["milliseconds"]:>9.1f}  '
              f'{low:>8.1f} - {high:>8.1f}  {row["speed_ratio"]:>5.2f}')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
