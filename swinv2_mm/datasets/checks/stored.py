"""Findings that took long are kept, and hold until a file, a setting or a rule of theirs changes.

They lie in ~/.cache/swinv2_mm/checks (or below $XDG_CACHE_HOME), as json, and may be deleted.
"""
from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import swinv2_mm

from .findings import KINDS, Finding

SLOW = 2.0  # seconds; what is found faster is found again
MANY = 10_000  # findings, of which no one waits for a second list
KEPT = 50  # files


def found(run, find: Callable[[], list[Finding]]) -> list[Finding]:
    """What `find` returns on the data of a run, or returned when all was as it is now."""
    path = _folder() / f'{_key(run)}.json'
    kept = _read(path)
    if kept is not None:
        return kept
    start = time.monotonic()
    new = find()
    if time.monotonic() - start > SLOW and len(new) < MANY:
        _write(path, dict(files={name: _stamp(name) for name in sorted(run.files)}, found=new))
    return new


def _folder() -> Path:
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(home, 'swinv2_mm', 'checks')


def _key(run) -> str:
    """Of the rules and of all settings that they look at."""
    rules = [_stamp(path) for path in sorted(Path(__file__).parent.glob('*.py'))]
    settings = {key: run.cfg.get(key) for split in ('train', 'val', 'test')
                for key in (f'{split}_dataloader', f'{split}_evaluator')}
    text = json.dumps([swinv2_mm.__version__, rules, run.scope, run.splits, run.cfg['model'],
                       settings, os.getcwd()], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path) -> list | None:
    """Size and time of a file; None where there is none."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return [state.st_size, state.st_mtime_ns]


def _read(path: Path) -> list[Finding] | None:
    try:
        content = json.loads(path.read_text())
        if any(_stamp(name) != stamp for name, stamp in content['files'].items()):
            return None
        kept = [Finding(*finding) for finding in content['found']]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none, or damaged
    return kept if all(finding.kind in KINDS for finding in kept) else None


def _write(path: Path, content: dict) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(f'.{os.getpid()}')
        whole.write_text(json.dumps(content))
        whole.replace(path)
        old = sorted(path.parent.glob('*.json'), key=lambda p: p.stat().st_mtime)[:-KEPT]
        for other in old:
            other.unlink(missing_ok=True)
    except OSError:
        return  # a full or read-only disk: it is found again
