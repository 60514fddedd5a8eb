"""Faults injected into tiny trainings by the hundred: kills, damaged files, full disks, NaN.

    python benchmarks/reliability.py [--kills 200] [--seed 0] [--faults kill nan disk]
    python benchmarks/reliability.py --table

The first adds benchmarks/results/reliability_training_SEED.json, the second writes the table of
docs/reliability.md from all benchmarks/results/reliability_*.json. Each has a list of
{"fault": text, "injected": n, "survived": n, "lost": n} under "rows"; rows of one fault are added.

A run is lost if it does not go on, or goes on to other losses, learning rates, data, metrics,
weights or files than the same run without faults.
"""
from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from faulty_runs import ROOT, STEPS, TASKS, Farm, differences, load, prepare, read

from swinv2_mm.engine.checkpoints import STOPPED
from swinv2_mm.engine.files import POINTER, fault, newest_whole

RESULTS = ROOT / 'benchmarks/results'
PAGE = ROOT / 'docs/reliability.md'
FAULTS = ('kill', 'nan', 'damage', 'disk', 'rank', 'stop')
BAD_FILE = 'bad file in training or the check: '  # and its kind, in results of fuzz.py
BEGIN, END = '<!-- table: begin -->\n', '<!-- table: end -->'
MOMENT = 'at a random moment'
PLACES = {  # where a run is killed -> how often it passes there, at most
    MOMENT: 1, 'in a step': STEPS, 'writing a checkpoint': 8, 'flushing it': 24,
    'before renaming it': 12, 'after renaming it': 12, 'removing an old one': 3,
    'before a validation': 2, 'in a validation': 4, 'after a validation': 2}
INJECTED = {
    'in a step': 'step', 'writing a checkpoint': 'writing', 'flushing it': 'flush',
    'before renaming it': 'rename', 'after renaming it': 'renamed',
    'removing an old one': 'remove', 'before a validation': 'before validation',
    'in a validation': 'in validation', 'after a validation': 'after validation'}


class Result(NamedTuple):
    """How often faults of each kind were injected, how often they did harm, and which."""

    injected: Counter
    lost: Counter
    reasons: list[str]

    @classmethod
    def none(cls) -> Result:
        return cls(Counter(), Counter(), [])

    def add(self, kinds: list[str], wrong: list[str], work_dir: Path, what: str) -> None:
        """Count a run that was struck by faults of these kinds; one without harm is removed."""
        self.injected.update(kinds)
        if wrong:
            self.lost.update(kinds)
            self.reasons.extend(f'{work_dir} ({what}; {kinds}): {text}' for text in wrong)
        else:
            shutil.rmtree(work_dir)
        print(f'  {sum(self.injected.values())}: {what} {kinds}', *wrong, sep='\n    ', flush=True)


class Bench(NamedTuple):
    """What the parts of this file share: runs, their configs, and what they are compared with."""

    farm: Farm
    folder: Path
    configs: dict[str, Path]
    references: dict[str, Path]
    seconds: dict[str, float]  # that the reference took


def set_up(farm: Farm, folder: Path, tasks) -> Bench:
    """Render data, write configs, and run each task once without faults."""
    bench = Bench(farm, folder, prepare(folder, tasks), {}, {})
    for name, config in bench.configs.items():
        bench.references[name] = folder / f'{name}_reference'
        started = time.time()
        status = farm.run(config, bench.references[name])
        bench.seconds[name] = time.time() - started
        if status:
            raise RuntimeError(f'{name} does not run: {bench.references[name] / "output.txt"}')
    return bench


