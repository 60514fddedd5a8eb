"""COCO json against the classes of the data set and the heads of the model.

mmdet numbers labels by the order of the categories in the file, whatever the order of `classes`: a
class list in another order would train, and name every result wrongly.
"""
import json
import os
from pathlib import Path

from swinv2_mm.utils.errors import UserError, check_file, short

from . import class_counts, packages
from .boxes import check_entries
from .findings import WARNINGS


def check(dataset: dict, where: str, model: dict) -> None:
    """Raise UserError for a missing or foreign file, foreign classes, heads of another count."""
    if str(dataset.get('type')).rpartition('.')[2] != 'CocoDataset':
        return
    packages.check(dataset, where)
    path = os.path.join(dataset.get('data_root') or '', dataset['ann_file'])
    check_file(path, 'annotation file', f'put the data there, or set data_root and ann_file of '
               f'{where}.dataset')
    content = _read(path)
    names = [category['name'] for category in content['categories']]
    classes = (dataset.get('metainfo') or {}).get('classes') or _coco_classes()
    if isinstance(classes, str):
        raise UserError(f'metainfo.classes of {where}.dataset must be a tuple of names, got the '
                        f'string {classes!r}: write ({classes!r},).')
    expected = tuple(name for name in names if name in classes)
    if tuple(classes) != expected:
        raise UserError(
            f'metainfo.classes of {where}.dataset must be categories of {path} in the order of '
            f'that file, got {short(classes)} where the file has {short(names)}: set '
            f'classes={short(expected or tuple(names))}.')
    for place, count in class_counts(model):
        if count != len(classes):
            raise UserError(f'{place}.num_classes must be the number of classes of the data, '
                            f'{len(classes)}, got {count}: set it in the config.')
    _check_entries(content, path, dataset, where)


def _check_entries(content: dict, path: str, dataset: dict, where: str, screen=None) -> None:
    """Raise UserError for what would be lost or mistaken; say how much is left out."""
    root = dataset.get('data_root') or ''
    folder = os.path.join(root, (dataset.get('data_prefix') or {}).get('img') or '')
    warnings = {}
    for finding in check_entries(content, path, folder, root):
        lost = finding.kind == 'no boxes' and where == 'train_dataloader'
        if finding.level == 'error' or lost:
            raise UserError(f'{path} must be sound, and {finding.text}: correct it; `python '
                            'tools/dataset/check.py CONFIG` lists all there is.')
        warnings.setdefault(finding.kind, []).append(finding.text)
    for kind, texts in warnings.items():
        if kind not in ('no boxes', 'no objects'):
            print(f'{where}: {len(texts)} annotations are of the kind {kind!r} '
                  f'({WARNINGS[kind]}); {path} {texts[0]}.', file=screen, flush=True)


def _read(path: str) -> dict:
    try:
        content = json.loads(Path(path).read_bytes())
        came = _fault(content)
    except (ValueError, RecursionError) as error:
        came = f'text that is not json ({error})'
    if came:
        raise UserError(f'{path} is not COCO json: it must be an object with the lists images, '
                        f'annotations and categories, got {came}: convert the annotations to COCO '
                        'format first.')
    return content


def _fault(content) -> str:
    """What keeps parsed json from being COCO's, in words; empty where nothing does."""
    if not isinstance(content, dict):
        return type(content).__name__
    lacking = [key for key in ('images', 'annotations', 'categories')
               if not isinstance(content.get(key), list)]
    if lacking:
        return f'an object without {" and ".join(lacking)}'
    named = all(isinstance(c, dict) and isinstance(c.get('name'), str)
                for c in content['categories'])
    return '' if named else 'a category without a name'


def _coco_classes() -> tuple[str, ...]:
    from mmdet.datasets import CocoDataset
    return CocoDataset.METAINFO['classes']
