"""COCO json against the classes of the data set and the heads of the model.

mmdet numbers labels by the order of the categories in the file, whatever the order of `classes`: a
class list in another order would train, and name every result wrongly.
"""
from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import UserError, check_file, did_you_mean, short

from . import class_counts, class_of, kind, packages, passed_over, pictures, teaching
from .boxes import Objects, check_entries
from .findings import Finding
from .masks import Slim
from .paths import check_plain, leads_out

# Data sets of mmdet that read COCO json in a way of their own, which is known here.
KNOWN = ('Objects365V1Dataset', 'Objects365V2Dataset', 'LVISV05Dataset', 'LVISV1Dataset')


def is_coco(dataset: dict) -> bool:
    """Whether a data set is read as COCO json: by CocoDataset, or one that reads as it does."""
    if kind(dataset) == 'CocoDataset':
        return True
    cls = class_of(dataset)
    base = next((base for base in getattr(cls, '__mro__', ()) if base.__name__ == 'CocoDataset'
                 and base.__module__.startswith('mmdet.')), None)
    return base is not None and (kind(dataset) in KNOWN or (
        cls.load_data_list is base.load_data_list
        and cls.parse_data_info is base.parse_data_info))


def _as_read(content: dict, dataset: dict) -> dict:
    """Put names of images and the order of categories as the data set reads them, in place."""
    name = kind(dataset)
    if name == 'Objects365V1Dataset':
        content['categories'].sort(key=lambda category: category.get('id', 0))
    for image in content['images'] if name in KNOWN[1:] else ():
        if isinstance(image, dict) and name == 'LVISV1Dataset' and 'coco_url' in image:
            image['file_name'] = '/'.join(str(image['coco_url']).rsplit('/', 2)[-2:])
        elif isinstance(image, dict) and name == 'Objects365V2Dataset' and 'file_name' in image:
            image['file_name'] = '/'.join(str(image['file_name']).rsplit('/', 2)[-2:])
    return content


def find(dataset: dict, where: str, model: dict, wanted) -> Iterator[Finding]:
    """Findings on one data set; raises UserError for one that is not there or is not COCO's.

    `wanted` says what else is known of the run: see run.Wanted.
    """
    packages.check(dataset, where)
    if not is_coco(dataset):
        return
    path = annotation_file(dataset)
    check_file(path, 'annotation file', f'put the data there, or set data_root and ann_file of '
               f'{where}.dataset')
    content = read(path, wanted.cache, where == 'test_dataloader', dataset)
    classes = class_names(dataset, where)
    lvis = kind(dataset).startswith('LVIS')
    _check_classes(classes, content, path, where, wanted, lvis,
                   bool((dataset.get('metainfo') or {}).get('classes')))
    for place, count in class_counts(model):
        if count != len(classes):
            raise UserError(f'{place}.num_classes must be the number of classes of the data, '
                            f'{len(classes)}, got {count}: set it in the config.')
    root = dataset.get('data_root') or ''
    folder = os.path.join(root, (dataset.get('data_prefix') or {}).get('img') or '')
    objects = Objects(masked=bool(wanted.masks(where)))
    with _no_collection():
        found = list(check_entries(content, path, folder, root, objects))
    if lvis:
        objects.lacking.pop('iscrowd', None)  # has none, and its metric asks for none
    ids = {c['id']: c['name'] for c in content['categories'] if c.get('name') in classes
           and isinstance(c.get('id'), (int, float))}
    taught = list(teaching.find(objects, ids, path, where, wanted)
                  ) if 'annotations' in content else []
    misread = any(finding.kind == 'not x, y, w, h' for finding in taught) or any(
        finding.level == 'error' for finding in found)
    for finding in found:
        if finding.kind != 'no boxes' or where != 'train_dataloader':
            yield finding
        elif not misread:  # else it says why
            yield finding._replace(kind='nothing to learn',
                                   cure='label something, or set ann_file')
    yield from taught
    wanted.run.count(where, len(objects.images))
    yield from _too_small(objects, dataset, path, where)
    names = [image.get('file_name') for image in objects.images.values()]
    names = [name for name in names if isinstance(name, str) and not leads_out(name, folder, root)]
    paths = [os.path.join(folder, name) for name in names]
    if '://' not in folder and not dataset.get('backend_args'):
        yield from passed_over.missing(names, folder, path, where)
    wanted.run.looked_at.update(pictures.chosen(paths), map(os.path.dirname, paths))
    yield from pictures.depth(paths, dataset.get('pipeline'), where)
    if 'annotations' not in content and not wanted.format_only:
        yield Finding('no field', path, 'has no annotations, so that there is nothing to score by',
                      'set format_only=True and outfile_prefix of test_evaluator, or use '
                      'tools/infer.py')


def _too_small(objects: Objects, dataset: dict, path: str, where: str) -> Iterator[Finding]:
    """Images under min_size, which mmdet leaves out of training without a word."""
    least = (dataset.get('filter_cfg') or {}).get('min_size') or 0
    small = [size for size in objects.sizes.values() if size and min(size) < least]
    if small and not dataset.get('test_mode'):
        every = len(small) == len(objects.sizes)
        yield Finding('nothing to learn' if every else 'left out', path, f'has {len(small)} of '
                      f'{len(objects.sizes)} images with a side under {least} pixels, which are '
                      'left out', f'set filter_cfg.min_size of {where}.dataset to at most '
                      f'{min(map(min, small))}', len(small))


