"""Does cost grow in proportion to pixels? Ours, SwinV2-T with window 16, on squares of three sizes.

    python benchmarks/linear.py [--sides 512 1024 1536] [--modes infer-fp32]

The sizes take turns. `per_pixel` is the time of a pixel over that of a pixel of the first size, and
`peak_per_pixel`, `saved_per_pixel` likewise for memory: 1 where cost is proportional. In training
the gradients of the weights, which no size changes, are taken from the peak.

Rows go to benchmarks/results/linear_DATE.csv; `--table CSV` fills a table of docs/speed.md.
"""
import argparse

import timing
import torch
from backbone import MODES, step
from rivals import Workload, ours

FIELDS = (*timing.CONDITIONS, 'side', 'mode', 'dtype', 'name', 'rounds', 'median_ms', 'min_ms',
          'max_ms', 'peak_mib', 'saved_mib', 'per_pixel', 'peak_per_pixel', 'saved_per_pixel',
          'note')


def measure(model: torch.nn.Module, sides: list[int], mode: str, rounds: int,
            device: torch.device) -> list[dict]:
    """A row for each side."""
    training, dtype = MODES[mode]
    model.train(training)
    inputs = {str(side): torch.randn(1, 3, side, side, device=device) for side in sides}
    calls = {name: step(model, x, training, dtype) for name, x in inputs.items()}
    calls[str(sides[0])]()  # what libraries set up in their first call counts for no size
    found, first = timing.warm_all(calls, dict.fromkeys(calls, model), device)
    calls = {name: call for name, call in calls.items() if name in first}
    for name, values in timing.take_turns(calls, rounds, device, first).items():
        found[name].update(timing.spread(values), rounds=rounds)
    fixed = training * sum(p.nbytes for p in model.parameters()) / 2**20
    base = found[str(sides[0])]
    for side in sides:
        row, pixels = found[str(side)], (side / sides[0]) ** 2
        if 'note' not in row and 'note' not in base:
            row['per_pixel'] = round(row['median_ms'] / base['median_ms'] / pixels, 3)
            if base['peak_mib'] > fixed:
                row['peak_per_pixel'] = round(
                    (row['peak_mib'] - fixed) / (base['peak_mib'] - fixed) / pixels, 3)
            if training:
                row['saved_per_pixel'] = round(row['saved_mib'] / base['saved_mib'] / pixels, 3)
    return [dict(side=side, name=f'{side} x {side}', **found[str(side)]) for side in sides]


def table(rows: list[dict]) -> str:
    heads = ['mode', 'size', 'ms', 'peak MiB', 'saved MiB', 'time per pixel', 'peak per pixel',
             'saved per pixel']
    lines = [f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
    for row in rows:
        cells = [row['mode'], row['name'], timing.cell(row), timing.amount(row, 'peak_mib'),
                 timing.amount(row, 'saved_mib'),
                 *(row[key] or '-' for key in FIELDS if key.endswith('per_pixel'))]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*lines, '', 'Measured on:', timing.machine(rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--sides', type=int, nargs='+', default=[512, 1024, 1536])
    parser.add_argument('--modes', nargs='+', choices=MODES, default=list(MODES))
    parser.add_argument('--arch', default='tiny')
    timing.common(parser)
    args = parser.parse_args()
    if args.table:
        timing.fill(args.page, 'linear', table(timing.read(args.table, ('side', 'mode'))))
        return
    if args.quick:
        args.sides, args.arch, args.rounds = [64, 128], 'nano', 1
    if args.threads:
        torch.set_num_threads(args.threads)
    out = args.out or timing.today('linear')
    model = ours(Workload(args.arch, (16, 16), (1, 3, 512, 512))).to(args.device)
    same = timing.conditions(args.device, [])
    print(f'{same["device"]}, {same["threads"]} threads; torch {same["torch"]}; '
          f'{args.rounds} rounds', flush=True)
    for mode in args.modes:
        dtype = str(MODES[mode][1]).removeprefix('torch.')
        rows = [same | dict(mode=mode, dtype=dtype) | row
                for row in measure(model, args.sides, mode, args.rounds, args.device)]
        print(f'\n{args.arch} w16 {mode}')
        for row in rows:
            print(timing.line(row), f'per pixel: time {row.get("per_pixel")}, peak '
                  f'{row.get("peak_per_pixel")}, saved {row.get("saved_per_pixel", "-")}',
                  flush=True)
        timing.append(out, FIELDS, rows)
    print(f'\nwritten to {out}')


if __name__ == '__main__':
    main()
