"""What the tests of tools/infer.py and tools/web_demo.py share: pictures, videos, checkpoints."""
import functools
import json
import sys
import tempfile
from pathlib import Path

import bad_files
import cv2
import numpy as np
import torch
from conftest import awaken
from helpers import ROOT, load_tool
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.visualization import Visualizer

DEMOS = {task: f'configs/demo/{task}_nano.py' for task in ('det', 'seg', 'cls', 'video')}
SCOPES = dict(det='mmdet', seg='mmseg', cls='mmpretrain', video='mmaction')
FEW = 'model.test_cfg.rcnn.max_per_img=20'  # objects a picture, so that drawing them takes no time
KEPT = tempfile.TemporaryDirectory()  # of checkpoints, until the tests end


def picture(seed, height=64, width=96):
    """Smooth noise, (H, W, 3) uint8 BGR: nothing that a JPEG or a video could not hold."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def damaged_animation():
    """The bytes of a PNG on which OpenCV 4.12 crashes."""
    content = bytearray(bad_files.MAKERS['animated.png'][3](None))
    content[2000] ^= 255
    return bytes(content)


def write_pictures(folder, count=3, **size):
    """p0.jpg, p1.jpg, ... in a folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f'p{i}.jpg'), picture(i, **size))
    return folder


def write_video(path, count=8, size=(32, 32)):
    """A video of as many different frames, size = (width, height); returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, size)
    for i in range(count):
        writer.write(picture(i, *size[::-1]))
    writer.release()
    return path


@functools.cache
def checkpoint(task):
    """A checkpoint of the demo's model, with random weights that matter to its output."""
    cfg = Config.fromfile(ROOT / DEMOS[task])
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(SCOPES[task]):
        model = MODELS.build(cfg.model)
        model.init_weights()
    awaken(model.backbone)
    for name, parameter in model.named_parameters():
        if name.split('.')[-2] in ('fc', 'fc_cls', 'conv_seg', 'rpn_cls'):
            parameter.data *= 30  # classes that differ from place to place
    path = Path(KEPT.name) / f'{task}.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def call(tool, *words, scope):
    """Run the main() of a tool in this process, as if it were the first to do so."""
    old, sys.argv = sys.argv, [tool, *map(str, words)]
    try:
        with DefaultScope.overwrite_default_scope(scope):
            load_tool(tool).main()
    finally:
        sys.argv = old
        for kind in visualizers(Visualizer):  # mmengine would take up one whose folder is gone
            kind._instance_dict.clear()


def visualizers(kind):
    """The class and all that are made of it."""
    yield kind
    for one in kind.__subclasses__():
        yield from visualizers(one)


def infer(task, inputs, out, *options):
    """tools/infer.py on the demo of a task; returns the folder of its results."""
    few = ['--cfg-options', FEW] if task == 'det' else []
    call('infer', ROOT / DEMOS[task], checkpoint(task), *inputs, '--out-dir', out, '--device',
         'cpu', *options, *few, scope=SCOPES[task])
    return out


def read(folder, name):
    """The json that an input got."""
    return json.loads((folder / f'{name}.json').read_text())
