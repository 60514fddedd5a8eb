"""Write a toy detection data set: textured shapes over clutter, with COCO instance json.

    python tools/dataset/make_shapes.py --out data/shapes --train 800 --val 200 --size 192 256

gives data/shapes/{train,val}/000000.jpg ... and data/shapes/{train,val}.json. Picture i of a seed
is the same whatever the counts, byte for byte with the same numpy and OpenCV. The set is built
beside --out and renamed into place when whole; a run that is killed outright leaves at most a
`.shapes.partial-*` folder there, safe to delete.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from shapes import KINDS, TEXTURES, Pose, Scene, Shape, Skin, render, visible_masks

VERSION = 1  # raise it when the same arguments come to give other pictures
DESCRIPTION = 'toy shapes'
JPEG_QUALITY = 95
SPLITS = ('train', 'val')  # only ever append: the position is part of the seed

OBJECTS = (2, 6)  # fewest and most objects asked for in a scene
SIZES = (24.0, 100.0)  # pixels across the circle around an object
MIN_VISIBLE = 0.3  # part of an object, cut or covered, that must stay in sight for it to be placed
TRIES = 30  # places tried for one object before the scene does without it


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of scene `index` of a split: the same however many scenes are made.

    `seed` is in [0, 2**32), `split` one of `SPLITS`, `index` >= 0. Returns a numpy Generator.
    """
    return np.random.default_rng([seed, SPLITS.index(split), index])


def sample_scene(rng: np.random.Generator, size: tuple) -> Scene:
    """Draw a scene for an image of `size` (H, W) pixels, both at least 32.

    Objects that would leave too little of themselves or of another in sight (`MIN_VISIBLE`) are
    placed anew, so every shape of the returned Scene can be seen; in a crowded image there may be
    fewer than were drawn for it.
    """
    colours = (_colour(rng, 40, 200), _colour(rng, 40, 200))
    shapes = ()
    for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1)):
        kind = KINDS[rng.integers(len(KINDS))]
        for _ in range(TRIES):
            pose = _sample_pose(rng, size, shapes)
            more = (*shapes, Shape(kind, pose, _sample_skin(rng, pose, colours)))
            if visible_masks(more, size)[1].min() >= MIN_VISIBLE:
                shapes = more
                break
    shadow = (*(int(step) for step in rng.integers(-4, 5, 2)), float(rng.uniform(0.1, 0.5)))
    return Scene(size=tuple(size), colours=colours, background_seed=_seed(rng), shapes=shapes,
                 shadow=shadow, noise=float(rng.uniform(2, 6)), noise_seed=_seed(rng))


def _seed(rng):
    return int(rng.integers(2**32))


def _colour(rng, low=0, high=255):
    return tuple(float(level) for level in rng.uniform(low, high, 3))


def _sample_pose(rng, size, shapes):
    height, width = size
    # Evenly in log size: as many from 24 to 48 pixels as from 48 to 96.
    largest = min(SIZES[1], min(size) / 2)
    across = float(np.exp(rng.uniform(*np.log([min(SIZES[0], largest), largest]))))
    edge = across / 4  # the border may cut off up to a quarter of the width
    x, y = rng.uniform(edge, width - edge), rng.uniform(edge, height - edge)
    if shapes and rng.random() < 0.4:  # sought overlap: chance alone gives too little of it
        other = shapes[rng.integers(len(shapes))].pose
        gap = rng.uniform(0.5, 0.95) * (other.size + across) / 2
        turn = rng.uniform(0, 2 * np.pi)
        x = np.clip(other.x + gap * np.cos(turn), edge, width - edge)
        y = np.clip(other.y + gap * np.sin(turn), edge, height - edge)
    aspect = float(np.exp(rng.uniform(-0.25, 0.25)))
    return Pose(float(x), float(y), across, float(rng.uniform(0, 2 * np.pi)), aspect)


