"""Clips a second of films as training reads them, beside decord, and what the index of one costs.

    python benchmarks/films.py [--films 16] [--rounds 5] [--workers 2]

Films are H.264 of 340 x 256, 300 frames at 30 a second, with keyframes where x264 sets them; made
here by imageio-ffmpeg. A clip is 32 frames, every second one. The two readers take turns, each in a
data loader of its own whose workers live on, so that a film is indexed once; the first round, in
which that happens, is shown apart. Needs decord.
"""
import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import av
import decord
import imageio_ffmpeg
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from timing import processor

import swinv2_mm.utils.compat  # noqa: F401 - makes mmaction2 importable
from swinv2_mm.datasets.films import Film

SAMPLE = dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1)
READERS = {'ReadVideo': [dict(type='swinv2_mm.ReadVideo', sample=SAMPLE)],
           'decord': [dict(type='DecordInit'), SAMPLE, dict(type='DecordDecode')]}
SOURCE = 'testsrc2=s=340x256:r=30'


def make(folder: Path, count: int) -> list[str]:
    """Films of moving shapes with some noise, each from another moment on."""
    paths = []
    for number in range(count):
        path = folder / f'{number}.mp4'
        subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), '-loglevel', 'error', '-f', 'lavfi', '-ss',
             str(number), '-i', SOURCE, '-vf', 'noise=alls=6:allf=t', '-frames:v', '300',
             '-c:v', 'libx264', '-pix_fmt', 'yuv420p', path], check=True)
        paths.append(str(path))
    return paths


class Films(torch.utils.data.Dataset):
    """A clip of each film."""

    def __init__(self, paths: list[str], reader: str):
        self.paths, self.reader, self.read = paths, reader, None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> int:
        if self.read is None:
            with DefaultScope.overwrite_default_scope('mmaction'):
                self.read = Compose(READERS[self.reader])
            np.random.seed(number)
        found = self.read(dict(filename=self.paths[number], start_index=0, modality='RGB', label=0))
        return len(found['imgs'])


def rounds(paths: list[str], count: int, workers: int) -> dict[str, list[float]]:
    """Clips a second of each reader in each round, turn by turn."""
    loaders = {name: torch.utils.data.DataLoader(
        Films(paths, name), batch_size=4, num_workers=workers, persistent_workers=True)
        for name in READERS}
    for loader in loaders.values():
        next(iter(loader))  # workers start
    found = {name: [] for name in READERS}
    for _ in range(count + 1):
        for name, loader in loaders.items():
            start = time.perf_counter()
            clips = sum(len(batch) for batch in loader)
            found[name].append(clips / (time.perf_counter() - start))
    return found


def clip_cost(paths: list[str]) -> dict[str, float]:
    """Median of seconds on the processor that a clip takes each reader, which other programs
    disturb less than the time that passes."""
    films = {name: Films(paths, name) for name in READERS}
    found = {name: [] for name in READERS}
    for number in [0, *range(len(paths))]:
        for name, data in films.items():
            start = time.process_time()
            data[number]
            found[name].append(time.process_time() - start)
    return {name: median(costs[1:]) for name, costs in found.items()}


def index_cost(paths: list[str]) -> tuple[float, float]:
    """Medians of seconds on the processor: to index a film, and to decode it once."""
    costs = []
    for path in paths:
        row = []
        for work in (len, lambda film: sum(1 for _ in film.frames())):
            with Film(path) as film:
                start = time.process_time()
                work(film)
                row.append(time.process_time() - start)
        costs.append(row)
    return tuple(np.median(costs, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--films', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = make(Path(folder), args.films)
        size = np.mean([Path(path).stat().st_size for path in paths])
        print(f'{processor()}; av {av.__version__}, decord '
              f'{decord.__version__}, {args.workers} workers, films of {size / 1e6:.1f} MB')
        indexed, decoded = index_cost(paths)
        print(f'index of a film {1e3 * indexed:.2f} ms, one decode of it {1e3 * decoded:.1f} ms: '
              f'{indexed / decoded:.3f} of it')
        costs = clip_cost(paths)
        print(', '.join(f'{name}: {1e3 * cost:.0f} ms on the processor a clip'
                        for name, cost in costs.items()))
        found = rounds(paths, args.rounds, args.workers)
    for name, speeds in found.items():
        later = speeds[1:]
        print(f'{name}: {median(later):.1f} clips a second ({min(later):.1f} to {max(later):.1f}), '
              f'first round {speeds[0]:.1f}')
    ratios = [one / other for one, other in zip(*found.values())][1:]
    print(f'ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})')


if __name__ == '__main__':
    main()
