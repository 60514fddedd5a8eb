"""Images, their maps, and the numbers in these, against the classes and the heads of the model.

mmseg reads a map when its turn comes and never looks at its numbers: one outside the classes ends a
run half way with an error of the loss on a CPU, and of the whole device on a GPU.
"""
from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from swinv2_mm.utils.errors import UserError, check_file, did_you_mean

from . import class_counts, class_of, kind, passed_over, pictures
from .findings import Finding
from .media import as_trained
from .paths import check_names, check_plain

SAMPLE = 1000  # maps that are read, evenly spread: a few seconds; ADE20K has 20,210


def find(dataset: dict, where: str, model: dict, wanted) -> Iterator[Finding]:
    """Findings on one data set; UserError for missing files and for numbers that are no class."""
    from mmseg.datasets import BaseSegDataset
    from mmseg.registry import DATASETS

    cls = class_of(dataset)
    if not (isinstance(cls, type) and issubclass(cls, BaseSegDataset)):
        return
    place = f'{where}.dataset'
    classes = _classes(dataset, cls, place)
    for head, count in class_counts(model):
        if count != len(classes):
            raise UserError(f'{head}.num_classes must be the number of classes of the data, '
                            f'{len(classes)}, got {count}: set it in the config.')
    places = dataset.get('data_root'), dataset.get('data_prefix')
    if dataset.get('backend_args') or '://' in str(places):
        return  # not on a disk of this machine
    # Not filled: only its rules for paths, suffixes and numbers are wanted.
    built = DATASETS.build(dict(dataset) | dict(pipeline=[], lazy_init=True))
    loader = _map_loader(dataset.get('pipeline') or [])
    if not built.ann_file:
        yield from _other_endings(built, place)
    pairs = _pairs(built, place, with_maps=loader is not None)
    wanted.run.count(where, len(pairs))
    if where != 'train_dataloader' and wanted.batch_size > 1:
        steps = DATASETS.build(dict(dataset) | dict(lazy_init=True)).pipeline
        yield from pictures.sizes(pairs, steps, wanted.batch_size, where)
    if where != 'train_dataloader' and loader is not None:
        yield from pictures.grids(pairs, dataset, where)
    yield from pictures.depth([pair['img_path'] for pair in pairs], dataset.get('pipeline'), where)
    if loader is not None:
        maps = [pair['seg_map_path'] for pair in pairs]
        held, read = _check_maps(maps, built, loader, model, place)
        yield from _taught(held, read, len(maps), built, where)


def _other_endings(built, place: str) -> Iterator[Finding]:
    """Images beside those of img_suffix, which mmseg compares as it is written."""
    folder, maps = (os.path.abspath(built.data_prefix.get(key) or '.')
                    for key in ('img_path', 'seg_map_path'))
    ends = (built.img_suffix, *([built.seg_map_suffix] if f'{maps}/'.startswith(f'{folder}/')
                                else ()))
    yield from passed_over.endings(
        built.data_prefix.get('img_path') or '', lambda path: path.endswith(ends),
        f'img_suffix {built.img_suffix!r}', f'give all of them this ending, or img_suffix of '
        f'{place} theirs')


def _taught(held: set[int], read: int, count: int, built, where: str) -> Iterator[Finding]:
    """Classes of which the maps that were read hold nothing: one class alone teaches nothing."""
    names = built.metainfo['classes']
    absent = [name for number, name in enumerate(names) if number not in held]
    if not absent:
        return
    folder = built.data_prefix.get('seg_map_path')
    shown = ', '.join(map(repr, absent[:5])) + (', ...' if len(absent) > 5 else '')
    left_out = sorted(held - set(range(len(names))))
    also = (f'; {", ".join(map(str, left_out))}, which they hold, is what is left out: write '
            f'the number of the class for it' if left_out else '')
    text = f'holds none of {shown} in the {read} of its {count} maps that were read'
    if len(absent) > len(names) - 2 and len(names) > 1:
        present = next((name for name in names if name not in absent), None)
        yield Finding('nothing to learn', folder, text + (
            f', only {present!r}, so that the metric would be 100 whatever is learnt' if present
            else ', and all of their pixels are left out'), f'correct the maps{also}')
    elif where == 'train_dataloader' and read == count:
        yield Finding('absent class', folder, text, 'add examples, or take the class out'
                      + also, len(absent))


def _classes(dataset: dict, cls: type, place: str) -> tuple[str, ...]:
    classes = (dataset.get('metainfo') or {}).get('classes') or cls.METAINFO.get('classes')
    if not classes or isinstance(classes, str):
        came = f'the string {classes!r}' if classes else 'none'
        raise UserError(f'metainfo.classes of {place} must be a tuple of names in the order of '
                        f'the numbers in the maps, got {came}: set metainfo=dict(classes=(...)).')
    known = cls.METAINFO.get('classes') or classes
    unknown = [name for name in classes if name not in known]
    if unknown:
        near = did_you_mean(unknown[0], known)
        raise UserError(f'metainfo.classes of {place} must be classes of {cls.__name__}, whose '
                        f'maps are numbered by them, and {unknown[0]!r} is none: ' + (
                            f'did you mean {near!r}?' if near else
                            'set type to BaseSegDataset, with suffixes, for classes of your own.'))
    palette = (dataset.get('metainfo') or {}).get('palette') or classes
    if len(palette) != len(classes) and not cls.METAINFO.get('classes'):
        raise UserError(f'metainfo.palette of {place} must hold a colour for each class, '
                        f'{len(classes)}, got {len(palette)}: set it, or palette=[] for any.')
    return tuple(classes)