def _sample_skin(rng, pose, background):
    apart = []
    while len(apart) < 2:  # colours unlike the background's, or some objects could not be seen
        colour = _colour(rng)
        if min(np.linalg.norm(np.subtract(colour, other)) for other in background) > 75:
            apart.append(colour)
    shortest = 12 / pose.size  # radii: a period of at least 6 pixels survives jpeg and resizing
    return Skin(texture=TEXTURES[rng.integers(len(TEXTURES))], colours=tuple(apart),
                period=float(max(rng.uniform(0.25, 0.8), shortest)),
                turn=float(rng.uniform(0, 2 * np.pi)),
                rim=float(rng.uniform(-0.6, 0.3)), seed=_seed(rng))


def parse_arguments(argv: list | None = None) -> argparse.Namespace:
    """Read the command line (a list of words, or None for sys.argv); exits on unknown options."""
    parser = _Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, default=Path('data/shapes'), help='folder to make')
    parser.add_argument('--train', type=int, default=800, help='training images (800)')
    parser.add_argument('--val', type=int, default=200, help='validation images (200)')
    parser.add_argument('--size', type=int, nargs=2, default=(192, 256),
                        metavar=('HEIGHT', 'WIDTH'), help='of an image in pixels (192 256)')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other scenes (0)')
    parser.add_argument('--force', action='store_true',
                        help='replace a set made with other arguments')
    args = parser.parse_args(argv)
    args.size = tuple(args.size)
    return args


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # argparse would print its usage over several lines first
        self.exit(2, f'make_shapes.py: {message}: see --help for what it takes\n')


