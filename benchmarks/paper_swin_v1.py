"""Claim 6: Swin V2 beside V1 of equal size, in the recipes of this package's demos.

    python benchmarks/paper_swin_v1.py [--tasks det seg video] [--seeds 0 1 2] [--quick]

Each demo is trained with its backbone, and with the V1 backbone that its library ships, mmdet's and
mmseg's SwinTransformer and mmaction2's SwinTransformer3D: as many channels, blocks and heads, the
same window, optimizer, learning rate, seed and order of data, from scratch, for `Task.iterations`.
V1 has one setting of its own: no weight decay of its table of position biases, as in its recipes.
What is not as in the demos is in `Task.changes`: smaller batches, for more steps; in segmentation
also windows of 4, since its maps are 8 x 8 and smaller, and mmseg's V1 pads them to whole windows:
with windows of 8 it computes 64 tokens where there is one. Detection is judged on `JUDGED`
pictures of the validation split.

After each pair of trainings, both take turns at training steps on one batch.
"""
from __future__ import annotations

import contextlib
import copy
import importlib
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import paper
import timing
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from swinv2_mm.models.archs import ARCHS

ARCH = ARCHS['nano']
SIZE = dict(embed_dims=ARCH.embed_dims, depths=list(ARCH.depths), num_heads=list(ARCH.num_heads))
IMAGE = dict(type='SwinTransformer', window_size=8, drop_path_rate=0.0, **SIZE)
CPU = torch.device('cpu')
ROUNDS = 7
JUDGED = 40
LOSS = 'training loss'
NAMES = dict(v2='Swin V2', v1='Swin V1')


class Task(NamedTuple):
    """A demo: its data and how to render them, its length here, its metric, and V1's settings."""

    name: str
    data: str
    render: str
    small: tuple  # arguments of `render` for the quick form
    iterations: int
    metric: str
    label: str
    scale: float  # of the metric to one in [0, 1]
    chance: float  # what a model reaches that has learnt nothing
    v1: dict
    changes: dict = {}  # settings of both that are not the demo's


TASKS = {
    'det': Task('detection', 'shapes', 'make_shapes', ('--train', 8, '--val', 4, '--size', 64, 96),
                300, 'coco/bbox_mAP_50', 'box AP50', 1, 0.0, IMAGE,
                {'train_dataloader.batch_size': 2}),
    'seg': Task('segmentation', 'shapes_crops', 'make_crops', ('--train', 12, '--val', 6),
                300, 'mIoU', 'mIoU', 0.01, 0.107, IMAGE,  # all background
                {'train_dataloader.batch_size': 16, 'model.backbone.window_size': 4}),
    'video': Task('video', 'motions', 'make_motions', ('--train', 12, '--val', 6),
                  150, 'acc/top1', 'top-1', 1, 1 / 6, dict(
                      type='SwinTransformer3D', arch=SIZE, patch_size=(2, 4, 4),
                      window_size=(2, 4, 4), drop_path_rate=0.0, out_indices=(3,),
                      pretrained2d=False)),
}


def configure(task: str, kind: str, seed: int, length: int, data: Path, folder: Path) -> Config:
    """The demo's config with that backbone and length, judged once, at the end."""
    cfg = Config.fromfile(paper.ROOT / f'configs/demo/{task}_nano.py')
    root, warm = f'{data / TASKS[task].data}/', max(1, min(100, length // 3))
    if kind == 'v1':
        cfg.model.backbone = copy.deepcopy(TASKS[task].v1)
        cfg.optim_wrapper.paramwise_cfg = dict(
            custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)})
    cfg.merge_from_dict(TASKS[task].changes)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = root
    if task == 'det':
        some = first_pictures(Path(root) / 'val.json', folder / 'val.json')
        cfg.val_evaluator.ann_file = cfg.val_dataloader.dataset.ann_file = str(some)
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = warm
    cfg.param_scheduler[1].end = length
    cfg.train_cfg.update(max_iters=length, val_interval=length)
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False, save_best=None)
    cfg.visualizer.name = cfg.experiment_name = f'{folder.name}_{task}_{kind}_{seed}'
    cfg.update(randomness=dict(seed=seed), log_level='ERROR', test_dataloader=None, test_cfg=None,
               test_evaluator=None, work_dir=str(folder / f'{task}_{kind}_{seed}'))
    return cfg


def first_pictures(source: Path, target: Path) -> Path:
    """A COCO file of the first `JUDGED` pictures of another."""
    content = json.loads(source.read_text())
    content['images'] = content['images'][:JUDGED]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [x for x in content['annotations'] if x['image_id'] in kept]
    target.write_text(json.dumps(content))
    return target


