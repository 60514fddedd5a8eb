"""Our backbone against other libraries': time, memory, and how near the least work it comes.

    .venv-peers/bin/python benchmarks/backbone.py [--workloads t-w8-256] [--modes infer-fp32]

All run in one process on the same awake random weights and take turns, after their features were
found equal at a size without padding. `floor` is the same matrix products alone. A training step is
forward and backward of all out features in train mode, without drop path. A peer that cannot be
imported is named and left out; one that runs out of memory has a row that says so.

With ATEN_CPU_CAPABILITY=avx2 (and MKL_ENABLE_INSTRUCTIONS=AVX2, ONEDNN_MAX_CPU_ISA=AVX2) a CPU acts
as one without AVX-512, and with MALLOC_TOP_PAD_ and its like set glibc keeps memory that is freed;
both stand in the column `mode`.

Rows go to benchmarks/results/backbone_DATE.csv. `--table CSV` fills the tables of docs/speed.md
from such files and `--draw CSV` draws docs/speed.png.
"""
import argparse
import os
from collections.abc import Callable
from pathlib import Path

import rivals
import timing
import torch
from floor import floor, flops, products
from rivals import PEERS, VIDEO, Workload
from torch import nn
from torch._dynamo.exc import TorchDynamoException

FIELDS = (*timing.CONDITIONS, 'workload', 'shape', 'mode', 'dtype', 'name', 'function',
          'difference', 'rounds', 'median_ms', 'min_ms', 'max_ms', 'speedup', 'peak_mib',
          'saved_mib', 'of_floor', 'gflops', 'note')
OURS, FLOOR, COMPILED = 'swinv2_mm', 'floor', ' compiled'
WORKLOADS = {
    't-w8-256-b8': Workload('tiny', (8, 8), (8, 3, 256, 256)),
    't-w16-256-b4': Workload('tiny', (16, 16), (4, 3, 256, 256)),
    't-w16-800x1344': Workload('tiny', (16, 16), (1, 3, 800, 1344)),
    't-w32-512': Workload('tiny', (32, 32), (1, 3, 512, 512)),
    'b-w24-384': Workload('base', (24, 24), (1, 3, 384, 384)),
    'l-w16-800x1344': Workload('large', (16, 16), (1, 3, 800, 1344)),
    'video-t-w8x7x7': Workload('tiny', (8, 7, 7), (1, 3, 16, 224, 224)),
}
QUICK = {'nano-w8-128': Workload('nano', (8, 8), (1, 3, 128, 128))}
MODES = {'infer-fp32': (False, torch.float32), 'infer-bf16': (False, torch.bfloat16),
         'train-fp32': (True, torch.float32), 'train-bf16': (True, torch.bfloat16)}


def step(model: nn.Module, x: torch.Tensor, training: bool, dtype: torch.dtype) -> Callable:
    """A function that runs the model once; in training, forward and backward."""
    cotangents: list[torch.Tensor] = []

    def run() -> None:
        if not training:
            with torch.inference_mode(), timing.autocast(x.device, dtype):
                model(x)
            return
        with timing.autocast(x.device, dtype):
            outs = model(x)
        if not cotangents:  # of a loss that is linear in the features
            generator = torch.Generator(x.device).manual_seed(2)
            cotangents.extend(torch.randn(out.shape, generator=generator, device=x.device,
                                          dtype=out.dtype) for out in outs)
        torch.autograd.backward(outs, cotangents)
        for parameter in model.parameters():
            parameter.grad = None

    return run


def prepare(workload: Workload, names: list[str], device: torch.device, compiled: bool):
    """Models by name, ours first, and the differences found; peers that are missing are named."""
    model = rivals.ours(workload)
    models, differences = {OURS: model}, {}
    for name in names:
        if not rivals.fits(name, workload):
            continue
        try:
            if name != VIDEO:
                differences[name] = rivals.check_built(name, workload, model)
            models[name] = rivals.build(name, workload, model)
        except ImportError as error:
            print(f'{name} is left out: {error}', flush=True)
    for name in list(models):
        models[name].to(device)
        if compiled:
            models[f'{name}{COMPILED}'] = torch.compile(models[name])
            differences[f'{name}{COMPILED}'] = differences.get(name, '')
    return models, differences


