"""Whole exported models beside PyTorch: python benchmarks/exported_models.py [MODEL ...]

Trains nano models a little on BCCD, its cells and CamVid (masks are ellipses in the boxes), exports
each, and prints for every file and engine the largest differences on 40 pictures of the test set,
its metric there, megabytes and milliseconds of one picture (medians): the tables of docs/export.md.
"""
import argparse
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import timing
import torch
from mmengine.config import Config

from swinv2_mm.export import runner

ROOT = timing.ROOT
MODELS = ('cells', 'camvid', 'cascade', 'mask_rcnn', 'htc', 'dino', 'mask2former')
LEAVES = {'cells': 'cls/swinv2_n_cells', 'camvid': 'seg/swinv2_n_upernet_camvid'}
SIZES = {'cells': (96, 96), 'camvid': (192, 256)}  # what the test pipeline resizes and pads to


def ellipse(box: list) -> list:
    x, y, w, h = box
    turns = [i * math.pi / 12 for i in range(24)]
    return [round(value, 1) for turn in turns for value in (
        x + w / 2 * (1 + math.cos(turn)), y + h / 2 * (1 + math.sin(turn)))]


def with_masks(data: Path, folder: Path) -> None:
    """The json files of BCCD with an ellipse in each box."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ('train', 'val', 'test'):
        content = json.loads((data / f'{split}.json').read_text())
        for row in content['annotations']:
            row['segmentation'] = [ellipse(row['bbox'])]
            row['area'] = row['area'] * math.pi / 4
        (folder / f'{split}.json').write_text(json.dumps(content))


def of_mask_rcnn(cfg: Config) -> None:
    """One stage, boxes for each class."""
    roi = cfg.model.roi_head
    roi.bbox_head[0].reg_class_agnostic = False
    roi.update(type='StandardRoIHead', bbox_head=roi.bbox_head[0], mask_head=roi.mask_head[0])
    del roi['num_stages'], roi['stage_loss_weights']
    cfg.model.type = 'MaskRCNN'
    cfg.model.train_cfg.rcnn = cfg.model.train_cfg.rcnn[0]


def of_htc(cfg: Config) -> None:
    """Masks that pass from stage to stage."""
    roi = cfg.model.roi_head
    roi.update(type='HybridTaskCascadeRoIHead', interleaved=True, mask_info_flow=True)
    for stage, head in enumerate(roi.mask_head):
        head.update(type='HTCMaskHead', with_conv_res=stage > 0, conv_out_channels=64)
    cfg.model.type = 'HybridTaskCascade'


def of_dino(cfg: Config) -> None:
    cfg.model = Config.fromfile(ROOT / 'configs/_base_/models/dino.py').model
    cfg.model.neck.in_channels = [64, 128, 256]
    cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
    cfg.model.bbox_head.num_classes = 3
    cfg.model.num_queries = cfg.model.test_cfg.max_per_img = 100


def of_mask2former(cfg: Config) -> None:
    cfg.model = Config.fromfile(ROOT / 'configs/_base_/models/mask2former_instance.py').model
    cfg.model.data_preprocessor.batch_augments = None
    head = cfg.model.panoptic_head
    head.update(in_channels=[32, 64, 128, 256], num_queries=40, num_things_classes=3)
    head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    head.pixel_decoder.encoder.num_layers, head.transformer_decoder.num_layers = 2, 3
    cfg.model.panoptic_fusion_head.num_things_classes = 3


def config(name: str, data: Path, work: Path, steps: int) -> Path:
    """The config of a model, written into `work`."""
    if name in LEAVES:
        cfg = Config.fromfile(ROOT / f'configs/{LEAVES[name]}.py')
        root = data / ('bccd_cells' if name == 'cells' else name)
    else:
        cfg = Config.fromfile(ROOT / 'configs/det/swinv2_n_cascade_bccd.py')
        root = work / 'bccd'
        with_masks(data / 'bccd', root)
        cfg.model = Config.fromfile(ROOT / 'configs/_base_/models/cascade_mask_rcnn_nano.py').model
        for heads in ('bbox_head', 'mask_head'):
            for head in cfg.model.roi_head[heads]:
                head.num_classes = 3
        {'mask_rcnn': of_mask_rcnn, 'htc': of_htc, 'dino': of_dino,
         'mask2former': of_mask2former}.get(name, lambda cfg: None)(cfg)
        cfg.model.backbone.update(arch='nano', window_size=8, drop_path_rate=0.0)
        cfg.test_evaluator.update(ann_file=f'{root}/test.json', metric=['bbox'] + ['segm'] * (
            name != 'dino'))
        cfg.val_evaluator.ann_file = f'{root}/val.json'
        for part in ('train', 'val', 'test'):
            dataset = cfg[f'{part}_dataloader'].dataset
            dataset.data_prefix.img = f'{data.resolve()}/bccd/images/'
            for step in dataset.pipeline:
                if step.type == 'LoadAnnotations':
                    step.with_mask = name != 'dino'
    for part in ('train', 'val', 'test'):
        cfg[f'{part}_dataloader'].dataset.data_root = f'{root.resolve()}/'
    if name in ('dino', 'mask2former'):
        cfg.optim_wrapper.optimizer.lr = 4e-4
    cfg.train_cfg.update(max_iters=steps, val_interval=10 * steps)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=20)]
    cfg.default_hooks.checkpoint.update(interval=steps, save_best=None)
    path = work / f'{name}.py'
    cfg.dump(path)
    return path


def tool(name: str, *words) -> str:
    done = subprocess.run([sys.executable, f'tools/{name}.py', *map(str, words)], cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'{name}: {done.stdout[-2000:]}{done.stderr[-3000:]}')
    return done.stdout


def truth(name: str, data: Path, work: Path) -> tuple[Path, Path]:
    """Pictures of the test set, and what the runner measures by."""
    if name == 'cells':
        return data / 'bccd_cells/test', data / 'bccd_cells/test'
    if name == 'camvid':
        return data / 'camvid/img_dir/val', data / 'camvid/ann_dir/val'
    return data / 'bccd/images', work / 'bccd/test.json'


def some(name: str, pictures: Path, right: Path) -> list[Path]:
    """40 pictures of the test set."""
    if right.suffix == '.json':
        names = [row['file_name'] for row in json.loads(right.read_text())['images']]
        return [pictures / name for name in names[:40]]
    found = sorted(path for path in pictures.rglob('*') if path.suffix in ('.jpg', '.png'))
    return found[::max(len(found) // 40, 1)][:40]


def milliseconds(file: Path, engine: str, threads: int, picture: Path) -> float:
    """The median of one picture in an engine, prepared before."""
    model = runner.Model(file, threads, engine)
    pixels, _ = runner.prepare(np.asarray(runner.opened(picture)), model.facts)
    seconds = []
    for _ in range(13):
        start = time.perf_counter()
        model.run(pixels)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[3:]))


def rows(name: str, path: Path, checkpoint: Path, args):
    """Lines of the table of one model."""
    work = args.work.resolve()
    pictures, right = truth(name, args.data, work)
    chosen = some(name, pictures, right)
    said = tool('test', path, checkpoint, '--work-dir', work / f'{name}_test')
    # As the log has them: "coco/bbox_mAP: 0.5160".
    known = dict(re.findall(r'(?:coco/)?([\w/-]+): +([0-9]+[.][0-9]+)(?![.0-9])', said))
    size = SIZES.get(name, (240, 320))
    for precision in args.precisions:
        file = work / f'{name}_{precision}.onnx'
        for engine in runner.ENGINES:
            said = tool('export_onnx', path, checkpoint, '--size', *size, '--out', file, '--images',
                        *chosen, '--precision', precision, '--time', 10, '--engine', engine)
            found = re.search('at most (.*)', said)[1]
            torchs = re.search('PyTorch ([0-9]+) ms', said)[1]
            model = runner.Model(file, args.threads, engine)
            with contextlib.redirect_stdout(None):
                told = runner.measure(model, runner.found_in([pictures]), right)
            metric = ', '.join(f'{key} {value:.4g} ({known.get(key)})'
                               for key, value in told.items())
            yield (f'| {name} | {precision}, {engine} | {found} | {metric} | '
                   f'{file.stat().st_size / 1e6:.1f} | {torchs} | '
                   f'{milliseconds(file, engine, args.threads, chosen[0]):.0f} |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help=f"some of {', '.join(MODELS)}")
    parser.add_argument('--data', type=Path, default=ROOT / 'data')
    parser.add_argument('--work', type=Path, default=ROOT / 'work_dirs/exported')
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--precisions', nargs='+', default=['fp32', 'fp16', 'int8'])
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    args.data = args.data.resolve()
    print('| model | file | largest differences | metric (tools/test.py) | MB | PyTorch ms | ms |\n'
          + '|---' * 7 + '|', flush=True)
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        path = config(name, args.data, args.work.resolve(), args.steps)
        checkpoint = args.work.resolve() / name / f'iter_{args.steps}.pth'
        if not checkpoint.is_file():
            tool('train', path, '--seed', 0, '--work-dir', checkpoint.parent)
        for row in rows(name, path, checkpoint, args):
            print(row, flush=True)
    same = timing.conditions(torch.device('cpu'), ['onnxruntime', 'openvino'])
    print(f'\n{same["device"]}, {args.threads} threads; torch {same["torch"]}; {same["versions"]}.')


if __name__ == '__main__':
    main()
