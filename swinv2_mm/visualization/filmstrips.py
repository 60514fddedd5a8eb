"""Draw predictions on videos as strips of frames: truth and top-1 written over each.

    python tools/test.py CONFIG CHECKPOINT --out predictions.pkl
    python tools/visualization/filmstrips.py CONFIG predictions.pkl --out-dir strips

writes one PNG a video. The test data of CONFIG give the names of the classes; its test pipeline
must put `filename` among the meta_keys of PackActionInputs.
"""
from __future__ import annotations

import argparse
import os
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

from swinv2_mm.utils.errors import UserError, check_file

RIGHT, WRONG, PLAIN = (60, 150, 40), (40, 40, 210), (60, 60, 60)  # BGR
HEIGHT = 96  # of a frame on the strip, in pixels
LINE = 22  # of text


def frames_of(path: str, count: int) -> list[np.ndarray]:
    """`count` frames (H, W, 3) uint8 BGR, evenly spread over a video from its first to its last.

    A shorter video gives as many as it has. Raises UserError where it has none.
    """
    from swinv2_mm.datasets.films import Film
    try:
        with Film(path, 'bgr24') as film:
            return film.read(np.linspace(0, len(film) - 1, min(count, len(film))).round())
    except ValueError as error:
        raise UserError(f'A video must be readable, {path} is not ({error}): put it where it was '
                        'when it was tested.') from error


def strip(frames: list[np.ndarray], truth: str, guess: str, share: float) -> np.ndarray:
    """One picture: the frames side by side, over them truth and prediction with its probability."""
    scale = HEIGHT / frames[0].shape[0]
    size = (max(round(frames[0].shape[1] * scale), 1), HEIGHT)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    row = cv2.hconcat([cv2.copyMakeBorder(cv2.resize(frame, size, interpolation=way), 0, 0, 1, 1,
                                          cv2.BORDER_CONSTANT, value=(255,) * 3)
                       for frame in frames])
    head = np.full((LINE, row.shape[1], 3), 255, np.uint8)
    colour = PLAIN if not truth else RIGHT if guess == truth else WRONG
    said = f'top-1: {guess} {share:.2f}'
    text = f'{truth}   {said}' if truth else said
    cv2.putText(head, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return cv2.vconcat([head, row])


def read_dump(path: str) -> list[dict]:
    """The samples in a file of tools/test.py --out; UserError where it is none."""
    check_file(path, 'file of predictions', 'make it with tools/test.py --out')
    with open(path, 'rb') as file:
        samples = pickle.load(file)  # runs code in it: of the user's own test run only
    needed = {'filename', 'pred_score'}
    if not isinstance(samples, list) or not all(needed <= set(sample) for sample in samples):
        raise UserError(f'{path} must hold samples with filename and pred_score, got others: add '
                        "meta_keys=('img_shape', 'filename') to PackActionInputs of the test "
                        'pipeline, and test again.')
    return samples


def class_names(cfg: Config, count: int) -> list[str]:
    """Names of the classes, or their numbers where the config has no names."""
    names = (cfg.test_dataloader.dataset.get('metainfo') or {}).get('classes')
    if names is None:
        return [str(label) for label in range(count)]
    if len(names) != count:
        raise UserError(f'metainfo.classes of the test data must be {count} names, one for each '
                        f'score in the predictions, got {len(names)}: give the config that was '
                        'tested.')
    return list(names)


def draw(samples: list[dict], cfg: Config, out: Path, frames: int) -> list[Path]:
    """Write the strip of each sample; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for number, sample in enumerate(samples):
        scores = sample['pred_score']
        names = class_names(cfg, len(scores))
        label, guess = int(sample['gt_label'][0]), int(scores.argmax())
        picture = strip(frames_of(sample['filename'], frames), names[label] if label >= 0 else '',
                        names[guess], float(scores[guess]))
        stem = os.path.splitext(os.path.basename(sample['filename']))[0]
        files.append(out / f'{number:05d}_{stem}.png')
        cv2.imwrite(str(files[-1]), picture)
    return files


def main(argv: list | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='the config that was tested')
    parser.add_argument('dump', help='file that tools/test.py --out wrote')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--number', type=int, default=24, help='number of videos (24)')
    parser.add_argument('--frames', type=int, default=8, help='frames of each (8)')
    args = parser.parse_args(argv)
    try:
        check_file(args.config, 'config', 'give the path of a config file')
        cfg = Config.fromfile(args.config, import_custom_modules=False)  # no model is built
        files = draw(read_dump(args.dump)[:args.number], cfg, args.out_dir, args.frames)
    except UserError as error:
        sys.exit(f'Error: {error}')
    print(f'wrote {len(files)} strips to {args.out_dir}')


def cli() -> None:
    """The command line of this tool."""
    main()
