"""What each start is worth: SimMIM -> classification -> detection, segmentation, video; or scratch.

    python benchmarks/chain.py [--seeds 0 1 2] [--data data]

runs the demos' configs (make their data first: `make demo TASK=all` does) with tools/train.py and
tools/test.py. For each seed: SimMIM on pictures without labels; a classifier from its encoder; then
a detector, a segmentor and, inflated, a video recognizer from the classifier's backbone. Each is
also trained from scratch, with the same recipe and budget. All models normalise positions by
window 8, so that weights mean the same at every stage.

Rows go to benchmarks/results/chain_DATE.csv, and a table of means and spreads is printed. What a
stage measured is kept under --work-dir, and not run again.
"""
from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
FIELDS = ('seed', 'task', 'start', 'iterations', 'metric', 'value', 'minutes', 'torch', 'threads')


class Stage(NamedTuple):
    """One training: where its weights come from, how long it is, and what it is judged by."""

    before: str | None  # the task whose backbone it starts from
    data: str  # folder under --data
    iterations: int
    metric: str  # in the log of tools/test.py
    name: str
    scale: float = 1.0  # of the logged value to one in [0, 1]


STAGES = {
    'mim': Stage(None, 'shapes_crops', 400, 'ratio', 'masked L1 / that of the visible mean'),
    'cls': Stage('mim', 'shapes_crops', 200, 'accuracy/top1', 'top-1', 0.01),
    'det': Stage('cls', 'shapes', 250, 'coco/bbox_mAP_50', 'box AP50'),
    'seg': Stage('cls', 'shapes_crops', 200, 'mIoU', 'mIoU', 0.01),
    'video': Stage('cls', 'motions', 150, 'acc/top1', 'top-1'),
}


def places(task: str, data: Path) -> list[str]:
    """--cfg-options for reading and judging: where the data are, and how positions count."""
    root = f'{data / STAGES[task].data}/'
    splits = ('train',) if task == 'mim' else ('train', 'val', 'test')
    found = [f'{split}_dataloader.dataset.data_root={root}' for split in splits]
    if task == 'det':
        found += [f'{split}_evaluator.ann_file={root}val.json' for split in ('val', 'test')]
    return ['model.backbone.pretrained_window_sizes=8', *found]


def lengths(task: str, iterations: int, start: Path | None) -> list[str]:
    """--cfg-options for a training of that length, from the backbone of a checkpoint or none."""
    warm = min(100, max(1, iterations // 3))
    found = [f'train_cfg.max_iters={iterations}', f'param_scheduler.1.end={iterations}',
             f'param_scheduler.0.end={warm}', f'param_scheduler.1.begin={warm}',
             f'default_hooks.checkpoint.interval={iterations}']
    if task != 'mim':
        found.append(f'train_cfg.val_interval={iterations + 1}')  # judged once, by tools/test.py
    if start:
        found += ['model.backbone.init_cfg.type=swinv2_mm.PretrainedSwinV2',
                  f'model.backbone.init_cfg.checkpoint={start}']
    return found


def command(*words, log: Path) -> None:
    """Run a tool from the repository's root; its output goes to `log`."""
    with log.open('a') as file:
        done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, stdout=file,
                              stderr=subprocess.STDOUT)
    if done.returncode:
        last = log.read_text().strip().splitlines()[-1]
        sys.exit(f'{words[0]} failed, the whole output is in {log}; it ends with: {last}')


def judge(task: str, checkpoint: Path, data: Path, folder: Path, log: Path) -> dict:
    """What the checkpoint reaches on the validation data."""
    config = f'configs/demo/{task}_nano.py'
    keep = ['--cfg-options', *places(task, data)]
    if task == 'mim':
        command('tools/visualization/reconstructions.py', config, checkpoint,
                data / STAGES[task].data / 'val',
                '--out-dir', folder / 'pictures', '--json', folder / 'metrics.json', *keep, log=log)
        return json.loads((folder / 'metrics.json').read_text())
    command('tools/test.py', config, checkpoint, '--work-dir', folder / 'test', *keep, log=log)
    newest = max((folder / 'test').glob('*/[0-9]*_[0-9]*.json'))
    return json.loads(newest.read_text().splitlines()[-1])


def run(task: str, start: str, seed: int, weights: Path | None, folder: Path, data: Path,
        iterations: int | None) -> dict:
    """Train and judge one stage, or read what it measured; one row of the result."""
    stage, result = STAGES[task], folder / 'result.json'
    length = iterations or stage.iterations
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        log, began = folder / 'output.txt', time.time()
        command('tools/train.py', f'configs/demo/{task}_nano.py', '--work-dir', folder, '--seed',
                seed, '--cfg-options', *places(task, data), *lengths(task, length, weights),
                log=log)
        minutes = (time.time() - began) / 60
        found = judge(task, folder / f'iter_{length}.pth', data, folder, log)
        result.write_text(json.dumps(dict(
            seed=seed, task=task, start=start, iterations=length, metric=stage.name,
            value=round(found.get(stage.metric, 0.0) * stage.scale, 4), minutes=round(minutes, 2),
            torch=torch.__version__, threads=os.environ.get('OMP_NUM_THREADS', os.cpu_count()))))
    row = json.loads(result.read_text())
    print(f'seed {seed}  {task:<6} from {start:<10} {row["metric"]} {row["value"]:.3f} '
          f'({row["minutes"]:.1f} min of training)', flush=True)
    return row


def chain(seed: int, tasks: list[str], work_dir: Path, data: Path,
          iterations: int | None) -> list[dict]:
    """All stages of one seed, each from the stage before it and from scratch."""
    rows, made = [], {}
    for task in tasks:
        before = STAGES[task].before
        starts = {'scratch': None}
        if before in made:
            starts[{'mim': 'SimMIM', 'cls': 'SimMIM+cls'}[before]] = made[before]
        for start, weights in starts.items():
            folder = work_dir / f'seed{seed}' / f'{task}_{start}'
            rows.append(run(task, start, seed, weights, folder, data, iterations))
            made[task] = folder / f'iter_{rows[-1]["iterations"]}.pth'
    return rows


def table(rows: list[dict]) -> str:
    """Mean and standard deviation over seeds, in markdown."""
    lines = ['| task | metric | iterations | from scratch | from the stage before |',
             '|---|---|---|---|---|']
    for task in dict.fromkeys(row['task'] for row in rows):
        mine = [row for row in rows if row['task'] == task]
        cells = []
        for kept in (lambda row: row['start'] == 'scratch', lambda row: row['start'] != 'scratch'):
            values = [row['value'] for row in mine if kept(row)]
            spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
            cells.append(f'{statistics.mean(values):.3f}{spread}' if values else '-')
        lines.append(f'| {task} | {mine[0]["metric"]} | {mine[0]["iterations"]} | {cells[0]} | '
                     f'{cells[1]} |')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--tasks', nargs='+', choices=STAGES, default=list(STAGES))
    parser.add_argument('--iterations', type=int, help='of every stage, for a trial')
    parser.add_argument('--data', type=Path, default=Path('data'))
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/chain'))
    parser.add_argument('--out', type=Path, help='the csv file (default: of today, in '
                        'benchmarks/results)')
    args = parser.parse_args()
    out = args.out or ROOT / f'benchmarks/results/chain_{datetime.date.today()}.csv'
    rows = [row for seed in args.seeds
            for row in chain(seed, args.tasks, args.work_dir.resolve(), args.data.resolve(),
                          args.iterations)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open('w', newline='') as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    print(f'\n{table(rows)}\n\nwritten to {out}')


if __name__ == '__main__':
    main()
