"""Folders or lists of labelled images against the classes of the data set and of the model.

mmpretrain numbers labels by the alphabetical order of the folders, whatever the order of `classes`:
names in another order would train, and name every result wrongly. It takes each folder for a class,
and a label of a list as it stands.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import UserError, check_file, did_you_mean, short

from . import class_counts, kind, passed_over, pictures, steps_in
from .findings import Finding
from .paths import check_names, check_plain

SPLITS = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}  # no classes
TYPES = ('CustomDataset', 'ImageNet', 'ImageNet21k')


def find(dataset: dict, where: str, model: dict, wanted) -> Iterator[Finding]:
    """Findings on one data set; UserError for missing data, other classes, labels outside them."""
    name = kind(dataset)
    if name not in TYPES:
        return
    _check_masking(dataset, where)
    root = os.path.expanduser(dataset.get('data_root') or '')
    folder = _image_folder(dataset, root, where)
    ends = tuple(end.lower() for end in dataset.get('extensions') or passed_over.MMPRETRAIN)
    listed = _list_of_images(dataset, root)
    if not listed and '://' not in folder:
        wanted.run.count(where, (yield from passed_over.endings(
            folder, lambda path: path.lower().endswith(ends), ', '.join(ends),
            f'save them as one of these, or set extensions of {where}.dataset')))
    if not dataset.get('with_label', True):
        return
    classes = _classes(dataset, where)
    names = classes or (_imagenet_classes() if name == 'ImageNet' else None)
    counts = dict(class_counts(model))
    number = len(names) if names else max(counts.values(), default=None)
    held, images = {}, []
    if listed:
        check_file(listed, 'list of images', f'put it there, or set data_root and ann_file of '
                   f'{where}.dataset')
        lines = _check_list(listed, number, folder, where)
        check_names((name for name, _ in lines), folder, root, listed, where)
        used = {label for _, label in lines}
        held = {name: label in used for label, name in enumerate(
            names or range(number or 0))} if lines else {}
        images = [os.path.join(folder, name) for name, _ in lines]
        wanted.run.count(where, len(images))
        if '://' not in folder:
            yield from passed_over.missing([name for name, _ in lines], folder, listed, where)
    else:
        others = _folders_of_others(wanted, where) if not names else ()
        number = _check_folders(folder, classes, number if name == 'ImageNet' else None, where,
                                others)
        if '://' not in folder:
            yield from _loose(folder)
            firsts = {entry.name: _first_file(entry.path, ends) for entry in os.scandir(folder)
                      if entry.is_dir()}
            held = {name: bool(firsts[name]) for name in sorted(firsts)}
            images = [path for path in firsts.values() if path]
    for place, count in counts.items():
        if number is not None and count != number:
            raise UserError(f'{place}.num_classes must be the number of classes of the data, '
                            f'{number}, got {count}: set it in the config.')
    yield from _absent(held, listed or folder, where)
    yield from pictures.depth(images, dataset.get('pipeline'), where)


def _check_masking(dataset: dict, where: str) -> None:
    """Raise UserError for a size of pictures that mmpretrain's generator of masks cannot take."""
    for step in steps_in(dataset.get('pipeline')):
        size = step.get('input_size')
        if kind(step) == 'SimMIMMaskGenerator' and 'swinv2_mm' not in str(step['type']) and not (
                size is None or isinstance(size, int)):
            raise UserError(
                f'input_size of SimMIMMaskGenerator in {where}.dataset.pipeline must be one side, '
                f'as mmpretrain hides patches of squares alone, got {size}: set type='
                "'swinv2_mm.SimMIMMaskGenerator', which takes (height, width).")


def _loose(folder: str) -> Iterator[Finding]:
    """Images beside the folders of the classes, which are of none."""
    loose = sorted(entry.name for entry in os.scandir(folder)
                   if entry.is_file() and entry.name.lower().endswith(passed_over.IMAGES)
                   and not entry.name.startswith('.'))
    if loose:
        yield Finding('left out', folder, f'holds {len(loose)} images beside its folders of '
                      f'classes ({", ".join(loose[:3])}{", ..." * (len(loose) > 3)}), which are '
                      'left out', 'put each into the folder of its class', len(loose))


def _first_file(folder: str, ends: tuple[str, ...]) -> str | None:
    return next((os.path.join(place, name) for place, _, names in os.walk(folder, followlinks=True)
                 for name in sorted(names) if name.lower().endswith(ends)
                 and os.path.isfile(os.path.join(place, name))), None)


