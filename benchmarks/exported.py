"""An exported backbone in onnxruntime beside the same in PyTorch: python benchmarks/exported.py

SwinV2-T with awake random weights, one picture of noise, at windows 8 and 16 and two sizes. Each is
timed alone in a process of its own: runtimes in one process keep threads that wait for each other's
cores. `plain` is the model as it is defined, `itself` as it runs, `file` onnxruntime with
`session.set_denormal_as_zero`, `file without` without it. Prints the table of docs/export.md.
"""
import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import timing
import torch

QUICK = dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
KINDS = ('plain', 'itself', 'file', 'file without')
CASES = tuple((window, size) for window in (8, 16) for size in ((256, 256), (512, 640)))


def backbone(arch: str, window: int) -> torch.nn.Module:
    from awake import awaken

    from swinv2_mm import SwinTransformerV2
    size = QUICK if arch == 'quick' else arch
    return awaken(SwinTransformerV2(size, window_size=window)).eval().requires_grad_(False)


def write(path: Path, arch: str, window: int, size: tuple[int, int]) -> None:
    """Export the backbone, as tools/export_onnx.py --part backbone does."""
    from mmengine.model import BaseDataPreprocessor

    from swinv2_mm.export import graphs
    model = torch.nn.Module()
    model.backbone, model.data_preprocessor = backbone(arch, window), BaseDataPreprocessor()
    pixels = graphs.Pixels(model, 'backbone').eval()
    graphs.write(graphs.trace(pixels, size), path, pixels)


def call(kind: str, path: Path, arch: str, window: int, size: tuple[int, int]):
    """A function that runs one picture through one of KINDS."""
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8,
                          generator=torch.Generator().manual_seed(0)).float()
    if kind.startswith('file'):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        if kind == 'file':
            options.add_session_config_entry('session.set_denormal_as_zero', '1')
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        return lambda: session.run(None, {'image': image.numpy()})

    from swinv2_mm.models import sequential
    model = backbone(arch, window)
    path = sequential.plain_path if kind == 'plain' else contextlib.nullcontext

    def run():
        with torch.no_grad(), path():
            model(image)
    return run


def alone(words: list[str]) -> None:
    """In a process of its own: print the seconds of each round."""
    kind, path, arch, window, height, width, rounds, threads = words
    torch.set_num_threads(int(threads))
    run = call(kind, Path(path), arch, int(window), (int(height), int(width)))
    run()
    print(*(timing.seconds(run, torch.device('cpu')) for _ in range(int(rounds))))


def measure(kind: str, *words) -> list[float]:
    done = subprocess.run([sys.executable, __file__, '--alone', kind, *map(str, words)],
                          check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='one tiny model, one round')
    parser.add_argument('--alone', nargs=8, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        return alone(args.alone)
    arch, cases, rounds = 'tiny', CASES, args.rounds
    if args.quick:
        arch, cases, rounds = 'quick', ((4, (64, 64)),), 1
    print(f'| window, size | {" | ".join(KINDS)} |\n{"|---" * (1 + len(KINDS))}|')
    with tempfile.TemporaryDirectory() as folder:
        for window, size in cases:
            path = Path(folder) / f'{window}_{size[0]}.onnx'
            with contextlib.redirect_stdout(sys.stderr):
                write(path, arch, window, size)
            cells = [timing.cell(timing.spread(measure(
                kind, path, arch, window, *size, rounds, args.threads))) for kind in KINDS]
            print(f'| {window}, {size[0]} x {size[1]} | {" | ".join(cells)} |', flush=True)
    same = timing.conditions(torch.device('cpu'), ['onnxruntime'])
    print(f'\n{same["device"]}, {args.threads} threads; torch {same["torch"]}; {same["versions"]}.')


if __name__ == '__main__':
    main()