def _map_loader(steps) -> dict | None:
    """The step of a pipeline that reads maps, also inside TestTimeAug and the like."""
    if isinstance(steps, dict):
        if kind(steps) in ('LoadAnnotations', 'LoadMap'):
            return steps
        steps = steps.get('transforms') or []
    found = (_map_loader(step) for step in steps)
    return next((step for step in found if step is not None), None)


def _pairs(built, place: str, with_maps: bool) -> list[dict]:
    """What the data set will load, once every file of it is seen to be there."""
    prefixes = {'img_path': 'images', 'seg_map_path': 'maps'}
    for key in list(prefixes)[:1 + with_maps]:
        folder = built.data_prefix.get(key)
        if not os.path.isdir(folder or ''):
            raise UserError(f'There is no folder of {prefixes[key]} at {folder!r}: put the data '
                            f'there, or set data_root and data_prefix.{key} of {place}.')
    if built.ann_file:
        check_file(built.ann_file, 'list of images', f'set ann_file of {place}')
        check_plain(built.ann_file)
    pairs = built.load_data_list()
    passed_over.check_hidden(
        (os.path.relpath(pair['img_path'], built.data_prefix['img_path']) for pair in pairs),
        built.data_prefix['img_path'], 'whose pictures would be taken for data')
    if built.ann_file:
        root = os.path.abspath(built.data_root or '.')
        for key in list(prefixes)[:1 + with_maps]:
            folder = os.path.abspath(built.data_prefix[key])
            check_names((os.path.relpath(pair[key], folder) for pair in pairs), folder, root,
                        built.ann_file, place.removesuffix('.dataset'))
    if not pairs:
        what = (f'{built.ann_file} must name an image a line' if built.ann_file else
                f'{built.data_prefix["img_path"]} must hold images ending in {built.img_suffix!r}')
        raise UserError(f'{what}, got none: set img_suffix of {place}, or put them there.')
    for key in list(prefixes)[:1 + with_maps]:
        missing = [pair for pair in pairs if not os.path.isfile(pair[key])]
        if missing:
            raise UserError(
                f'Every image needs its file and its map, and {missing[0][key]} is missing'
                f'{passed_over.backslash(missing[0][key])}, '
                f'{len(missing)} of {len(pairs)} {prefixes[key]} in all: put it there, or set '
                f'img_suffix and seg_map_suffix of {place}.')
    return pairs


def _check_maps(paths: list[str], built, loader: dict, model: dict,
                place: str) -> tuple[set[int], int]:
    """All numbers in the maps, as trained, and how many maps were read: SAMPLE, or all.

    UserError for a map that training would stumble on. Where a sample holds one class alone, the
    others are read until another comes.
    """
    order, least = list(paths), len(paths)
    if least > SAMPLE:
        least = SAMPLE
        first = np.linspace(0, len(paths) - 1, SAMPLE).astype(int).tolist()
        order = [paths[i] for i in first] + [
            paths[i] for i in sorted(set(range(len(paths))).difference(first))]
        print(f'{place}: the numbers in {SAMPLE} of its {len(paths)} maps are checked.', flush=True)
    names = built.metainfo['classes']
    ignored = set(_ignored(model)) or {255}
    shift, held = int(built.reduce_zero_label), set()
    for count, path in enumerate(order):
        if count >= least and len(held.intersection(range(len(names)))) > 1:
            return held, count
        numbers = np.unique(_read(path, loader))
        trained = as_trained(numbers, built.reduce_zero_label, built.label_map)
        held.update(trained.tolist())
        wrong = numbers[~np.isin(trained, [*range(len(names)), *ignored])]
        if len(wrong):
            shown = ', '.join(map(str, wrong[:10].tolist())) + (', ...' if len(wrong) > 10 else '')
            raise UserError(
                f'Maps of {place} must hold {shift} to {len(names) - 1 + shift} for its '
                f'{len(names)} classes and {", ".join(map(str, sorted(ignored)))} for what is '
                f'left out, and {path} holds {shown}: change the map, or metainfo.classes and '
                'num_classes of the heads.')
    return held, len(order)


def _ignored(node: dict) -> Iterator[int]:
    """The number that each head of a model leaves out; mmseg's own is 255."""
    node = node.get('module', node)  # inside what augments tests
    for head in ('decode_head', 'auxiliary_head'):
        heads = node.get(head) or []
        for part in [heads] if isinstance(heads, dict) else heads:
            yield part.get('ignore_index', 255)


def _read(path: str, loader: dict) -> np.ndarray:
    """A map as mmseg reads it, before it cuts the numbers to 8 bits."""
    from mmcv import imfrombytes

    with open(path, 'rb') as file:
        content = file.read()
    try:
        array = imfrombytes(content, flag='unchanged',
                            backend=loader.get('imdecode_backend', 'pillow'))
    except OSError:
        array = None
    if array is None:
        raise UserError(f'The map {path} cannot be decoded: replace the file.')
    array = array.squeeze()
    if array.ndim != 2:
        raise UserError(f'A map must hold one number a pixel, the class, and {path} has shape '
                        f'{array.shape}: save it as a grey picture (or one with a colour table).')
    return array.astype(np.int64)
