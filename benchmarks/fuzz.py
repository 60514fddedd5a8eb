"""A hundred thousand damaged files, and every kind of bad file many times: what comes of each.

    python benchmarks/fuzz.py [--cases 100000] [--first 0] [--files 25] [--out FILE.json]

Targets and damage are those of damage.py, bad files those of bad_files.py. A case is lost
if it crashes, hangs, takes more than 1 GB, runs code, leads out of the data, or ends in anything
but a sentence. Rows for docs/reliability.md: "fault", "injected", "survived", "lost" under "rows".
With --first, cases of another stretch; what --out holds already is added to.
"""
import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path

import bad_files
import cv2
import damage
import numpy
import PIL
import torch

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / 'benchmarks/results/reliability_data.json'
SHARES = {  # of the cases; slow ones less often
    'image in training': .30, 'image in the check': .20, 'map in the check': .15,
    'list of files': .28, 'COCO annotations': .04, 'video in the check': .03}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', type=int, default=100_000)
    parser.add_argument('--first', type=int, default=0, help='number of the first case of each')
    parser.add_argument('--files', type=int, default=25, help='bad files of each kind')
    parser.add_argument('--targets', nargs='+', choices=SHARES, default=list(SHARES))
    parser.add_argument('--out', type=Path, default=OUT)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    report = Report(args.out)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.targets:
            count, start = round(args.cases * SHARES[name]), time.perf_counter()
            bad = damage.lost(name, range(args.first, args.first + count), Path(folder), batch=200)
            for number, text in bad:
                print(f'LOST {name}, case {number}: {text}', flush=True)
            report.add(f'damaged at random: {name}', count, len(bad))
            print(f'{name}: {count} cases, {len(bad)} lost, {time.perf_counter() - start:.0f} s',
                  flush=True)
        for kind, lost in bad_files_in_training(Path(folder), args.files):
            report.add(f'bad file in training or the check: {kind}', args.files, lost)
    report.write()


def bad_files_in_training(folder: Path, count: int):
    """(name of a kind, how many of `count` were not told, or not skipped by training)."""
    from swinv2_mm.datasets.checks import pool
    for name, (check, kind, _, _) in bad_files.MAKERS.items():
        if not count:
            return
        home = folder / 'kinds' / name
        home.mkdir(parents=True)
        path = bad_files.write(name, home)
        jobs = [(check, str(path), dict(span=10)) for _ in range(count)]
        found = list(pool.run(jobs, 1))
        lost = sum(not any(f.kind in kind.split('|') for f in some) for some in found)
        if check == 'image':
            lost = max(lost, sum(not _sound(path, kind) for _ in range(count)))
        yield name, lost


def _sound(path: Path, kind: str) -> bool:
    """Whether training skips an error, by its name, and loads what is only unusual."""
    from mmengine.registry import TRANSFORMS

    import swinv2_mm.datasets.images  # noqa: F401
    from swinv2_mm.datasets.checks.findings import WARNINGS
    load = TRANSFORMS.build(dict(type='swinv2_mm.LoadImage', bad='skip'))
    random.seed(0)
    found = load(dict(img_path=str(path)))
    return (found is not None) == (kind in WARNINGS) and len(load.tally) == (found is None)


class Report:
    """Rows of faults, and what they were measured with; rows of earlier runs are added to."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = json.loads(path.read_text())['rows'] if path.exists() else []

    def add(self, fault: str, injected: int, lost: int) -> None:
        if not injected:
            return
        old = next((row for row in self.rows if row['fault'] == fault), None)
        if old is None:
            self.rows.append(old := dict(fault=fault, injected=0, survived=0, lost=0))
        old['injected'] += injected
        old['lost'] += lost
        old['survived'] = old['injected'] - old['lost']
        self.write()

    def write(self) -> None:
        versions = dict(python=platform.python_version(), torch=torch.__version__,
                        opencv=cv2.__version__, pillow=PIL.__version__, numpy=numpy.__version__)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(dict(
            command='python benchmarks/fuzz.py', versions=versions, rows=self.rows), indent=1))


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    main()
