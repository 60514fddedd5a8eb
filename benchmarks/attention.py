"""Window attention alone: plain matrix products, SDPA, and ours.

    python benchmarks/attention.py [--windows 16x16] [--modes train-fp32]

Two calls of one attention with about 16,000 tokens, as two blocks of a stage make them: windows in
place, then shifted by half. `plain` is the paper's definition, logits and all. `sdpa` gives torch's
fused attention the position bias and the seam as a mask. At inference both have these folded into
one tensor beforehand. All were found equal before they are timed.

Rows go to benchmarks/results/attention_DATE.csv; `--table CSV` fills a table of docs/speed.md.
"""
import argparse
import itertools
import math
from collections.abc import Callable

import timing
import torch
import torch.nn.functional as F
from awake import awaken
from torch import Tensor, nn

from swinv2_mm.models.attention import WindowAttention
from swinv2_mm.models.windows import plan

FIELDS = (*timing.CONDITIONS, 'window', 'size', 'channels', 'heads', 'mode', 'dtype', 'name',
          'difference', 'rounds', 'median_ms', 'min_ms', 'max_ms', 'speedup', 'peak_mib',
          'saved_mib', 'note')
OURS = 'swinv2_mm'
# Sides of the window -> sides of the map, whole windows of about 16,000 tokens.
SIZES = {'8x8': (128, 128), '16x16': (128, 128), '24x24': (120, 144), '32x32': (128, 128),
         '8x7x7': (8, 42, 49)}
DIMS = ((96, 3), (384, 12))
QUICK = {'8x8': (16, 24)}
MODES = {'infer-fp32': (False, torch.float32), 'infer-bf16': (False, torch.bfloat16),
         'train-fp32': (True, torch.float32), 'train-bf16': (True, torch.bfloat16)}
# Rounding to float32 moves the output by 3e-6 of its deviation.
BOUND = 1e-4


