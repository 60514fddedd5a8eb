"""Sets of other formats (VOC, CIFAR, frames of films, ...), as their own library lists them."""
from __future__ import annotations

import inspect
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import UserError, check_file, did_you_mean
from swinv2_mm.utils.faults import one_line

from . import class_counts, class_of, kind, passed_over, pictures, teaching
from .boxes import Objects, check_entries
from .findings import Finding

XML = ('XMLDataset', 'VOCDataset', 'WIDERFaceDataset')


def infos(dataset: dict, where: str) -> list[dict]:
    """What the data set would load, by its own code; UserError where that fails.

    Nothing is fetched from elsewhere.
    """
    from mmengine.registry import DATASETS
    cls = class_of(dataset)
    settings = dict(dataset) | dict(pipeline=[], lazy_init=True)
    if cls is not None and 'download' in inspect.signature(cls.__init__).parameters:
        settings['download'] = False
    try:
        return list(DATASETS.build(settings).load_data_list())
    except Exception as error:
        raise UserError(f'{kind(dataset)} of {where}.dataset cannot list its data '
                        f'({type(error).__name__}: {one_line(error)}): put them there, or mend its '
                        'settings.') from error


def jobs(dataset: dict, where: str) -> Iterator[tuple[str, str, dict]]:
    """A job for each file of the data set, each once; in memory, as CIFAR's, are none."""
    for info in infos(dataset, where):
        if 'total_frames' in info and 'frame_dir' in info:
            template, first = dataset.get('filename_tmpl', 'img_{:05}.jpg'), info.get('offset', 0)
            for number in range(first, first + info['total_frames']):
                name = template.format(number + dataset.get('start_index', 1))
                yield 'image', os.path.join(info['frame_dir'], name), {}
            continue
        path = info.get('img_path') or info.get('filename')
        if isinstance(path, str) and '://' not in path:
            sides = info.get('width'), info.get('height')
            known = all(isinstance(side, int) for side in sides)
            yield 'image', path, dict(stated=sides if known else None)


def find(dataset: dict, where: str, model: dict, wanted) -> Iterator[Finding]:
    """Findings on boxes in XML, which mmdet reads; UserError for one that is not there."""
    if kind(dataset) not in XML:
        return
    path = os.path.join(dataset.get('data_root') or '', dataset['ann_file'])
    check_file(path, 'list of images', f'put the data there, or set data_root and ann_file of '
               f'{where}.dataset')
    from .truth import classes_of
    classes, found = classes_of(wanted.run, dataset) or (), infos(dataset, where)
    for place, count in class_counts(model):
        if count != len(classes):
            raise UserError(f'{place}.num_classes must be the number of classes of the data, '
                            f'{len(classes)}, got {count}: set it in the config.')
    root = dataset.get('data_root') or '.'
    yield from passed_over.missing([os.path.relpath(info['img_path'], root) for info in found],
                                   root, path, where)
    wanted.run.count(where, len(found))
    objects = Objects()
    for finding in check_entries(_as_coco(found, classes), path, '/', '/', objects):
        if finding.kind == 'no boxes' and where == 'train_dataloader':
            finding = finding._replace(kind='nothing to learn',
                                       cure='label something, or set ann_file')
        yield finding
    for name, near in _slips(objects, found, classes):
        yield Finding('unknown class', path, f'names no object {name!r}, a class of '
                      f'{where}.dataset', f'did you mean {near!r}, in all data sets')
    yield from pictures.depth([info['img_path'] for info in found], dataset.get('pipeline'), where)
    yield from teaching.find(objects, dict(enumerate(classes)), path, where, wanted)


def _as_coco(found: list[dict], classes: tuple) -> dict:
    """Entries of mmdet as those of COCO json: what is asked of one is asked of the other."""
    images, entries = [], []
    for number, info in enumerate(found, 1):
        images.append(dict(id=number, file_name=os.path.abspath(info['img_path']),
                           width=info['width'], height=info['height']))
        for one in info['instances']:
            left, top, right, low = one['bbox']
            entries.append(dict(
                id=len(entries) + 1, image_id=number, category_id=one['bbox_label'],
                iscrowd=one['ignore_flag'], bbox=[left, top, right - left, low - top],
                area=(right - left) * (low - top)))
    names = [dict(id=label, name=name) for label, name in enumerate(classes)]
    return dict(images=images, annotations=entries, categories=names)


def _slips(objects: Objects, found: list[dict], classes: tuple) -> Iterator[tuple[str, str]]:
    """Classes without an object beside names of objects that resemble them."""
    absent = [name for label, name in enumerate(classes)
              if not objects.of_use[label] and not objects.crowds[label]]
    if not absent:
        return
    named = {entry.text for info in found if Path(info.get('xml_path', '')).is_file()
             for entry in ET.parse(info['xml_path']).getroot().iterfind('object/name')}
    for name in absent:
        if near := did_you_mean(name, sorted(named.difference(classes) - {None})):
            yield name, near
