"""Write a toy video data set: one moving shape a film, the class being how it moves.

    python tools/dataset/make_motions.py --out data/motions --train 3000 --val 400 --size 32

gives data/motions/{train,val}/000000.mp4 ..., and data/motions/{train,val}.txt with a line
`train/000000.mp4 3` for each film, as mmaction2 reads them. Film i of a seed is the same whatever
the counts, byte for byte with the same numpy and OpenCV. The set is built beside --out and renamed
into place when whole; a run that is killed outright leaves at most a `.motions.partial-*` folder
there, safe to delete.

One frame cannot tell the class. Place across, place down, size and angle of the shape start at
random, each even over its whole range, and a film moves one of the first three, up or down. A range
is a circle: what leaves the picture on the right comes in on the left, what has grown to the
largest size goes on from the smallest. So in every frame of every class all four are still even
over their ranges; and kind, colours and texture are drawn without regard to the class. The
background is plain: cluttered ones, of which each film has its own, are soon learnt by heart.
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from swinv2_mm.datasets.synthetic.make_shapes import sample_seed, sample_skin
from swinv2_mm.datasets.synthetic.shapes import KINDS, Pose, Scene, Shape, Skin, render
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
)

TOOL = 'make_motions.py'
VERSION = 1  # raise it when the same arguments come to give other files

# A label is an index in this tuple; each motion is which of (x, y, size) goes which way.
MOTIONS = ('left', 'right', 'up', 'down', 'shrinking', 'growing')
DIRECTIONS = tuple((axis, sign) for axis in range(3) for sign in (-1, 1))
TEXTURES = ('solid', 'gradient')
WALL = (115.0, 115.0, 115.0)  # BGR
SIZES = (0.35, 0.95)  # of the circle around the shape over the side of the picture
# Part of its range that the moving number passes in a film.
SPEEDS = ((0.4, 0.7), (0.4, 0.7), (0.6, 0.95))
FPS = 8


def path_of(rng: np.random.Generator, label: int, frames: int) -> np.ndarray:
    """Draw where a film of class `label` leads: (frames, 4) of x, y, size, angle in [0, 1)."""
    axis, sign = DIRECTIONS[label]
    path = np.repeat(rng.random((1, 4)), frames, axis=0)
    path[:, axis] += sign * rng.uniform(*SPEEDS[axis]) * np.arange(frames) / frames
    return path % 1


def sample_film(rng: np.random.Generator, label: int, side: int, frames: int) -> list[Scene]:
    """Draw the scenes of a film of class `label`: one for each of `frames`, `side` pixels square.

    Shape, shadow and pixel noise come from the same draws in every class.
    """
    path = path_of(rng, label, frames)
    kind = KINDS[rng.integers(len(KINDS))]
    aspect = float(np.exp(rng.uniform(-0.25, 0.25)))
    poses = [Pose(float(x * side), float(y * side),
                  float(side * SIZES[0] * (SIZES[1] / SIZES[0]) ** size),
                  float(2 * np.pi * turn), aspect) for x, y, size, turn in path]
    smallest = replace(poses[0], size=side * SIZES[0])  # the skin must not tell of the size
    skin = replace(sample_skin(rng, smallest, (WALL, WALL)),
                   texture=TEXTURES[rng.integers(len(TEXTURES))])
    # Before the clutter of a scene stands a wall, larger than the picture.
    wall = Shape('square', Pose(side / 2, side / 2, 1.6 * side, 0.0, 1.0),
                 Skin('solid', (WALL, WALL), 1.0, 0.0, 0.0, 0))
    shadow = (*(int(step) for step in rng.integers(-2, 3, 2)), float(rng.uniform(0.1, 0.5)))
    still = Scene(size=(side, side), colours=(WALL, WALL), background_seed=0, shapes=(),
                  shadow=shadow, noise=float(rng.uniform(1, 3)), noise_seed=sample_seed(rng))
    return [replace(still, noise_seed=still.noise_seed + i,
                    shapes=(wall, *copies(Shape(kind, pose, skin), side)))
            for i, pose in enumerate(poses)]


def copies(shape: Shape, side: int) -> tuple[Shape, ...]:
    """The shape, and what of it comes in again on the other sides of a picture of `side` pixels."""
    reach = shape.pose.size / 2
    xs, ys = ([place + step for step in (0, -side, side)
               if -reach < place + step < side + reach] for place in (shape.pose.x, shape.pose.y))
    return tuple(replace(shape, pose=replace(shape.pose, x=x, y=y)) for x in xs for y in ys)


def write_film(path: Path, images: list[np.ndarray]) -> None:
    """Write frames (H, W, 3) uint8 BGR as an mp4 file; OSError where they are not all in it."""
    size = images[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'mp4v'), FPS, size)
    if not writer.isOpened():
        raise OSError(5, 'OpenCV cannot write mp4 there')
    for image in images:
        writer.write(image)
    writer.release()  # says nothing of a full disk
    reader = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    written = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    reader.release()
    if written != len(images):
        raise OSError(28, f'{written} of {len(images)} frames written')


def write_split(folder: Path, split: str, args: argparse.Namespace) -> None:
    """Write the films and the list of one split into `folder`."""
    (folder / split).mkdir()
    lines, count = [], getattr(args, split)
    for index in range(count):
        label = index % len(MOTIONS)
        rng = random_stream(args.seed, split, index)
        film = sample_film(rng, label, args.size, args.frames)
        name = f'{split}/{index:06d}.mp4'
        write_film(folder / name, [render(scene)[0] for scene in film])
        lines.append(f'{name} {label}\n')
        progress(split, 'films', index + 1, count)
    (folder / f'{split}.txt').write_text(''.join(lines), encoding='utf-8')


def recipe_of(args: argparse.Namespace) -> Recipe:
    """What the set that `args` ask for consists of."""
    counts = {}
    for split in SPLITS:
        counts[f'{split}/*.mp4'] = getattr(args, split)
        counts[f'{split}.txt'] = 1
    info = {'description': 'toy motions', 'version': VERSION, 'train': args.train,
            'val': args.val, 'size': args.size, 'frames': args.frames, 'seed': args.seed}
    return Recipe(info, counts)


def main(argv: list | None = None) -> None:
    """Run the command line; exits with one sentence and a non-zero code when it cannot."""
    parser = Parser(TOOL, __doc__.split('\n')[0], 'data/motions', 'films', train=3000, val=400)
    parser.add_argument('--size', type=int, default=32, help='side of a frame in pixels (32)')
    parser.add_argument('--frames', type=int, default=8, help='frames of a film (8)')
    args = parser.parse_args(argv)
    recipe = recipe_of(args)

    def fill(folder):
        for split in SPLITS:
            write_split(folder, split, args)
        write_json(folder / 'set.json', {'info': recipe.info, 'classes': list(MOTIONS)})
        return f'{args.train} train and {args.val} val films of {len(MOTIONS)} motions'

    def work():
        check_arguments(args, 'films', ('--size', 'a side in pixels', args.size, 32, 512),
                        ('--frames', 'a number of frames', args.frames, 8, 256))
        if args.size % 2:
            raise ValueError(f'--size must be even, as video codecs want it, got {args.size}: '
                             f'give {args.size + 1}')
        make(args, recipe, fill)

    ends_in_a_sentence(args, work)


def cli() -> None:
    """The command line of this tool."""
    run(TOOL, main)