def annotation_file(dataset: dict) -> str:
    """Where the annotations of a data set are."""
    return os.path.join(dataset.get('data_root') or '', dataset['ann_file'])


def class_names(dataset: dict, where: str) -> tuple[str, ...]:
    """The classes of a data set: its own, or COCO's."""
    classes = (dataset.get('metainfo') or {}).get('classes') or _own_classes(dataset)
    if isinstance(classes, str):
        raise UserError(f'metainfo.classes of {where}.dataset must be a tuple of names, got the '
                        f'string {classes!r}: write ({classes!r},).')
    return tuple(classes)


def _check_classes(classes: tuple, content: dict, path: str, where: str, wanted,
                   lvis: bool = False, named: bool = True) -> None:
    """Raise UserError where the classes are not categories of the file in its order.

    `named`: by the config, in place of the type of the data set.
    What is advised depends on the other splits: what mends one must not break another.
    """
    names = tuple(category['name'] for category in content['categories'])
    twice = next((name for name in classes if names.count(name) > 1), None)
    if twice and classes.count(twice) == 1:
        ids = [c.get('id') for c in content['categories'] if c['name'] == twice]
        raise UserError(f'{path} must name each category once, got {twice!r} for the ids '
                        f'{short(ids)}: give these objects one category_id, or the categories two '
                        'names.')
    if classes == (names if lvis else tuple(name for name in names if name in classes)):
        return
    if lvis and set(classes) < set(names):
        raise UserError(f'metainfo.classes of {where}.dataset must be all categories of {path}, as '
                        f'mmdet numbers the labels of LVIS by all of them, got {len(classes)} of '
                        f'{len(names)}: use type CocoDataset for some of them.')
    rule = (f'metainfo.classes of {where}.dataset must be categories of {path} in the order of '
            f'that file, got {short(classes)} where the file has {short(names)}')
    others = [other for other in wanted.categories(where) if other != names]
    unknown = [name for name in classes if name not in names]
    if unknown:
        elsewhere = [name for name in unknown if any(name in other for other in others)]
        if elsewhere:
            raise UserError(f'{rule}: {elsewhere[0]!r} is a category of another split alone, so '
                            f'write the same categories, with the same ids and in the same order, '
                            'into the files of all splits.')
        if len(unknown) == len(classes) or not named:
            raise UserError(f'{rule}: set classes={short(names)} in all data sets, and num_classes='
                            f'{len(names)}.')
        near = did_you_mean(unknown[0], [name for name in names if name not in classes])
        raise UserError(f'{rule}: {unknown[0]!r} is no category of it, ' + (
            f'did you mean {near!r}, in all data sets? Correct it.' if near else
            'so take it out of classes of all data sets.'))
    right = tuple(name for name in names if name in classes)
    if any(tuple(name for name in other if name in classes) != right for other in others):
        raise UserError(f'{rule}, and another split has {short(others[0])}: write the categories '
                        f'into both files in one order, then set it as classes of all splits.')
    raise UserError(f'{rule}: set classes={short(right)} in all data sets.')


def read(path: str, cache: dict | None = None, without_annotations: bool = False,
         dataset: dict | None = None) -> dict:
    """Parsed COCO json, with a Mask in place of each segmentation, as mmdet could read it.

    `dataset` is what will read it, where that matters.
    """
    if cache is not None and path in cache:
        content = cache[path]
    else:
        content = _parsed(path)
        if cache is not None:
            cache[path] = content
    came = _fault(content, without_annotations)
    if came:
        raise UserError(f'{path} is not COCO json: it must be an object with the lists images, '
                        f'annotations and categories, got {came}: convert the annotations to COCO '
                        'format first.')
    return _as_read(content, dataset) if dataset else content


def _parsed(path: str) -> object:
    check_plain(path)
    content = Path(path).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f'{path} must be UTF-8 for mmdet to read it, and is not ({error}): save it '
                        'as UTF-8.') from error
    del content
    try:
        with _no_collection():
            return json.loads(text, object_hook=Slim())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is not COCO json: it must be an object with the lists images, '
                        f'annotations and categories, got text that is not json ({error}): convert '
                        'the annotations to COCO format first.') from error


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles, which looks through millions of new dicts each time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _fault(content, without_annotations: bool) -> str:
    """What keeps parsed json from being COCO's, in words; empty where nothing does."""
    if not isinstance(content, dict):
        return type(content).__name__
    needed = [key for key in ('images', 'annotations', 'categories')
              if key in content or key != 'annotations' or not without_annotations]
    lacking = [key for key in needed if not isinstance(content.get(key), list)]
    if lacking:
        return f'an object without {" and ".join(lacking)}'
    named = all(isinstance(c, dict) and isinstance(c.get('name'), str)
                for c in content['categories'])
    return '' if named else 'a category without a name'


def _own_classes(dataset: dict) -> tuple[str, ...]:
    """The classes that a type of data set has by itself: COCO's where it names none."""
    from mmdet.datasets import CocoDataset
    found = getattr(class_of(dataset), 'METAINFO', {}).get('classes')
    return found or CocoDataset.METAINFO['classes']
