"""Find and list all files of a data set that training would stumble on, in one pass.

    python tools/dataset/check.py configs/demo/det_nano.py
    python tools/dataset/check.py configs/demo/det_nano.py --cfg-options \
        train_dataloader.dataset.data_root=data/mine/
    python tools/dataset/check.py data/my_photos data/clip.mp4 --out faults.csv

A config is read for its data sets, with their lists, classes and sizes; a folder or file is checked
as it is. Errors make the exit status 1, warnings leave it 0; 2 is a mistake in the arguments. What
is which is in docs/data_checks.md. A config is code, and is run; what it lists is not.
"""
import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.apis import overrides
from swinv2_mm.datasets import checks
from swinv2_mm.datasets.checks import datasets_in, inventory, pool
from swinv2_mm.datasets.checks.findings import KINDS, Finding
from swinv2_mm.utils.errors import UserError
from swinv2_mm.utils.faults import MAX_PIXELS

SHOWN = 20  # of each kind on the screen


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='check.py', description='List all files of a data set that training would stumble on.')
    parser.add_argument('what', nargs='+', help='a config (.py), or folders and files')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    parser.add_argument('--splits', nargs='+', choices=('train', 'val', 'test'),
                        default=('train', 'val', 'test'), help='of a config (all)')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)),
                        help='processes (one for each core)')
    parser.add_argument('--max-pixels', type=int, default=MAX_PIXELS,
                        help=f'width times height that a picture may have ({MAX_PIXELS:,})')
    parser.add_argument('--quick', action='store_true',
                        help='of videos, decode the first and the last frame only')
    parser.add_argument('--out', metavar='FILE.csv', help='write all findings there')
    parser.add_argument('--all', action='store_true',
                        help=f'print all findings, not {SHOWN} of each kind')
    args = parser.parse_args(arguments)
    if args.workers < 1:
        parser.error(f'--workers must be at least 1, got {args.workers}')
    data = [what for what in args.what if not what.endswith('.py')]
    if args.cfg_options and data:
        parser.error(f'--cfg-options are for a config, got {data[0]!r} as well: check folders and '
                     'files by themselves')
    return args


def gather(args: argparse.Namespace) -> Iterator:
    """Findings on lists, and a job for each file; each file once."""
    seen = set()
    for what in args.what:
        for item in (_of_config(what, args.splits, args.cfg_options) if what.endswith('.py') else
                     _of_path(what)):
            if isinstance(item, Finding):
                yield item
                continue
            check, path, settings = item
            key = check, os.path.abspath(path), str(settings)
            if key not in seen:
                seen.add(key)
                yield check, path, settings | dict(max_pixels=args.max_pixels, quick=args.quick)


def _of_path(what: str) -> Iterator:
    if not Path(what).exists():
        raise UserError(f'There is no file or folder at {what!r}: give the path of a config, or of '
                        'folders and files of data.')
    return inventory.of_folder(Path(what))


def _of_config(what: str, splits, options: dict) -> Iterator:
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    if not Path(what).is_file():
        raise UserError(f'There is no config at {what!r}: give the path of a config file.')
    cfg = Config.fromfile(what)
    overrides.override(cfg, options)
    scope = cfg.get('default_scope', 'mmengine')
    init_default_scope(scope)
    cache = {}
    yield from checks.findings(cfg, splits, cache)
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for dataset in datasets_in(loader.get('dataset')):
            where = f'{split}_dataloader'
            try:
                for item in inventory.of_dataset(dataset, where, cfg.model, scope, cache):
                    if not isinstance(item, Finding) or item.kind == 'not listed':
                        yield item  # of the others, all is said
            except Exception:  # noqa: BLE001
                continue  # said by the check of the set-up


class Progress:
    """A bar on stderr where that is a screen; a line at the end otherwise."""

    def __init__(self, count: int):
        self.count, self.done, self.bad = count, 0, 0
        self.screen = sys.stderr.isatty()

    def step(self, findings: list[Finding]) -> None:
        self.done += 1
        self.bad += any(finding.level == 'error' for finding in findings)
        if self.screen and (self.done % 10 == 0 or self.done == self.count):
            filled = 30 * self.done // self.count
            print(f'\r[{"#" * filled}{" " * (30 - filled)}] {self.done}/{self.count} files, '
                  f'{self.bad} bad', end='\n' if self.done == self.count else '', file=sys.stderr,
                  flush=True)
        elif not self.screen and self.done == self.count:
            print(f'{self.done}/{self.count} files, {self.bad} bad', file=sys.stderr)


def report(findings: list[Finding], files: int, args: argparse.Namespace) -> int:
    """Print the findings, errors first; returns the exit status."""
    findings = sorted(set(findings), key=lambda f: (f.level, f.kind, f.where, f.text))
    if args.out:
        with open(args.out, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
            rows = csv.writer(file)
            rows.writerow(['level', 'kind', 'where', 'text', 'cure'])
            rows.writerows([f.level, f.kind, f.where, f.text, f.cure or KINDS[f.kind][1]]
                           for f in findings)
    counts, shown = Counter((f.level, f.kind) for f in findings), Counter()
    for finding in findings:
        shown[finding.kind] += 1
        if args.all or shown[finding.kind] <= SHOWN:
            print(_printable(str(finding)))
    for (level, kind), count in counts.items():
        print(f'{count:7,} {level}{"s" if count > 1 else ""}: {kind}')
    errors = sum(count for (level, _), count in counts.items() if level == 'error')
    warnings = len(findings) - errors
    print(f'{files:,} files checked: {errors:,} errors, {warnings:,} warnings.'
          + (f' All are in {args.out}.' if args.out else ''))
    return 1 if errors else 0


def _printable(text: str) -> str:
    """Names of files may hold anything, also what would steer a terminal."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape', 'surrogateescape').decode(
        'ascii', 'replace') if not '\ud800' <= c <= '\udfff' else '?' for c in text)


def main(arguments=None) -> int:
    args = parse_args(arguments)
    findings, jobs = [], []
    for item in gather(args):
        (findings if isinstance(item, Finding) else jobs).append(item)
    progress = Progress(len(jobs))
    for found in pool.run(jobs, args.workers):
        findings += found
        progress.step(found)
    return report(findings, len(jobs), args)


def cli() -> None:
    """The command line of this tool."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f'Error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit('Interrupted.')
