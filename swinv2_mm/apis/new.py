"""Write a config that trains at once on your own data: swinv2-mm new TASK DATA.

    swinv2-mm new det data/cells
    swinv2-mm train cells_det.py

TASK det reads DATA/SPLIT.json and DATA/images, seg DATA/img_dir, DATA/ann_dir and DATA/classes.json
(both as `swinv2-mm labels` writes them), cls a folder for each class in DATA/SPLIT; SPLIT is train,
and val and test where they are there. The config stands by itself: classes, sizes, window, schedule
and rate are worked out from the data, the rest is that of a config of the house.
"""
from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict

import swinv2_mm
from swinv2_mm.datasets.converters.pictures import ENDINGS, shown_size
from swinv2_mm.models.archs import ARCHS
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

PACKAGE = Path(swinv2_mm.__file__).resolve().parent
CONFIGS = (PACKAGE / '.mim' if (PACKAGE / '.mim').is_dir() else PACKAGE.parent) / 'configs'
# Data, schedule and hooks; model of the smallest size; what the others are called; batch; epochs of
# the paper and of the Swin V1 recipes, fine-tuning of classifiers aside.
TASKS = {
    'det': ('det/swinv2_n_cascade_bccd.py', '_base_/models/cascade_mask_rcnn_nano.py',
            'det/swinv2_{}_cascade.py', 4, 36),
    'seg': ('seg/swinv2_n_upernet_camvid.py', '_base_/models/upernet_nano.py',
            'seg/swinv2_{}_upernet.py', 8, 126),
    'cls': ('cls/swinv2_n_cells.py', '_base_/models/classifier_nano.py',
            'cls/swinv2_{}_w8_256.py', 32, 30)}
FINE_TUNING = 1e-4, 64  # rate and batch of published weights under a classifier: ours
KEPT = ('default_scope', 'default_hooks', 'env_cfg', 'visualizer', 'log_processor', 'log_level',
        'load_from', 'resume', 'train_dataloader', 'val_dataloader', 'test_dataloader',
        'val_evaluator', 'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'param_scheduler')


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(':')[0])
    parser.add_argument('task', choices=TASKS, help='boxes and masks, maps of classes, or classes')
    parser.add_argument('data', type=Path, help='folder of the data')
    parser.add_argument('--arch', choices=('nano', 'tiny', 'small', 'base'), default='tiny',
                        help='size; nano learns from scratch and on a CPU, the others from '
                        'published weights (tiny)')
    parser.add_argument('--batch', type=int, help='pictures in a step (det 4, seg 8, cls 32)')
    parser.add_argument('--out', type=Path, help='file to write (DATA_TASK.py here)')
    return parser.parse_args(argv)


def _json(path: Path, pick: Callable[[dict], dict]) -> dict:
    """What `pick` takes out of a json file."""
    try:
        return pick(json.loads(path.read_text(encoding='utf-8-sig')))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f'{path} must be as `swinv2-mm labels` writes it, it gives '
                        f'"{type(error).__name__}: {error}": see docs/labels.md.') from None


def _pictures(folder: Path) -> dict:
    """Sizes of the pictures in a folder, and the ending of the first."""
    paths = [path for path in sorted(folder.rglob('*')) if path.suffix.lower() in ENDINGS]
    return dict(sizes=[shown_size(path)[0] for path in paths],
                suffix=paths[0].suffix if paths else '')


def _detection(data: Path, splits: list[str]) -> dict:
    """Classes, sizes of the training pictures, and whether every object has a mask."""
    found = [_json(data / f'{split}.json', lambda content: dict(
        classes=[entry['name'] for entry in content['categories']],
        sizes=[(image['width'], image['height']) for image in content['images']],
        masks=all(thing.get('segmentation') for thing in content['annotations'])))
        for split in splits]
    return dict(found[0], masks=all(split['masks'] for split in found))


def _segmentation(data: Path, splits: list[str]) -> dict:
    """Classes and their colours; sizes and ending of the training pictures."""
    return dict(_pictures(data / 'img_dir' / 'train'), **_json(
        data / 'classes.json', lambda content: dict(
            classes=list(content['classes']), palette=content.get('palette'))))


def _classification(data: Path, splits: list[str]) -> dict:
    """Classes, and the sizes of the training pictures."""
    return dict(_pictures(data / 'train'), classes=sorted(
        path.name for path in (data / 'train').iterdir() if path.is_dir()))


READERS = dict(det=(_detection, '{}.json'), seg=(_segmentation, 'img_dir/{}'),
               cls=(_classification, '{}'))


