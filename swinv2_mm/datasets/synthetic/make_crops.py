"""Write a toy data set of single shapes over clutter: one folder a kind, and a map a picture.

    python tools/dataset/make_crops.py --out data/shapes_crops --train 6000 --val 600 --size 64

gives data/shapes_crops/{train,val}/{disc,square,...}/000000.jpg ... and under {train,val}_maps the
same with .png, the class of every pixel: 0 for the background, 1 to 6 for the kinds in the order of
the scenes. Picture i is of kind i modulo the number of kinds, so that there are as many of each, to
within one, and no two of a split have one name. Each is cut out of a larger scene, whose clutter it
shows. Picture i of a seed is the same whatever the counts, byte for byte with the same
numpy and OpenCV. The set is built beside --out and renamed into place when whole; a run that is
killed outright leaves at most a `.shapes_crops.partial-*` folder there, safe to delete.
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from swinv2_mm.datasets.synthetic.make_shapes import sample_colour, sample_seed, sample_skin
from swinv2_mm.datasets.synthetic.shapes import KINDS, TEXTURES, Pose, Scene, Shape, render
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

TOOL = 'make_crops.py'
VERSION = 2  # raise it when the same arguments come to give other files

# Easier than the scenes, so that a small model learns them in minutes: large, in the middle,
# upright and plain.
ACROSS = (0.6, 0.9)  # circle around the shape over the side of the picture
ASIDE = 0.06  # of its centre from the middle, over that side, on each axis
UPRIGHT = {'triangle': -np.pi / 2, 'star': -np.pi / 2}  # radians; the others stand upright at 0
LEAN = 0.3  # radians from upright, to either side
PLAIN = ('solid', 'gradient')
AROUND = 64  # pixels of the scene that are cut away on each side of the picture


def sample_crop(rng: np.random.Generator, kind: str, size: int) -> Scene:
    """Draw the scene, `AROUND` wider on each side, of a picture `size` pixels square of a `kind`.

    Places are pixels of that scene; see `crop` for the picture.
    """
    colours = (sample_colour(rng, 40, 200), sample_colour(rng, 40, 200))
    across = float(size * np.exp(rng.uniform(*np.log(ACROSS))))
    x, y = AROUND + size * (0.5 + rng.uniform(-ASIDE, ASIDE, 2))
    aspect = float(np.exp(rng.uniform(-0.25, 0.25)))
    angle = UPRIGHT.get(kind, 0.0) + float(rng.uniform(-LEAN, LEAN))
    pose = Pose(float(x), float(y), across, angle, aspect)
    skin = sample_skin(rng, pose, colours)
    skin = replace(skin, texture=PLAIN[TEXTURES.index(skin.texture) % len(PLAIN)])
    shape = Shape(kind, pose, skin)
    shadow = (*(int(step) for step in rng.integers(-4, 5, 2)), float(rng.uniform(0.1, 0.5)))
    side = size + 2 * AROUND
    return Scene(size=(side, side), colours=colours, background_seed=sample_seed(rng),
                 shapes=(shape,), shadow=shadow, noise=float(rng.uniform(2, 6)),
                 noise_seed=sample_seed(rng))


def crop(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene of `sample_crop` and cut the picture out, with its map.

    Returns (size, size, 3) uint8 BGR, and (size, size) uint8: 1 + label on the shape, else 0.
    """
    image, masks, labels = render(scene)
    inside = slice(AROUND, -AROUND)
    return image[inside, inside], masks[0, inside, inside] * np.uint8(1 + labels[0])


def write_split(folder: Path, split: str, args: argparse.Namespace) -> None:
    """Write the pictures and maps of one split into `folder`, one folder a kind."""
    for kind in KINDS:
        (folder / split / kind).mkdir(parents=True)
        (folder / f'{split}_maps' / kind).mkdir(parents=True)
    count = getattr(args, split)
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        image, numbers = crop(sample_crop(random_stream(args.seed, split, index), kind, args.size))
        write_picture(folder / split / kind / f'{index:06d}.jpg', image)
        write_picture(folder / f'{split}_maps' / kind / f'{index:06d}.png', numbers)
        progress(split, 'images', index + 1, count)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """What the set that `args` ask for consists of."""
    counts = {place.format(split=split, kind=kind):
              len(range(label, getattr(args, split), len(KINDS)))
              for place in ('{split}/{kind}/*.jpg', '{split}_maps/{kind}/*.png')
              for split in SPLITS for label, kind in enumerate(KINDS)}
    info = {'description': 'toy shapes, one a picture', 'version': VERSION, 'train': args.train,
            'val': args.val, 'size': args.size, 'seed': args.seed}
    return Recipe(info, counts)


def main(argv: list | None = None) -> None:
    """Run the command line; exits with one sentence and a non-zero code when it cannot."""
    parser = Parser(TOOL, __doc__.split('\n')[0], 'data/shapes_crops', 'images', train=6000,
                    val=600)
    parser.add_argument('--size', type=int, default=64, help='side of an image in pixels (64)')
    args = parser.parse_args(argv)
    recipe = recipe_of(args)

    def fill(folder):
        for split in SPLITS:
            write_split(folder, split, args)
        write_json(folder / 'set.json', {'info': recipe.info, 'classes': sorted(KINDS)})
        return f'{args.train} train and {args.val} val images of {len(KINDS)} kinds'

    def work():
        check_arguments(args, 'images', ('--size', 'a side in pixels', args.size, 32, 512))
        make(args, recipe, fill)

    ends_in_a_sentence(args, work)


def cli() -> None:
    """The command line of this tool."""
    run(TOOL, main)