def split(x: Tensor, window: tuple) -> Tensor:
    """(B, *S, C) -> (B, W, N, C), as one reshape and one transposition."""
    batch, *size, channels = x.shape
    sides = [side for s, w in zip(size, window) for side in (s // w, w)]
    order = [0, *range(1, 2 * len(size), 2), *range(2, 2 * len(size) + 1, 2), 2 * len(size) + 1]
    return x.reshape(batch, *sides, channels).permute(order).reshape(
        batch, -1, math.prod(window), channels)


def join(x: Tensor, window: tuple, size: tuple) -> Tensor:
    """The inverse of `split`."""
    ndim = len(size)
    order = [0, *itertools.chain(*((1 + i, 1 + ndim + i) for i in range(ndim))), 2 * ndim + 1]
    grid = [s // w for s, w in zip(size, window)]
    return x.reshape(len(x), *grid, *window, -1).permute(order).reshape(len(x), *size, -1)


def seam(size: tuple, window: tuple, shift: tuple) -> Tensor:
    """(1, W, 1, N, N): -100 between tokens that only the shift brought together."""
    region = torch.zeros(1, *size, 1)
    for axis, (s, k) in enumerate(zip(size, shift)):
        part = (torch.arange(s) >= s - k).float() * 2 ** axis
        region = region + part.view(*(-1 if i == axis + 1 else 1 for i in range(region.ndim)))
    region = split(region, window)[..., 0]
    return -100.0 * (region[..., None] != region[:, :, None]).float()[:, :, None]


class Simple(nn.Module):
    """The definition with the weights of ours; with `fused`, torch's SDPA in the middle."""

    def __init__(self, attention: WindowAttention, size: tuple, window: tuple, fused: bool):
        super().__init__()
        self.attention, self.size, self.window, self.fused = attention, size, window, fused
        self.shifts = [(0,) * len(size), tuple(0 if s <= w else w // 2
                                               for s, w in zip(size, window))]
        for i, shift in enumerate(self.shifts):
            mask = seam(size, window, shift) if any(shift) else None
            self.register_buffer(f'mask{i}', mask, persistent=False)
        self.folded: dict[tuple, Tensor] = {}

    def logits(self, i: int, dtype: torch.dtype) -> Tensor:
        """What is added to the cosines, (1, W or 1, h, N, N); kept while evaluating."""
        if (i, dtype) in self.folded:
            return self.folded[i, dtype]
        bias, mask = self.attention.position_bias(self.window), getattr(self, f'mask{i}')
        logits = (bias[None, None] if mask is None else bias + mask).to(dtype)
        if not self.training:
            self.folded[i, dtype] = logits
        return logits

    def train(self, mode: bool = True) -> 'Simple':
        self.folded = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *S, C) -> (B, *S, C), without a shift and then with one."""
        axes = tuple(range(1, x.ndim - 1))
        for i, shift in enumerate(self.shifts):
            moved = torch.roll(x, [-k for k in shift], axes) if any(shift) else x
            out = join(self.attend(split(moved, self.window), i), self.window, self.size)
            x = torch.roll(out, shift, axes) if any(shift) else out
        return x

    def attend(self, x: Tensor, i: int) -> Tensor:
        layer = self.attention
        bias = torch.cat([layer.q_bias, torch.zeros_like(layer.v_bias), layer.v_bias])
        qkv = F.linear(x, layer.qkv.weight, bias).unflatten(-1, (3, layer.num_heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, W, h, N, d)
        scale = layer.logit_scale.clamp(max=math.log(100)).exp()
        q = (F.normalize(q.float(), dim=-1) * scale).to(v.dtype)
        k = F.normalize(k.float(), dim=-1).to(v.dtype)
        return layer.proj(self.core(q, k, v, i).transpose(2, 3).flatten(-2))

    def core(self, q: Tensor, k: Tensor, v: Tensor, i: int) -> Tensor:
        """softmax(q k^T + logits) v for (B, W, h, N, d)."""
        if not self.fused:
            logits = q @ k.transpose(-2, -1) + self.logits(i, torch.float32)
            return logits.softmax(dim=-1).to(v.dtype) @ v
        mask = self.logits(i, v.dtype).expand(*v.shape[:3], -1, -1).flatten(0, 1)
        out = F.scaled_dot_product_attention(
            *(part.flatten(0, 1) for part in (q, k, v)), attn_mask=mask, scale=1.0)
        return out.unflatten(0, v.shape[:2])


class Ours(nn.Module):
    """The package's attention, without a shift and then with one."""

    def __init__(self, attention: WindowAttention, size: tuple, window: tuple):
        super().__init__()
        self.attention, self.size, self.window = attention, size, window

    def forward(self, x: Tensor) -> Tensor:
        for shift in ((0,) * len(self.size), tuple(w // 2 for w in self.window)):
            x = self.attention(x, plan(self.size, self.window, shift, x))
        return x


def build(size: tuple, window: tuple, dim: int, heads: int) -> dict[str, nn.Module]:
    attention = awaken(WindowAttention(len(window), dim, heads, (0,) * len(window)))
    return {OURS: Ours(attention, size, window),
            'sdpa': Simple(attention, size, window, fused=True),
            'plain': Simple(attention, size, window, fused=False)}


@torch.inference_mode()
def check(models: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """Largest difference of each from the definition; ValueError where it is another function."""
    expected, found = models['plain'].eval()(x), {}
    for name, model in models.items():
        found[name] = (model.eval()(x) - expected).abs().max().item() / expected.std().item()
        if not found[name] < BOUND:
            raise ValueError(f'The attention of {name} must be within {BOUND} of the definition, '
                             f'got {found[name]:.2g}: its time means nothing.')
    return found


def step(model: nn.Module, x: Tensor, training: bool, dtype: torch.dtype) -> Callable:
    """A function that runs the model once; in training, forward and backward, to the input too."""
    x = x.clone().requires_grad_(training)
    cotangent = torch.randn_like(x)

    def run() -> None:
        if not training:
            with torch.inference_mode(), timing.autocast(x.device, dtype):
                model(x)
            return
        with timing.autocast(x.device, dtype):
            out = model(x)
        torch.autograd.backward(out, cotangent.to(out.dtype))
        for leaf in (x, *model.parameters()):
            leaf.grad = None

    return run


def measure(models: dict[str, nn.Module], x: Tensor, mode: str, rounds: int) -> dict[str, dict]:
    """Times and memory by name in one mode."""
    training, dtype = MODES[mode]
    calls = {name: step(model.train(training), x, training, dtype)
             for name, model in models.items()}
    found, first = timing.warm_all(calls, models, x.device)
    calls = {name: call for name, call in calls.items() if name in first}
    for name, values in timing.take_turns(calls, rounds, x.device, first).items():
        found[name].update(timing.spread(values), rounds=rounds)
    timed = [row['median_ms'] for name, row in found.items()
             if name != OURS and 'median_ms' in row]
    for row in found.values():
        if timed and 'median_ms' in row:
            row['speedup'] = round(min(timed) / row['median_ms'], 3)
    return found


def run(args: argparse.Namespace) -> list[dict]:
    """Measure, print and write all that is asked for."""
    same = timing.conditions(args.device, [])
    print(f'{same["device"]}, {same["threads"]} threads; torch {same["torch"]}; '
          f'{args.rounds} rounds', flush=True)
    rows = []
    for key, (dim, heads) in itertools.product(args.windows, DIMS):
        size = (QUICK if args.quick else SIZES)[key]
        models = build(size, tuple(map(int, key.split('x'))), dim, heads)
        x = torch.randn(1, *size, dim, generator=torch.Generator().manual_seed(1))
        differences = check(models, x)
        models = {name: model.to(args.device) for name, model in models.items()}
        for mode in args.modes:
            print(f'\nwindow {key}, map {size}, {dim} channels, {heads} heads, {mode}', flush=True)
            new = [same | dict(
                window=key, size='x'.join(map(str, size)), channels=dim, heads=heads, mode=mode,
                dtype=str(MODES[mode][1]).removeprefix('torch.'), name=name,
                difference=f'{differences[name]:.1e}', **row)
                for name, row in measure(models, x.to(args.device), mode, args.rounds).items()]
            for row in new:
                print(timing.line(row), flush=True)
            timing.append(args.out, FIELDS, new)
            rows += new
        del models
        timing.trim()
    return rows


def table(rows: list[dict]) -> str:
    """Ours against the faster of the others, a line a window and width, in markdown."""
    found: dict = {}
    for row in rows:
        place = f'{row["window"]}, {row["channels"]}/{row["heads"]}'
        found.setdefault((row['mode'], place), {})[row['name']] = row
    names = list(dict.fromkeys(row['name'] for row in rows))
    heads = ['mode', 'window, channels/heads', *(f'{name}, ms' for name in names), 'speed-up',
             *(f'{name}, peak MiB' for name in names)]
    lines = [f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
    for (mode, place), group in found.items():
        times = [timing.cell(group.get(name)) for name in names]
        peaks = [timing.amount(group.get(name), 'peak_mib') for name in names]
        cells = [mode, place, *times, group[OURS].get('speedup') or '-', *peaks]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join([*lines, '', 'Measured on:', timing.machine(rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--windows', nargs='+', choices=SIZES, default=list(SIZES))
    parser.add_argument('--modes', nargs='+', choices=MODES, default=list(MODES))
    timing.common(parser)
    args = parser.parse_args()
    if args.table:
        rows = timing.read(args.table, ('window', 'channels', 'mode'))
        timing.fill(args.page, 'attention', table(rows))
        return
    if args.quick:
        args.windows, args.rounds = list(QUICK), 1
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out = args.out or timing.today('attention')
    run(args)
    print(f'\nwritten to {args.out}')


if __name__ == '__main__':
    main()
