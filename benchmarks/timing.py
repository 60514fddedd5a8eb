"""What the benchmarks share: taking turns, seconds, memory, the machine, and files of results."""
from __future__ import annotations

import csv
import ctypes
import datetime
import gc
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks/results'
SHORTEST = 0.1  # seconds of one sample; a quicker call is repeated to fill it
WORDS = ("can't allocate memory", 'not enough memory', 'out of memory')
CONDITIONS = ('run', 'device', 'threads', 'torch', 'versions')


def autocast(device: torch.device, dtype: torch.dtype):
    """Autocast to `dtype`, or none for float32."""
    return (nullcontext() if dtype == torch.float32
            else torch.autocast(device.type, dtype=dtype))


def synchronise(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(call: Callable, device: torch.device, times: int = 1) -> float:
    """Mean seconds of a call over `times` in a row."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(times):
        call()
    synchronise(device)
    return (time.perf_counter() - start) / times


def take_turns(calls: dict[str, Callable], rounds: int, device: torch.device,
               first: dict[str, float]) -> dict[str, list[float]]:
    """A B C A B C ..: the seconds of every call in every round; `first` says how long it took."""
    times = {name: max(1, math.ceil(SHORTEST / first[name])) for name in calls}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds(call, device, times[name]))
    return found


def resident(field: str) -> int:
    """VmRSS, VmHWM (its peak) or VmData of this process in bytes; Linux."""
    line = next(x for x in Path('/proc/self/status').read_text().splitlines()
                if x.startswith(f'{field}:'))
    return int(line.split()[1]) * 1024


def trim() -> None:
    """Give freed memory back to the system, so that taking it again is seen."""
    gc.collect()
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL('libc.so.6').malloc_trim(0)


def peak(call: Callable, device: torch.device) -> int:
    """Bytes by which one call raises memory at most: resident on a CPU, the allocator's on CUDA."""
    trim()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    Path('/proc/self/clear_refs').write_text('5')  # the peak begins here
    before = resident('VmRSS')
    call()
    return resident('VmHWM') - before


@contextmanager
def count_saved(owners: list[torch.Tensor]):
    """A dict that fills with {storage: bytes} of what autograd keeps, without those of `owners`."""
    own = {tensor.untyped_storage().data_ptr() for tensor in owners}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor  # kept, so that no other storage comes to the same address

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


def available() -> int:
    """Bytes of memory that this machine can still give; Linux."""
    return next(int(line.split()[1]) * 1024
                for line in Path('/proc/meminfo').read_text().splitlines()
                if line.startswith('MemAvailable:'))


@contextmanager
def bounded_memory(device: torch.device):
    """Let an allocation fail in Python where the machine's memory would run out."""
    if device.type == 'cuda':
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # Room is left for the libraries, which do not ask whether an allocation went well.
    limit = resident('VmData') + int(0.93 * available())
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        words in str(error) for words in WORDS)


def warm(call: Callable, model: nn.Module, device: torch.device) -> tuple[dict, float]:
    """What a first call takes of memory, and how long about another one takes."""
    with count_saved([*model.parameters(), *model.buffers()]) as saved:
        start = time.perf_counter()
        most = peak(call, device)
        taken = time.perf_counter() - start
    if taken < 1:
        taken = seconds(call, device)
    return dict(peak_mib=round(most / 2**20, 1),
                saved_mib=round(sum(saved.values()) / 2**20, 1)), taken


def warm_all(calls: dict[str, Callable], models: dict[str, nn.Module],
             device: torch.device) -> tuple[dict[str, dict], dict[str, float]]:
    """`warm` for each: the columns of all, and the seconds of those for which memory suffices."""
    found, first = {}, {}
    for name, call in calls.items():
        try:
            with bounded_memory(device):
                found[name], first[name] = warm(call, models[name], device)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            found[name] = dict(note='memory ran out')
            models[name].zero_grad(set_to_none=True)
        trim()
    return found, first


def processor() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(': ')[2]
    return platform.machine()


def conditions(device: torch.device, packages: list[str]) -> dict:
    """The columns of `CONDITIONS`: when, on what and with which versions this runs."""
    name = (torch.cuda.get_device_name(device) if device.type == 'cuda'
            else f'{processor()}, {os.cpu_count()} cores')
    versions = []
    for package in packages:
        try:
            versions.append(f'{package} {metadata.version(package)}')
        except metadata.PackageNotFoundError:
            continue
    return dict(run=datetime.datetime.now().isoformat(timespec='seconds'), device=name,
                threads=torch.get_num_threads(), torch=torch.__version__,
                versions='; '.join(versions))


