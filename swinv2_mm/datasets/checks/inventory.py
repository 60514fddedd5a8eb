"""All files of a data set, each with the check it needs; and what is wrong with its lists."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import UserError

from . import class_counts, classification, coco, kind, listed, segmentation, video
from .findings import Finding
from .paths import leads_out

IMAGES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp', '.gif')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.ts',
          '.mts', '.m2ts', '.3gp', '.ogv')
Job = tuple[str, str, dict]  # name of a check, path, its further arguments


def of_dataset(dataset: dict, where: str, model: dict, scope: str, cache: dict,
               others: bool = True) -> Iterator[Finding | Job]:
    """Findings on the lists of one data set of a config, and a job for each file of it.

    `cache` holds the json files that were read already: {path: content}. `others`: also of types
    that only their library can list, which may read all of their data for it.
    """
    name = kind(dataset)
    if dataset.get('backend_args') or '://' in str([dataset.get(key) for key in (
            'data_root', 'data_prefix')]):
        return  # not on a disk of this machine
    if scope == 'mmdet' and coco.is_coco(dataset):
        yield from _coco(dataset, cache)
    elif scope == 'mmseg':
        yield from _maps(dataset, where, model)
    elif scope == 'mmaction' and name == 'VideoDataset':
        yield from _videos(dataset, where, model)
    elif scope == 'mmpretrain' and name in classification.TYPES:
        yield from _labelled(dataset, where, model)
    elif others:
        try:
            yield from listed.jobs(dataset, where)
        except UserError as error:
            yield Finding('not listed', where, f'is not looked at: {error}')


def of_folder(path: Path) -> Iterator[Finding | Job]:
    """A job for each image and video below a folder, or for one file."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob('*') if p.is_file())
    found = 0
    for file in files:
        ending = file.suffix.lower()
        if ending in VIDEOS:
            yield 'video', str(file), {}
        elif ending in IMAGES or path.is_file():
            yield 'image', str(file), {}
        else:
            yield Finding('ignored', str(file), 'has no ending of an image or a video')
            continue
        found += 1
    if not found:
        yield Finding('no files', str(path), 'holds no image and no video')


def _coco(dataset: dict, cache: dict) -> Iterator[Finding | Job]:
    root = dataset.get('data_root') or ''
    path = coco.annotation_file(dataset)
    folder = os.path.join(root, (dataset.get('data_prefix') or {}).get('img') or '')
    try:
        content = coco.read(path, cache, True, dataset)
    except (OSError, ValueError):
        return  # said by the check of the set-up
    names = set()
    for entry in content['images']:
        name = entry.get('file_name') if isinstance(entry, dict) else None
        if not isinstance(name, str) or leads_out(name, folder, root):
            continue
        if name in names:
            yield Finding('file twice', path, f'lists {name!r} twice')
            continue
        names.add(name)
        stated = entry.get('width'), entry.get('height')
        known = all(isinstance(side, int) for side in stated)
        yield 'image', os.path.join(folder, name), dict(stated=stated if known else None)


def _maps(dataset: dict, where: str, model: dict) -> Iterator[Finding | Job]:
    from mmseg.registry import DATASETS
    built = DATASETS.build(dict(dataset) | dict(pipeline=[], lazy_init=True))
    root = dataset.get('data_root') or ''
    try:
        pairs = built.load_data_list()
    except OSError as error:
        yield Finding('set-up', where, f'cannot list its files ({error})')
        return
    if not pairs:
        yield Finding('no files', where, 'has no images')
    allowed = (*range(len(built.metainfo['classes'] or ())),
               *(set(segmentation._ignored(model)) or {255}))
    rule = dict(reduce_zero_label=bool(built.reduce_zero_label), label_map=built.label_map)
    with_maps = segmentation._map_loader(dataset.get('pipeline') or []) is not None
    for pair in pairs:
        for key in ('img_path', 'seg_map_path')[:1 + with_maps]:
            if built.ann_file and leads_out(os.path.relpath(pair[key], root or '.'), root, root):
                yield Finding('outside the root', where, f'names {pair[key]!r}, which leads out of '
                              'the data')
                break
        else:
            yield 'image', pair['img_path'], {}
            if with_maps:
                yield 'map', pair['seg_map_path'], dict(
                    image=pair['img_path'], allowed=allowed, rule=rule)


