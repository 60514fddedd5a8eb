"""Checkpoints from which a run goes on as if it had not stopped.

    train -> every `interval`: gather random states -> write (see saving.py)
    SIGTERM -> the same after the step in progress -> exit status STOPPED
    resume -> newest whole file -> model, optimizer, schedules (by mmengine) -> place in the data,
    random numbers, and a validation that was due (here)
"""
from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ..registry import HOOKS
from . import randomness
from .files import fault, newest_whole
from .records import quiet_log_files
from .saving import PROGRESS, WholeCheckpointHook

STOPPED = 75  # exit status: stopped as asked, all saved, go on with --resume; sysexits' EX_TEMPFAIL


def resume_point(work_dir: str | Path, path: str | None = None) -> str | None:
    """The checkpoint to go on from: `path` if it is whole, else the newest whole one of the folder.

    Returns None for a folder without checkpoints. Damaged ones are named in the log.

    Raises:
        ValueError: `path` is damaged, or there are checkpoints and none is whole.
    """
    if path is not None:
        if '://' not in path and (wrong := fault(Path(path))):
            whole, _ = newest_whole(Path(path).parent)
            hint = f'resume from {whole}' if whole else 'there is no whole one beside it'
            raise ValueError(f'A checkpoint must be whole, {path} {wrong}: {hint}.')
        return path
    whole, faults = newest_whole(Path(work_dir))
    if whole is None and faults:
        raise ValueError(f'A checkpoint to resume from must be whole, got {"; ".join(faults)}: '
                         'start without --resume, or in another folder.')
    for text in faults:
        logging.getLogger('mmengine').warning('%s: left alone, resuming from %s', text, whole)
    return whole and str(whole)