def _absent(held: dict[str, bool], path: str, where: str) -> Iterator[Finding]:
    absent = [name for name, any_ in held.items() if not any_]
    if not absent:
        return
    effect = 'averages over classes are not of them; add examples to have them in it'
    if where.startswith('train'):
        effect = ('there is nothing to tell apart; add examples of them'
                  if len(held) - len(absent) < 2 else
                  'they cannot be learnt; add examples, or take them out')
    yield Finding('absent class', path, f'holds no image of {len(absent)} of {len(held)} classes: '
                  f'{", ".join(map(repr, absent[:5]))}' + (', ...' if len(absent) > 5 else ''),
                  effect, len(absent))


def _folders_of_others(wanted, where: str) -> tuple[str, ...]:
    """The folders of the training split, where that is another; empty where there are none."""
    if where.startswith('train'):
        return ()
    for dataset in wanted.run.datasets('train'):
        root = os.path.expanduser(dataset.get('data_root') or '')
        try:
            folder = _image_folder(dataset, root, 'train_dataloader')
        except UserError:
            return ()
        if '://' not in folder and not _list_of_images(dataset, root):
            return tuple(sorted(e.name for e in os.scandir(folder) if e.is_dir()))
    return ()


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


def _check_folders(folder: str, classes: tuple[str, ...] | None, number: int | None, where: str,
                   others: tuple[str, ...] = ()) -> int | None:
    """The number of classes that the folders make; None where it cannot be told from here.

    `others` are the folders of the training split, where no classes are named.
    """
    if '://' in folder:
        return len(classes) if classes else number
    found = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    passed_over.check_hidden((name for name in found if name not in (classes or ())), folder,
                             'which mmpretrain takes for a class')
    if not found:
        raise UserError(f'{folder} must hold one folder of images for each class, got none: make '
                        f'them, or set ann_file of {where}.dataset to a list of lines "IMAGE '
                        'LABEL".')
    if not classes and SPLITS.issuperset(name.lower() for name in found):
        raise UserError(f'{folder} must hold one folder of images for each class, got '
                        f'{short(found)}, which are splits: set data_prefix of {where}.dataset to '
                        'one of them.')
    if classes and classes != found:
        raise UserError(
            f'metainfo.classes of {where}.dataset must be the folders of {folder} in alphabetical '
            f'order, got {short(classes)} where the folders are {short(found)}: '
            f'{_advice(classes, found, folder)}.')
    if others and set(found) < set(others):
        raise UserError(f'{folder} must hold the folders of the training split, {short(others)}, '
                        f'got {short(found)}: {_advice(others, found, folder)}.')
    if number and len(found) != number:
        raise UserError(f'{folder} must hold the {number} folders of the classes of {where}.dataset'
                        f', got {len(found)}: complete the data, or set metainfo.classes.')
    return len(found)


def _advice(classes: tuple[str, ...], found: tuple[str, ...], folder: str) -> str:
    """What makes folders and classes the same without another split becoming wrong by it."""
    missing = [name for name in classes if name not in found]
    extra = [name for name in found if name not in classes]
    for name in missing:
        if near := did_you_mean(name, extra):
            return f'{name!r} is no folder of it, did you mean {near!r}'
    steps = []
    if missing:
        steps.append('make the empty folder '
                     + ' and '.join(repr(os.path.join(folder, name)) for name in missing)
                     + ' (a split may have no image of a class)')
    if extra:
        shown = ', '.join(map(repr, extra[:5])) + (', ...' if len(extra) > 5 else '')
        steps.append(f'take away {shown}, which no class is named after')
        visible = tuple(sorted({*classes, *(name for name in extra if name[0] != '.')}))
        if not missing and len(visible) > len(classes):
            steps[-1] += (f', or set classes={short(visible)} in all data sets and num_classes='
                          f'{len(visible)}')
    if not steps:
        return f'set classes={short(found)} in all data sets'
    return ' and '.join(steps)


def _check_list(path: str, number: int | None, folder: str,
                where: str) -> list[tuple[str, int]]:
    """The images that a list names, with their labels, once its lines are found to be right."""
    if '://' in path:
        return []
    check_plain(path)
    limit, names = number if number is not None else float('inf'), []
    for place, line in enumerate(_lines(path), 1):
        image, _, label = line.strip().rpartition(' ')
        if not (image and label.isdecimal() and len(label) < 10 and int(label) < limit):
            rule = f'from 0 to {number - 1}, a class' if number is not None else 'from 0 up'
            raise UserError(f'{path}, line {place}, must be "IMAGE LABEL" with a label {rule}, got '
                            f'{line.rstrip()[:200]!r}: correct it, or the number of classes.')
        names.append((image, int(label)))
    return names


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding='utf-8') as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise UserError(f'{path} must be a text file with lines "IMAGE LABEL", got bytes that are '
                        'no text: set ann_file to the list of the images.') from error