def _labelled(dataset: dict, where: str, model: dict) -> Iterator[Finding | Job]:
    root = os.path.expanduser(dataset.get('data_root') or '')
    folder = classification._image_folder(dataset, root, where)
    listed = classification._list_of_images(dataset, root)
    if listed and dataset.get('with_label', True):
        yield from _listed_images(listed, folder, root, where, dataset, model)
        return
    classes = [folder] if not dataset.get('with_label', True) else sorted(
        entry.path for entry in os.scandir(folder) if entry.is_dir())
    for group in classes:
        files = sorted(p for p in Path(group).rglob('*') if p.is_file())
        for file in files:
            if file.suffix.lower() in IMAGES:
                yield 'image', str(file), {}
            else:
                yield Finding('ignored', str(file), 'has no ending of an image')


def _listed_images(path: str, folder: str, root: str, where: str, dataset: dict,
                   model: dict) -> Iterator[Finding | Job]:
    names = classification._classes(dataset, where)
    number = len(names) if names else max(dict(class_counts(model)).values(), default=None)
    labels = {}
    for place, line in enumerate(_text(path), 1):
        image, _, label = line.strip().rpartition(' ')
        if not (image and label.isdecimal()):
            yield Finding('bad line', f'{path}, line {place},', f'is not "IMAGE LABEL": {line!r}')
        elif number is not None and int(label) >= number:
            yield Finding('unknown class', f'{path}, line {place},', f'has label {label} of '
                          f'{number} classes')
        elif leads_out(image, folder, root):
            yield Finding('outside the root', f'{path}, line {place},', f'names {image!r}, which '
                          'leads out of the data')
        elif image in labels:
            yield _again(labels[image] == label, f'{path}, line {place},', image)
        else:
            labels[image] = label
            yield 'image', os.path.join(folder, image), {}


def _again(same: bool, where: str, name: str) -> Finding:
    if same:
        return Finding('file twice', where, f'names {name!r} again')
    return Finding('two labels', where, f'names {name!r} again, under another label')


def _text(path: str) -> list[str]:
    return Path(path).read_text(encoding='utf-8', errors='surrogateescape').splitlines()


def _videos(dataset: dict, where: str, model: dict) -> Iterator[Finding | Job]:
    root = dataset.get('data_root') or ''
    path = os.path.join(root, dataset['ann_file'])
    folder = os.path.join(root, (dataset.get('data_prefix') or {}).get('video') or '')
    classes, labels = video._classes(dataset, where, model), {}
    span = _span(dataset.get('pipeline') or [])
    for place, line in enumerate(_text(path), 1):
        at = f'{path}, line {place},'
        try:
            name = video._video(line, place, path, dataset, where, classes)
        except UserError as error:
            fault = 'unknown class' if 'must have a label' in str(error) else 'bad line'
            yield Finding(fault, at, f'is {line!r}, which is not PATH LABEL with a label of the '
                          'classes')
            continue
        if leads_out(name, folder, root):
            yield Finding('outside the root', at, f'names {name!r}, which leads out of the data')
        elif name in labels:
            yield _again(labels[name] == line.strip(), at, name)
        else:
            labels[name] = line.strip()
            yield 'video', video._file(folder, name), dict(span=span)


def _span(pipeline: list) -> int:
    """How many frames the clip of a pipeline spans; 1 where it does not say."""
    for step in pipeline:
        sample = step.get('sample') or step
        if 'clip_len' in sample:
            return (sample['clip_len'] - 1) * (sample.get('frame_interval') or 1) + 1
    return 1
