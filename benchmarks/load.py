"""Time and memory of `load_backbone` against `torch.load` + `load_state_dict`, on SwinV2-B.

    python benchmarks/load.py [--runs 5] [--arch base]

The same weights, with a head of 1,000 classes and position tables, in one file under official
names and in one under this package's. Each run is a fresh process that builds the model, then
loads; the kinds take turns. `cpu` is time on the processor, which other programs disturb less than
the time that passes. Memory is the peak of resident memory above that before loading.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import LAYOUTS, from_native, load_backbone

SETTINGS = dict(window_size=16, pretrained_window_sizes=8)
TRAINED = [((8, 8), (8, 8))] * 4


def resident(field: str) -> int:
    """VmRSS or VmHWM (peak) of this process in bytes; Linux."""
    line = next(x for x in Path('/proc/self/status').read_text().splitlines() if field in x)
    return int(line.split()[1]) * 1024


def measure(kind: str, file: str, arch: str) -> dict:
    """Load once; seconds, of them on the processor, and peak bytes above the start."""
    model = SwinTransformerV2(arch, **SETTINGS)
    Path('/proc/self/clear_refs').write_text('5')  # the peak begins here
    before, start, busy = resident('VmRSS'), time.perf_counter(), time.process_time()
    if kind == 'torch':
        state = torch.load(file, map_location='cpu', weights_only=True)['model']
        model.load_state_dict(state, strict=False)
    else:
        load_backbone(model, file)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return dict(seconds=seconds, busy=busy, bytes=resident('VmHWM') - before)


def write_files(folder: str, arch: str) -> dict[str, str]:
    native = SwinTransformerV2(arch).state_dict()
    head = {'head.weight': torch.randn(1000, native['norm3.weight'].numel()),
            'head.bias': torch.randn(1000)}
    files = {}
    for layout in LAYOUTS:
        files[layout] = f'{folder}/{layout}.pth'
        torch.save({'model': from_native(native | head, layout, TRAINED)}, files[layout])
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--arch', default='base')
    parser.add_argument('--measure', nargs=2, metavar=('KIND', 'FILE'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args.arch)))
        return
    environment = os.environ | dict(OMP_NUM_THREADS='1')
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(folder, args.arch)
        kinds = {'torch.load + load_state_dict': ('torch', files['native'])} | {
            f'load_backbone, {layout}': ('ours', file) for layout, file in files.items()}
        results = {name: [] for name in kinds}
        for _ in range(args.runs):
            for name, (kind, file) in kinds.items():
                out = subprocess.run(
                    [sys.executable, __file__, '--arch', args.arch, '--measure', kind, file],
                    capture_output=True, text=True, check=True, env=environment).stdout
                results[name].append(json.loads(out.splitlines()[-1]))
        print(f'SwinV2 {args.arch}, {os.path.getsize(files["official"]) / 2**20:.0f} MiB, float32; '
              f'{platform.processor() or platform.machine()}, {os.cpu_count()} cores, 1 thread; '
              f'Python {platform.python_version()}, torch {torch.__version__}; {args.runs} runs')
    report(results)


def report(results: dict[str, list[dict]]) -> None:
    """One line a kind: medians, spread, and ratios to the first."""
    base = None
    for name, runs in results.items():
        columns = {key: [run[key] for run in runs] for key in ('seconds', 'busy', 'bytes')}
        middle = {key: statistics.median(values) for key, values in columns.items()}
        base = base or middle
        times = [f'{middle[key] * 1e3:5.0f} ms ({min(columns[key]) * 1e3:.0f} to '
                 f'{max(columns[key]) * 1e3:.0f}) {middle[key] / base[key]:4.2f}x'
                 for key in ('seconds', 'busy')]
        print(f'{name:28} {times[0]:28} cpu {times[1]:28} peak {middle["bytes"] / 2**20:.0f} MiB '
              f'{middle["bytes"] / base["bytes"]:.2f}x')


if __name__ == '__main__':
    main()
