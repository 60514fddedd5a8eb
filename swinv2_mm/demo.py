"""Train, test and draw a small model on rendered data: python tools/demo.py [TASK | all].

The same commands that a user types do the work; this runs them, shows one line of progress and
gathers the results under work_dirs/demo/TASK. Stopped half way, it goes on from the last
checkpoint the next time.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError
from swinv2_mm.visualization.plot_log import draw, scalars

ROOT = Path(__file__).resolve().parents[1]


SHOW = (('tools/test.py', '{config}', '{checkpoint}', '--work-dir', '{work_dir}',
         '--show-dir', '{pictures}'),)


class Task(NamedTuple):
    """One demo: its config, the commands that make its data and judge it, and what they measure."""

    config: str
    data: tuple[str, ...]
    metrics: dict[str, str]  # name in the log -> name for people
    minutes: str  # of training on two cores
    drawn: str  # what a picture shows
    judge: tuple[tuple[str, ...], ...] = SHOW


TASKS = {
    'det': Task('configs/demo/det_nano.py', ('tools/dataset/make_shapes.py',),
                {'coco/bbox_mAP_50': 'box AP50', 'coco/bbox_mAP': 'box AP',
                 'coco/segm_mAP_50': 'mask AP50', 'coco/segm_mAP': 'mask AP'},
                '11', 'left: ground truth, right: prediction'),
    'seg': Task('configs/demo/seg_nano.py', ('tools/dataset/make_crops.py',),
                {'mIoU': 'mIoU in %', 'mAcc': 'mean accuracy in %', 'aAcc': 'accuracy in %'},
                '6', 'left: ground truth, right: prediction'),
    'cls': Task('configs/demo/cls_nano.py', ('tools/dataset/make_crops.py',),
                {'accuracy/top1': 'top-1 in %'}, '3', 'truth and prediction'),
    'video': Task('configs/demo/video_nano.py', ('tools/dataset/make_motions.py',),
                  {'acc/top1': 'top-1'}, '5', 'frames, truth and prediction',
                  (('tools/test.py', '{config}', '{checkpoint}', '--work-dir', '{work_dir}',
                    '--out', '{work_dir}/predictions.pkl'),
                   ('tools/visualization/filmstrips.py', '{config}', '{work_dir}/predictions.pkl',
                    '--out-dir', '{pictures}'))),
    'mim': Task('configs/demo/mim_nano.py', ('tools/dataset/make_crops.py',),
                {'masked_l1': 'L1 on hidden pixels', 'visible_mean_l1': 'of the visible mean',
                 'ratio': 'ratio'}, '10', 'image, what is seen of it, what is filled in',
                (('tools/visualization/reconstructions.py', '{config}', '{checkpoint}',
                  'data/shapes_crops/val', '--out-dir', '{pictures}',
                  '--json', '{work_dir}/metrics.json'),)),
}
PROGRESS = re.compile(r'(?:Iter|Epoch)\((train|val|test)\).*?\[ *(\d+)/ *(\d+)\]')
DETAILS = re.compile(r'(eta: [\d:days, ]+|\bloss: [\d.]+|\b(?:bbox_mAP_50|mIoU|\S*top1): [\d.]+)')


def run(command: list[str], log: Path) -> None:
    """Run a Python command from the repository's root: one line of progress, the rest to `log`."""
    started, shown, width = time.time(), 0.0, 0
    with log.open('a', buffering=1) as file:
        child = subprocess.Popen([sys.executable, *command], cwd=ROOT, text=True, bufsize=1,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in child.stdout:
            file.write(line)
            match = PROGRESS.search(line)
            often = 0 if sys.stdout.isatty() else 20
            if match and time.time() - shown >= often:
                text = f'  {match[1]} {match[2]}/{match[3]}  ' + '  '.join(
                    part.strip() for part in DETAILS.findall(line))
                width = max(width, len(text))
                print(text.ljust(width), end='\r' if sys.stdout.isatty() else '\n', flush=True)
                shown = time.time()
    if child.wait():
        last = log.read_text().strip().splitlines()[-1]
        raise UserError(f'{" ".join(command[:2])} failed, the whole output is in {log}; '
                        f'it ends with: {last}')
    print(f'  done in {(time.time() - started) / 60:.1f} min'.ljust(width), flush=True)


def draw_curves(work_dir: Path, task: Task) -> Path:
    """Loss and metrics against the training step, as a PNG."""
    high = 100 if any('in %' in name for name in task.metrics.values()) else 1
    return draw({'': scalars(work_dir)}, {'training loss': {'loss': ''}, 'measured': task.metrics},
                work_dir / 'curves.png', limits={'measured': (0, high)})


def draw_sheet(pictures: Path, sheet: Path, columns: int = 3, rows: int = 4) -> Path:
    """The first pictures on one sheet."""
    images = [cv2.imread(str(path)) for path in sorted(pictures.iterdir())[:columns * rows]]
    images += [np.full_like(images[0], 255)] * (-len(images) % columns)
    size = images[0].shape[1::-1]
    images = [cv2.copyMakeBorder(cv2.resize(image, size), 4, 4, 4, 4, cv2.BORDER_CONSTANT,
                                 value=(255, 255, 255)) for image in images]
    lines = [cv2.hconcat(images[i:i + columns]) for i in range(0, len(images), columns)]
    cv2.imwrite(str(sheet), cv2.vconcat(lines))
    return sheet


def measured(work_dir: Path) -> dict[str, float]:
    """What the last command that judged the model wrote down."""
    files = [*work_dir.glob('*/[0-9]*_[0-9]*.json'), *work_dir.glob('metrics.json')]
    return json.loads(max(files, key=os.path.getmtime).read_text().splitlines()[-1])


def demo(name: str) -> None:
    """Run the demo of a task from data to results."""
    task = TASKS[name]
    work_dir = Path('work_dirs/demo') / name
    work_dir.mkdir(parents=True, exist_ok=True)
    log = work_dir / 'output.txt'
    print(f'{name} 1/4 data: rendering, about a minute', flush=True)
    run(list(task.data), log)
    print(f'{name} 2/4 training {task.config}, about {task.minutes} minutes on 2 cores (delete '
          f'{work_dir} to train anew)', flush=True)
    run(['tools/train.py', task.config, '--work-dir', str(work_dir), '--seed', '0', '--resume'],
        log)
    print(f'{name} 3/4 testing and drawing, about 1 minute', flush=True)
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    pictures = work_dir / 'pictures'
    places = dict(config=task.config, checkpoint=checkpoint, work_dir=work_dir,
                  pictures=pictures.resolve())
    for command in task.judge:
        run([word.format(**places) for word in command], log)
    print(f'{name} 4/4 results', flush=True)
    values = measured(work_dir)
    for key, label in task.metrics.items():
        # A model that finds nothing at all is not measured.
        print(f'  {label:<20} {values.get(key, 0.0):.3f}')
    sheet = draw_sheet(pictures, work_dir / 'pictures.png')
    for what, path in {'pictures': f'{pictures}/ and {sheet} ({task.drawn})',
                       'curves': draw_curves(work_dir, task), 'checkpoint': checkpoint,
                       'log': log}.items():
        print(f'  {what:<20} {path}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('task', nargs='?', default='det', choices=[*TASKS, 'all'])
    chosen = parser.parse_args().task
    os.chdir(ROOT)
    for name in TASKS if chosen == 'all' else [chosen]:
        demo(name)


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
