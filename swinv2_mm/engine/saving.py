"""Checkpoints that are whole or not there: the part of CheckpointHook that writes them.

    gather what a resumed run needs -> write beside, flush, rename -> name it -> remove the outdated
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as _CheckpointHook

from .files import POINTER, partial_name, publish, remove, remove_partial, write_whole

PROGRESS = 'progress'  # the entry of a checkpoint that is added to mmengine's
SLOW = 10  # seconds


class WholeCheckpointHook(_CheckpointHook):
    """mmengine's CheckpointHook, each file of which appears when all of it is on the disk.

    Only then is it named in `last_checkpoint`, and only then are older ones removed. Where a
    strategy writes while training goes on, a thread of the first process does all that when it is
    due; that it was done is seen to before the next file and before the run ends. Subclasses
    give `_progress_at(meta)`, which all processes call: what goes into the file as `progress`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._saved: int | None = None  # iterations in the newest file
        self._there: int | None = None  # and in the newest that is surely on the disk
        self._pending: tuple[str, int, Future] | None = None  # what is still being written
        self._pool = ThreadPoolExecutor(1)
        self._last_save = time.time()

    def before_train(self, runner) -> None:
        if is_main_process():
            self._name_resumed(runner)
        super().before_train(runner)  # removes what the resumed file calls outdated
        self.whole = isinstance(self.file_backend, LocalBackend)
        if self.whole and is_main_process():
            Path(self.out_dir).mkdir(parents=True, exist_ok=True)
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                remove_partial(folder)

    @staticmethod
    def _name_resumed(runner) -> None:
        """Let `last_checkpoint` name the file resumed from, where a kill came before it could."""
        pointer, resumed = Path(runner.work_dir) / POINTER, str(runner._load_from)
        if runner._resume and Path(resumed).exists() and pointer.exists():
            try:
                write_whole(pointer, resumed.encode())
            except OSError as error:
                runner.logger.warning(f'{pointer} still names another file: {error.strerror}.')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint[PROGRESS] = self._progress

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        """Save a regular checkpoint, name it, and only then remove what is outdated."""
        name = self.filename_tmpl.format(step)
        kept = []
        if self.max_keep_ckpts > 0:
            kept = [other for other in self.keep_ckpt_ids if other != step] + [step]
            # With those that go when this one is there, so that a resumed run removes them.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        outdated = kept[:-self.max_keep_ckpts] if kept else []
        names = [self.filename_tmpl.format(other) for other in outdated]
        if (stop := runner.message_hub.get_info('stop_ckpt')) not in (None, name):
            names.append(stop)
        self._save_and_name(runner, name, meta, names)
        if kept:
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        runner.message_hub.update_info('stop_ckpt', None)

    def _save_and_name(self, runner, name: str, meta: dict, outdated: Sequence[str] = ()) -> None:
        self.last_ckpt = path = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', path)

        def settle() -> None:
            write_whole(Path(runner.work_dir) / POINTER, path.encode())
            for other in outdated:
                self._remove(other)

        self._write(runner, name, meta, settle, save_optimizer=self.save_optimizer,
                    save_param_scheduler=self.save_param_scheduler, by_epoch=self.by_epoch,
                    **self.args)
        self._saved = meta['iter']

    def _write(self, runner, name: str, meta: dict, then: Callable[[], None], **kwargs) -> None:
        """Have the runner write a file beside its place, put it there, and call `then` in the
        first process; all processes call."""
        self._finish(runner)
        self._progress = self._progress_at(meta)
        started = time.time()
        partial, first = partial_name(name) if self.whole else name, is_main_process()
        self._together(runner, name, lambda: runner.save_checkpoint(
            self.out_dir, partial, file_client_args=self.file_client_args,
            backend_args=self.backend_args, meta=meta, **kwargs))

        def settle() -> None:  # by now all processes have written what is theirs
            if first and self.whole:
                publish(Path(self.out_dir) / partial, Path(self.out_dir) / name)
            if first:
                then()

        wait = getattr(getattr(runner, 'strategy', None), 'writing', None)
        if wait is None:
            self._together(runner, name, settle)
            self._there = meta['iter']
        else:
            self._pending = name, meta['iter'], self._pool.submit(lambda: (wait(), settle()))
        self._tell_slow(runner, name, started)

    def _finish(self, runner) -> None:
        """See to it that what is being written is there; all processes call."""
        if self._pending is not None:
            (name, iterations, future), self._pending = self._pending, None
            self._together(runner, name, future.result)
            self._there = iterations

    def after_train(self, runner) -> None:
        self._finish(runner)
        super().after_train(runner)

    def _together(self, runner, name: str, write: Callable) -> None:
        """Call write() in all processes; if it fails in one, end all with the reason."""
        error = None
        try:
            write()
        except OSError as raised:
            error = raised.strerror or str(raised)
        if any(errors := all_gather_object(error)):
            self._fail(runner, name, next(filter(None, errors)))

    def _fail(self, runner, name: str, reason: str) -> None:
        path = Path(self.out_dir) / partial_name(name)
        if is_main_process():
            try:
                remove(path)
            except OSError as error:
                runner.logger.warning(f'{path} is left over and may be removed ({error.strerror})')
        before = f'one of iteration {self._there} is there' if self._there else 'there is none yet'
        raise OSError(f'Checkpoint {name} could not be written to {self.out_dir}: {reason}; '
                      f'{before}: make room or the folder writable, then go on with --resume.')

    def _tell_slow(self, runner, name: str, started: float) -> None:
        now = time.time()
        taken, between = now - started, started - self._last_save
        self._last_save = now
        if taken > SLOW and taken > 0.1 * between:
            runner.logger.warning(
                f'Writing {name} took {taken:.0f} s, after {between:.0f} s of training: save less '
                'often (interval), or to a faster disk (out_dir).')

    def _remove(self, name: str) -> None:
        if is_main_process():
            if self.whole:
                remove(Path(self.out_dir) / name)
            elif self.file_backend.isfile(path := self.file_backend.join_path(self.out_dir, name)):
                self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner, metrics) -> None:
        """Save the best so far, then remove the one before it, then save the scores."""
        if not self.save_best:
            return
        now = runner.epoch if self.by_epoch else runner.iter
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        improved = [self._save_best_of(runner, key, rule, metrics[key], now)
                    for key, rule in zip(self.key_indicators, self.rules)]
        if any(improved) and self._saved == runner.iter:  # else the next one holds the scores
            self._save_checkpoint_with_step(
                runner, now, dict(epoch=runner.epoch, iter=runner.iter, validated=True))

    def _save_best_of(self, runner, key: str, rule: str, score: float | None, now: int) -> bool:
        hub, one = runner.message_hub, len(self.key_indicators) == 1
        suffix = '' if one else f'_{key}'
        best = hub.get_info(f'best_score{suffix}', self.init_value_map[rule])
        if score is None or not self.is_better_than[key](score, best):
            return False
        name = f'best_{key}_{self.filename_tmpl.format(now)}'.replace('/', '_')
        path = self.file_backend.join_path(self.out_dir, name)
        before = hub.get_info(f'best_ckpt{suffix}')
        # A number of numpy's would keep torch from loading the file with weights_only=True.
        hub.update_info(f'best_score{suffix}', float(score))
        hub.update_info(f'best_ckpt{suffix}', path)
        outdated = before if before and Path(before).name != name else None
        self._write(runner, name, dict(epoch=runner.epoch, iter=runner.iter),
                    lambda: outdated and self._remove(Path(outdated).name), by_epoch=False,
                    save_optimizer=False, save_param_scheduler=False)
        if one:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[key] = path
        runner.logger.info(f'The best {key} so far, {score:0.4f}, is that of {name}.')
        return True
