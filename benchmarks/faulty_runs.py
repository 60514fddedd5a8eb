"""Training runs that are cheap enough to be killed by the hundred, and what they are compared with.

    python benchmarks/faulty_runs.py serve   (started by `Farm`)

Importing mmdet and its like takes longer than a tiny run. So one process imports them all and forks
a child for each run; a child is tools/train.py, with its arguments, that writes down every step:
loss, learning rate, a digest of what the model was given; metrics; and at the end the weights.
"""
from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
STEPS = 8
# Small as they are, they use what a run can be interrupted in: paths dropped at random, several
# validations, more checkpoints than are kept, averaged weights, epochs, workers.
COMMON = f"""
_base_ = '{ROOT}/configs/demo/{{name}}_nano.py'
train_cfg = dict(max_iters={STEPS}, val_interval=4)
default_hooks = dict(
    checkpoint=dict(interval=2, max_keep_ckpts=2), logger=dict(interval=1))
custom_hooks = [dict(type='Trace')]
val_dataloader = dict(batch_size=2)
net = _base_.model
net.backbone.update(
    arch=dict(embed_dims=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2)), drop_path_rate=0.3)
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 4
_base_.param_scheduler[1].end = {STEPS}
for loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.data_root = '{{data}}/'
_base_.train_dataloader.batch_size = 2
"""
DET = """
net.neck.update(
    in_channels=[8, 16, 32, 64], out_channels=16, norm_cfg=dict(type='GN', num_groups=4))
net.rpn_head.in_channels = net.rpn_head.feat_channels = 16
heads = net.roi_head
heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 16
for box, mask in zip(heads.bbox_head, heads.mask_head):
    box.update(in_channels=16, conv_out_channels=16, fc_out_channels=16)
    mask.update(in_channels=16, conv_out_channels=16)
net.train_cfg.rpn_proposal.update(nms_pre=40, max_per_img=12)
net.test_cfg.rpn.update(nms_pre=40, max_per_img=8)
for stage in net.train_cfg.rcnn:
    stage.sampler.num = 8
_base_.val_evaluator.ann_file = _base_.test_evaluator.ann_file = '{data}/val.json'
"""
SEG = """
net.decode_head.update(
    in_channels=[8, 16, 32, 64], channels=16, norm_cfg=dict(type='GN', num_groups=4))
"""
CLS = """
net.head.in_channels = 64
_base_.train_dataloader.batch_size = 4
"""
EMA = "custom_hooks.append(dict(type='EMAHook', momentum=0.1))\n"
EPOCHS = """
_base_.train_dataloader.update(
    num_workers=2, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
default_hooks['checkpoint'] = dict(by_epoch=True, interval=1, max_keep_ckpts=1)
_base_.log_processor.by_epoch = True
"""
VIDEO = """
net.cls_head.update(in_channels=64, dropout_ratio=0.5)
"""


class Task(NamedTuple):
    """A tiny run: the demo it is made of, its data, and what is changed."""

    demo: str
    data: str
    changes: str


TASKS = {
    'det': Task('det', 'scenes', DET),
    'seg': Task('seg', 'crops', SEG),
    'cls': Task('cls', 'crops', CLS + EMA),
    'video': Task('video', 'motions', VIDEO),
    'epochs': Task('cls', 'crops', CLS + EPOCHS),
}
DATA = {
    'scenes': ('make_shapes', '--train', '8', '--val', '4', '--size', '64', '64'),
    'crops': ('make_crops', '--train', '16', '--val', '6', '--size', '32'),
    'motions': ('make_motions', '--train', '8', '--val', '6', '--size', '32'),
}


def prepare(folder: Path, names=tuple(TASKS)) -> dict[str, Path]:
    """Render the data that the named tasks need, and write their configs; returns the configs."""
    configs = {}
    for name in names:
        task = TASKS[name]
        data = folder / task.data
        if not data.exists():
            tool, *arguments = DATA[task.data]
            tool = importlib.import_module(f'swinv2_mm.datasets.synthetic.{tool}')
            with contextlib.redirect_stdout(None):
                tool.main(['--out', str(data), *arguments])
        text = (COMMON + task.changes).replace('{name}', task.demo).replace('{data}', str(data))
        configs[name] = folder / f'{name}.py'
        configs[name].write_text(text)
    return configs


