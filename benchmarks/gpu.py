"""All that there is to measure on a GPU, in one run of under 8 minutes on a card like the H100.

    export PYTHONPATH=.:tests/models                    (nothing is installed on a bare machine)
    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --quick       (whether it runs through; measures nothing)

It needs torch with triton, and timm and transformers to compare with; mmengine and pytest may be
missing. Its parts run one after another, each in a process of its own that is ended when its time
is up, so that none takes another along. Rows go to benchmarks/results/gpu_DATE.csv as they come:

    kernels     the attention kernels against the definition in float64, on the device
    attention   attention alone, and its core without dense layers, against torch's own
    backbone    inference and training, as `backbone.py` has them; the most telling first
    compiled    some of these under torch.compile
    block       what stands around the attention, eager and compiled; a backbone as a CUDA graph
    large       SwinV2-L at 1024 x 1024 in a batch of 8, SwinV2-G at 1536 x 1536 with checkpointing
    detector    steps of swinv2_t_cascade in mixed precision, where mmcv and mmdet are installed

`roofline` is the least time that the card's memory and matrix units need, over the time measured.
"""
from __future__ import annotations

import argparse
import gc
import importlib.util
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
SECONDS = dict(kernels=60, attention=90, backbone=120, compiled=110, block=40, large=60,
               detector=30)
# bytes a second; products and sums a second in half precision and in float32
CARDS = {'H200': (4.8e12, 989e12, 67e12), 'H100': (3.35e12, 989e12, 67e12),
         'A100': (1.555e12, 312e12, 19.5e12), 'B200': (8e12, 2250e12, 75e12),
         'RTX 4090': (1.008e12, 165e12, 82e12)}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class Writer:
    """Adds rows to the file of results as they come; knows when the part's time is up."""

    def __init__(self, args: argparse.Namespace, part: str):
        import timing

        self.args, self.part, self.timing = args, part, timing
        self.end = time.monotonic() + SECONDS[part] - 10
        self.same = timing.conditions(args.device, ['triton', 'timm', 'transformers'])
        self.fields = (*timing.CONDITIONS, 'part', 'case', 'mode', 'name', 'difference', 'rounds',
                       'median_ms', 'min_ms', 'max_ms', 'speedup', 'peak_mib', 'saved_mib',
                       'of_floor', 'gflops', 'roofline', 'note')

    def late(self) -> bool:
        return time.monotonic() > self.end and not self.args.quick

    def __call__(self, case: str, mode: str, name: str, **row) -> None:
        row = dict(name=name, **row)
        print(f'{case} {mode}' + (self.timing.line(row) if 'median_ms' in row else f'  {row}'),
              flush=True)
        self.timing.append(self.args.out, self.fields, [
            self.same | dict(part=self.part, case=case, mode=mode) | row])

    def share(self, row: dict, moved: float, products: float, dtype: torch.dtype) -> dict:
        """The row with its share of the roofline, where the card is known."""
        card = next((c for name, c in CARDS.items() if name in self.same['device']), None)
        if card and 'median_ms' in row:
            least = max(moved / card[0], 2 * products / card[1 + (dtype == torch.float32)])
            row['roofline'] = round(1e3 * least / row['median_ms'], 3)
        return row