def draw(rng: random.Random, kind: str, seconds: float, attempt: int) -> dict:
    """One fault of a kind; the later the attempt, the less of the run is left to strike."""
    if kind == MOMENT:
        return dict(after=rng.uniform(0, seconds / (attempt + 1)))
    return dict(place=INJECTED[kind], count=rng.randrange(max(1, PLACES[kind] // (attempt + 1))))


def chain(bench: Bench, name: str, work_dir: Path, faults: list[tuple[str, dict]],
          between=None) -> tuple[list[str], list[str]]:
    """Run a task, interrupted by each fault in turn and resumed after each, to its end.

    Returns the kinds of faults that did interrupt it, and everything that is wrong.
    """
    struck, wrong = [], []
    waiting = [*faults, (None, None)]
    while waiting:
        kind, fault_ = waiting.pop(0)
        begun = (work_dir / POINTER).exists() or any(work_dir.glob('*.pth'))
        expected = next_step(work_dir)
        processes = len(read(work_dir).first)
        status = bench.farm.run(bench.configs[name], work_dir,
                                *(['--resume'] if begun else []), fault=fault_)
        first = read(work_dir).first
        if len(first) > processes and first[-1] != expected:
            wrong.append(f'began with step {first[-1]} instead of {expected}')
        wrong += damaged(work_dir)
        if status == 0:
            if waiting:
                break  # it ended before the fault came
            continue
        if kind is None or status not in (-signal.SIGKILL, -signal.SIGTERM, STOPPED):
            wrong.append(f'ended with status {status}')
            break
        struck.append(kind)
        if between:
            wrong += between(work_dir)
    wrong += differences(work_dir, bench.references[name])
    return struck, wrong


def next_step(work_dir: Path) -> int:
    """The step that a resumed run must begin with."""
    whole, _ = newest_whole(work_dir)
    return load(whole)['meta']['iter'] + 1 if whole else 1


def damaged(work_dir: Path) -> list[str]:
    """What must never be: a checkpoint under its name that is not whole, a name of none."""
    wrong = [f'{path} {fault(path)}' for path in work_dir.glob('*.pth') if fault(path)]
    pointer = work_dir / POINTER
    if pointer.exists() and fault(Path(pointer.read_text())):
        wrong.append(f'{POINTER} names {pointer.read_text()!r}')
    return wrong


def kill(bench: Bench, count: int, rng: random.Random, result: Result | None = None,
         number: int = signal.SIGKILL, kinds=tuple(PLACES)) -> Result:
    """Kill and resume, `count` times in all; `result` is added to as it goes."""
    result = result or Result.none()
    # Detectors take several times as long as the others: half as often.
    names = [*bench.configs, *(name for name in bench.configs if name != 'det')]
    run = 0
    while sum(result.injected.values()) < count:
        name = names[run % len(names)]
        work_dir = bench.folder / f'killed_{number:d}_{run}'
        chosen = [kinds[(run + i * 3) % len(kinds)] for i in range(min(4, count))]
        faults = [(kind, draw(rng, kind, bench.seconds[name], attempt) | dict(signal=number))
                  for attempt, kind in enumerate(chosen)]
        struck, wrong = chain(bench, name, work_dir, faults)
        result.add(struck, wrong, work_dir, name)
        run += 1
    return result


DAMAGES = ('cut off', 'emptied', 'overwritten with zeros in the middle', 'replaced by text')


def damage(path: Path, how: str, rng: random.Random) -> None:
    """Make a file what a crash of the machine or a bad disk makes of it."""
    content = path.read_bytes()
    if how == 'cut off':
        path.write_bytes(content[:rng.randrange(1, len(content))])
    elif how == 'emptied':
        path.write_bytes(b'')
    elif how == 'replaced by text':
        path.write_bytes(b'No space left on device\n')
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(4096) + content[middle + 4096:])


def damage_newest(bench: Bench, count: int, rng: random.Random,
                  result: Result | None = None) -> Result:
    """Stop a run with two checkpoints, damage the newest, resume."""
    result = result or Result.none()
    names = [name for name in bench.configs if name != 'epochs']  # which keeps one only
    for i in range(count):
        name, how = names[i % len(names)], DAMAGES[i % len(DAMAGES)]
        work_dir = bench.folder / f'damaged_{i}'
        bench.farm.run(bench.configs[name], work_dir,
                       fault=dict(place='step', count=rng.choice([4, 5, 6])))
        newest, _ = newest_whole(work_dir)
        damage(newest, how, rng)
        status = bench.farm.run(bench.configs[name], work_dir, '--resume')
        wrong = differences(work_dir, bench.references[name])
        if status:
            wrong.append(f'ended with status {status}')
        if str(newest) not in (work_dir / 'output.txt').read_text():
            wrong.append(f'{newest} was not named')
        result.add([how], wrong, work_dir, name)
    return result


def fill_disk(bench: Bench, count: int, rng: random.Random,
              result: Result | None = None) -> Result:
    """Let the disk be full at a random byte, then make room and resume."""
    result = result or Result.none()
    names = list(bench.configs)
    for i in range(count):
        name = names[i % len(names)]
        work_dir = bench.folder / f'full_{i}'
        written = sum(path.stat().st_size for path in bench.references[name].glob('*.pth'))
        status = bench.farm.run(bench.configs[name], work_dir,
                                fault=dict(full=rng.randrange(int(1.5 * written))))
        last = (work_dir / 'output.txt').read_text().strip().splitlines()[-1]
        wrong = damaged(work_dir)
        if status != 1 or 'No space left on device' not in last:
            wrong.append(f'ended with status {status} and {last!r}')
        resumed = ['--resume'] if any(work_dir.glob('*.pth')) else []
        if status := bench.farm.run(bench.configs[name], work_dir, *resumed):
            wrong.append(f'ended with status {status} when there was room')
        wrong += differences(work_dir, bench.references[name])
        result.add(['full'], wrong, work_dir, name)
    return result


def poison(bench: Bench, count: int, rng: random.Random,
           result: Result | None = None) -> Result:
    """Let a block give NaN in a random step: named with its files, left out, and trained on."""
    result = result or Result.none()
    names = list(bench.configs)
    for i in range(count):
        name, step = names[i % len(names)], rng.randrange(STEPS)
        work_dir = bench.folder / f'poisoned_{i}'
        status = bench.farm.run(bench.configs[name], work_dir, fault=dict(nan=step))
        said = (f'Step {step + 1}: the loss is nan; first in backbone.layers.1.blocks.0.mlp',
                *read(bench.references[name]).steps[step + 1][0][3])
        line = next((line for line in (work_dir / 'output.txt').read_text().splitlines()
                     if 'Left out' in line), '')
        wrong = [f'{text!r} was not said' for text in said if text not in line]
        if status:
            wrong.append(f'ended with status {status}')
        else:
            state = load(newest_whole(work_dir)[0])['state_dict']
            wrong += [f'{key} is not finite' for key, value in state.items()
                      if value.is_floating_point() and not value.isfinite().all()]
        result.add(['NaN'], wrong, work_dir, name)
    return result


def lose_rank(bench: Bench, count: int, rng: random.Random,
              result: Result | None = None, bound: float = 60) -> Result:
    """Kill one of two processes: the other must end within `bound` seconds and say why."""
    result = result or Result.none()
    name = 'cls' if 'cls' in bench.configs else next(iter(bench.configs))
    config, reference = bench.configs[name], bench.folder / 'two_reference'
    bench.farm.run(config, reference, ranks=2)
    for i in range(count):
        work_dir = bench.folder / f'two_{i}'
        fault_ = dict(place='step', count=rng.randrange(STEPS - 1))
        statuses = bench.farm.run(config, work_dir, fault=fault_, ranks=2, timeout=bound)
        last = (work_dir / 'output.txt').read_text().strip().splitlines()[-1]
        wrong = damaged(work_dir)
        if statuses != [1, -signal.SIGKILL] or 'Another process' not in last:
            wrong.append(f'ended with {statuses} and {last!r}')
        resume = ['--resume'] if any(work_dir.glob('*.pth')) else []
        if any(statuses := bench.farm.run(config, work_dir, *resume, ranks=2)):
            wrong.append(f'ended with {statuses} when resumed')
        wrong += differences(work_dir, reference)
        result.add(['killed'], wrong, work_dir, 'two processes')
    return result


def rows(label: str, result: Result) -> list[dict]:
    """Rows of the table; `label` has {} for the kind."""
    return [dict(fault=label.format(kind), injected=count, survived=count - result.lost[kind],
                 lost=result.lost[kind]) for kind, count in result.injected.items()]


def write_results(results: dict[str, Result], seed: int, started: float) -> None:
    """Write down what has been done, also where a run is cut short."""
    content = dict(
        command=' '.join(['python', 'benchmarks/reliability.py', *sys.argv[1:]]),
        date=time.strftime('%Y-%m-%d'), minutes=round((time.time() - started) / 60),
        versions=dict(python=platform.python_version(), torch=torch.__version__),
        rows=[row for label, result in results.items() for row in rows(label, result)])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f'reliability_training_{seed}.json'
    path.write_text(json.dumps(content, indent=1) + '\n')


def write_table() -> None:
    """Put all results into the page, between its markers."""
    total: dict[str, Counter] = {}
    for path in sorted(RESULTS.glob('reliability_*.json')):
        for row in json.loads(path.read_text())['rows']:
            total.setdefault(row['fault'], Counter()).update(
                {key: row[key] for key in ('injected', 'survived', 'lost')})
    kinds = [name for name in total if name.startswith(BAD_FILE)]
    together = sum((total.pop(name) for name in kinds), Counter())
    total[f'bad files of {len(kinds)} kinds, in training and the check'] = together
    lines = ['| fault | injected | survived | lost |', '|---|---|---|---|']
    lines += [f'| {name} | {row["injected"]:,} | {row["survived"]:,} | {row["lost"]:,} |'
              for name, row in total.items()]
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f'{before}{BEGIN}' + '\n'.join(lines) + f'\n{END}{after}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=200, help='the other faults go in proportion')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--tasks', nargs='+', default=list(TASKS), choices=TASKS)
    parser.add_argument('--faults', nargs='+', default=list(FAULTS), choices=FAULTS)
    parser.add_argument('--table', action='store_true', help='write the table of the docs only')
    args = parser.parse_args()
    if args.table:
        return write_table()
    random_, started = random.Random(args.seed), time.time()
    results: dict[str, Result] = {}

    def do(label: str, part, count: int, *more) -> None:
        results[label] = Result.none()
        part(bench, count, random_, results[label], *more)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit('asked to stop'))
    try:
        with tempfile.TemporaryDirectory() as folder, Farm() as farm:
            bench = set_up(farm, Path(folder), args.tasks)
            fewer = max(1, args.kills // 10)
            parts = dict(
                kill=('killed (SIGKILL) {}', kill, args.kills),
                nan=('NaN from a block in a random step', poison, fewer),
                damage=('newest checkpoint {}', damage_newest, fewer),
                disk=('disk {} at a random byte of the checkpoints', fill_disk, fewer),
                rank=('one of two processes {}', lose_rank, fewer // 2),
                stop=('asked to stop (SIGTERM) {}', kill, fewer, signal.SIGTERM, (
                    MOMENT, 'in a step', 'writing a checkpoint', 'in a validation')))
            for name in args.faults:
                do(*parts[name])
    finally:
        write_results(results, args.seed, started)
    reasons = [reason for result in results.values() for reason in result.reasons]
    if reasons:
        sys.exit('\n'.join(['Lost:', *reasons]))


if __name__ == '__main__':
    main()
