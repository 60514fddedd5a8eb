"""Plan the memory of a training step: where the bytes go, and what makes it fit a card.

    python tools/analysis/memory.py configs/det/swinv2_l_htcpp.py --precision bf16 --card 40
    python tools/analysis/memory.py --arch giant --size 1536 1536 --window 32 --world 8 --card 40

The step runs on tensors without data (memory_trace.py), so no GPU is needed and no memory. GB are
10^9 bytes. Of detectors the layers of 1,000 regions and 100 masks an image are counted, and neither
targets nor losses are. What CUDA itself takes (about half a GB) and what lies idle between tensors
is not counted: 8 % of a card are left to them.
"""
from __future__ import annotations

import argparse
import functools
from typing import NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.analysis import memory_trace
from swinv2_mm.analysis.memory_trace import Held, Step
from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.utils import entry, versions
from swinv2_mm.utils.errors import UserError

SPARE = 0.08  # of a card
ZERO = {0: 'all copied to every process', 1: 'ZeRO 1: optimizer sharded',
        2: 'ZeRO 2: optimizer and gradients sharded', 3: 'ZeRO 3: all sharded'}
ON = {
    'bf16': '--amp ... optim_wrapper.dtype=bfloat16',
    'with_cp': 'model.backbone.with_cp=True',
    1: 'runner_type=FlexibleRunner strategy.type=swinv2_mm.ZeroStrategy',
    3: 'runner_type=FlexibleRunner strategy.type=swinv2_mm.FSDPStrategy',
    'batch': 'train_dataloader.batch_size=1 optim_wrapper.accumulative_counts={}'}


class Plan(NamedTuple):
    """How a model is trained: batch of a process, processes, and the rungs in use."""

    batch: int
    precision: str
    world: int
    zero: int
    with_cp: bool | None  # None: as the model has it


class Bill(NamedTuple):
    """Bytes in one process. `peak` is the most that forward, backward or update come to."""

    weights: int
    gradients: int
    optimizer: int
    buckets: int  # what moves gradients and weights between processes
    activations: list[int]
    peak: int


