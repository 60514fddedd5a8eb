"""What the scripts of the paper's claims share: options, rows, the text of docs/paper.md.

Each script is a `Claim`, which `run` measures. Its rows go, as they come, to
benchmarks/results/paper_NAME_DATE.csv. The plot docs/paper_NAME.png and what stands between
`<!-- claim: NAME begin -->` and `<!-- claim: NAME end -->` of docs/paper.md are made of that file
and of nothing else, so that no number is typed. A quick form prints its text, and leaves docs
alone unless --page names a page.
"""
from __future__ import annotations

import argparse
import io
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import timing
import torch

ROOT = timing.ROOT
PAGE = ROOT / 'docs/paper.md'
PACKAGES = ('swinv2_mm', 'onedl-mmengine', 'numpy', 'opencv-python-headless')
CONDITIONS = ('command', *timing.CONDITIONS)


class Claim(NamedTuple):
    """One claim of the paper.

    measure: args -> lists of rows; each list is written when it comes.
    keys: columns that tell one measurement from the others; of one made twice, the last counts.
    fields: all columns of a row, without those of `CONDITIONS`.
    text: rows as read (all strings) -> markdown. draw: rows and a PNG to write, or None.
    """

    name: str
    measure: Callable[[argparse.Namespace], Iterator[list[dict]]]
    keys: tuple[str, ...]
    fields: tuple[str, ...]
    text: Callable[[list[dict]], str]
    draw: Callable[[list[dict], Path], None] | None = None
    packages: tuple[str, ...] = ()


def parser(doc: str, seeds: Iterable[int] = (0, 1, 2)) -> argparse.ArgumentParser:
    """The options of all claims; a script adds its own."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument('--quick', action='store_true', help='a small form on rendered data')
    found.add_argument('--seeds', type=int, nargs='+', default=list(seeds))
    found.add_argument('--threads', type=int, default=1, help="torch's; another number may give "
                       'other last digits (1)')
    found.add_argument('--out', type=Path, help='csv to add rows to (default: that of today in '
                       'benchmarks/results; with --quick one in work_dirs)')
    found.add_argument('--read', type=Path, nargs='+', metavar='CSV',
                       help='measure nothing: make text and plot from these files')
    found.add_argument('--page', type=Path, help='page to fill, with the plot beside it (default: '
                       'docs/paper.md; with --quick none)')
    return found


def run(claim: Claim, options: argparse.ArgumentParser, argv: list[str] | None = None) -> None:
    """Measure (or read), print the text, and fill the page."""
    args = options.parse_args(argv)
    paths = args.read
    if not paths:
        usual = (ROOT / f'work_dirs/paper_{claim.name}_quick.csv' if args.quick
                 else timing.today(f'paper_{claim.name}'))
        paths = [args.out or usual]
        measure(claim, args, paths[0], sys.argv[1:] if argv is None else argv)
    rows = timing.read(paths, claim.keys)
    text = claim.text(rows)
    print(text)
    page = args.page or (None if args.quick else PAGE)
    if page:
        report(claim, rows, text, paths, page)


def measure(claim: Claim, args: argparse.Namespace, out: Path, argv: list[str]) -> None:
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    command = shlex.join(['python', f'benchmarks/paper_{claim.name}.py', *map(str, argv)])
    conditions = dict(command=command) | timing.conditions(
        torch.device('cpu'), [*PACKAGES, *claim.packages])
    for rows in claim.measure(args):
        timing.append(out, (*claim.fields, *CONDITIONS), [row | conditions for row in rows])
    print(f'rows are in {out}')


def report(claim: Claim, rows: list[dict], text: str, paths: list[Path], page: Path) -> None:
    """Draw, and put the text, the plot and where they come from into the page."""
    parts = [text]
    if claim.draw:
        picture = page.with_name(f'paper_{claim.name}.png')
        claim.draw(rows, picture)
        parts.append(f'![{claim.name.replace("_", " ")}]({picture.name})')
    files = ', '.join(f'`{relative(path)}`' for path in paths)
    commands = ', '.join(f'`{command}`' for command in dict.fromkeys(x['command'] for x in rows))
    parts.append(f'From {files}, written by {commands}. {timing.machine(rows)}')
    fill(page, claim.name, '\n\n'.join(parts))


def relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def fill(page: Path, name: str, text: str) -> None:
    """Put text between the two comments of a claim in a page."""
    timing.fill(page, name, text, '<!-- claim: {} begin -->', '<!-- claim: {} end -->')


def table(heads: Iterable, rows: Iterable[Iterable]) -> str:
    """Markdown."""
    heads = [*heads]
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean and standard deviation of a sample, '81.2 ± 0.4'."""
    values = [*values]
    text = f'{statistics.mean(values):.{digits}f}'
    return f'{text} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else text


def pick(rows: list[dict], **wanted) -> list[dict]:
    """The rows in which these columns say this; rows are as read, in strings."""
    return [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]


def save(figure, path: Path) -> None:
    """Write a PNG with few colours, so that it is small."""
    import matplotlib.pyplot as plt
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, dpi=90)
    plt.close(figure)
    Image.open(raw).convert('RGB').quantize(64).save(path, optimize=True)
    print(f'{path}, {path.stat().st_size / 1000:.0f} kB')