def spread(times: list[float]) -> dict:
    """The columns of the times: median, least and greatest, in milliseconds."""
    return dict(median_ms=round(1e3 * statistics.median(times), 3),
                min_ms=round(1e3 * min(times), 3), max_ms=round(1e3 * max(times), 3))


def today(kind: str) -> Path:
    return RESULTS / f'{kind}_{datetime.date.today()}.csv'


def append(path: Path, fields: tuple[str, ...], rows: list[dict]) -> None:
    """Add rows to a file of results; what is in it stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    if not fresh:
        with path.open(newline='') as file:
            found = next(csv.reader(file))
        if tuple(found) != fields:
            raise ValueError(f'The columns of {path} must be {", ".join(fields)}, got '
                             f'{", ".join(found)}: name another file with --out.')
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, fields)
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def read(paths: list[Path], keys: tuple[str, ...]) -> list[dict]:
    """Rows of files of results; of what was measured in several runs, by `keys`, the last run's."""
    rows = []
    for path in paths:
        with path.open(newline='') as file:
            rows += csv.DictReader(file)
    last: dict[tuple, str] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        last[key] = max(row['run'], last.get(key, ''))
    return [row for row in rows if row['run'] == last[tuple(row[k] for k in keys)]]


def fill(page: Path, name: str, text: str, begin: str = '<!-- table: {} -->',
         end: str = '<!-- end -->') -> None:
    """Put text between two comments of a page, in which {} stands for the name; ValueError where
    they are not there."""
    begin, end = begin.format(name), end.format(name)
    before, found, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f'{page} must hold {begin} and, after it, {end}, and does not: add them '
                         'where the text is to stand.')
    page.write_text(f'{before}{begin}\n{text}\n{end}{after}')
    print(f'{name} of {page} is filled in')


def cell(row: dict | None) -> str:
    """Median and spread of a row in milliseconds, or why there is none."""
    if row is None:
        return '-'
    if not row.get('median_ms'):
        return row['note']
    low, middle, high = (float(row[key]) for key in ('min_ms', 'median_ms', 'max_ms'))
    digits = 0 if middle >= 100 else 1
    return f'{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})'


def amount(row: dict | None, key: str) -> str:
    return f'{float(row[key]):.0f}' if row and row.get(key) else '-'


def line(row: dict) -> str:
    """A row as it is printed while measuring."""
    if 'median_ms' not in row:
        return f'  {row["name"]:22} {row["note"]}'
    words = [f'  {row["name"]:22} {row["median_ms"]:9.1f} ms ({row["min_ms"]:.1f} to '
             f'{row["max_ms"]:.1f})']
    for key, text in (('speedup', 'speed-up {:.2f}'), ('of_floor', 'floor {:.2f}'),
                      ('gflops', '{:.1f} GFLOP/s'), ('peak_mib', 'peak {:.0f} MiB'),
                      ('saved_mib', 'saved {:.1f} MiB')):
        if row.get(key):
            words.append(text.format(row[key]))
    return '  '.join(words)


def machine(rows: list[dict]) -> str:
    """One sentence a distinct set of conditions, for under a table."""
    seen = dict.fromkeys((row['device'], row['threads'], row['torch'], row['versions'])
                         for row in rows)
    return '\n'.join('; '.join(filter(None, [f'{device}, {threads} threads', f'torch {torch_}',
                                              versions])) + '.'
                     for device, threads, torch_, versions in seen)


def common(parser) -> None:
    """The options of all benchmarks."""
    parser.add_argument('--rounds', type=int, default=5, help='turns that each takes')
    parser.add_argument('--threads', type=int, help="torch's, if not as it is by itself")
    parser.add_argument('--device', type=torch.device, default=torch.device('cpu'))
    parser.add_argument('--out', type=Path, help='csv to add to (default: that of today in '
                        'benchmarks/results)')
    parser.add_argument('--quick', action='store_true', help='one tiny workload, one round')
    parser.add_argument('--table', type=Path, nargs='+', metavar='CSV',
                        help='measure nothing: fill the table of --page from these files')
    parser.add_argument('--page', type=Path, default=ROOT / 'docs/speed.md')