class Farm:
    """One process that has everything imported; `run` has it fork a child that trains."""

    def __init__(self):
        environment = os.environ | dict(
            OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', MALLOC_ARENA_MAX='2')
        self.process = subprocess.Popen(
            [sys.executable, __file__, 'serve'], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != '"ready"\n':
            raise RuntimeError('the process that forks runs could not start, see above')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def run(self, config: Path, work_dir: Path, *arguments: str, fault: dict | None = None,
            timeout: float = 600, ranks: int = 1) -> int | list[int]:
        """Train, with a fault injected; the exit status, negative the signal that killed it.

        With several `ranks` the last one gets the fault, and the answer is the status of each; one
        that outlives the first by `timeout` seconds is killed.

        What the child prints is added to output.txt in the work dir. Faults: see `inject`;
        `after` is when to send `signal`, in seconds from the start. A seed is given to the first
        of several runs only: the others must find it.
        """
        work_dir.mkdir(parents=True, exist_ok=True)
        seed = () if '--resume' in arguments else ('--seed', '3')
        command = dict(arguments=[str(config), '--work-dir', str(work_dir), *seed, *arguments],
                       output=str(work_dir / 'output.txt'), fault=fault or {}, timeout=timeout,
                       ranks=ranks)
        if ranks > 1:
            command['arguments'] += ['--launcher', 'pytorch', '--cfg-options',
                                     'env_cfg.dist_cfg.backend=gloo']
        self.process.stdin.write(json.dumps(command) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def serve() -> None:
    """Import everything once, then fork a child for each line of stdin and report how it ended."""
    # It mends mmaction2, so it comes before whatever imports that.
    import swinv2_mm.utils.compat  # noqa: F401  # isort: skip
    import mmdet.models  # noqa: F401
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401
    import pycocotools.coco  # noqa: F401
    import torch.utils.cpp_extension  # noqa: F401 - a run logs which compiler there is
    from yapf.yapflib import yapf_api

    # Each checkpoint holds the config, beautified: most of the time of so small a run.
    yapf_api.FormatCode = lambda text, **_: (text, False)
    gc.freeze()  # libraries are no garbage: each data set looked for that in all of them
    if len(os.listdir('/proc/self/task')) > 1:
        raise RuntimeError('a library started threads, which do not survive a fork')
    answer = os.dup(1)
    os.dup2(2, 1)
    os.write(answer, b'"ready"\n')
    for line in sys.stdin:
        command = json.loads(line)
        with socket.socket() as probe:
            probe.bind(('localhost', 0))
            port = probe.getsockname()[1]
        children = []
        for rank in range(command['ranks']):
            children.append(os.fork())
            if children[-1] == 0:
                _work(command, rank, port)
        statuses = _wait(children, command)
        status = statuses if len(children) > 1 else statuses[0]
        os.write(answer, json.dumps(status).encode() + b'\n')


def _wait(children: list[int], command: dict) -> list[int]:
    fault, since, sent = command['fault'], time.time(), False
    started, left = since, dict.fromkeys(children)
    while None in left.values():
        for child in [child for child, status in left.items() if status is None]:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                left[child], since = os.waitstatus_to_exitcode(status), time.time()
                _send(child, signal.SIGKILL)  # its workers, if any
            elif time.time() - since > command['timeout']:
                _send(child, signal.SIGKILL)
        if 'after' in fault and not sent and time.time() - started > fault['after']:
            sent = True
            _send(children[-1], fault.get('signal', signal.SIGKILL))
        time.sleep(0.005)
    return list(left.values())


def _send(child: int, number: int) -> None:
    try:
        if number == signal.SIGKILL:
            os.killpg(child, number)
        else:
            os.kill(child, number)
    except ProcessLookupError:
        pass


def _work(command: dict, rank: int, port: int) -> None:
    status = 70
    try:
        os.setpgid(0, 0)
        output = os.open(command['output'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        sys.stdin.close()
        sys.argv = ['train.py', *command['arguments']]
        if command['ranks'] > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='localhost',
                              MASTER_PORT=str(port), WORLD_SIZE=str(command['ranks']))
        from trace_hook import inject

        from swinv2_mm.apis import train
        from swinv2_mm.utils import entry
        inject(command['fault'] if rank == command['ranks'] - 1 else {})
        random.seed(os.getpid())  # as fresh processes differ: what is not restored shall show
        entry.run(train.main)
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - a child must not go on as a server
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Record(NamedTuple):
    """What a run wrote down, over all its processes."""

    steps: dict[int, list]  # step -> what each process that took it saw
    metrics: dict[int, list]
    first: list[int]  # the step that each process began with
    weights: str | None  # digest of the trained weights


def read(work_dir: Path) -> Record:
    record = Record({}, {}, [], None)
    process = None
    path = work_dir / 'trace.jsonl'
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        if row['kind'] == 'step':
            if row['pid'] != process:
                process = row['pid']
                record.first.append(row['step'])
            record.steps.setdefault(row['step'], []).append(row['seen'])
        elif row['kind'] == 'metrics':
            record.metrics.setdefault(row['step'], []).append(row['seen'])
        else:
            record = record._replace(weights=row['seen'])
    return record


def differences(work_dir: Path, reference: Path) -> list[str]:
    """How a run that was interrupted differs from one that was not; nothing is the right answer."""
    found, expected = read(work_dir), read(reference)
    wrong = []
    for kind, mine, theirs in (('step', found.steps, expected.steps),
                               ('metrics after step', found.metrics, expected.metrics)):
        if set(mine) != set(theirs):
            wrong.append(f'{kind}: {sorted(mine)} instead of {sorted(theirs)}')
        wrong += [f'{kind} {step}: {seen} instead of {theirs[step][0]}'
                  for step in set(mine) & set(theirs) for seen in mine[step]
                  if seen != theirs[step][0]]
    if found.weights != expected.weights:
        wrong.append('the trained weights differ')
    if digests(work_dir) != digests(reference):
        wrong.append(f'checkpoints: {digests(work_dir)} instead of {digests(reference)}')
    return wrong


def digests(work_dir: Path) -> dict[str, str]:
    """The weights in each checkpoint of a finished run, and the names that are left besides."""
    from trace_hook import digest

    found = {path.name: 'left over' for path in work_dir.glob('.*')}
    for path in sorted(work_dir.glob('*.pth')):
        state = load(path)['state_dict']
        found[path.name] = digest(state.values())
    return found


def load(path: Path) -> dict:
    """A checkpoint of mmengine's."""
    from swinv2_mm.engine.reading import read_run

    return read_run(path, map_location='cpu')


if __name__ == '__main__' and sys.argv[1:] == ['serve']:
    serve()
