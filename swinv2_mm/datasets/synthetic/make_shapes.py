"""Write a toy detection and segmentation data set: textured shapes over clutter.

    python tools/dataset/make_shapes.py --out data/shapes --train 800 --val 200 --size 192 256

gives data/shapes/{train,val}/000000.jpg ..., data/shapes/{train,val}.json with the instances in
COCO's format, and data/shapes/{train,val}_maps/000000.png: the class of every pixel, 0 for the
background and 1 + label on a shape. Picture i of a seed is the same whatever the counts, byte for
byte with the same numpy and OpenCV. The set is built beside --out and renamed into place when
whole; a run that is killed outright leaves at most a `.shapes.partial-*` folder there, safe to
delete.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from swinv2_mm.datasets.synthetic.shapes import (
    KINDS,
    TEXTURES,
    Pose,
    Scene,
    Shape,
    Skin,
    render,
    visible_masks,
)
from swinv2_mm.datasets.synthetic.whole_set import (
    SPLITS,
    Parser,
    Recipe,
    check_arguments,
    ends_in_a_sentence,
    make,
    progress,
    random_stream,
    run,
    write_json,
    write_picture,
)

TOOL = 'make_shapes.py'
VERSION = 2  # raise it when the same arguments come to give other files

OBJECTS = (2, 6)  # fewest and most objects asked for in a scene
SIZES = (24.0, 100.0)  # pixels across the circle around an object
MIN_VISIBLE = 0.3  # part of an object, cut or covered, that must stay in sight for it to be placed
TRIES = 30  # places tried for one object before the scene does without it


def sample_scene(rng: np.random.Generator, size: tuple) -> Scene:
    """Draw a scene for an image of `size` (H, W) pixels, both at least 32.

    Objects that would leave too little of themselves or of another in sight (`MIN_VISIBLE`) are
    placed anew, so every shape of the returned Scene can be seen; in a crowded image there may be
    fewer than were drawn for it.
    """
    colours = (sample_colour(rng, 40, 200), sample_colour(rng, 40, 200))
    shapes = ()
    for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1)):
        kind = KINDS[rng.integers(len(KINDS))]
        for _ in range(TRIES):
            pose = _sample_pose(rng, size, shapes)
            more = (*shapes, Shape(kind, pose, sample_skin(rng, pose, colours)))
            if visible_masks(more, size)[1].min() >= MIN_VISIBLE:
                shapes = more
                break
    shadow = (*(int(step) for step in rng.integers(-4, 5, 2)), float(rng.uniform(0.1, 0.5)))
    return Scene(size=tuple(size), colours=colours, background_seed=sample_seed(rng), shapes=shapes,
                 shadow=shadow, noise=float(rng.uniform(2, 6)), noise_seed=sample_seed(rng))


def sample_seed(rng: np.random.Generator) -> int:
    """Draw the seed of a noise field."""
    return int(rng.integers(2**32))


def sample_colour(rng: np.random.Generator, low: float = 0, high: float = 255) -> tuple:
    """Draw a BGR colour, each level between `low` and `high`."""
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


def sample_skin(rng: np.random.Generator, pose: Pose, background: tuple) -> Skin:
    """Draw a Skin for an object at `pose`, of colours unlike the two of `background`."""
    apart = []
    while len(apart) < 2:  # colours unlike the background's, or some objects could not be seen
        colour = sample_colour(rng)
        if min(np.linalg.norm(np.subtract(colour, other)) for other in background) > 75:
            apart.append(colour)
    shortest = 12 / pose.size  # radii: a period of at least 6 pixels survives jpeg and resizing
    return Skin(texture=TEXTURES[rng.integers(len(TEXTURES))], colours=tuple(apart),
                period=float(max(rng.uniform(0.25, 0.8), shortest)),
                turn=float(rng.uniform(0, 2 * np.pi)),
                rim=float(rng.uniform(-0.6, 0.3)), seed=sample_seed(rng))


def annotations_of(masks: np.ndarray, labels: np.ndarray, image_id: int, first_id: int) -> list:
    """COCO annotations (a list of dict) for masks (n, H, W) bool and labels (n,).

    Ids count up from `first_id`. Masks are RLE, not polygons, because rings have holes and
    occlusion cuts objects in two.
    """
    from pycocotools import mask as coco

    annotations = []
    for number, (mask, label) in enumerate(zip(masks, labels)):
        rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        text = rle['counts'].decode('ascii')  # json has no bytes
        annotations.append({
            'id': first_id + number, 'image_id': image_id, 'category_id': int(label) + 1,
            'iscrowd': 0, 'area': int(coco.area(rle)),
            'bbox': [float(side) for side in coco.toBbox(rle)],
            'segmentation': {'size': [int(side) for side in rle['size']], 'counts': text}})
    return annotations


def map_of(masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class of every pixel for masks (n, H, W) bool that do not overlap and labels (n,).

    Returns (H, W) uint8: 0 for the background, 1 + label on a shape.
    """
    return ((1 + labels)[:, None, None] * masks).sum(axis=0).astype(np.uint8)


def write_split(folder: Path, split: str, args: argparse.Namespace, recipe: Recipe) -> int:
    """Write pictures, maps and the json of one split into `folder`; return how many objects."""
    (folder / split).mkdir()
    (folder / f'{split}_maps').mkdir()
    images, annotations = [], []
    count = getattr(args, split)
    for index in range(count):
        rng = random_stream(args.seed, split, index)
        image, masks, labels = render(sample_scene(rng, args.size))
        name = f'{index:06d}'
        write_picture(folder / split / f'{name}.jpg', image)
        write_picture(folder / f'{split}_maps' / f'{name}.png', map_of(masks, labels))
        images.append({'id': index + 1, 'file_name': f'{name}.jpg',
                       'height': args.size[0], 'width': args.size[1]})
        annotations += annotations_of(masks, labels, index + 1, len(annotations) + 1)
        progress(split, 'images', index + 1, count)
    categories = [{'id': label + 1, 'name': kind, 'supercategory': 'shape'}
                  for label, kind in enumerate(KINDS)]
    write_json(folder / f'{split}.json', {'info': recipe.info, 'images': images,
                                          'annotations': annotations, 'categories': categories})
    return len(annotations)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """What the set that `args` ask for consists of."""
    counts = {}
    for split in SPLITS:
        counts[f'{split}/*.jpg'] = counts[f'{split}_maps/*.png'] = getattr(args, split)
    info = {'description': 'toy shapes', 'version': VERSION, 'train': args.train, 'val': args.val,
            'size': list(args.size), 'seed': args.seed}
    return Recipe(info, counts, records=tuple(f'{split}.json' for split in SPLITS))


def main(argv: list | None = None) -> None:
    """Run the command line; exits with one sentence and a non-zero code when it cannot."""
    parser = Parser(TOOL, __doc__.split('\n')[0], 'data/shapes', 'images', train=800, val=200)
    parser.add_argument('--size', type=int, nargs=2, default=(192, 256),
                        metavar=('HEIGHT', 'WIDTH'), help='of an image in pixels (192 256)')
    args = parser.parse_args(argv)
    args.size = tuple(args.size)
    recipe = recipe_of(args)

    def fill(folder):
        objects = sum(write_split(folder, split, args, recipe) for split in SPLITS)
        return f'{args.train} train and {args.val} val images with {objects} objects'

    def work():
        check_arguments(args, 'images', *(('--size', 'two sides in pixels', side, 32, 2048)
                                          for side in args.size))
        make(args, recipe, fill)

    ends_in_a_sentence(args, work)


def cli() -> None:
    """The command line of this tool."""
    run(TOOL, main)
