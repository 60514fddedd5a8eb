"""Tables and the chart of docs/speed.md, from files that benchmarks/backbone.py wrote."""
from __future__ import annotations

import math
from pathlib import Path

import timing

OURS, FLOOR = 'swinv2_mm', 'floor'


def groups(rows: list[dict]) -> dict[str, dict[str, dict[str, dict]]]:
    """mode -> workload -> name -> row, in the order of the rows."""
    found: dict = {}
    for row in rows:
        found.setdefault(row['mode'], {}).setdefault(row['workload'], {})[row['name']] = row
    return found


def means(rows: list[dict]) -> dict[str, tuple[float, float]]:
    """mode -> our speed-up over the fastest peer: geometric mean over workloads, and the least.

    Workloads whose only peer computes another function are left out.
    """
    found = {}
    for mode, workloads in groups(rows).items():
        values = [float(names[OURS]['speedup']) for names in workloads.values()
                  if names.get(OURS, {}).get('speedup')
                  and any(row['function'] == 'same' for name, row in names.items()
                          if name.split()[0] != OURS)]
        if values:
            found[mode] = math.exp(sum(map(math.log, values)) / len(values)), min(values)
    return found


def leanest(names: dict[str, dict], key: str) -> str:
    """Ours over the least of the peers."""
    others = [float(row[key]) for name, row in names.items()
              if name.split()[0] not in (OURS, FLOOR) and row.get(key)]
    mine = names.get(OURS, {}).get(key)
    return f'{float(mine) / min(others):.2f}x' if mine and others and min(others) else '-'


def summary(rows: list[dict]) -> str:
    """Our speed-up over the fastest peer, and share of the floor: workloads by modes."""
    modes = groups(rows)
    lines = ['### All settings', '', 'Speed-up over the fastest peer, and share of the floor:', '',
             f'| workload | {" | ".join(modes)} |', '|' + '---|' * (len(modes) + 1)]
    for workload in dict.fromkeys(row['workload'] for row in rows):
        found = [modes[mode].get(workload, {}).get(OURS) for mode in modes]
        cells = [f'{float(row["speedup"]):.2f}, {float(row["of_floor"]):.2f}'
                 if row and row['speedup'] and row['of_floor'] else '-' for row in found]
        lines.append(f'| {" | ".join([workload, *cells])} |')
    averages = means(rows)
    cells = [f'{averages[mode][0]:.2f}' if mode in averages else '-' for mode in modes]
    return '\n'.join([*lines, f'| geometric mean | {" | ".join(cells)} |'])


def tables(rows: list[dict]) -> str:
    """A summary, and for each mode a table of times and one of memory, in markdown."""
    parts = [summary(rows)]
    for mode, workloads in groups(rows).items():
        names = list(dict.fromkeys(name for found in workloads.values() for name in found))
        heads = ['workload', *names, 'speed-up', 'of the floor', 'GFLOP/s']
        lines = [f'### {mode}', '', 'Milliseconds, median (least-greatest):', '',
                 f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
        for workload, found in workloads.items():
            mine = found.get(OURS, {})
            cells = [workload, *(timing.cell(found.get(name)) for name in names),
                     f'{mine.get("speedup") or "-"}', f'{mine.get("of_floor") or "-"}',
                     f'{mine.get("gflops") or "-"}']
            lines.append(f'| {" | ".join(cells)} |')
        if mode in means(rows):
            lines += ['', 'Speed-up over the fastest peer: geometric mean {:.2f}, least {:.2f}, '
                      'over the workloads of pictures.'.format(*means(rows)[mode])]
        parts.append('\n'.join([*lines, '', *memory(mode, workloads, names)]))
    return '\n\n'.join([*parts, 'Measured on:', timing.machine(rows)])


def memory(mode: str, workloads: dict, names: list[str]) -> list[str]:
    """Peak memory, and in training what is kept for the backward pass."""
    names = [name for name in names if name != FLOOR]
    kinds = {'peak_mib': 'Peak memory'}
    if mode.startswith('train'):
        kinds['saved_mib'] = 'Kept for the backward pass'
    lines = []
    for key, title in kinds.items():
        heads = ['workload', *names, 'ours / leanest peer']
        lines += [f'{title}, MiB:', '', f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
        for workload, found in workloads.items():
            cells = [workload, *(timing.amount(found.get(name), key) for name in names),
                     leanest(found, key)]
            lines.append(f'| {" | ".join(cells)} |')
        lines.append('')
    return lines[:-1]


def draw(rows: list[dict], file: Path) -> None:
    """Speed of each against the fastest peer, a panel a mode, with the spread of its times."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    found = groups(rows)
    lines = -(-len(found) // 2)
    figure, panels = plt.subplots(lines, 2, figsize=(13, 2.2 * lines), squeeze=False,
                                  layout='constrained')
    everyone = list(dict.fromkeys(row['name'] for row in rows))
    colours = dict(zip(everyone, plt.get_cmap('tab10').colors * 2))
    colours[FLOOR] = '0.75'
    for panel, (mode, workloads) in zip(panels.flat, found.items()):
        bars(panel, workloads, everyone, colours)
        panel.set_title(mode, fontsize=9, loc='left')
        panel.set_ylabel('speed / fastest peer', fontsize=8)
        panel.axhline(1, color='black', linewidth=0.6)
        panel.tick_params(labelsize=7)
    for panel in panels.flat[len(found):]:
        panel.axis('off')
    figure.savefig(file, dpi=110)
    plt.close(figure)
    print(f'{file}, {file.stat().st_size / 1000:.0f} kB')


def bars(panel, workloads: dict, everyone: list[str], colours: dict) -> None:
    width = 0.85 / len(everyone)
    for k, name in enumerate(everyone):
        for i, names in enumerate(workloads.values()):
            row = names.get(name)
            if not row or not row.get('speedup'):
                continue
            speed, middle = float(row['speedup']), float(row['median_ms'])
            low, high = (speed * middle / float(row[key]) for key in ('max_ms', 'min_ms'))
            place = i + (k - (len(everyone) - 1) / 2) * width
            panel.bar(place, speed, width, color=colours[name],
                      label=name if i == 0 else None,
                      yerr=[[speed - low], [high - speed]], error_kw=dict(linewidth=0.7))
    panel.set_xticks(range(len(workloads)), list(workloads))
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(dict(zip(labels, handles)).values(), dict(zip(labels, handles)), fontsize=7,
                 loc='upper left')


def report(table: list[Path] | None, page: Path, drawn: list[Path] | None) -> None:
    """Fill the table of the page, draw its chart, or both, from files of results."""
    keys = ('workload', 'mode')
    if table:
        timing.fill(page, 'backbone', tables(timing.read(table, keys)))
    if drawn:
        picture = page.with_suffix('.png')
        draw(timing.read(drawn, keys), picture)
        timing.fill(page, 'chart', f'![speed over that of the fastest peer]({picture.name})')
