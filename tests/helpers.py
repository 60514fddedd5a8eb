"""What several test files share: tools as modules, tool runs, a tiny data set, detector steps."""
import atexit
import contextlib
import gc
import importlib.util
import json
import logging
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from samples import detection as sample  # noqa: F401 - beside train_step and predict

from swinv2_mm.cli import TOOLS
from swinv2_mm.utils import versions

ROOT = Path(__file__).resolve().parents[1]
DEMO = 'configs/demo/det_nano.py'

# What a tool imports first, and takes longest with; mmpretrain does not import beside transformers.
LIBRARIES = ['torch', 'cv2', 'mmengine.runner', 'mmcv.ops']
if not importlib.util.find_spec('transformers'):
    LIBRARIES += ['mmdet.apis', 'mmseg.apis', 'mmpretrain.apis']
# Run from nothing: the first stands for all that measure, the second is to run without mmengine.
FRESH = ['benchmarks/backbone.py', 'benchmarks/gpu.py']


def needs(what, *values):
    """A case of a parametrized test for a torch that does `what`; see swinv2_mm.utils.versions."""
    major, minor = versions.SINCE[what]
    return pytest.param(*values, marks=pytest.mark.skipif(
        not versions.can(what), reason=f'{what} needs torch {major}.{minor}'))


def paired(*rows):
    """zip of rows that must be equally long, as `strict=True` has it from Python 3.10 on."""
    rows = [list(row) for row in rows]
    assert len({len(row) for row in rows}) == 1, [len(row) for row in rows]
    return zip(*rows)


@contextlib.contextmanager
def logged(level=logging.NOTSET):
    """What this process logs meanwhile, at `level` or above: the messages, in their order."""
    lines = []
    handler = logging.Handler(level)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def weights(model):
    """The state dict without what it says of windows."""
    return {name: value for name, value in model.state_dict().items()
            if not name.endswith('pretrained_windows')}


def tensorrt():
    """Names of the operations that TensorRT says it reads from ONNX."""
    lines = (ROOT / 'tests/tensorrt_operators.txt').read_text().splitlines()
    return {line for line in lines if not line.startswith('#')}


def load_tool(name):
    """The module behind a tool, by its name for the console."""
    return importlib.import_module(f'swinv2_mm.{TOOLS[name]}')


def script(name):
    """tools/NAME.py, one that is no tool of the package, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(*command, timeout=1200, cwd=ROOT, **variables):
    """Run a tool, without a GPU, with more environment variables; returns the finished process."""
    command = [str(word) for word in command]
    # dist_*.sh call torchrun, which is found beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    environment = {**os.environ, 'PATH': path, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1',
                   **{name: str(value) for name, value in variables.items()}}
    fresh = command[0] in FRESH and '--help' not in command
    if command[0].endswith('.py') and not fresh:
        return _forked(command, timeout, cwd, environment)
    program = [] if command[0].endswith('.sh') else [sys.executable]
    return subprocess.run([*program, *command], cwd=cwd, env=environment, text=True,
                          capture_output=True, timeout=timeout)


def _forked(command, timeout, cwd, environment):
    """Run a script in a process of its own, in which the libraries are imported already."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LIBRARIES)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ('out', 'err')]
        process = context.Process(target=_run, args=(command, str(cwd), environment, files))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(
            command, process.exitcode, *(file.read_text() for file in files))


def _run(command, cwd, environment, files):
    """In the new process: the script as Python runs it."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    script = os.path.abspath(os.path.join(cwd, command[0]))
    os.chdir(cwd)
    sys.argv = [command[0], *command[1:]]
    sys.path[:] = [os.path.dirname(script)] + [
        path for path in sys.path if not path.startswith(f'{ROOT}/') or '.venv' in path]
    sys.modules.pop('helpers', None)
    if script.endswith(('tools/train.py', 'tools/test.py')):
        from yapf.yapflib import yapf_api

        # The config is beautified for each file that holds it; runs by dist_*.sh still do that.
        yapf_api.FormatCode = lambda text, **_: (text, False)
    gc.freeze()  # libraries are no garbage; benchmarks look for that again and again
    try:
        runpy.run_path(script, run_name='__main__')
    finally:
        atexit._run_exitfuncs()


def checked(process):
    """The process, if it went well; else its output is shown."""
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-5000:]
    return process


def last_line(process):
    """The sentence a tool ended in; it must have failed."""
    assert process.returncode != 0, process.stdout[-3000:]
    return process.stderr.strip().splitlines()[-1]


def make_shapes(folder, *, train=4, val=3, size=(64, 96)):
    """A tiny set of rendered shapes with boxes and masks; returns its folder as a data_root."""
    checked(run_tool('tools/dataset/make_shapes.py', '--out', folder, '--train', train,
                     '--val', val, '--size', *size))
    return f'{folder}/'


def data_options(folder, *, train='train.json', val='val.json'):
    """--cfg-options that put a data set made by `make_shapes` in place of the config's."""
    options = [f'{split}_dataloader.dataset.{key}={value}'
               for split, ann, images in (('train', train, 'train/'), ('val', val, 'val/'),
                                          ('test', val, 'val/'))
               for key, value in (('data_root', folder), ('ann_file', ann),
                                  ('data_prefix.img', images))]
    return options + [f'{split}_evaluator.ann_file={folder}{val}' for split in ('val', 'test')]


def read_scalars(work_dir, newest=True):
    """Rows that a run logged; of the newest run in the work dir."""
    file = max(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in file.read_text().splitlines()]


def shrink(model_cfg):
    """Fewer proposals, so that a step on a CPU takes a second; in place."""
    model_cfg.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
    model_cfg.test_cfg.rpn.update(nms_pre=100, max_per_img=5)
    model_cfg.test_cfg.rcnn.max_per_img = 5
    stages = model_cfg.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 8
    return model_cfg


def train_step(model, data):
    """Losses of one training step, with gradients left in the parameters."""
    model.train().zero_grad()
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    return losses


@torch.no_grad()
def predict(model, data):
    """The instances found in the first image."""
    model.eval()
    return model(**model.data_preprocessor(data, False), mode='predict')[0].pred_instances
