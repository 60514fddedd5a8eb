"""What the makers of toy data sets share, so that half a set never looks whole.

A maker reads its arguments with `Parser`, says with a `Recipe` what its set is, writes it in a
function `fill(folder)`, and leaves the rest to `make` inside `run`: a set that is there already is
found again, another one is kept unless --force is given, and a new one is built beside its place
and renamed into it when whole. Whatever goes wrong ends in one sentence.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SPLITS = ('train', 'val')  # only ever append: the position is part of the seed


@dataclass(frozen=True)
class Recipe:
    """What a set is: two sets of the same `info` are the same.

    `info` holds what the set was made from; its 'description' tells whose it is, its 'version' is
    the maker's. `counts` gives for each pattern of files, such as 'train/*.jpg', how many there
    are. Each of `records`, json files at the top of the set, carries the info under 'info'.
    """

    info: dict
    counts: dict
    records: tuple = ('set.json',)

    @property
    def names(self) -> set:
        """Everything that a set of this recipe may hold at its top."""
        return {*self.records, *(pattern.split('/')[0] for pattern in self.counts)}


class Parser(argparse.ArgumentParser):
    """Options that every maker has, and one sentence for a wrong one."""

    def __init__(self, tool: str, description: str, out: str, what: str, train: int, val: int):
        super().__init__(prog=tool, description=description)
        self.set_defaults(tool=tool)
        self.add_argument('--out', type=Path, default=Path(out), help=f'folder to make ({out})')
        self.add_argument('--train', type=int, default=train, help=f'training {what} ({train})')
        self.add_argument('--val', type=int, default=val, help=f'validation {what} ({val})')
        self.add_argument('--seed', type=int, default=0, help='another seed, another set (0)')
        self.add_argument('--force', action='store_true',
                          help='replace a set made with other arguments')

    def error(self, message):  # argparse would print its usage over several lines first
        self.exit(2, f'{self.prog}: {message}: see --help for what it takes\n')


def check_arguments(args: argparse.Namespace, what: str, *more: tuple) -> None:
    """Raise ValueError, in one sentence, when a number is out of its range.

    `what` is counted by --train and --val; `more` are further (option, meaning, value, low, high).
    """
    ranges = [('--train', f'a number of {what}', args.train, 0, 999_999),
              ('--val', f'a number of {what}', args.val, 0, 999_999),
              *more,
              ('--seed', 'a whole number', args.seed, 0, 2**32 - 1)]
    for name, meaning, value, low, high in ranges:
        if not low <= value <= high:
            hint = f'at least {low}' if value < low else f'at most {high}'
            raise ValueError(f'{name} must be {meaning} from {low} to {high}, got {value}: '
                             f'give {hint}')


def random_stream(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of item `index` of a split: the same however many items are made.

    `seed` is in [0, 2**32), `split` one of `SPLITS`, `index` >= 0. Returns a numpy Generator.
    """
    return np.random.default_rng([seed, SPLITS.index(split), index])


def progress(split: str, what: str, done: int, count: int) -> None:
    """Show now and then, on stderr, that `done` of `count` items of a split are written."""
    if done % 50 and done != count:
        return
    if sys.stderr.isatty():
        end = '\n' if done == count else ''
        print(f'\r{split} {done}/{count} {what}', end=end, file=sys.stderr, flush=True)
    elif done == count:  # a log file wants one line, not a rewritten one
        print(f'{split} {done}/{count} {what}', file=sys.stderr)


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`, without spaces."""
    path.write_text(json.dumps(content, separators=(',', ':')), encoding='utf-8')


def write_picture(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write `image` as the kind of file that the ending of `path` says; OSError when it cannot."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == '.jpg' else []
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1])  # imwrite hides a full disk


def find_existing(out: Path, recipe: Recipe) -> tuple[str, int | None]:
    """Say what `out` holds: 'nothing', the 'same' whole set as `recipe` says, or an 'other' one.

    Also gives the version of the maker of what is there, or None. Raises ValueError when `out`
    holds anything else, which is never overwritten.
    """
    if not out.exists():
        return 'nothing', None
    if not out.is_dir():
        raise ValueError(f'--out must be a folder, {out} is a file: choose another --out')
    found = {path.name for path in out.iterdir()}
    if not found:
        return 'nothing', None
    infos = [_read_info(out / name) for name in recipe.records]
    ours = [old for old in infos if old.get('description') == recipe.info['description']]
    if found - recipe.names or not ours:
        raise ValueError(f'--out must be new, empty or made by this tool, {out} holds other files: '
                         'choose another --out')
    whole = all(len(list(out.glob(pattern))) == count for pattern, count in recipe.counts.items())
    same = whole and all(old == recipe.info for old in infos)
    return 'same' if same else 'other', ours[0].get('version')


def _read_info(path):
    try:
        return dict(json.loads(path.read_text(encoding='utf-8'))['info'])
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # not a json of ours; the caller says so


def build(out: Path, fill: Callable[[Path], str], replace: bool = False) -> str:
    """Let `fill` write a set beside `out`, then rename it into place; return what `fill` returns.

    With `replace`, a set already there is removed once the new one is whole. Raises OSError when
    the disk does not take it, or when there is a set already and `replace` is False.
    """
    partial = out.parent / f'.{out.name}.partial-{os.getpid()}'
    old = out.parent / f'.{out.name}.old-{os.getpid()}'
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)  # of a killed run that had the same process id
    try:
        partial.mkdir()
        said = fill(partial)
        if replace:
            out.rename(old)
        partial.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return said


def make(args: argparse.Namespace, recipe: Recipe, fill: Callable[[Path], str]) -> None:
    """Have the set of `recipe` at `args.out`, building it when it is not there yet.

    `fill(folder)` writes it into an empty folder and returns what is in it, in words. Raises
    ValueError when something else is there, or another set without `args.force`.
    """
    start, out = time.perf_counter(), args.out.resolve()
    existing, version = find_existing(out, recipe)
    if existing == 'same':
        print(f'{args.out} is already there, made with the same arguments: nothing to do')
        return
    if existing == 'other' and not args.force:
        now = recipe.info['version']
        if version != now:
            raise ValueError(f'--out must be a new folder or a set of version {now} of this tool, '
                             f'{args.out} is of version {version}: give --force to replace it')
        raise ValueError(f'--out must be a new folder or a whole set made with the same '
                         f'arguments, {args.out} is neither: give --force to replace it')
    said = build(out, fill, replace=existing == 'other')
    print(f'wrote {args.out}: {said} in {time.perf_counter() - start:.1f} s')


def ends_in_a_sentence(args: argparse.Namespace, work: Callable[[], None]) -> None:
    """Call `work`; exit with one sentence and a non-zero code when it cannot do it."""
    try:
        work()
    except ValueError as error:
        sys.exit(f'{args.tool}: {error}')
    except OSError as error:
        sys.exit(f'{args.tool}: --out must be a folder that can be written, {args.out} gives '
                 f'"{error.strerror}": make room or choose another --out')
    except ModuleNotFoundError as error:
        sys.exit(f'{args.tool}: this set is written with {error.name}, which is missing: '
                 f'run `pip install {error.name.split(".")[0]}`')


def run(tool: str, main: Callable[[], None]) -> None:
    """Run a maker's `main` from the shell: stopped or killed, it cleans up and says so."""
    cv2.setNumThreads(1)  # the pictures are too small for threads to pay
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that build() cleans up
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f'{tool}: stopped before it was done: run it again')
