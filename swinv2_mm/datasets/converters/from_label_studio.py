"""Label Studio: the JSON or JSON-MIN of an export, with the pictures beside it or elsewhere.

Coordinates are per cent of the sides. label-studio-sdk 2.1 asks for 24 packages, its converter to
COCO knows boxes, polygons and points, and does not say what it drops.
"""
from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np

from swinv2_mm.utils.errors import UserError

from .objects import Thing, bitmap, ellipse, outline, rectangle, turned
from .pictures import Labels, check_stated, reading

UPLOADED = re.compile(r'^[0-9a-f]{8}-')  # what Label Studio puts before the name of an upload
REGIONS = ('rectangle', 'polygon', 'ellipse', 'brush')


def _tasks(path: Path) -> list[dict]:
    """The tasks of an export; empty where the file is none."""
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError):
        return []
    tasks = content if isinstance(content, list) else [content]
    return tasks if all(isinstance(task, dict) and _urls(task) and (
        'annotations' in task or 'original_width' in str(task)) for task in tasks) else []


def _urls(task: dict) -> list[str]:
    """What a task may be about. JSON-MIN has it at the top, with its results."""
    data = task['data'] if isinstance(task.get('data'), dict) else task
    return [value for value in data.values() if isinstance(value, str)]


def _files(root: Path) -> list[Path]:
    return [root] if root.suffix == '.json' else sorted(root.glob('*.json'))


def is_here(root: Path) -> bool:
    """Whether a folder or file looks like this."""
    return any(_tasks(path) for path in _files(root)[:20])


def _picture(task: dict, labels: Labels) -> Path | None:
    """The picture of the url of a task: of an upload, of local storage (?d=), of a cloud."""
    names = []
    for url in filter(lambda url: '/' in url or '.' in url, _urls(task)):
        parts = urlparse(url)
        name = unquote((parse_qs(parts.query).get('d') or [parts.path])[0]).lstrip('/')
        names += [name, UPLOADED.sub('', name.rpartition('/')[2])]
    return labels.find(*names)


def _results(task: dict, labels: Labels) -> list[dict] | None:
    """The results of the annotation that counts: the ground truth if one is marked, else the first;
    None where there is none."""
    labels.said['predictions dropped'] += len(task.get('predictions') or [])
    if not isinstance(task.get('annotations'), list):  # JSON-MIN: one task an annotation
        return [dict(value, value=value) for values in task.values() if isinstance(values, list)
                for value in values if isinstance(value, dict) and 'original_width' in value]
    found = [entry for entry in task['annotations'] if not entry.get('was_cancelled')]
    labels.said['skipped annotations dropped'] += len(task['annotations']) - len(found)
    labels.said['further annotations of a picture dropped'] += max(len(found) - 1, 0)
    found.sort(key=lambda entry: not entry.get('ground_truth'))
    return found[0]['result'] if found else None


def brush(codes: list[int]) -> np.ndarray:
    """The bytes that the packed runs of a brush stand for: red, green, blue, alpha of each pixel.

    32 bits: how many; 5: bits of a value, less 1; 4 times 4: bits of a length, less 1, of each of
    four kinds. Then runs: 1 bit whether one value is repeated, 2 the kind, then the length less 1,
    then that value or as many values (the rle-pack of thi.ng). ValueError where it does not end.
    """
    bits, place = ''.join(f'{code:08b}' for code in codes), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count:place], 2)

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total > 4 * 100_000_000:
        raise ValueError(f'a brush of {total} bytes')
    out, filled = np.zeros(total, np.uint8), 0
    while filled < total:
        repeated, end = take(1), filled
        end += take(lengths[take(2)]) + 1
        out[filled:end] = take(word) if repeated else [take(word) for _ in range(end - filled)]
        filled = end
    return out


def _thing(name: str, of: dict, size: tuple[int, int]) -> Thing | None:
    """The object of the value of a result; None for one that is no area."""
    wide, high = size[0] / 100, size[1] / 100
    degrees = of.get('rotation') or 0
    if 'radiusX' in of:  # its axes are per cent of different sides, and it is turned in pixels
        return ellipse(name, of['x'] * wide, of['y'] * high, of['radiusX'] * wide,
                       of['radiusY'] * high, degrees)
    if 'rle' in of:
        alpha = brush(of['rle']).reshape(size[1], size[0], 4)[..., 3]
        return bitmap(name, alpha, 0, 0, size)
    if 'points' in of and of.get('closed', True):
        return outline(name, [(x * wide, y * high) for x, y in of['points']])
    if 'height' not in of or 'x' not in of or 'keypointlabels' in of:
        return None
    x, y, x2, y2 = (of['x'] * wide, of['y'] * high, (of['x'] + of['width']) * wide,
                    (of['y'] + of['height']) * high)
    if degrees % 360 == 0:
        return rectangle(name, x, y, x2, y2)
    return outline(name, turned([(x, y), (x2, y), (x2, y2), (x, y2)], degrees, (x, y)))


def _labels(result: dict) -> list:
    value = result.get('value') or {}
    return next((value[key] for key in value if key.endswith('labels') and value[key]), [])


def _things(results: list[dict], size: tuple[int, int], labels: Labels) -> list[Thing]:
    found, named = [], {result.get('id') for result in results if _labels(result)}
    for result in results:
        if result.get('image_rotation'):
            raise ValueError('a picture that was turned for labelling: turn it back')
        kind, names = str(result.get('type', 'labels')), _labels(result)
        thing = _thing(str(names[0]), result['value'], size) if names else None
        if thing:
            labels.said['further labels of an object dropped'] += len(names) - 1
            labels.said['turned boxes taken as polygons'] += bool(
                'height' in result['value'] and thing.mask)
            labels.drop('an object', result.items(), {*result} - {'meta', 'score'})
            found.append(thing)
        # The bare shape of a region whose labels are in a result of its own is no loss.
        elif not (kind in REGIONS and result.get('id') in named):
            labels.said[f'results of type {kind!r} dropped'] += 1
    return found


def read(root: Path, args) -> Labels:
    """Pictures and objects of an export; `root` is the json or its folder."""
    labels = Labels(args.images or [root if root.is_dir() else root.parent])
    for file in _files(root):
        for task in _tasks(file):
            where = f'{file}, task {task.get("id")},'
            with reading(where):
                path, results = _picture(task, labels), _results(task, labels)
                if not path or results is None:
                    continue
                stated = next((result for result in results if 'original_width' in result), {})
                size = check_stated(path, [stated.get(f'original_{side}') for side in
                                           ('width', 'height')], where)
                things = _things(results, size, labels)
            labels.add(path, where, things=things)
    if not labels.pictures and labels.said['labels without their picture dropped']:
        raise UserError(f'The pictures of {root} must lie beside it or below --images, and none of '
                        'its tasks finds one: export or copy them there.')
    return labels.rest(args.empty)
