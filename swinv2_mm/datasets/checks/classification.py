"""Folders or lists of labelled images against the classes of the data set and of the model.

mmpretrain numbers labels by the alphabetical order of the folders, whatever the order of `classes`:
names in another order would train, and name every result wrongly. It takes each folder for a class,
and a label of a list as it stands.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import UserError, check_file, short

from . import class_counts
from .paths import check_names

TYPES = ('CustomDataset', 'ImageNet', 'ImageNet21k')


def check(dataset: dict, where: str, model: dict) -> None:
    """Raise UserError for missing data, folders that are not the classes, labels outside them."""
    kind = str(dataset.get('type')).rpartition('.')[2]
    if kind not in TYPES:
        return
    root = os.path.expanduser(dataset.get('data_root') or '')
    folder = _image_folder(dataset, root, where)
    if not dataset.get('with_label', True):
        return
    classes = _classes(dataset, where)
    names = classes or (_imagenet_classes() if kind == 'ImageNet' else None)
    counts = dict(class_counts(model))
    number = len(names) if names else max(counts.values(), default=None)
    if listed := _list_of_images(dataset, root):
        check_file(listed, 'list of images', f'put it there, or set data_root and ann_file of '
                   f'{where}.dataset')
        check_names(_check_list(listed, number, folder, where), folder, root, listed, where)
    else:
        number = _check_folders(folder, classes, number if kind == 'ImageNet' else None, where)
    for place, count in counts.items():
        if number is not None and count != number:
            raise UserError(f'{place}.num_classes must be the number of classes of the data, '
                            f'{number}, got {count}: set it in the config.')


def _image_folder(dataset: dict, root: str, where: str) -> str:
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path') or ''
    folder = os.path.join(root, os.path.expanduser(prefix))
    if '://' not in folder and not os.path.isdir(folder):
        raise UserError(f'There is no folder of images at {folder!r}: put the data there, or set '
                        f'data_root and data_prefix of {where}.dataset.')
    return folder


def _list_of_images(dataset: dict, root: str) -> str | None:
    """Where the labels are listed; None where the folders are the labels."""
    if dataset.get('ann_file'):
        return os.path.join(root, os.path.expanduser(dataset['ann_file']))
    path = os.path.join(root, 'meta', f'{dataset.get("split")}.txt')
    return path if dataset.get('split') and os.path.exists(path) else None


def _classes(dataset: dict, where: str) -> tuple[str, ...] | None:
    classes = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if not isinstance(classes, str):
        return tuple(classes) if classes else None
    if not os.path.isfile(os.path.expanduser(classes)):
        raise UserError(f'classes of {where}.dataset must be a tuple of names or a file with one '
                        f'name a line, got the string {classes!r}: write ({classes!r},).')
    return tuple(Path(classes).expanduser().read_text(encoding='utf-8').splitlines())


def _imagenet_classes() -> tuple[str, ...]:
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
    return tuple(IMAGENET_CATEGORIES)


def _check_folders(folder: str, classes: tuple | None, number: int | None,
                   where: str) -> int | None:
    """The number of classes that the folders make; None where it cannot be told from here."""
    if '://' in folder:
        return len(classes) if classes else number
    found = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not found:
        raise UserError(f'{folder} must hold one folder of images for each class, got none: make '
                        f'them, or set ann_file of {where}.dataset to a list of lines "IMAGE '
                        'LABEL".')
    if classes and classes != found:
        raise UserError(
            f'metainfo.classes of {where}.dataset must be the folders of {folder} in alphabetical '
            f'order, got {short(classes)} where the folders are {short(found)}: set '
            f'classes={short(found)}, or take away the folders that are no class.')
    if number and len(found) != number:
        raise UserError(f'{folder} must hold the {number} folders of the classes of {where}.dataset'
                        f', got {len(found)}: complete the data, or set metainfo.classes.')
    return len(found)


def _check_list(path: str, number: int | None, folder: str, where: str) -> list[str]:
    """The images that a list names, once its lines are found to be right."""
    if '://' in path:
        return []
    limit, names = number if number is not None else float('inf'), []
    for place, line in enumerate(_lines(path), 1):
        image, _, label = line.strip().rpartition(' ')
        if not (image and label.isdecimal() and len(label) < 10 and int(label) < limit):
            rule = f'from 0 to {number - 1}, a class' if number is not None else 'from 0 up'
            raise UserError(f'{path}, line {place}, must be "IMAGE LABEL" with a label {rule}, got '
                            f'{line.rstrip()[:200]!r}: correct it, or the number of classes.')
        names.append(image)
        if place == 1:  # a wrong folder shows at once, and looking for all would take long
            check_file(os.path.join(folder, image), 'image', f'it is the first of {path}, so set '
                       f'data_prefix of {where}.dataset to the folder its names start from')
    return names


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding='utf-8') as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise UserError(f'{path} must be a text file with lines "IMAGE LABEL", got bytes that are '
                        'no text: set ann_file to the list of the images.') from error
