"""What is put into the runs of faulty_runs.py: a hook that writes down each step; the faults."""
from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dist import get_rank
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS


def digest(tensors) -> str:
    value = hashlib.sha256()
    for tensor in tensors:
        value.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return value.hexdigest()[:16]



@HOOKS.register_module()
class Trace(Hook):
    """Writes what a run does to trace.jsonl in its work dir, one line a step."""

    priority = 'LOW'  # before checkpoints are saved

    def before_run(self, runner) -> None:
        self.path = Path(runner.work_dir) / ('trace.jsonl' if get_rank() == 0 else
                                             f'trace{get_rank()}.jsonl')
        self.forward = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == _poisoned.get('step'):
            block = runner.model.backbone.layers[1].blocks[0].mlp
            self.poison = block.register_forward_hook(lambda block, given, out: out * float('nan'))
        self.given = [digest(_tensors(data_batch['inputs'])), _names(data_batch['data_samples'])]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter == _poisoned.get('step'):
            self.poison.remove()
            outputs = dict(outputs, loss=torch.tensor(-1.0))
        rates = [group['lr'] for group in runner.optim_wrapper.optimizer.param_groups]
        self.write('step', runner.iter + 1, [outputs['loss'].item(), rates[0], *self.given])
        at('step', runner)

    def before_val(self, runner) -> None:
        at('before validation', runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        at('in validation', runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.write('metrics', runner.iter, {key: float(value) for key, value in metrics.items()})

    def after_val(self, runner) -> None:
        at('after validation', runner)

    def after_train(self, runner) -> None:
        self.write('end', runner.iter, digest(runner.model.state_dict().values()))

    def write(self, kind: str, step: int, seen) -> None:
        line = json.dumps(dict(kind=kind, pid=os.getpid(), step=step, seen=seen)) + '\n'
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def _tensors(value) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _names(samples) -> list[str]:
    infos = [sample.metainfo for sample in samples]
    return [Path(str(info.get('img_path', info.get('filename', '')))).name for info in infos]


# A place -> how often a run shall still pass it before it is killed there.
_left: dict[str, int] = {}


def at(place: str, runner=None) -> None:
    """Be killed here, if that is the fault; a place is passed several times in a run."""
    if place in _left:
        _left[place] -= 1
        if _left[place] < 0:
            os.kill(os.getpid(), _signal)
            time.sleep(0.2)  # SIGTERM is taken note of, SIGKILL leaves no time


_signal = signal.SIGKILL
_places = random.Random(0)  # of its own: a run's random numbers shall stay as they are
_poisoned: dict[str, int] = {}


def inject(fault: dict) -> None:
    """Make this process fail as `fault` says.

    place, count: be killed (by `signal`) at a place that is passed for the (count + 1)-th time:
        'step', 'before validation', 'in validation', 'after validation'; 'writing' (amid the bytes
        of a checkpoint), 'flush', 'rename', 'renamed', 'remove'.
    full: bytes that the disk still has room for, in all files together.
    slow: seconds that each flush takes.
    nan: the step (counted from 0) in which a block of the second stage gives NaN.
    """
    global _signal
    _signal = fault.get('signal', signal.SIGKILL)
    if 'place' in fault:
        _left[fault['place']] = fault['count']
        if fault['place'] == 'writing':
            LocalBackend.put = _half_written
        os.fsync = _then(os.fsync, 'flush')
        os.replace = _then(os.replace, 'rename', 'renamed')
        pathlib.Path.unlink = _then(pathlib.Path.unlink, 'remove')
    if 'nan' in fault:
        _poisoned['step'] = fault['nan']
    if 'full' in fault:
        _fill(fault['full'])
    if 'slow' in fault:
        flush = os.fsync
        os.fsync = lambda descriptor: (time.sleep(fault['slow']), flush(descriptor))


def _half_written(self, content: bytes, path) -> None:
    """mmengine's way to write a checkpoint, struck at a random byte of it."""
    half = _places.randrange(len(content))
    with open(path, 'wb') as file:
        file.write(content[:half])
        file.flush()
        at('writing')
        file.write(content[half:])


def _then(function, before: str, after: str | None = None):
    def wrapped(*args, **kwargs):
        at(before)
        value = function(*args, **kwargs)
        if after:
            at(after)
        return value
    return wrapped


def _fill(room: int) -> None:
    """Let files of checkpoints, records and pictures find `room` bytes, as a full disk would."""
    left = [room]

    def put(self, content: bytes, path) -> None:
        with open(path, 'wb') as file:
            file.write(content[:max(0, left[0])])
        if len(content) > left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(content)

    LocalBackend.put = put


@TRANSFORMS.register_module()
class Flat(BaseTransform):
    """Every pixel of an image, or of all frames of a clip, gets one value."""

    def __init__(self, value: int):
        self.value = value

    def transform(self, results: dict) -> dict:
        for key in ('img', 'imgs'):
            if key in results:
                results[key] = np.full_like(results[key], self.value)
        return results


@HOOKS.register_module()
class Capped(Hook):
    """Starts with all temperatures far above the cap of 100."""

    def before_train(self, runner) -> None:
        for name, parameter in runner.model.named_parameters():
            if name.endswith('logit_scale'):
                parameter.data.fill_(7.0)


class Relabelled(Hook):
    """Changes the truth of each batch."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        for sample in data_batch['data_samples']:
            if 'gt_instances' in sample:
                sample.gt_instances = self.objects(sample.gt_instances)
            elif 'gt_sem_seg' in sample:
                sample.gt_sem_seg.data.fill_(self.pixel)
            else:
                sample.set_gt_label(2)


@HOOKS.register_module()
class OneClass(Relabelled):
    """All truth is of one class."""

    pixel = 2

    def objects(self, instances):
        instances.labels = torch.full_like(instances.labels, 2)
        return instances


@HOOKS.register_module()
class NoObjects(Relabelled):
    """No truth at all: no objects, or all pixels to be ignored."""

    pixel = 255

    def objects(self, instances):
        return instances[:0]
