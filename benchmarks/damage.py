"""Random damage to files of strangers, and what must not come of it.

A test tries some hundreds of cases, fuzz.py a hundred thousand. Case `number` of a
target is always the same. TARGETS: name -> function(folder, number) that gives None, or in words
what should not have happened.
"""
from __future__ import annotations

import functools
import io
import json
import os
import random
from pathlib import Path

import bad_files
from bad_files import contents

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TEXTS = (b'../../etc/passwd', b'/etc/passwd', b'NaN', b'Infinity', b'-1', b'1e999', b'null', b'{}',
         b'[]', b'"', b'\\u0000', b'9' * 400, b'true', b'[' * 2000, b'\xff\xfe', b'~/x', b'a' * 500)
SECONDS, MEMORY = 60, 1 << 30  # for a batch of cases, beyond what the process takes at the start


def damaged(whole: bytes, rng: random.Random, texts=()) -> bytes:
    """One to five changes of random kinds at random places."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(data) + 1)
        rng.choice((_bits, _cut, _insert, _number, _copy))(data, place, rng)
        if texts and rng.random() < .3:
            data[place:place + rng.choice((0, 1, 4))] = rng.choice(texts)
    return bytes(data)


def _bits(data: bytearray, place: int, rng: random.Random) -> None:
    for i in range(place, min(place + rng.randint(1, 8), len(data))):
        data[i] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, place: int, rng: random.Random) -> None:
    del data[place:place + rng.choice((1, 4, 64, len(data)))]


def _insert(data: bytearray, place: int, rng: random.Random) -> None:
    data[place:place] = rng.randbytes(rng.randint(1, 64))


def _number(data: bytearray, place: int, rng: random.Random) -> None:
    """One that is often one too many."""
    size = rng.choice((1, 2, 4))
    number = rng.choice(INTERESTING) & ((1 << 8 * size) - 1)
    data[place:place + size] = number.to_bytes(size, rng.choice(('little', 'big')))


def _copy(data: bytearray, place: int, rng: random.Random) -> None:
    part, other = data[place:place + rng.randint(1, 200)], rng.randrange(len(data) + 1)
    data[other:other + (len(part) if rng.random() < .5 else 0)] = part


@functools.cache
def images() -> list[bytes]:
    kinds = [dict(), dict(progressive=True), dict(kind='PNG'), dict(kind='PNG', mode='P'),
             dict(kind='PNG', mode='L'), dict(kind='BMP'), dict(kind='GIF'), dict(kind='WEBP'),
             dict(kind='TIFF'), dict(kind='TIFF', compression='tiff_lzw'), dict(kind='PPM'),
             dict(mode='CMYK'), dict(kind='PNG', mode='RGBA')]
    return [bad_files.encoded(**settings) for settings in kinds] + [
        bad_files.MAKERS[name][3](None) for name in ('animated.png', 'rotated.jpg', 'deep.png')]


@functools.cache
def films(folder: Path) -> list[bytes]:
    return [bad_files.film(folder, 4), bad_files.film(folder, 4, 'MJPG', 'avi')]


def told(error: Exception, start: str = '') -> str | None:
    """None for an error that is a message; else what it is."""
    text = str(error)
    if isinstance(error, ValueError) and text.startswith(start) and len(text) > 20:
        return None if '\n' not in text else f'a message of several lines: {text[:200]!r}'
    return f'{type(error).__name__}: {text[:200]!r}'


@functools.cache
def loaders():
    from mmengine.registry import TRANSFORMS

    import swinv2_mm.datasets.images  # noqa: F401
    return TRANSFORMS.build(dict(type='swinv2_mm.LoadImage', max_pixels=10 ** 7))


def load_image(folder: Path, number: int) -> str | None:
    """What training reads: an array of a bounded size, or a sentence with the file in it."""
    rng = random.Random(number)
    path = folder / 'image.jpg'
    path.write_bytes(damaged(rng.choice(images()), rng))
    try:
        found = loaders()(dict(img_path=str(path)))['img']
    except Exception as error:  # noqa: BLE001
        return told(error, f'failed to load image {path}: it ')
    return None if found.ndim == 3 and found.size <= 3 * 10 ** 7 else f'shape {found.shape}'


def check_file(check: str, ending: str, wholes, **settings):
    """What tools/dataset/check.py reads: findings, each one short line."""
    def target(folder: Path, number: int) -> str | None:
        from swinv2_mm.datasets.checks import pool
        rng = random.Random(number)
        path = folder / f'file{ending}'
        path.write_bytes(damaged(rng.choice(wholes(folder)), rng))
        found = pool.CHECKS[check](str(path), max_pixels=10 ** 7, **settings)
        wrong = [f for f in found if '\n' in f.text or len(f.text) > 400 or not f.level]
        return str(wrong[0]) if wrong else None
    return target


def check_map(folder: Path, number: int) -> str | None:
    (folder / 'image.png').write_bytes(images()[2])
    rule = dict(reduce_zero_label=bool(number % 2), label_map={1: 2} if number % 3 else None)
    return check_file('map', '.png', lambda folder: images()[2:5], allowed=(0, 1, 255), rule=rule,
                      image=str(folder / 'image.png'))(folder, number)


def annotations(folder: Path, number: int) -> str | None:
    """What the start of a run accepts is loaded by mmdet, with finite boxes and names inside."""
    from swinv2_mm.datasets import repairs
    from swinv2_mm.datasets.checks import boxes, coco, teaching
    from swinv2_mm.datasets.checks.configured import Run
    from swinv2_mm.utils.errors import UserError

    rng = random.Random(number)
    path = folder / 'train.json'
    if number % 2:
        content = contents()
        for _ in range(rng.randint(1, 3)):
            _change(content, rng)
        path.write_text(json.dumps(content))
    else:
        path.write_bytes(damaged(json.dumps(contents()).encode(), rng, TEXTS))
    repairs.install()
    objects = boxes.Objects()
    wanted = Run({}, ('train',)).wanted('train')
    try:
        content = coco.read(str(path))
        found = list(boxes.check_entries(content, str(path), f'{folder}/train', f'{folder}/',
                                         objects))
        names = {c['id']: c['name'] for c in content['categories']
                 if isinstance(c.get('id'), int)}
        found += teaching.find(objects, names, str(path), 'train_dataloader', wanted)
        for finding in found:
            if finding.level == 'error' or finding.kind == 'no boxes':
                raise UserError(finding.sentence)
    except UserError as error:
        return told(error, str(path))
    except Exception as error:  # noqa: BLE001
        return f'{type(error).__name__}: {error}'
    return _loads(path, folder, content)


def _loads(path: Path, folder: Path, content: dict) -> str | None:
    import contextlib

    import numpy as np
    from mmdet.datasets import CocoDataset
    names = tuple(c['name'] for c in content['categories'] if isinstance(c['name'], str))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = CocoDataset(ann_file=str(path), data_prefix=dict(img=f'{folder}/train/'),
                                  metainfo=dict(classes=names), pipeline=[],
                                  filter_cfg=dict(filter_empty_gt=True, min_size=1))
            samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    except Exception as error:  # noqa: BLE001
        return f'accepted, and mmdet raises {type(error).__name__}: {str(error)[:200]}'
    for sample in samples:
        inside = os.path.abspath(sample['img_path']).startswith(f'{folder}/')
        boxes = np.array([instance['bbox'] for instance in sample['instances']], float)
        if not inside or not np.isfinite(boxes).all():
            return f'accepted, and mmdet gives {sample}'[:300]
    return None


def _change(node, rng: random.Random) -> None:
    """Replace, remove, or double one value somewhere in parsed json."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < .85:
            node = node[key]
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = rng.choice((
                None, True, -1, 0, 10 ** 30, 10 ** 400, float('nan'), float('inf'), -1e308, 1e-320,
                '', 'x', '../../etc/passwd', '/etc/passwd', '..', '\0', '~root/x', [], {}, [[]],
                [1, 2, 3], {'size': [9, 9], 'counts': 'x'}, 'é' * 300, 2 ** 63, 1.5))
        return


