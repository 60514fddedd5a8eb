"""Claim 4: what activation checkpointing and sequential attention save, and what they cost.

    python benchmarks/paper_savings.py [--rounds 5] [--quick]

Memory: the peak of one training step by benchmarks/scale.py, each in a process of its own, without
weights, gradients and AdamW's two moments. Time: the same step of one model with each of the four
combinations in turns, round by round; what is compared is the ratio within a round. ZeRO: bytes of
weights, gradients and optimizer of a process for giant, as tools/analysis/memory.py plans them.
"""
from __future__ import annotations

import contextlib
import io
import re
import statistics
import subprocess
import sys

import paper
import timing
import torch

from swinv2_mm import SwinTransformerV2
from swinv2_mm.analysis import memory
from swinv2_mm.models import sequential

CPU = torch.device('cpu')
# name -> words for benchmarks/scale.py; checkpointing or not; the plain path or not
RUNGS = {'none': ('--plain',), 'checkpointing': ('--plain', '--with-cp'),
         'sequential attention': (), 'both': ('--with-cp',)}
SETTINGS = (('tiny', 256, 8, 2), ('tiny', 512, 16, 1))  # size, side, window, images
QUICK = (('nano', 128, 8, 4),)  # activations well above what malloc leaves to chance
LIMIT = 1.3  # the paper: "up to 30%" (section 3.5)
WORLDS = (('giant', 1, 0), ('giant', 8, 1), ('giant', 8, 3))  # size, processes, ZeRO's stage
QUICK_WORLDS = (('tiny', 8, 1),)


def peak(arch: str, side: int, window: int, batch: int, rung: str) -> float:
    """MB beyond weights, gradients and optimizer at the peak of a training step."""
    words = ['--arch', arch, '--size', side, '--window', window, '--batch', batch, *RUNGS[rung]]
    done = output('benchmarks/scale.py', *words)
    found = {name: float(value) for name, value in re.findall(r'^(\w+) +([\d.]+) GB', done, re.M)}
    return round(1e3 * (found['peak'] - 4 * found['weights']), 1)


def output(script: str, *words) -> str:
    return subprocess.run([sys.executable, script, *map(str, words)], cwd=paper.ROOT, text=True,
                          check=True, stdout=subprocess.PIPE).stdout


class Step:
    """A training step of one model with a rung."""

    def __init__(self, model, optimizer, x, rung: str):
        self.model, self.optimizer, self.x = model, optimizer, x
        self.with_cp = '--with-cp' in RUNGS[rung]
        self.path = sequential.plain_path if '--plain' in RUNGS[rung] else contextlib.nullcontext

    def __call__(self) -> None:
        for stage in self.model.layers:
            stage.with_cp = self.with_cp
        with self.path():
            outs = self.model(self.x)
            torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
        self.optimizer.step()
        self.optimizer.zero_grad()


