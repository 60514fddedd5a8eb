"""Tiny trainings for tests of faults: one process with all libraries imported forks one for each.

`bench()` starts it once for all tests of a session; see benchmarks/faulty_runs.py.
"""
import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import faulty_runs
import reliability


@functools.cache
def start():
    """The farm and the folder that its runs write to, until the session ends."""
    folder = Path(tempfile.mkdtemp(prefix='faulty_runs_'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    farm = faulty_runs.Farm()
    atexit.register(farm.__exit__)
    return farm, folder


@functools.cache
def bench(*tasks: str) -> reliability.Bench:
    """The named tasks, each run once without faults."""
    farm, folder = start()
    folder = folder / '_'.join(tasks)
    folder.mkdir()
    return reliability.set_up(farm, folder, tasks)


def output(work_dir: Path) -> str:
    """What the runs in a work dir printed."""
    return (work_dir / 'output.txt').read_text()