def kernels(write: Writer) -> None:
    """The cases of the tests, then large windows, in all dtypes; raises where one is wrong."""
    import kernel_cases

    from swinv2_mm.models import fused, launch

    device, wrong = write.args.device, []
    cases = dict(kernel_cases.CASES)
    for name, dtype in DTYPES.items():
        for side in (8, 12, 16, 24, 32, 64):
            cases[f'{side} {name}'] = ((1, 2 * side - 1, side + 3), (side, side),
                                       (side // 2, side // 2), 2, 32, str(dtype)[6:])
        cases[f'video {name}'] = ((1, 12, 10, 13), (8, 7, 7), (4, 3, 3), 2, 32, str(dtype)[6:])
    cases['16x16x16'] = ((1, 16, 16, 20), (16, 16, 16), (0, 0, 8), 1, 32, 'bfloat16')
    if write.args.quick:
        cases = {name: cases[name] for name in ('padded and shifted', 'bfloat16')}
        kernel_cases.mend_products_of_bfloat16()
    for name, case in cases.items():
        if write.late():
            return
        dtype = getattr(torch, case[5])
        start = time.monotonic()
        trusted = fused.trusted(device, dtype, case[1], case[4])
        seconds = time.monotonic() - start
        off, equal = kernel_cases.errors(*case, device=device)
        bound = fused.BOUNDS[launch.precision(dtype) if dtype == torch.float32 else dtype]
        fine = trusted and equal and max(off) < bound
        wrong += [] if fine else [name]
        write(name, case[5], 'swinv2_mm', difference=' '.join(f'{x:.1e}' for x in off),
              note=f'{"right" if fine else "WRONG"}; proved itself in {seconds:.1f} s; '
              f'{"the same bits twice" if equal else "NOT the same bits twice"}')
    if wrong:
        raise SystemExit(f'wrong: {", ".join(wrong)}')


def attention(write: Writer) -> None:
    """Whole layers of ours, SDPA with a mask, FlexAttention, the definition; then cores."""
    import attention as alone
    import flex

    sizes = {'8x8': (256, 256), '16x16': (256, 256), '24x24': (240, 264), '32x32': (256, 256),
             '8x7x7': (16, 56, 70)}
    modes, dims = ['infer-bf16', 'train-bf16', 'train-fp32', 'infer-fp32'], ((96, 3), (384, 12))
    if write.args.quick:
        sizes, modes, dims = alone.QUICK, ['infer-fp32', 'train-bf16'], ((96, 3),)
    device = write.args.device
    for mode, (dim, heads), (key, size) in ((m, d, s) for m in modes for d in dims
                                            for s in sizes.items()):
        if write.late():
            return
        window, (training, dtype) = tuple(map(int, key.split('x'))), alone.MODES[mode]
        models = alone.build(size, window, dim, heads)
        models['flex'] = flex.Flex(models['sdpa'].attention, size, window, device)
        x = torch.randn(1, *size, dim, generator=torch.Generator().manual_seed(1))
        models, x = {name: model.to(device) for name, model in models.items()}, x.to(device)
        if fault := flex.fault(models['flex'], x, training, dtype):
            del models['flex']
            write(f'{key} {dim}', mode, 'flex', note=fault)
        tokens, bits = math.prod(size), torch.finfo(dtype).bits
        passes = 3 if training else 1
        products = passes * 2 * tokens * dim * (4 * dim + 2 * math.prod(window))
        moved = passes * 2 * 10 * tokens * dim * bits / 8
        for name, row in alone.measure(models, x, mode, write.args.rounds).items():
            write(f'{key} {dim}', mode, name, **write.share(row, moved, products, dtype))
        core(write, models, x, key, mode)


def core(write: Writer, models: dict, x: torch.Tensor, key: str, mode: str) -> None:
    """Ours and SDPA from q, k, v on, where each likes them best, windows shifted."""
    import attention as alone
    import timing

    from swinv2_mm.models import fused, sequential
    from swinv2_mm.models.windows import plan

    training, dtype = alone.MODES[mode]
    layer, window = models['sdpa'].attention, tuple(map(int, key.split('x')))
    size, heads, dim = tuple(x.shape[1:-1]), layer.num_heads, x.shape[-1]
    layout = plan(size, window, tuple(w // 2 for w in window), x)
    qkv = torch.randn(1, *size, 3 * dim, device=x.device, dtype=dtype)
    q, k, v = alone.split(qkv, window).unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
    scale, bias = (t.detach() for t in (layer.inverse_temperature(), layer.position_bias(window)))
    attend = fused.attend if fused.fits(qkv, heads, window) else sequential.attend
    leaves = [t.contiguous().requires_grad_(training) for t in (qkv, scale, bias)]
    others = [t.contiguous().requires_grad_(training) for t in (q, k, v)]

    def run(call, inputs):
        with torch.set_grad_enabled(training):
            out = call()
        if training:
            torch.autograd.grad(out, inputs, torch.ones_like(out))

    calls = {'swinv2_mm core': lambda: run(lambda: attend(leaves[0], layout, *leaves[1:]), leaves),
             'sdpa core': lambda: run(lambda: models['sdpa'].core(*others, 1), others)}
    found, first = timing.warm_all(calls, dict.fromkeys(calls, layer), x.device)
    for name, times in timing.take_turns({n: calls[n] for n in first}, write.args.rounds,
                                         x.device, first).items():
        row, tokens = found[name] | timing.spread(times), math.prod(size)
        moved = (12 if training else 4) * tokens * dim * torch.finfo(dtype).bits / 8
        products = (7 if training else 2) * tokens * dim * math.prod(window)
        write(f'{key} {dim}', mode, name, **write.share(row, moved, products, dtype))


def backbone(write: Writer, compiled: bool = False) -> None:
    import backbone as whole

    work = {**whole.WORKLOADS, **whole.QUICK}
    keys = (['nano-w8-128'] if write.args.quick else ['t-w16-256-b4', 't-w8-256-b8'] if compiled
            else ['t-w16-800x1344', 't-w8-256-b8', 'b-w24-384', 't-w32-512', 'l-w16-800x1344'])
    modes = ['train-bf16', 'infer-bf16', 'infer-fp32', 'train-fp32'][:1 if write.args.quick else 4]
    for key in keys:
        compare(write, key, work[key], modes[:2] if compiled else modes, compiled)


def compare(write: Writer, key: str, workload, modes: list[str], compiled: bool) -> None:
    import backbone as whole

    models, differences = whole.prepare(workload, write.args.peers, write.args.device, compiled)
    for mode in modes:
        if write.late():
            return
        for name, row in whole.measure(workload, models, mode, write.args.rounds,
                                       write.args.device).items():
            write(key, mode, name, difference=differences.get(name, ''), **row)


def compiled(write: Writer) -> None:
    if write.args.device.type == 'cpu':
        write('all', 'compiled', 'swinv2_mm', note='left out on a CPU')
    else:
        backbone(write, compiled=True)


def block(write: Writer) -> None:
    import around
    import timing

    quick, device = write.args.quick, write.args.device
    for mode, channels, tokens in [('train-bf16', 64, 100)] if quick else [
            (mode, *shape) for mode in ('train-bf16', 'infer-bf16', 'train-fp32')
            for shape in ((96, 131072), (384, 8192), (1536, 4096))]:
        training, dtype = mode.startswith('train'), DTYPES[mode[-4:]]
        for case, module, inputs, moved in around.pieces(tokens, channels, dtype, device, training):
            calls = around.runs(module, inputs, training, dtype)
            first = {name: (call(), timing.seconds(call, device))[1]
                     for name, call in calls.items()}
            for name, times in timing.take_turns(calls, write.args.rounds, device, first).items():
                write(f'{case} {channels}', mode, name, **write.share(
                    dict(timing.spread(times), rounds=write.args.rounds), moved, 0, dtype))
    if device.type == 'cpu':
        write('graph', 'infer-bf16', 'swinv2_mm', note='left out on a CPU')
        return
    for arch, window, side, batch in (('tiny', 8, 256, 1), ('tiny', 16, 256, 16)):
        calls = around.recorded(arch, window, side, batch, torch.bfloat16)
        first = {name: timing.seconds(call, device) for name, call in calls.items()}
        for name, times in timing.take_turns(calls, write.args.rounds, device, first).items():
            write(f'{arch} w{window} b{batch}', 'infer-bf16', name, **timing.spread(times))


def large(write: Writer) -> None:
    import backbone as whole
    import rivals
    import timing

    from swinv2_mm import SwinTransformerV2

    quick, device = write.args.quick, write.args.device
    side, batch = (64, 1) if quick else (1024, 8)
    workload = rivals.Workload('nano' if quick else 'large', (4, 4) if quick else (16, 16),
                               (batch, 3, side, side))
    write.args.peers = write.args.peers[:1]
    compare(write, f'l-w16-{side}-b{batch}', workload, ['train-bf16', 'infer-bf16'], False)
    if write.late():
        return
    torch.manual_seed(0)
    side = 64 if quick else 1536
    with device:
        model = SwinTransformerV2('nano' if quick else 'giant', window_size=8 if quick else 32,
                                  with_cp=True, drop_path_rate=0.0).train()
    x = torch.randn(1, 3, side, side, device=device)
    row, first = timing.warm(whole.step(model, x, True, torch.bfloat16), model, device)
    write(f'g-{side} checkpointed', 'train-bf16', 'swinv2_mm', **row, median_ms=1e3 * first,
          min_ms=1e3 * first, max_ms=1e3 * first)


def detector(write: Writer) -> None:
    missing = [name for name in ('mmengine', 'mmcv', 'mmdet')
               if write.args.bare or importlib.util.find_spec(name) is None]
    quick = write.args.quick
    name = 'demo/det_nano' if quick else 'det/swinv2_t_cascade'
    if missing:
        write(name, 'train-amp', 'swinv2_mm', note=f'left out without {", ".join(missing)}')
        return
    import samples
    import step as steps
    import timing
    from mmengine.optim import build_optim_wrapper

    cfg, model = steps.build(f'configs/{name}.py')
    device = write.args.device
    model.to(device)
    mixed = dict(type='AmpOptimWrapper') if device.type == 'cuda' else {}  # mmengine has it there
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper | mixed)
    data = samples.detection(*((64, 96) if quick else (800, 1344)))

    def step():
        model.train_step(data, wrapper)

    row, _ = timing.warm(step, model, device)
    times = [timing.seconds(step, device) for _ in range(1 if quick else 5)]
    write(name, 'train-amp', 'swinv2_mm', **row, **timing.spread(times), rounds=len(times))


PARTS = dict(kernels=kernels, attention=attention, backbone=backbone, compiled=compiled,
             block=block, large=large, detector=detector)


def drive(args: argparse.Namespace) -> int:
    """Run the parts in processes of their own; how many of them failed.

    Those of a quick run share one, but for the kernels, as nothing is measured.
    """
    failed, groups = [], [[part] for part in args.parts]
    if args.quick:
        groups = [group for group in (
            [part for part in args.parts if (part == 'kernels') == alone]
            for alone in (True, False)) if group]
    for group in groups:
        start, env, part = time.monotonic(), dict(os.environ), ', '.join(group)
        if args.device.type == 'cpu' and part == 'kernels':
            env['TRITON_INTERPRET'] = '1'
        command = [sys.executable, __file__, '--part', *group, '--device', str(args.device),
                   '--out', args.out, '--rounds', str(args.rounds), '--peers', *args.peers,
                   *['--quick'] * args.quick, *['--bare'] * args.bare]
        try:
            code = subprocess.run(command, env=env, timeout=600 if args.quick else SECONDS[part])
            outcome = f'exit status {code.returncode}' if code.returncode else 'done'
        except subprocess.TimeoutExpired:
            outcome = 'its time is up; what it wrote stays'
        failed += [part] if outcome.startswith('exit') else []
        print(f'== {part}: {outcome}, {time.monotonic() - start:.0f} s', flush=True)
    print(f'written to {args.out}' + (f'; failed: {", ".join(failed)}' if failed else ''))
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--device', type=torch.device, default=torch.device('cuda'))
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--part', nargs='+', choices=PARTS, help='these, in this process')
    parser.add_argument('--peers', nargs='*', default=['timm', 'transformers'])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--quick', action='store_true', help='tiny sizes, one round')
    parser.add_argument('--bare', action='store_true', help='as if mmengine were not installed')
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    args.bare = args.bare or importlib.util.find_spec('mmengine') is None
    if args.bare:
        import stand_in  # noqa: F401
    import timing

    args.rounds, args.out = 1 if args.quick else args.rounds, args.out or timing.today('gpu')
    if not args.part:
        return drive(args)
    gc.freeze()  # what is loaded is no garbage, and each peak of memory looks for that
    for part in args.part:
        PARTS[part](Writer(args, part))
    return 0


if __name__ == '__main__':
    sys.exit(main())