def check_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError, in one sentence, when a number is out of its range."""
    ranges = [('--train', 'a number of images', args.train, 0, 999_999),
              ('--val', 'a number of images', args.val, 0, 999_999),
              ('--size', 'two sides in pixels', args.size[0], 32, 2048),
              ('--size', 'two sides in pixels', args.size[1], 32, 2048),
              ('--seed', 'a whole number', args.seed, 0, 2**32 - 1)]
    for name, what, value, low, high in ranges:
        if not low <= value <= high:
            hint = f'at least {low}' if value < low else f'at most {high}'
            raise ValueError(f'{name} must be {what} from {low} to {high}, got {value}: '
                             f'give {hint}')


def set_info(args: argparse.Namespace) -> dict:
    """What the json says about how it was made; two sets with the same info are the same."""
    return {'description': DESCRIPTION, 'version': VERSION, 'train': args.train, 'val': args.val,
            'size': list(args.size), 'seed': args.seed}


def find_existing(out: Path, info: dict) -> str:
    """Say what `out` holds: 'nothing', the 'same' whole set as `info` describes, or an 'other' one.

    Raises ValueError when `out` holds anything else, which is never overwritten.
    """
    if not out.exists():
        return 'nothing'
    if not out.is_dir():
        raise ValueError(f'--out must be a folder, {out} is a file: choose another --out')
    found = {path.name for path in out.iterdir()}
    if not found:
        return 'nothing'
    made = {*SPLITS, *(f'{split}.json' for split in SPLITS)}
    infos = [_read_info(out / f'{split}.json') for split in SPLITS]
    if found - made or not any(old.get('description') == DESCRIPTION for old in infos):
        raise ValueError(f'--out must be new, empty or made by this tool, {out} holds other files: '
                         'choose another --out')
    whole = all(len(list((out / split).glob('*.jpg'))) == info[split] for split in SPLITS)
    return 'same' if whole and all(old == info for old in infos) else 'other'


def _read_info(path):
    try:
        return dict(json.loads(path.read_text(encoding='utf-8'))['info'])
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # not a json of ours; the caller says so


def annotations_of(masks: np.ndarray, labels: np.ndarray, image_id: int, first_id: int) -> list:
    """COCO annotations (a list of dict) for masks (n, H, W) bool and labels (n,).

    Ids count up from `first_id`. Masks are RLE, not polygons, because rings have holes and
    occlusion cuts objects in two.
    """
    from pycocotools import mask as coco

    annotations = []
    for number, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        text = rle['counts'].decode('ascii')  # json has no bytes
        annotations.append({
            'id': first_id + number, 'image_id': image_id, 'category_id': int(label) + 1,
            'iscrowd': 0, 'area': int(coco.area(rle)),
            'bbox': [float(side) for side in coco.toBbox(rle)],
            'segmentation': {'size': [int(side) for side in rle['size']], 'counts': text}})
    return annotations


def write_split(folder: Path, split: str, args: argparse.Namespace) -> int:
    """Write the pictures and the json of one split into `folder`; return the number of objects."""
    (folder / split).mkdir()
    images, annotations = [], []
    count = getattr(args, split)
    for index in range(count):
        image, masks, labels = render(sample_scene(scene_rng(args.seed, split, index), args.size))
        name = f'{index:06d}.jpg'
        _, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / split / name).write_bytes(data)  # cv2.imwrite says nothing of a full disk
        images.append({'id': index + 1, 'file_name': name,
                       'height': args.size[0], 'width': args.size[1]})
        annotations += annotations_of(masks, labels, index + 1, len(annotations) + 1)
        if (index + 1) % 50 == 0 or index + 1 == count:
            _progress(split, index + 1, count)
    categories = [{'id': label + 1, 'name': kind, 'supercategory': 'shape'}
                  for label, kind in enumerate(KINDS)]
    content = {'info': set_info(args), 'images': images, 'annotations': annotations,
               'categories': categories}
    text = json.dumps(content, separators=(',', ':'))
    (folder / f'{split}.json').write_text(text, encoding='utf-8')
    return len(annotations)


def _progress(split, done, count):
    if sys.stderr.isatty():
        end = '\n' if done == count else ''
        print(f'\r{split} {done}/{count} images', end=end, file=sys.stderr, flush=True)
    elif done == count:  # a log file wants one line, not a rewritten one
        print(f'{split} {done}/{count} images', file=sys.stderr)


def build(args: argparse.Namespace, replace: bool = False) -> int:
    """Build the set beside `args.out`, then rename it into place; return the number of objects.

    With `replace`, a set already there is removed once the new one is whole. Raises OSError when
    the disk does not take it, or when there is a set already and `replace` is False.
    """
    out = args.out
    partial = out.parent / f'.{out.name}.partial-{os.getpid()}'
    old = out.parent / f'.{out.name}.old-{os.getpid()}'
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)  # of a killed run that had the same process id
    try:
        partial.mkdir()
        objects = sum(write_split(partial, split, args) for split in SPLITS)
        if replace:
            out.rename(old)
        partial.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return objects


def main(argv: list | None = None) -> None:
    """Run the command line; exits with one sentence and a non-zero code when it cannot."""
    args = parse_arguments(argv)
    start = time.perf_counter()
    asked = args.out
    try:
        check_arguments(args)
        args.out = asked.resolve()
        existing = find_existing(args.out, set_info(args))
        if existing == 'same':
            print(f'{asked} is already there, made with the same arguments: nothing to do')
            return
        if existing == 'other' and not args.force:
            raise ValueError(f'--out must be a new folder or a whole set made with the same '
                             f'arguments, {asked} is neither: give --force to replace it')
        objects = build(args, replace=existing == 'other')
    except ValueError as error:
        sys.exit(f'make_shapes.py: {error}')
    except OSError as error:
        sys.exit(f'make_shapes.py: --out must be a folder that can be written, {asked} gives '
                 f'"{error.strerror}": make room or choose another --out')
    except ModuleNotFoundError as error:
        sys.exit(f'make_shapes.py: masks are written with pycocotools, {error.name} is missing: '
                 'run `pip install pycocotools`')
    print(f'wrote {asked}: {args.train} train and {args.val} val images with {objects} objects '
          f'in {time.perf_counter() - start:.1f} s')


if __name__ == '__main__':
    cv2.setNumThreads(1)  # the pictures are too small for threads to pay
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that build() cleans up
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('make_shapes.py: stopped before it was done: run it again')