def train(task: str, cfg: Config) -> tuple[Runner, dict[str, float]]:
    """The runner; what was reached, and the loss at the end. Its prints go to a file."""
    Path(cfg.work_dir).mkdir(parents=True)
    with open(f'{cfg.work_dir}/output.txt', 'w') as file, contextlib.redirect_stdout(file):
        runner = Runner.from_cfg(cfg)
        runner.train()
    logged, name = runner.message_hub.log_scalars, f'val/{TASKS[task].metric}'
    # A detector that finds nothing at all is not measured.
    value = logged[name].current() if name in logged else 0.0
    losses = logged['train/loss'].data[0][-20:]
    return runner, {TASKS[task].label: round(float(value) * TASKS[task].scale, 4),
                    LOSS: round(float(sum(losses) / len(losses)), 5)}


class Steps:
    """One trained model with one batch: a whole training step, and the backbone's share of it."""

    def __init__(self, runner: Runner, batch: dict):
        self.model, self.wrapper = runner.model.train(), runner.optim_wrapper
        self.batch = batch
        images = self.model.data_preprocessor(copy.deepcopy(batch), True)['inputs']
        # a recogniser's batch holds clips: (B, clips, C, T, H, W)
        self.images = images.flatten(0, 1) if images.ndim == 6 else images

    def whole(self) -> None:
        self.model.train_step(copy.deepcopy(self.batch), self.wrapper)

    def backbone(self) -> None:
        outs = self.model.backbone(self.images)
        outs = [outs] if isinstance(outs, torch.Tensor) else outs
        torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
        self.model.zero_grad()

    def memory(self) -> dict:
        """MiB: what autograd keeps of the backbone, and what a whole step takes at most."""
        own = [*self.model.parameters(), *self.model.buffers(), self.images]
        with timing.count_saved(own) as saved:
            self.backbone()
        return dict(backbone_saved_mib=round(sum(saved.values()) / 2**20, 1),
                    step_peak_mib=round(timing.peak(self.whole, CPU) / 2**20, 1))


def compare(runners: dict[str, Runner], rounds: int) -> dict[str, dict]:
    """Parameters, memory and times of both; times from steps taken in turns."""
    batch = next(iter(next(iter(runners.values())).train_dataloader))
    steps = {kind: Steps(runner, batch) for kind, runner in runners.items()}
    found = {}
    for kind, runner in runners.items():
        steps[kind].whole()
        count = {part: sum(p.numel() for p in module.parameters()) for part, module in (
            ('backbone', runner.model.backbone), ('model', runner.model))}
        found[kind] = dict(backbone_parameters=count['backbone'], parameters=count['model'],
                           **steps[kind].memory())
    for name, part in dict(step='whole', backbone='backbone').items():
        calls = {kind: getattr(step, part) for kind, step in steps.items()}
        first = {kind: timing.seconds(call, CPU) for kind, call in calls.items()}
        for kind, times in timing.take_turns(calls, rounds, CPU, first).items():
            found[kind] |= {f'{name}_{key}': x for key, x in timing.spread(times).items()}
    return found


def pair(task: str, seed: int, length: int, data: Path, folder: Path, batch: int | None):
    """Rows of both backbones."""
    values, runners = {}, {}
    for kind in NAMES:
        cfg = configure(task, kind, seed, length, data, folder)
        if batch:
            cfg.train_dataloader.batch_size = batch
        runners[kind], values[kind] = train(task, cfg)
        print(f'{task} {kind} seed {seed}: {values[kind]}', flush=True)
    compared = compare(runners, 2 if batch else ROUNDS)
    return [dict(task=task, backbone=kind, seed=seed, iterations=length, metric=metric,
                 value=value, **compared[kind])
            for kind in NAMES for metric, value in values[kind].items()]


def render(tasks: list[str], data: Path, small: bool) -> None:
    """Make what is missing of the demos' data."""
    for task in map(TASKS.get, tasks):
        if not (data / task.data).exists():
            words = ['--out', data / task.data, *(task.small if small else ())]
            tool = importlib.import_module(f'swinv2_mm.datasets.synthetic.{task.render}')
            with contextlib.redirect_stdout(None):
                tool.main([*map(str, words)])


def measure(args):
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / 'data' if args.quick else args.data.resolve()
        render(args.tasks, data, args.quick)
        for seed in args.seeds:
            for task in args.tasks:
                length = args.iterations or (2 if args.quick else TASKS[task].iterations)
                yield pair(task, seed, length, data, Path(folder), 4 if args.quick else None)


FIELDS = ('task', 'backbone', 'seed', 'iterations', 'metric', 'value', 'backbone_parameters',
          'parameters', 'backbone_saved_mib', 'step_peak_mib', 'step_median_ms', 'step_min_ms',
          'step_max_ms', 'backbone_median_ms', 'backbone_min_ms', 'backbone_max_ms')


