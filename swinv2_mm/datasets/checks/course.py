"""How a training goes on: whether it has steps, and what is to come during it comes."""
from __future__ import annotations

import os
from collections.abc import Iterator

from . import by_epoch, kind
from .configured import Run
from .findings import Finding

FALLS = ('CosineAnnealingLR', 'PolyLR', 'MultiStepLR')  # rates that get lower


def no_step(run: Run) -> Iterator[Finding]:
    """An epoch has a step: mmengine goes through none, saves a checkpoint and ends well."""
    loader = run.loader('train')
    count, batch = run.samples('train'), loader.get('batch_size') or 1
    if loader.get('drop_last') and count is not None and count < batch and kind(
            loader.get('sampler') or {}) != 'InfiniteSampler':
        yield Finding('nothing to learn', 'train_dataloader.drop_last', f'leaves out the only '
                      f'batch, of {count} samples where batch_size is {batch}: there is no step',
                      f'set it to False, or batch_size to at most {count}')


def never(run: Run) -> Iterator[Finding]:
    """Validation and checkpoints that would come after the end, or by epochs that there are not."""
    loop = run.cfg.get('train_cfg') or {}
    last = loop.get('max_epochs') or loop.get('max_iters')
    if 'train' not in run.splits or not last:
        return
    if loop.get('val_begin', 1) > last and run.loader('val'):
        yield Finding('schedule', 'train_cfg.val_begin', f'is {loop["val_begin"]}, after the end '
                      f'at {last}: there is no validation', f'set it to at most {last}')
    hook = (run.cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if not by_epoch(loop) and hook.get('by_epoch', True) and hook.get('interval', -1) > 0:
        yield Finding('schedule', 'default_hooks.checkpoint.by_epoch', 'is True where the training '
                      'goes by iterations, so that there is no checkpoint before its end',
                      'set it to False, and interval in iterations')


def schedule(run: Run) -> Iterator[Finding]:
    """Rates change as the training goes on, and until it ends."""
    loop = run.cfg.get('train_cfg') or {}
    last = loop.get('max_epochs') or loop.get('max_iters')
    rates = run.cfg.get('param_scheduler') or []
    rates = [rates] if isinstance(rates, dict) else rates
    if 'train' not in run.splits or not last or not isinstance(rates, (list, tuple)):
        return
    if found := list(_warm_up(run, rates, last, by_epoch(loop))):
        yield from found
        return
    unit = 'epochs' if by_epoch(loop) else 'iterations'
    if unit == 'iterations' and any(rate.get('by_epoch', True) for rate in rates):
        yield Finding('schedule', 'param_scheduler', 'goes by epochs where the training goes by '
                      'iterations, so that the rate never changes', 'set by_epoch=False, and its '
                      'numbers in iterations')
        return
    rates = [rate for rate in rates if rate.get('by_epoch', True) == by_epoch(loop)]
    falls = [rate for rate in rates if kind(rate) in FALLS]
    firsts = [min(rate['milestones']) if rate.get('milestones') else rate.get('begin', 0)
              for rate in falls]
    if falls and len(falls) == len(rates) and min(firsts) >= last:
        yield Finding('schedule', 'param_scheduler', f'lowers the rate after {min(firsts)} {unit} '
                      f'for the first time, and the training has {last}: it never falls',
                      f'set milestones (or begin, end) below {last}')
        return
    ends = [rate.get('end') or rate.get('begin', 0) + rate['T_max'] if 'T_max' in rate
            else rate.get('end') for rate in rates if kind(rate) in (*FALLS, 'LinearLR')]
    if not ends or None in ends or len(ends) < len(rates) or max(ends) == last:
        return
    final = rates[ends.index(max(ends))]
    if max(ends) > last and kind(final) in ('CosineAnnealingLR', 'PolyLR'):
        yield Finding('schedule', 'param_scheduler', f'ends after {max(ends)} {unit}, and the '
                      f'training after {last}: the rate stays high', f'set end (and T_max) to '
                      f'{last}')
    elif max(ends) < last and kind(final) != 'LinearLR':  # a warm-up, and a constant rate after it
        yield Finding('schedule', 'param_scheduler', f'ends after {max(ends)} of {last} {unit}: '
                      'the rate stays at its lowest from there', f'set end (and T_max) to {last}')


def _warm_up(run: Run, rates, last: int, epochs: bool) -> Iterator[Finding]:
    """A rate that is still being raised when the training ends never is the optimizer's."""
    steps = last
    if epochs:
        count = run.samples('train')
        batch = (run.loader('train').get('batch_size') or 1) * int(os.environ.get('WORLD_SIZE', 1))
        steps = -(-count // batch) * last if count else None
    for rate in rates:
        end = rate.get('end') or 0
        if steps and kind(rate) == 'LinearLR' and not rate.get('by_epoch', True) and end > steps:
            yield Finding('schedule', 'param_scheduler', f'raises the rate for {end} iterations, '
                          f'and the training has {steps}: it never gets to that of the optimizer',
                          f'set end of LinearLR to a tenth of them, {max(steps // 10, 1)}')


CHECKS = (no_step, never, schedule)
