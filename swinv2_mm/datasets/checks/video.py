"""mmaction2's list of videos against the classes of the head, and against the files on disk.

A label outside the classes would end in an index error inside a loss, on a GPU without its number;
a folder given wrongly, in videos missing one by one.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swinv2_mm.utils.errors import UserError, check_file

from . import class_counts, kind, passed_over
from .findings import Finding
from .paths import check_names, check_plain


def find(dataset: dict, where: str, model: dict, wanted) -> Iterator[Finding]:
    """Findings on one list; UserError for a missing or foreign one, labels, missing videos."""
    if kind(dataset) != 'VideoDataset':
        return
    root = dataset.get('data_root') or ''
    path = os.path.join(root, dataset['ann_file'])
    check_file(path, 'annotation file', f'put the data there, or set data_root and ann_file of '
               f'{where}.dataset')
    check_plain(path)
    classes = _classes(dataset, where, model)
    lines = list(_lines(path))
    videos = [_video(line, number, path, dataset, where, classes) for number, line in lines]
    if not videos:
        raise UserError(f'{path} must name at least one video, got none: write a line PATH LABEL '
                        'for each.')
    folder = os.path.join(root, (dataset.get('data_prefix') or {}).get('video') or '')
    check_names(videos, folder, root, path, where)
    _check_files(videos, folder, path, where)
    wanted.run.count(where, len(videos))
    yield from _absent([line for _, line in lines], dataset, path, where, classes)


def _absent(lines: list[str], dataset: dict, path: str, where: str,
            count: int | None) -> Iterator[Finding]:
    """Classes of which a training list holds no video."""
    names = (dataset.get('metainfo') or {}).get('classes') or range(count or 0)
    if where != 'train_dataloader' or not names:
        return
    held = {label for line in lines for label in line.strip().split(
        dataset.get('delimiter') or ' ')[1:]}
    absent = [name for label, name in enumerate(names) if str(label) not in held]
    if absent:
        yield Finding('absent class', path, f'holds no video of {len(absent)} of {len(names)} '
                      f'classes: {", ".join(map(repr, absent[:5]))}'
                      + (', ...' if len(absent) > 5 else ''),
                      'there is nothing to tell apart; add examples of them'
                      if len(names) - len(absent) < 2 else
                      'they cannot be learnt; add examples, or take them out', len(absent))


def _classes(dataset: dict, where: str, model: dict) -> int | None:
    """How many classes data and heads agree on; None where neither says."""
    counts = dict(class_counts(model))
    names = (dataset.get('metainfo') or {}).get('classes')
    if names is not None:
        for place, count in counts.items():
            if count != len(names):
                raise UserError(f'{place}.num_classes must be the number of metainfo.classes of '
                                f'{where}.dataset, {len(names)}, got {count}: set it in the '
                                'config.')
        return len(names)
    return next(iter(counts.values()), None)


def _lines(path: str) -> Iterator[tuple[int, str]]:
    try:
        yield from enumerate(Path(path).read_text(encoding='utf-8').splitlines(), start=1)
    except UnicodeDecodeError as error:
        raise UserError(f'{path} must be a text file with lines PATH LABEL, got bytes that are no '
                        'text: set ann_file to the list of the videos.') from error


def _video(line: str, number: int, path: str, dataset: dict, where: str,
           classes: int | None) -> str:
    """The video that a line names, once its labels are found to be right."""
    video, *labels = line.strip().split(dataset.get('delimiter') or ' ')
    bare = not labels and where.startswith('test')  # to be predicted, not evaluated
    right = labels or bare if dataset.get('multi_class') else len(labels) == 1 or bare
    if not video or not right or not all(_is_integer(label) for label in labels):
        raise UserError(f'Line {number} of {path} must be PATH LABEL, a path without spaces and a '
                        f'whole number, got {line!r}: correct it, or set delimiter of '
                        f'{where}.dataset to what stands between the two.')
    for label in map(int, labels):
        if classes is not None and not 0 <= label < classes:
            raise UserError(f'Line {number} of {path} must have a label from 0 to {classes - 1}, '
                            f'for {classes} classes, got {label}: correct the line, or set '
                            'num_classes of the head.')
    return video


def _is_integer(text: str) -> bool:
    return text.removeprefix('-').isdecimal()


def _check_files(videos: list[str], folder: str, path: str, where: str) -> None:
    if '://' in folder:
        return  # the reader's to check
    missing = [video for video in videos if not os.path.isfile(_file(folder, video))]
    if missing:
        raise UserError(f'Every video of {path} must be a file, {len(missing)} of {len(videos)} '
                        f'are not, the first is {_file(folder, missing[0])}'
                        f'{passed_over.backslash(missing[0])}: put them there, set '
                        f'data_root or data_prefix of {where}.dataset, or take their lines out.')


def _file(folder: str, video: str) -> str:
    # mmaction2 takes .mp4 for granted where a path has no ending.
    return os.path.join(folder, video if os.path.splitext(video)[1] else f'{video}.mp4')