def lists(folder: Path, number: int) -> str | None:
    """Lists of images and of videos: accepted names stay inside the data."""
    from swinv2_mm.datasets.checks import classification, video
    from swinv2_mm.datasets.checks.configured import Run
    from swinv2_mm.datasets.checks.paths import check_names
    from swinv2_mm.utils.errors import UserError

    rng = random.Random(number)
    for name in ('a.jpg', 'a.mp4'):
        (folder / name).touch()
    ending = rng.choice(('.jpg', '.mp4'))
    path = folder / 'list.txt'
    path.write_bytes(damaged(f'a{ending} 0\na{ending} 1\n'.encode() * 3, rng, TEXTS))
    dataset = dict(type='VideoDataset', data_root=f'{folder}/', ann_file='list.txt',
                   metainfo=dict(classes=('a', 'b')))
    try:
        if ending == '.mp4':
            list(video.find(dataset, 'train_dataloader', {},
                            Run({}, ('train',)).wanted('train')))
            names = [line.split()[0] for line in path.read_text().splitlines()]
        else:
            lines = classification._check_list(str(path), 2, str(folder), 'train_dataloader')
            names = [name for name, _ in lines]
            check_names(names, str(folder), str(folder), str(path), 'train_dataloader')
    except UserError as error:
        return told(error)
    except Exception as error:  # noqa: BLE001
        return f'{type(error).__name__}: {error}'
    out = [n for n in names if not os.path.abspath(folder / n).startswith(f'{folder}/')]
    return f'accepted: {out[:3]}' if out else None


TARGETS = {
    'image in training': load_image,
    'image in the check': check_file('image', '.jpg', lambda folder: images()),
    'map in the check': check_map,
    'COCO annotations': annotations,
    'list of files': lists,
    'video in the check': check_file('video', '.mp4', films, span=2),
}


def lost(name: str, numbers: range, folder: Path, batch: int = 50) -> list[tuple[int, str]]:
    """The cases of a target that went wrong, and how; in processes that may crash, hang or grow."""
    from swinv2_mm.datasets.checks import pool

    pool.CHECKS['fuzz'] = _batch
    numbers, found = list(numbers), []
    while numbers:
        jobs = [('fuzz', str(i), dict(name=name, folder=folder, numbers=numbers[i:i + batch]))
                for i in range(0, len(numbers), batch)]
        again = []
        for finding in (f for some in pool.run(jobs, 1, SECONDS, MEMORY) for f in some):
            if finding.kind == 'crash' and batch > 1:  # of one of them
                again += numbers[int(finding.where):int(finding.where) + batch]
            elif finding.kind == 'crash':
                found.append((numbers[int(finding.where)], finding.text))
            else:
                found.append((int(finding.where), finding.text))
        numbers, batch = again, 1
    return found


def _batch(path: str, name: str, folder: Path, numbers: list[int]) -> list:
    from swinv2_mm.datasets.checks.findings import Finding

    folder = folder / str(os.getpid())
    folder.mkdir(exist_ok=True)
    said = ((number, TARGETS[name](folder, number)) for number in numbers)
    return [Finding('fuzz', str(number), text) for number, text in said if text]