class Planner:
    """Bills for a model on the meta device; `shape` of the input without its batch."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...], cfg: Config | None,
                 sequential: bool, device: str):
        self.model, self.shape, self.cfg = model, shape, cfg
        self.sequential, self.device = sequential, device
        self.backbone = getattr(model, 'backbone', model)
        self.held = functools.cache(self._held)

    def fixed(self, plan: Plan) -> tuple[int, int, int, int]:
        """Bytes of weights, gradients, optimizer and buckets, which no input changes."""
        world, zero = plan.world, plan.zero if plan.world > 1 else 0
        weights = sum(versions.nbytes(t) for t in [*self.model.parameters(), *self.model.buffers()])
        gradients = sum(versions.nbytes(p) for p in self.model.parameters() if p.requires_grad)
        optimizer, buckets = 2 * gradients, 0
        if zero == 3:
            buckets = self._units()
        elif world > 1 and zero < 2:
            buckets = gradients  # DDP's buckets copy the gradients
        return (weights // world if zero == 3 else weights,
                gradients // world if zero >= 2 else gradients,
                optimizer // world if zero else optimizer, buckets)

    def bill(self, plan: Plan) -> Bill:
        """What one process holds."""
        weights, gradients, optimizer, buckets = self.fixed(plan)
        zero = plan.zero if plan.world > 1 else 0
        held = self.held(plan.batch, plan.precision, plan.with_cp, zero < 2)
        # What AdamW's step makes for itself.
        extra = (held.update - held.gradients) // (plan.world if zero else 1)
        training = held.training + (gradients if zero >= 2 else 0)
        peak = weights + optimizer + buckets + max(training, gradients + extra)
        return Bill(weights, gradients, optimizer, buckets, held.stages, peak)

    def _held(self, batch: int, precision: str, with_cp: bool | None, keep_grads: bool) -> Held:
        for stage, own in zip(self.backbone.layers, self.backbone.with_cp):
            stage.with_cp = own if with_cp is None else with_cp
        step = Step((batch, *self.shape), precision, self.sequential, keep_grads, self.device)
        return memory_trace.trace(self.model.train(), self._features, step)

    def _features(self, model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        if self.cfg is None:
            outs = model(x)
        else:
            inputs = model_inputs.example(self.cfg, model, tuple(x.shape[2:]), len(x))
            outs = model_inputs.forward(model, **inputs)
        return memory_trace.tree_flatten(outs)[0]

    def _units(self) -> int:
        """Weights that full sharding puts together at a time, and the gradients of one unit.

        Two of the largest block, as the next one is fetched early, and all outside the blocks.
        """
        whole = sum(versions.nbytes(p) for p in self.model.parameters())
        blocks = [sum(versions.nbytes(p) for p in block.parameters())
                  for stage in self.backbone.layers for block in stage.blocks]
        joints = sum(versions.nbytes(p) for stage in self.backbone.layers
                     if stage.downsample is not None for p in stage.downsample.parameters())
        return whole - sum(blocks) - joints + 3 * max(blocks)

    def logits(self, batch: int, precision: str) -> list[int]:
        """Bytes of the attention logits of one block of each stage, if all were there at once."""
        size = self.shape[1:]
        found = []
        for stage, heads, i in zip(self.backbone.layers, self.backbone.arch.num_heads, range(9)):
            side = [-(-s // p) for s, p in zip(size, self.backbone.patch_size)]
            side = [*side[:-2], *(-(-s // 2 ** i) for s in side[-2:])]
            tokens = area = 1
            for s, w in zip(side, stage.window):
                w = min(s, w)
                tokens, area = tokens * -(-s // w) * w, area * w
            width = 4 if precision == 'fp32' else 2
            found.append(batch * heads * tokens * area * width)
        return found


def ladder(plan: Plan) -> list[tuple[str, Plan]]:
    """Plans from what is asked for to the smallest; each costs more time than the one before.

    bf16 is faster, ZeRO 1 moves no more than data parallel does, full sharding half as much again;
    checkpointing computes a third more; accumulating takes as many steps as it saves images.
    """
    rungs = [('as asked', plan)]

    def add(name: str, **changes) -> None:
        changed = plan._replace(**changes)
        if all(changed != other for _, other in rungs):
            rungs.append((name, changed))
    low = dict(precision='bf16') if plan.precision == 'fp32' else {}
    shards = [dict(zero=z) for z in (1, 3) if plan.world > 1 and z > plan.zero]
    for small in ({}, dict(batch=1)):
        for cp in ({}, dict(with_cp=True)):
            for shard in ({}, *shards):
                changes = {**low, **shard, **cp, **small}
                if not small or cp:  # a smaller batch comes last
                    add(', '.join(map(_word, changes.items())) or 'as asked', **changes)
    return rungs


def _word(change: tuple[str, object]) -> str:
    key, value = change
    return {'precision': str(value), 'with_cp': 'checkpointing', 'batch': 'batch 1, accumulated',
            'zero': 'ZeRO 1' if value == 1 else 'fully sharded'}[key]


def switches(asked: Plan, plan: Plan) -> list[str]:
    """Settings that turn on what a plan has and the one asked for has not."""
    found = []
    if plan.precision != asked.precision:
        found.append(ON['bf16'])
    if plan.zero != asked.zero:
        found.append(ON[plan.zero])
    if plan.with_cp and not asked.with_cp:
        found.append(ON['with_cp'])
    if plan.batch != asked.batch:
        found.append(ON['batch'].format(asked.batch))
    return found


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', help='path of a config; or give --arch')
    parser.add_argument('--arch', help='a bare backbone: tiny, ..., giant')
    parser.add_argument('--video', action='store_true', help='with --arch: the one for videos')
    parser.add_argument('--size', nargs='+', type=int, metavar='SIDE',
                        help='H W, or T H W (default: what the config tests at; segmentation: '
                        'what it trains on)')
    parser.add_argument('--window', type=int, help='side of the windows in every stage')
    parser.add_argument('--batch', type=int, help="of one process (default: the config's, or 1)")
    parser.add_argument('--precision', choices=memory_trace.DTYPES, default='fp32',
                        help='all but fp32 by autocast')
    parser.add_argument('--world', type=int, default=1, help='processes')
    parser.add_argument('--zero', type=int, choices=ZERO, default=0, help='stage of ZeRO; 3: FSDP')
    parser.add_argument('--with-cp', action='store_true', default=None,
                        help='activation checkpointing in all stages')
    parser.add_argument('--sequential', action=argparse.BooleanOptionalAction, default=True,
                        help='attention a few windows at a time (always so in this package)')
    parser.add_argument('--card', type=float, metavar='GB', help='find rungs that fit this card')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args(argv)


def planner(args) -> tuple[Planner, int]:
    """The planner that the arguments ask for, and the batch of a process."""
    if (args.config is None) == (args.arch is None):
        raise UserError('Give the path of a config or --arch, and not both.')
    cfg, batch, window = None, args.batch or 1, {}
    if args.arch is not None:
        if not args.size:
            raise UserError('--arch needs --size H W (a video: T H W).')
        if args.window:
            window = dict(window_size=args.window)
        kind = SwinTransformerV2Video if args.video else SwinTransformerV2
        with torch.device('meta'):
            model = kind(args.arch, **window)
        size = tuple(args.size)
    else:
        cfg = model_inputs.read(args.config, args.cfg_options)
        if args.window:
            cfg.model.backbone.window_size = args.window
        model = model_inputs.build(cfg, 'meta')
        size = tuple(args.size or model_inputs.input_size(cfg))
        batch = args.batch or cfg.train_dataloader.batch_size
    backbone = getattr(model, 'backbone', model)
    size = size * 2 if len(size) == 1 and backbone.ndim == 2 else size
    if len(size) != backbone.ndim or min(size) < 1 or batch < 1 or args.world < 1:
        raise UserError(f'--size must have {backbone.ndim} sides, and sides, --batch and --world '
                        f'must be at least 1, got {size}, {batch} and {args.world}.')
    shape = (backbone.in_channels, *size)
    return Planner(model, shape, cfg, args.sequential, args.device), batch


def show(planner: Planner, plan: Plan) -> None:
    bill = planner.bill(plan)
    names = ['patch embedding', *(f'stage {i + 1}' for i in range(len(bill.activations) - 2)),
             'after the backbone']
    count = sum(p.numel() for p in planner.model.parameters())
    print(f'{count / 1e6:,.1f} M parameters, input {(plan.batch, *planner.shape)}, '
          f'{plan.precision}, {plan.world} process(es), {ZERO[plan.zero]}')
    rows = [('weights', bill.weights), ('gradients', bill.gradients),
            ('optimizer (AdamW)', bill.optimizer), ('buckets and units', bill.buckets),
            ('activations kept', sum(bill.activations)),
            *((f'  {name}', value) for name, value in zip(names, bill.activations)),
            ('peak', bill.peak)]
    for name, value in rows:
        print(f'  {name:22}{value / 1e9:9.3f} GB')
    logits = ', '.join(f'{value / 1e9:.2f}' for value in planner.logits(plan.batch, plan.precision))
    part = memory_trace.sequential.PART_BYTES[planner.device] / 1e9
    print(f'Attention logits of one block, by stage: {logits} GB; '
          + (f'in parts of {part:.3f} GB here.' if planner.sequential else 'all kept here.'))


def fit(planner: Planner, asked: Plan, card: float) -> None:
    """Print the plans that were tried and the first that fits; UserError where none does."""
    room = card * 1e9 * (1 - SPARE)
    print(f'Card of {card:g} GB, {room / 1e9:.1f} to use:')
    for name, plan in ladder(asked):
        least = sum(planner.fixed(plan))
        peak = least if least > room else planner.bill(plan).peak
        print(f'  {name:48}{peak / 1e9:9.1f} GB{"" if peak > room else "  fits"}'
              f'{" without any activations" if peak == least else ""}', flush=True)
        if peak <= room:
            found = switches(asked, plan)
            print('Switch on: ' + ('; '.join(found) if found else 'nothing'))
            return
    raise UserError(f'Nothing here fits a card of {card:g} GB: use more processes (--world), a '
                    'smaller input or a smaller window.')


def main(argv: list | None = None):
    args = parse_args(argv)
    model_inputs.quiet()
    plans, batch = planner(args)
    plan = Plan(batch, args.precision, args.world, args.zero, args.with_cp)
    show(plans, plan)
    if args.card:
        fit(plans, plan, args.card)


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
