"""Curves of several runs, one over the other: python tools/analysis/plot_log.py RUN... --out x.png.

A RUN is a work dir, as tools/train.py leaves it, or one scalars.json of it; NAME=RUN gives it a
name. One panel shows the loss, one the learning rate, one each metric.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib

from swinv2_mm.utils.errors import UserError, short

matplotlib.use('Agg')  # no screen needed
from matplotlib import pyplot as plt

# The metrics that a task is known by; another run shows all that it has.
KNOWN = ('coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1', 'acc/top1')
NO_METRICS = ('step', 'time', 'data_time', 'epoch', 'iter', 'memory')
PANELS_IN_A_ROW = 3


def scalars(run: Path) -> list[dict]:
    """The logged values of a run, by rising iteration `step`; of a resumed one, what counted.

    A run that was stopped and went on has several files. What the first still did after the
    checkpoint that the next one started from is left out. Raises UserError where there is no log,
    or a line of it is broken; the last line may be cut off.
    """
    files = [run] if run.is_file() else sorted(run.glob('*/vis_data/scalars.json'))
    if not files:
        raise UserError(f'A run must be a work dir with */vis_data/scalars.json in it, and {run} '
                        'has none: give the folder that tools/train.py wrote to.')
    rows, step = [], 0
    for file in files:
        went_on = None
        for row in _lines(file):
            # mmengine counts the step of metrics in epochs, which are none in a run by iterations.
            step = row['step'] if 'loss' in row else step
            if 'loss' in row and went_on is None:
                went_on = step
                rows = [old for old in rows if old['step'] < went_on]
            rows.append(row | dict(step=step))
    return sorted(rows, key=lambda row: row['step'])


def _lines(file: Path):
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise UserError(f'Each line of {file} must be JSON, and line {number} is not: take '
                                'it out.') from error


def series(rows: list[dict], key: str) -> list[tuple[int, float]]:
    """(step, value) of a key."""
    return [(row['step'], row[key]) for row in rows if key in row]


def metrics_of(rows: list[dict]) -> list[str]:
    """Names of what validation measured, in the order of the log."""
    names = {key: None for row in rows if 'loss' not in row for key in row
             if key not in NO_METRICS and isinstance(row[key], (int, float))}
    return list(names)


def draw(runs: Mapping[str, list[dict]], panels: Mapping[str, Mapping[str, str]], out: Path, *,
         limits: Mapping[str, tuple[float, float]] | None = None) -> Path:
    """Write a picture: one panel for each title in `panels`, {key of the log: name} in each.

    `runs` are rows by name; `limits` the range of values of a panel. The loss is drawn on a
    logarithmic scale.
    """
    columns = min(len(panels), PANELS_IN_A_ROW)
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(5 * columns, 3.5 * lines), squeeze=False,
                                layout='constrained')
    for place, (title, keys) in zip(axes.flat, panels.items()):
        for run, rows in runs.items():
            for key, name in keys.items():
                label = ' '.join(part for part in (run, name) if part)
                points = series(rows, key)
                place.plot(*zip(*points) if points else ((), ()), label=label or None,
                           marker='o' if len(points) < 50 else '', markersize=4, linewidth=1)
        place.set(xlabel='iteration', ylabel=title, yscale='log' if 'loss' in keys else 'linear')
        if limits and title in limits:
            place.set_ylim(limits[title])
        if any(label for label in place.get_legend_handles_labels()[1]):
            place.legend(fontsize='small')
        place.grid(alpha=0.3)
    for place in axes.flat[len(panels):]:
        place.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return out


def summary(runs: Mapping[str, list[dict]], metrics: list[str]) -> str:
    """One line for each run: how far it came, its last loss, the highest of each metric."""
    lines = []
    for run, rows in runs.items():
        losses = series(rows, 'loss')
        parts = [f'iteration {losses[-1][0]}, loss {losses[-1][1]:.4g}'] if losses else []
        for key in metrics:
            if points := series(rows, key):
                step, value = max(points, key=lambda point: point[1])
                parts.append(f'{key} {points[-1][1]:.4g}, highest {value:.4g} at {step}')
        lines.append(f'{run}: {"; ".join(parts)}')
    return '\n'.join(lines)


def chosen(asked: list[str] | None, runs: Mapping[str, list[dict]]) -> list[str]:
    """The metrics asked for, or those that a task is known by; UserError for an unknown one."""
    there = list(dict.fromkeys(key for rows in runs.values() for key in metrics_of(rows)))
    for key in asked or ():
        if key not in there:
            raise UserError(f'--metrics must be among what was logged, {short(there)}, got '
                            f'{key!r}.')
    return asked or [key for key in there if key in KNOWN] or there


def read(arguments: list[str]) -> dict[str, list[dict]]:
    """RUN or NAME=RUN -> rows by name."""
    runs = {}
    for argument in arguments:
        name, equals, path = argument.rpartition('=')
        if Path(argument).exists() or not equals:
            name, path = '', argument
        rows = scalars(Path(path))
        name = name or (Path(path).resolve().name if Path(path).is_dir() else path)
        if name in runs:
            raise UserError(f'Every run needs a name of its own, and two are called {name!r}: put '
                            'NAME= before one.')
        runs[name] = rows
    return runs


def main(argv: list | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', metavar='[NAME=]RUN', help='work dir or scalars.json')
    parser.add_argument('--out', type=Path, default=Path('curves.png'),
                        help='picture to write: .png, .svg or .pdf (curves.png)')
    parser.add_argument('--metrics', nargs='+', help='metrics to show, by their names in the log')
    args = parser.parse_args(argv)
    try:
        if args.out.suffix not in ('.png', '.svg', '.pdf'):
            raise UserError(f'--out must end in .png, .svg or .pdf, got {str(args.out)!r}.')
        runs = read(args.runs)
        metrics = chosen(args.metrics, runs)
        panels = {'training loss': {'loss': ''}, 'learning rate': {'lr': ''},
                  **{key: {key: ''} for key in metrics}}
        draw(runs, panels, args.out)
    except UserError as error:
        sys.exit(f'Error: {error}')
    print(f'{summary(runs, metrics)}\ndrawn to {args.out}')


def cli() -> None:
    """The command line of this tool."""
    main()
