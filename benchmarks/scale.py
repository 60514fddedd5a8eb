"""Memory and time of a training step, or of a forward pass, of a backbone on this machine's CPU.

    python benchmarks/scale.py --arch large --size 1536 --window 32 --precision bf16 --with-cp
    python benchmarks/scale.py --arch giant --size 192 --window 12 --weights bf16 --forward

Peak is the most that was resident (VmHWM of Linux) beyond what was before the model was built, when
a nano model had run: libraries are not in it. The step is the second one of AdamW; gradients are
released after it. Inputs are noise, weights fresh.
"""
import argparse
import os
import platform
import sys
import time
from pathlib import Path

# Freed memory goes back to the system at once, so that resident is what is in use.
EXACT = dict(MALLOC_MMAP_THRESHOLD_='262144', MALLOC_TRIM_THRESHOLD_='262144')
if any(os.environ.get(key) != value for key, value in EXACT.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | EXACT)

import torch  # noqa: E402

from swinv2_mm import SwinTransformerV2  # noqa: E402
from swinv2_mm.models import sequential  # noqa: E402

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the most since `restart`), in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise ValueError(f'/proc/self/status must have {field}: this measures on Linux only.')


def restart() -> None:
    """Begin VmHWM anew."""
    Path('/proc/self/clear_refs').write_text('5')


def build(args: argparse.Namespace) -> torch.nn.Module:
    torch.set_default_dtype(DTYPES[args.weights])
    model = SwinTransformerV2(args.arch, window_size=args.window, with_cp=args.with_cp,
                              drop_path_rate=args.drop_path)
    torch.set_default_dtype(torch.float32)
    return model


def forward(model, x, args) -> tuple[torch.Tensor, ...]:
    with torch.autocast('cpu', DTYPES[args.precision], enabled=args.precision != 'fp32'):
        return model(x)


def step(model, optimizer, x, args) -> None:
    outs = forward(model, x, args)
    torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
    optimizer.step()
    optimizer.zero_grad()


def begin(trained, optimizer) -> None:
    """Let the optimizer make its state, with gradients of zero."""
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Bytes: of weights, and at peaks; seconds of building and of the run, cpu_seconds in use."""
    small = SwinTransformerV2('nano')
    step(small, torch.optim.AdamW(small.parameters()), torch.rand(1, 3, 64, 64), args)
    before, start = resident('VmRSS'), time.perf_counter()
    restart()
    model = build(args)
    built, building = time.perf_counter() - start, resident('VmHWM') - before
    x = torch.rand(args.batch, 3, args.size, args.size, dtype=DTYPES[args.weights])
    if args.forward:
        model.eval()
        run = torch.no_grad()(lambda: forward(model, x, args))
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        begin(model.train().parameters(), optimizer)
        run = lambda: step(model, optimizer, x, args)  # noqa: E731
    restart()
    start, cpu = time.perf_counter(), time.process_time()
    run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    weights = sum(p.nbytes for p in model.parameters())
    return dict(weights=weights, building=building, peak=resident('VmHWM') - before,
                build_seconds=built, seconds=seconds, cpu_seconds=cpu)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', default='tiny')
    parser.add_argument('--size', type=int, default=256)
    parser.add_argument('--window', type=int, default=8)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--precision', choices=DTYPES, default='fp32', help='by autocast')
    parser.add_argument('--weights', choices=DTYPES, default='fp32', help='dtype of the weights')
    parser.add_argument('--with-cp', action='store_true', help='activation checkpointing')
    parser.add_argument('--drop-path', type=float, default=0.0)
    parser.add_argument('--plain', action='store_true', help='attention in all windows at once')
    parser.add_argument('--forward', action='store_true', help='only a forward pass, in eval mode')
    return parser


def main():
    args = parser().parse_args()
    if args.plain:
        with sequential.plain_path():
            found = measure(args)
    else:
        found = measure(args)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} thread(s), {platform.machine()}')
    print(vars(args))
    for name, value in found.items():
        unit = 's' if 'seconds' in name else 'GB'
        print(f'{name:14}{value if unit == "s" else value / 1e9:10.3f} {unit}')


if __name__ == '__main__':
    main()
