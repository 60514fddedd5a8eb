"""Whether a metric scores what its loader gives, and whether the splits mean the same classes."""
from __future__ import annotations

import filecmp
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import short

from . import class_of, coco, kind, steps_in
from .configured import METRIC_OF_COCO, Run
from .findings import Finding

BY_FILE = ('AVAMetric', 'CocoPanopticMetric')  # metrics that read the file of their data set


def same_truth(run: Run) -> Iterator[Finding]:
    """A metric with a json of its own reads that of its loader, or one that says the same."""
    for split in run.tested():
        paths = [coco.annotation_file(dataset) for dataset in run.datasets(split)
                 if coco.is_coco(dataset)]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        metrics, each = run.evaluators(split), run.one_each(split)
        if twice and metrics and not each:
            yield Finding('ids collide', f'{split}_dataloader', f'joins {twice} with itself, so '
                          'that what is found in its images is found twice', 'take it out once')
        whole = sorted(path for path in set(paths) if os.path.isfile(path))
        for i, metric in enumerate(metrics):
            read = [path for path in paths[i:i + 1] if path in whole] if each else whole
            if read and kind(metric) in METRIC_OF_COCO and not metric.get('format_only'):
                yield from _compared(run, split, read, metric.get('ann_file'))


def same_file(run: Run) -> Iterator[Finding]:
    """A metric of another format reads the file of its loader, or one of the same bytes."""
    for split in run.tested():
        paths = [coco.annotation_file(dataset) for dataset in run.datasets(split)
                 if isinstance(dataset.get('ann_file'), str)]
        for metric in run.evaluators(split) if len(paths) == 1 else ():
            path = metric.get('ann_file')
            if kind(metric) not in BY_FILE or not path or not all(
                    map(os.path.isfile, (path, paths[0]))):
                continue
            if not filecmp.cmp(path, paths[0], shallow=False):
                yield Finding('other truth', f'{split}_evaluator.ann_file', f'is {path!r}, where '
                              f'the loader reads {paths[0]!r}, of other content',
                              f'set it to {paths[0]!r}')


def _compared(run: Run, split: str, paths: list[str], path: str | None) -> Iterator[Finding]:
    place = f'{split}_evaluator.ann_file'
    contents = [_read(run, one) for one in paths]
    if None in contents:
        return  # said of that file
    loaded, twice = {}, None
    for content in contents:
        for image in content['images']:
            twice = image['id'] if image['id'] in loaded else twice
            loaded[image['id']] = image.get('file_name')
    if twice is not None:
        if len(paths) > 1:
            yield Finding('ids collide', f'{split}_dataloader', f'joins {", ".join(paths)}, which '
                          f'both have an image of id {twice}, so that the metric takes the boxes '
                          'of one for those of the other', 'number their images, and image_id of '
                          'their annotations, through, and give the metric one file of all')
        return
    if path is None:
        if not all(_passes_on(dataset) for dataset in run.datasets(split)):
            yield Finding('other truth', place, 'is not set, and the pipeline does not pass on '
                          'what is labelled, so that there is nothing to score by',
                          f'set it to {paths[0]!r}' if len(paths) == 1 else
                          "add 'instances' to meta_keys of PackDetInputs")
        return
    if '://' not in path and not os.path.isfile(path):
        yield Finding('other truth', place, f'is {path!r}, where there is no file',
                      f'set it to {paths[0]!r}')
        return
    if len(paths) == 1 and ('://' in path or os.path.samefile(path, paths[0])):
        return
    yield from _differing(split, paths, path, contents, _read(run, path), loaded)


def _passes_on(dataset: dict) -> bool:
    """Whether the packed samples of a data set have the entries of its file."""
    packs = [step for step in steps_in(dataset.get('pipeline')) if kind(step) == 'PackDetInputs']
    return all('instances' in (step.get('meta_keys') or ()) for step in packs)


def _read(run: Run, path: str) -> dict | None:
    try:
        content = coco.read(path, run.cache, without_annotations=True)
    except ValueError:
        return None
    sound = all(isinstance(image, dict) and isinstance(image.get('id'), (int, float))
                for image in content['images'])
    return content if sound else None