def window_of(size: tuple[int, int], arch: str) -> tuple[float, int]:
    """(work with padding / work without, window) of the window that pads a picture least.

    `size` is (height, width) in pixels. Windows are 8 to 16, of nano 6 to 8; the larger of equally
    good ones. Work counts tokens in blocks: channels double where sides are halved.
    """
    depths = ARCHS[arch].depths

    def work(window: int) -> float:
        total, sides = 0.0, [math.ceil(side / 4) for side in size]
        for depth in depths:
            padded = [math.ceil(side / min(window, side)) * min(window, side) for side in sides]
            total += depth * math.prod(padded) / math.prod(sides)
            sides = [math.ceil(side / 2) for side in sides]
        return total / sum(depths)

    windows = range(6, 9) if arch == 'nano' else range(8, 17)
    return min(((work(window), window) for window in windows),
               key=lambda found: (round(found[0], 6), -found[1]))


def _sizes(task: str, arch: str, sizes: list) -> tuple[tuple[int, int], int]:
    """(width, height) to train at, and the window: from the median picture.

    Squares of multiples of 32 up to its short side for seg and cls; for det its shape, at a size
    near its own or near 1333 x 800 (nano 320 x 240) if that is smaller.
    """
    nano = arch == 'nano'
    width, height = (int(side) for side in np.median(sizes, axis=0))
    if task != 'det':
        limit = 256 if nano or task == 'cls' else 512
        side = min(max(min(width, height) // 32 * 32, 64), limit)
        return (side, side), window_of((side, side), arch)[1]
    scale = min(1, math.sqrt((320 * 240 if nano else 1333 * 800) / (width * height)))
    found = []
    for stretch in np.arange(0.8, 1.21, 0.01):
        sides = [max(round(side * scale * stretch), 32) for side in (width, height)]
        padded = [math.ceil(side / 32) * 32 for side in sides]
        work, window = window_of(padded, arch)
        work *= math.prod(padded) / math.prod(sides)
        found.append((round(work + 0.1 * abs(stretch - 1), 4), -window, sides))
    _, window, sides = min(found)
    return tuple(sides), -window


def _set_classes(part: object, count: int) -> None:
    """Set num_classes wherever a part of a model has it."""
    if isinstance(part, dict):
        if 'num_classes' in part:
            part['num_classes'] = count
        part = part.values()
    if not isinstance(part, str) and hasattr(part, '__iter__'):
        for inner in part:
            _set_classes(inner, count)


def _resize(task: str, loaders: dict, size: tuple[int, int], known: dict) -> None:
    """Write the sizes into the steps of the pipelines."""
    (width, height), whole = size, size
    if task == 'seg':  # the short side becomes that of the crop
        wide, high = np.median(known['sizes'], axis=0)
        whole = (round(max(wide, high) / min(wide, high) * width), width)
    scales = [(round(width * part), round(height * part)) for part in (0.8, 0.9, 1.0, 1.1)]
    values = dict(
        Resize=dict(scale=whole), RandomResize=dict(scale=whole, ratio_range=(0.5, 2.0)),
        RandomCrop=dict(crop_size=(height, width)), RandomResizedCrop=dict(scale=width),
        RandomChoiceResize=dict(scales=scales),
        LoadAnnotations=dict(with_mask=known['masks']) if task == 'det' else {})
    for loader in loaders.values():
        for step in loader.dataset.pipeline:
            step.update(values.get(step.type, {}))


def _load(task: str, cfg: ConfigDict, data: Path, splits: list[str], known: dict) -> dict:
    """The loader of each split, on the data; evaluators with them."""
    root, metainfo = f'{data.as_posix()}/', dict(classes=tuple(known['classes']))
    if known.get('palette'):
        metainfo['palette'] = [tuple(colour) for colour in known['palette']]
    loaders = {}
    for split in ('train', 'val', 'test'):
        name = split if split in splits else 'val'
        loader, evaluator = cfg[f'{split}_dataloader'], cfg.get(f'{split}_evaluator')
        if name not in splits:
            cfg.update({f'{split}_{part}': None for part in ('dataloader', 'evaluator', 'cfg')})
            cfg.default_hooks.checkpoint.save_best = None
            continue
        dataset = loader.dataset
        dataset.update(data_root=root, metainfo=metainfo)
        if task == 'det':
            dataset.ann_file = f'{name}.json'
            if evaluator:
                evaluator.update(ann_file=f'{root}{name}.json',
                                 metric=['bbox', 'segm'] if known['masks'] else 'bbox')
        elif task == 'seg':
            dataset.update(img_suffix=known['suffix'], data_prefix=dict(
                img_path=f'img_dir/{name}', seg_map_path=f'ann_dir/{name}'))
        else:
            dataset.data_prefix = name
        loaders[split] = loader
    return loaders


def _model(task: str, arch: str, window: int, known: dict) -> tuple[ConfigDict, Config]:
    """The model, and the config whose optimizer goes with it."""
    base, nano, leaf, *_ = TASKS[task]
    whole = Config.fromfile(CONFIGS / (base if arch == 'nano' else leaf.format(arch[0])))
    model = whole.model if arch != 'nano' else Config.fromfile(CONFIGS / nano).model
    if task == 'cls' and arch != 'nano':  # starts where the detector of its size does
        started = Config.fromfile(CONFIGS / TASKS['det'][2].format(arch[0])).model.backbone
        model.backbone.update(init_cfg=started.init_cfg,
                              pretrained_window_sizes=started.pretrained_window_sizes)
    model.backbone.window_size = window
    if task == 'det' and not known['masks']:
        model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    _set_classes(model, len(known['classes']))
    return model, whole


def _rate(task: str, arch: str, whole: Config) -> tuple[float, int]:
    """Learning rate of the optimizer of a config, and the batch that it is for."""
    if task == 'cls' and arch != 'nano':
        return FINE_TUNING
    batch = (whole.train_dataloader.batch_size if arch == 'nano'
             else whole.auto_scale_lr.base_batch_size)
    return whole.optim_wrapper.optimizer.lr, batch


def _schedule(cfg: ConfigDict, iterations: int) -> None:
    """Loop, rates, validation and checkpoints, counted in iterations."""
    warm, interval = min(500, max(iterations // 10, 1)), max(iterations // 10, 1)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=interval)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warm),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=warm, end=iterations,
             eta_min=0.01 * cfg.optim_wrapper.optimizer.lr)]
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=interval)


def compose(task: str, data: Path, arch: str = 'tiny', batch: int | None = None) -> tuple:
    """(config, sentences that say how it was worked out) for a folder of data.

    UserError where the folder is not as the task reads it.
    """
    reader, place = READERS[task]
    splits = [split for split in ('train', 'val', 'test') if (data / place.format(split)).exists()]
    if 'train' not in splits:
        raise UserError(f'There is no {data / place.format("train")}, which task {task} learns '
                        'from: give the folder that holds it; swinv2-mm labels makes it of what '
                        'labelling tools write.')
    known = reader(data, splits)
    count = len(known['sizes'])
    if not known['classes'] or not count:
        raise UserError(f'{data} must hold pictures and classes to train on, it has {count} and '
                        f'{len(known["classes"])}: see docs/labels.md.')
    cfg = Config.fromfile(CONFIGS / TASKS[task][0])
    size, window = _sizes(task, arch, known['sizes'])
    loaders = _load(task, cfg, data, splits, known)
    _resize(task, loaders, size, known)
    model, whole = _model(task, arch, window, known)
    if task == 'seg':
        model.data_preprocessor.size = size[::-1]
    *_, usual, epochs = TASKS[task]
    batch, (rate, of) = batch or usual, _rate(task, arch, whole)
    loaders['train'].update(batch_size=batch, num_workers=0 if arch == 'nano' else 4,
                            persistent_workers=arch != 'nano')
    iterations = max(1000, math.ceil(epochs * count / batch))
    new = Config(dict({key: cfg[key] for key in KEPT if key in cfg}, model=model,
                      optim_wrapper=whole.optim_wrapper,
                      auto_scale_lr=dict(enable=False, base_batch_size=batch)))
    new.optim_wrapper.optimizer.lr = float(f'{rate * batch / of:.3g}')
    _schedule(new, iterations)
    weights = 'no weights, from scratch' if arch == 'nano' else 'published ImageNet weights'
    masks = f', {"with" if known["masks"] else "without"} masks' if task == 'det' else ''
    median = ' x '.join(f'{side:.0f}' for side in np.median(known['sizes'], axis=0))
    return new, [
        f'{count} training pictures of {len(known["classes"])} classes{masks}; {weights}',
        f'trained at {size[0]} x {size[1]} (their median is {median}), where window {window} pads '
        'least',
        f'{iterations} iterations of {batch}: {iterations * batch / count:.0f} times each picture',
        f'learning rate {new.optim_wrapper.optimizer.lr:g}, which is {rate:g} at batch {of}']


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    out = args.out or Path(f'{args.data.resolve().name}_{args.task}.py')
    if out.exists() or out.suffix != '.py':
        raise UserError(f'--out must be a new .py file, got {out}: choose another --out.')
    if args.batch is not None and args.batch < 1:
        raise UserError(f'--batch must be at least 1, got {args.batch}: give 4.')
    cfg, said = compose(args.task, args.data, args.arch, args.batch)
    lines = '\n'.join(f'- {line};' for line in said)
    out.parent.mkdir(parents=True, exist_ok=True)
    head = f'SwinV2 {args.arch} on {args.data.as_posix()}, worked out from it by `swinv2-mm new`:'
    out.write_text(f'"""{head}\n\n{lines}\n"""\n{cfg.pretty_text}', encoding='utf-8')
    print('\n'.join(said) + f'\nwrote {out}; next: swinv2-mm train {out}')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