@HOOKS.register_module()
class CheckpointHook(WholeCheckpointHook):
    """mmengine's CheckpointHook, for runs that may be killed at any moment.

    A file appears under its name when all of it is on the disk, and only then is it named in
    `last_checkpoint`, and only then are older ones removed: the disk holds `max_keep_ckpts` + 1 for
    a moment. A checkpoint that cannot be written stops the run with a sentence.

    A resumed run sees the same samples, augmented in the same way, and draws the same random
    numbers as one that was never stopped, with as many processes as before. For this, training
    samples are loaded under seeds of their own (see `randomness`), and what is drawn in validation
    does not touch training. A validation that was due when the run was killed is made up for.

    On SIGTERM the step in progress is finished, a checkpoint is saved, and the process ends with
    status 75 (`STOPPED`). In the middle of an epoch it is named iter_N.pth, and goes when the next
    regular one is there.

    Args:
        stop_signals: names of the signals that are taken as that notice.
        others: those of mmengine's CheckpointHook.
    """

    def __init__(self, *args, stop_signals: Sequence[str] = ('SIGTERM',), **kwargs):
        super().__init__(*args, **kwargs)
        self.stop_signals = [signal.Signals[name] for name in stop_signals]
        self._asked_to_stop = False
        self._resumed: dict | None = None  # PROGRESS of the checkpoint
        self._held: dict | None = None  # random states that the next step starts from
        self._batch = 0  # batches of this epoch that are done
        self._begun = 0  # batches of this epoch that an earlier process did

    # Resuming ------------------------------------------------------------------------------------

    def before_run(self, runner) -> None:
        """Let `resume=True` find the newest whole checkpoint."""
        quiet_log_files(runner.logger)
        if getattr(runner, '_resume', False) is True and runner._load_from is None:
            found = [None]
            if is_main_process():
                found = [resume_point(runner.work_dir)]
            broadcast_object_list(found)
            runner._load_from = found[0]

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            seed = checkpoint['meta'].get('seed')
            self._resumed = checkpoint.get(PROGRESS) or dict(
                seed=seed, epoch=checkpoint['meta']['epoch'], iter=checkpoint['meta']['iter'],
                batch=0, validated=True, random=[])

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._take_notice()
        loop, due = runner.train_loop, False
        sampler = loop.dataloader.batch_sampler.sampler
        if (found := self._resumed) is not None:
            loop._epoch, loop._iter = found['epoch'], found['iter']
            self._begun, self._saved, self._there = found['batch'], found['iter'], found['iter']
            if found['seed'] is not None:
                sampler.seed = found['seed']
            self._restore(runner, found['random'])
            due = (not found['validated'] and not found['batch']
                   and self._is_validation_due(runner))
        self.seed = getattr(sampler, 'seed', None) or getattr(runner, 'seed', None) or 0
        self._batches = randomness.number_batches(loop.dataloader, self.seed, get_rank())
        if isinstance(loop, IterBasedTrainLoop):
            self._place(loop)
        if due:
            runner.logger.info('Validating, which was due when the run was stopped.')
            runner.val_loop.run()

    def _restore(self, runner, found: list[dict]) -> None:
        if len(found) == get_world_size():
            self._held = found[get_rank()]
        else:
            runner.logger.warning(
                f'Random numbers go on anew: the checkpoint has those of {len(found)} processes, '
                f'this run has {get_world_size()}.')

    def _place(self, loop) -> None:
        """Let mmengine's iterator begin after the steps that are done, without loading these."""
        iterator = loop.dataloader_iterator

        def skip(count: int) -> None:
            iterator._epoch = self._batches.skip(count)

        if hasattr(iterator, 'skip_iter'):
            iterator.skip_iter = skip
        else:  # mmengine up to 0.10.7 has begun to load, and takes what is done one by one
            skip(loop._iter)
            loop.dataloader._iterator = None  # workers that know nothing of places and seeds
            iterator._iterator = chain(repeat(None, loop._iter), loop.dataloader)

    def _progress_at(self, meta: dict) -> dict:
        """What a resumed run needs to know besides what mmengine saves."""
        return dict(epoch=meta['epoch'], iter=meta['iter'], batch=self._batch, seed=self.seed,
                    validated=meta.pop('validated', False),
                    random=all_gather_object(self._held or randomness.states()))

    @staticmethod
    def _is_validation_due(runner) -> bool:
        loop = runner.train_loop
        if runner.val_loop is None:
            return False
        loop._decide_current_val_interval()
        done, last = ((loop.epoch, loop.max_epochs) if isinstance(loop, EpochBasedTrainLoop)
                      else (loop.iter, loop.max_iters))
        return done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)

    # Random numbers: each step starts from where the last one ended ------------------------------

    def before_train_epoch(self, runner) -> None:
        self._hold()
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and self._begun:
            self._batches.skip(self._begun)
            loop.run_iter = _counted_from(self._begun, type(loop).run_iter, loop)

    def before_val(self, runner) -> None:
        self._hold()

    def _hold(self) -> None:
        if self._held is None:
            self._held = randomness.states()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if self._held is not None:
            randomness.restore(self._held)
            self._held = None

    # Stopping ------------------------------------------------------------------------------------

    def _take_notice(self) -> None:
        owner = os.getpid()

        def notice(number, frame):
            if os.getpid() != owner:  # a child, of which only the handler is a copy
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self._asked_to_stop = True

        self._handlers = {number: signal.signal(number, notice) for number in self.stop_signals}

    def after_train(self, runner) -> None:
        super().after_train(runner)
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batch = batch_idx + 1
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        between = getattr(runner.optim_wrapper, '_inner_count', 0) % counts
        if not between and self._is_asked_to_stop():  # gradients of half a step are not kept
            self._stop(runner, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        self._batch = self._begun = 0
        vars(runner.train_loop).pop('run_iter', None)
        super().after_train_epoch(runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        # Several processes cannot agree here: they need not have equally many batches.
        if self._asked_to_stop and get_world_size() == 1 and runner.train_loop is not None:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # validation is of the averaged weights
                    hook.after_val_epoch(runner)
            self._stop(runner, runner.iter)

    def after_val(self, runner) -> None:
        if self._is_asked_to_stop():
            self._stop(runner, runner.iter, validated=True)

    def _is_asked_to_stop(self) -> bool:
        if get_world_size() == 1:
            return self._asked_to_stop
        asked = torch.tensor(int(self._asked_to_stop))
        all_reduce(asked, 'max')
        return bool(asked)

    def _stop(self, runner, iterations: int, validated: bool = False) -> None:
        if self._saved != iterations:
            meta = dict(epoch=runner.epoch, iter=iterations, validated=validated)
            if self.by_epoch:
                name = f'iter_{iterations}.pth'
                runner.message_hub.update_info('stop_ckpt', name)
                self._save_and_name(runner, name, meta)
            else:
                self._save_checkpoint_with_step(runner, iterations, meta)
        self._finish(runner)
        runner.logger.info(f'Stopped as asked after iteration {iterations}, all saved in '
                           f'{self.last_ckpt}: go on with --resume.')
        sys.exit(STOPPED)


def _counted_from(first: int, run_iter, loop):
    """run_iter of a loop whose batches are counted from `first` on."""
    def counted(index: int, data_batch) -> None:
        run_iter(loop, index + first, data_batch)
    return counted