def _differing(split: str, paths: list, path: str, contents: list, scored: dict | None,
               loaded: dict) -> Iterator[Finding]:
    place, same = f'{split}_evaluator.ann_file', f'set it to {paths[0]!r}' if len(
        paths) == 1 else 'join the files into one for the metric'
    if scored is None:
        yield Finding('other truth', place, f'is {path!r}, which is not COCO json', same)
        return
    images = {image['id']: image.get('file_name') for image in scored['images']}
    foreign = [ident for ident in loaded if ident not in images]
    renamed = [ident for ident, name in loaded.items() if images.get(ident, name) != name]
    missing = len(set(images) - set(loaded))
    if foreign or renamed:
        yield Finding('other truth', place, f'is {path!r}, where {len(foreign)} images that '
                      f'{" and ".join(paths)} gives are missing and {len(renamed)} ids are of '
                      'other images', same)
    elif missing:
        yield Finding('part of the set', place, f'is {path!r} with {len(images)} images, of which '
                      f'{" and ".join(paths)} gives {len(loaded)}: the objects of the others count '
                      'as missed', same)
    elif all('annotations' in content for content in contents):
        given = _objects(contents)
        if given != _objects([scored]):
            yield Finding('other truth', place, f'is {path!r}, which has other objects on the same '
                          f'images than {" and ".join(paths)}', same)


def _objects(contents: list[dict]) -> set:
    """What is labelled, by names: ids of categories and annotations are each file's own."""
    found = set()
    for content in contents:
        names = {category['id']: category['name'] for category in content['categories']
                 if isinstance(category.get('id'), int)}
        for entry in content.get('annotations', []):
            if isinstance(entry, dict) and isinstance(entry.get('bbox'), list):
                category = entry.get('category_id')
                found.add((str(entry.get('image_id')), names.get(category) if isinstance(
                    category, int) else None, tuple(map(str, entry['bbox'])),
                    str(bool(entry.get('iscrowd')))))
    return found


def same_classes(run: Run) -> Iterator[Finding]:
    """All splits name the same classes in the same order, as labels are places in it."""
    named = {}
    if {'language_model', 'text_encoder'}.intersection(run.model):
        return  # asked in words, and tested on other classes than it is trained on
    for split in ('train', 'val', 'test'):
        found = {names for dataset in run.datasets(split)
                 if not kind(dataset).startswith('MOT') and (names := classes_of(run, dataset))}
        if len(found) == 1:  # else sets of several kinds, as models for any words are tested on
            named[f'{split}_dataloader.dataset'] = found.pop()
    if run.scope == 'mmseg':
        yield from _same_zero(run)
    if not named:
        return
    first, names = next(iter(named.items()))
    for place, other in named.items():
        if other == names or place.partition('_')[0] not in run.splits:
            continue
        if run.scope == 'mmpretrain' and set(other) < set(names):
            continue  # a class without a folder: the check of folders says what to do
        what = ('the same classes in another order' if sorted(other) == sorted(names)
                else 'other classes')
        yield Finding('class order', place, f'has {what}, {short(other)}, than {first}, '
                      f'{short(names)}: labels are numbers in that order', 'give all splits the '
                      'same, and write the categories of json files in one order')


def _same_zero(run: Run) -> Iterator[Finding]:
    """Maps of all splits are counted from the same number."""
    kept = {}
    for split in ('train', *run.tested()):
        for dataset in run.datasets(split):
            known = inspect.signature(getattr(class_of(dataset), '__init__', object))
            default = getattr(known.parameters.get('reduce_zero_label'), 'default', False)
            kept.setdefault(bool(dataset.get('reduce_zero_label', default)), f'{split}_dataloader')
    if len(kept) > 1:
        yield Finding('class order', f'{kept[True]}.dataset', 'has reduce_zero_label=True, and '
                      f'that of {kept[False]} has not, so that the numbers of their classes differ '
                      'by one', 'set it alike in all splits')


def classes_of(run: Run, dataset: dict) -> tuple[str, ...] | None:
    """The classes of a data set, in order; None where they are not known from here."""
    classes = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if isinstance(classes, str):
        path = Path(classes).expanduser()
        return tuple(path.read_text(encoding='utf-8').splitlines()) if path.is_file() else None
    if classes:
        return tuple(classes)
    if run.scope == 'mmpretrain' and kind(dataset) == 'CustomDataset' and not dataset.get(
            'ann_file') and dataset.get('with_label', True):
        prefix = dataset.get('data_prefix') or ''
        prefix = prefix.get('img_path') or '' if isinstance(prefix, dict) else prefix
        folder = Path(dataset.get('data_root') or '', prefix).expanduser()
        return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()
                            )) if folder.is_dir() else None
    names = getattr(class_of(dataset), 'METAINFO', {}).get('classes')
    return tuple(names) if names else None


CHECKS = (same_truth, same_file, same_classes)