def of(rows: list[dict], task: str, kind: str, metric: str) -> list[float]:
    """Values over seeds, in the order of seeds."""
    found = paper.pick(rows, task=task, backbone=kind, metric=metric)
    return [float(row['value']) for row in sorted(found, key=lambda row: int(row['seed']))]


def typical(rows: list[dict], task: str, kind: str, column: str) -> float:
    """Median over seeds of what does not depend on the metric."""
    return statistics.median(float(row[column])
                             for row in paper.pick(rows, task=task, backbone=kind))


def text(rows: list[dict]) -> str:
    tasks = [task for task in TASKS if paper.pick(rows, task=task)]
    heads = ['task', 'steps', 'backbone', 'its weights', 'quality', 'loss at the end', 'step',
             "backbone's part", 'kept for backward in it']
    lines = []
    for task in tasks:
        for kind, name in NAMES.items():
            value = partial(typical, rows, task, kind)
            metric, loss = TASKS[task].label, of(rows, task, kind, LOSS)
            lines.append([
                TASKS[task].name, paper.pick(rows, task=task)[0]['iterations'], name,
                f'{value("backbone_parameters") / 1e6:.3f} M',
                f'{metric} {paper.spread(of(rows, task, kind, metric), 3)}',
                paper.spread(loss, 3) if loss else '-', f'{value("step_median_ms"):.0f} ms',
                f'{value("backbone_median_ms"):.0f} ms', f'{value("backbone_saved_mib"):.0f} MiB'])
    return '\n\n'.join([paper.table(heads, lines), *(verdict(rows, task) for task in tasks)])


def verdict(rows: list[dict], task: str) -> str:
    """What a task says of V2 against V1."""
    job, (v2, v1) = TASKS[task], (of(rows, task, kind, TASKS[task].label) for kind in NAMES)
    gains = [a - b for a, b in zip(v2, v1)]
    ahead, mean = sum(gain > 0 for gain in gains), statistics.mean(gains)
    parts = [f'{job.name.capitalize()}: V2 has the higher {job.label} with {ahead} of {len(gains)} '
             f'seeds ({mean:+.3f} in the mean, {min(gains):+.3f} to {max(gains):+.3f})']
    if losses := [a - b for a, b in zip(*(of(rows, task, kind, LOSS) for kind in NAMES))]:
        parts.append(f'and the lower loss with {sum(x < 0 for x in losses)} '
                     f'({statistics.mean(losses):+.3f})')
    ratio = {column: typical(rows, task, 'v2', column) / typical(rows, task, 'v1', column)
             for column in ('step_median_ms', 'backbone_median_ms', 'backbone_saved_mib')}
    parts[-1] += (f'. Its step takes {ratio["step_median_ms"]:.2f} times the time of V1\'s, its '
                  f'backbone {ratio["backbone_median_ms"]:.2f} times, and keeps '
                  f'{ratio["backbone_saved_mib"]:.2f} times the bytes.')
    idle = [name for name, values in zip(NAMES.values(), (v2, v1))
            if statistics.mean(values) < job.chance + 0.01]
    if idle:
        parts.append(f'What can be had without learning is {job.chance:.3f}: after so few steps '
                     f'{" and ".join(idle)} {"are" if idle[1:] else "is"} still there.')
    return ' '.join(parts)


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    tasks = [task for task in TASKS if paper.pick(rows, task=task)]
    figure, panels = plt.subplots(1, len(tasks), figsize=(2.6 * len(tasks), 2.6), squeeze=False,
                                  layout='constrained')
    for panel, task in zip(panels[0], tasks):
        values = [*zip(*(of(rows, task, kind, TASKS[task].label) for kind in ('v1', 'v2')))]
        for both in values:
            panel.plot((0, 1), both, 'o-', color='tab:blue', linewidth=0.8, markersize=4)
        panel.axhline(TASKS[task].chance, color='black', linewidth=0.8, linestyle=':')
        panel.set_xticks((0, 1), ('Swin V1', 'Swin V2'))
        panel.set(xlim=(-0.4, 1.4), ylim=(0, max(0.1, 1.1 * max(map(max, values)))))
        panel.set_title(f'{TASKS[task].name}, {TASKS[task].label}', fontsize=9)
    paper.save(figure, path)


CLAIM = paper.Claim('swin_v1', measure, ('task', 'backbone', 'seed', 'metric'), FIELDS, text, draw,
                    packages=('onedl-mmdetection', 'onedl-mmsegmentation', 'mmaction2'))


def main(argv: list | None = None) -> None:
    found = paper.parser(__doc__)
    found.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS))
    found.add_argument('--iterations', type=int, help='of every training, for a trial')
    found.add_argument('--data', type=Path, default=paper.ROOT / 'data',
                       help='folder of the demos\' data; what is missing is rendered')
    paper.run(CLAIM, found, argv)


if __name__ == '__main__':
    main()