def times(arch: str, side: int, window: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each rung in every round."""
    torch.manual_seed(0)
    model = SwinTransformerV2(arch, window_size=window, drop_path_rate=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x = torch.rand(batch, 3, side, side)
    steps = {rung: Step(model, optimizer, x, rung) for rung in RUNGS}
    first = {rung: timing.seconds(step, CPU) for rung, step in steps.items()}
    return timing.take_turns(steps, rounds, CPU, first)


def rungs(setting: tuple, rounds: int) -> list[dict]:
    """Rows of the four combinations."""
    memory = {rung: peak(*setting, rung) for rung in RUNGS}
    seconds = times(*setting, rounds)
    return [dict(kind='rung', case='{} {} window {} batch {}'.format(*setting), rung=rung,
                 rounds=rounds, peak_mb=memory[rung], **timing.spread(seconds[rung]),
                 **ratios(seconds[rung], seconds['none'])) for rung in RUNGS]


def ratios(some: list[float], others: list[float]) -> dict:
    """Median, least and greatest of the ratios within a round."""
    found = sorted(a / b for a, b in zip(some, others))
    return dict(ratio=round(statistics.median(found), 3), ratio_min=round(found[0], 3),
                ratio_max=round(found[-1], 3))


def planned(arch: str, world: int, zero: int) -> dict:
    """MB for each process that do not depend on the input."""
    words = ['--arch', arch, '--size', 192, 192, '--batch', 1, '--world', world, '--zero', zero]
    with contextlib.redirect_stdout(io.StringIO()) as done:
        memory.main([*map(str, words)])
    found = dict(re.findall(r'^ +(weights|gradients|optimizer) .*?([\d.]+) GB', done.getvalue(),
                            re.M))
    return dict(kind='zero', case=f'{arch}, {world} process{"es" * (world > 1)}',
                rung=f'ZeRO {zero}', peak_mb=round(1e3 * sum(map(float, found.values())), 1))


def measure(args):
    rounds = args.rounds or (2 if args.quick else 5)
    for setting in QUICK if args.quick else SETTINGS:
        yield rungs(setting, rounds)
    yield [planned(*world) for world in (QUICK_WORLDS if args.quick else WORLDS)]


def text(rows: list[dict]) -> str:
    measured = paper.pick(rows, kind='rung')
    cases = list(dict.fromkeys(row['case'] for row in measured))
    lines = [[row['case'], row['rung'], f'{float(row["peak_mb"]):,.0f} MB',
              f'{share(rows, row):.2f}',
              '{:.2f} s ({:.2f} to {:.2f})'.format(*(
                  float(row[key]) / 1e3 for key in ('median_ms', 'min_ms', 'max_ms'))),
              '{ratio} ({ratio_min} to {ratio_max})'.format(**row)] for row in measured]
    table = paper.table(['backbone', 'switched on', 'activations at the peak', 'of none', 'step',
                          'of none, within a round'], lines)
    verdicts = [verdict(case, paper.pick(measured, case=case)) for case in cases]
    return '\n\n'.join([table, *verdicts, zero(paper.pick(rows, kind='zero'))])


def share(rows: list[dict], row: dict) -> float:
    """Of the memory without any rung."""
    plain, = paper.pick(rows, case=row['case'], rung='none')
    return float(row['peak_mb']) / float(plain['peak_mb'])


def verdict(case: str, rows: list[dict]) -> str:
    of = {row['rung']: row for row in rows}
    slower = {rung: 100 * (float(row['ratio']) - 1) for rung, row in of.items()}
    cp, seq = slower['checkpointing'], slower['sequential attention']
    met = 'within' if 1 + cp / 100 <= LIMIT else 'more than'
    sequence = (f'takes {-seq:.0f} % less time' if seq < 0 else f'costs {seq:.0f} % of time')
    return (f'{case}: checkpointing makes the step {cp:.0f} % slower (median of '
            f'{of["none"]["rounds"]} rounds), {met} the 30 % that the paper allows it, and leaves '
            f'{100 * share(rows, of["checkpointing"]):.0f} % of the activations; sequential '
            f'attention {sequence} and leaves '
            f'{100 * share(rows, of["sequential attention"]):.0f} %; both together leave '
            f'{100 * share(rows, of["both"]):.0f} % at {float(of["both"]["ratio"]):.2f} times the '
            'time of neither.')


def zero(rows: list[dict]) -> str:
    """What ZeRO leaves to a process; planned, not measured."""
    parts = [f'{row["case"]}, {row["rung"]}: {float(row["peak_mb"]) / 1e3:.1f} GB' for row in rows]
    return ('Weights, gradients and AdamW\'s state of a process in float32, planned and not '
            f'measured: {"; ".join(parts)}. The paper says 48 GB for giant without ZeRO. Its time '
            'was not measured: processes of one machine say nothing of a network.')


def draw(rows: list[dict], path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    rows = paper.pick(rows, kind='rung')
    cases = list(dict.fromkeys(row['case'] for row in rows))
    figure, panels = plt.subplots(1, 2, figsize=(7, 2.6), layout='constrained')
    for panel, title, value in ((panels[0], 'activations, of none', lambda row: share(rows, row)),
                                (panels[1], 'time, of none', lambda row: float(row['ratio']))):
        for i, case in enumerate(cases):
            panel.bar([k + 0.38 * i for k in range(len(RUNGS))],
                      [value(row) for row in paper.pick(rows, case=case)], 0.36, label=case)
        panel.set_xticks([k + 0.19 for k in range(len(RUNGS))],
                         [rung.replace(' ', '\n') for rung in RUNGS], fontsize=7)
        panel.set_title(title, fontsize=9)
    panels[1].axhline(LIMIT, color='black', linewidth=0.8, linestyle=':')
    panels[0].legend(fontsize=7)
    paper.save(figure, path)


CLAIM = paper.Claim(
    'savings', measure, ('kind', 'case', 'rung'),
    ('kind', 'case', 'rung', 'rounds', 'peak_mb', 'median_ms', 'min_ms', 'max_ms', 'ratio',
     'ratio_min', 'ratio_max'), text, draw)


def main(argv: list | None = None) -> None:
    options = paper.parser(__doc__)
    options.add_argument('--rounds', type=int, help='turns that each combination takes (5)')
    paper.run(CLAIM, options, argv)


if __name__ == '__main__':
    main()