def measure(workload: Workload, models: dict, mode: str, rounds: int,
            device: torch.device) -> dict[str, dict]:
    """Times and memory by name in one mode, of the floor too."""
    training, dtype = MODES[mode]
    x = torch.randn(workload.shape, generator=torch.Generator().manual_seed(1)).to(device)
    for model in models.values():
        model.train(training)
    calls = {name: step(model, x, training, dtype) for name, model in models.items()}
    # What libraries set up in their first call is nobody's memory.
    step(models[OURS], x[:1, ..., :64, :64], training, dtype)()
    failed = {}
    for name in [name for name in calls if name.endswith(COMPILED)]:
        try:
            calls[name]()  # the compiler's time and memory are not the model's
        except TorchDynamoException as error:
            failed[name] = dict(note=f'not compiled: {type(error).__name__}')
            models[name].zero_grad(set_to_none=True)
            del calls[name]
    found, first = timing.warm_all(calls, models, device)
    found |= failed
    calls = {name: call for name, call in calls.items() if name in first}
    work = products(workload.arch, workload.patch, workload.window, workload.shape)
    calls[FLOOR] = floor(work, training, dtype, device)
    calls[FLOOR]()
    first[FLOOR] = timing.seconds(calls[FLOOR], device)
    with timing.bounded_memory(device):
        times = timing.take_turns(calls, rounds, device, first)
    for name, values in times.items():
        found.setdefault(name, {}).update(timing.spread(values), rounds=rounds)
    rate(found, flops(work, training))
    return found


def rate(found: dict[str, dict], operations: int) -> None:
    """Add what follows from the times: speed-up over the fastest peer, share of the floor."""
    peers = [row['median_ms'] for name, row in found.items()
             if name.split()[0] not in (OURS, FLOOR) and 'median_ms' in row]
    for name, row in found.items():
        if 'median_ms' in row:
            milliseconds = row['median_ms']
            if peers and name != FLOOR:
                row['speedup'] = round(min(peers) / milliseconds, 3)
            row['of_floor'] = round(found[FLOOR]['median_ms'] / milliseconds, 3)
            row['gflops'] = round(operations / milliseconds / 1e6, 1)


def setting(device: torch.device) -> list[str]:
    """What the environment asks of a CPU: narrower vectors, and memory that glibc keeps."""
    if device.type != 'cpu':
        return []
    return (['AVX2'] * (os.environ.get('ATEN_CPU_CAPABILITY') == 'avx2')
            + ['memory kept'] * ('MALLOC_TOP_PAD_' in os.environ))


def run(args: argparse.Namespace) -> list[dict]:
    """Measure, print and write all that is asked for."""
    same = timing.conditions(args.device, ['timm', 'transformers', 'torchvision',
                                           'onedl-mmpretrain', 'mmaction2'])
    print(f'{same["device"]}, {same["threads"]} threads; torch {same["torch"]}; '
          f'{same["versions"]}; {args.rounds} rounds', flush=True)
    rows = []
    for key in args.workloads:
        workload = {**WORKLOADS, **QUICK}[key]
        models, differences = prepare(workload, args.peers, args.device, args.compile)
        for mode in args.modes:
            print(f'\n{key} {workload.shape} {mode}', flush=True)
            found = measure(workload, models, mode, args.rounds, args.device)
            new = [same | dict(
                workload=key, shape='x'.join(map(str, workload.shape)), name=name,
                mode=', '.join([mode, *setting(args.device)]),
                dtype=str(MODES[mode][1]).removeprefix('torch.'),
                function='other' if name.startswith(VIDEO) else
                '' if name == FLOOR else 'same', difference=differences.get(name, ''), **row)
                for name, row in found.items()]
            for row in new:
                print(timing.line(row), flush=True)
            timing.append(args.out, FIELDS, new)
            rows += new
        del models
        timing.trim()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--workloads', nargs='+', choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument('--modes', nargs='+', choices=MODES, default=list(MODES))
    parser.add_argument('--peers', nargs='*', choices=PEERS, default=list(PEERS))
    parser.add_argument('--compile', action='store_true', help='all under torch.compile as well')
    parser.add_argument('--draw', type=Path, nargs='+', metavar='CSV',
                        help='measure nothing: draw the chart of --page from these files')
    timing.common(parser)
    args = parser.parse_args()
    if args.table or args.draw:
        import backbone_report

        backbone_report.report(args.table, args.page, args.draw)
        return
    if args.quick:
        args.workloads, args.rounds = list(QUICK), 1
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out = args.out or timing.today('backbone')
    rows = run(args)
    import backbone_report

    for mode, (mean, least) in backbone_report.means(rows).items():
        print(f'\n{mode}: speed-up over the fastest peer {mean:.2f} (geometric mean over '
              f'workloads), least {least:.2f}')
    print(f'\nwritten to {args.out}')


if __name__ == '__main__':
    main()
