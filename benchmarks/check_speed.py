"""Time and memory of the check before a run, on COCO json of the size of COCO's training set.

    python benchmarks/check_speed.py --images 118000 --objects 860000 --points 30

The json is made in a temporary folder, of polygons at random; no picture is made, and none opened.
Each round is a process of its own: the first reads the file as the first run of a day does, the
others find what it kept.
"""
import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=118_000)
    parser.add_argument('--objects', type=int, default=860_000)
    parser.add_argument('--points', type=int, default=30, help='of a polygon')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--check', metavar='FILE.json', help=argparse.SUPPRESS)
    return parser.parse_args()


def make(path: Path, images: int, objects: int, points: int) -> None:
    """COCO json of 80 classes, written entry by entry."""
    rng = random.Random(0)
    from mmdet.datasets import CocoDataset
    names = CocoDataset.METAINFO['classes']
    with open(path, 'w') as file:
        file.write('{"categories": ' + json.dumps([dict(id=i + 1, name=n) for i, n in enumerate(
            names)]) + ', "images": [')
        for i in range(images):
            file.write((', ' if i else '') + json.dumps(dict(
                id=i + 1, file_name=f'{i:012}.jpg', width=640, height=480, license=1,
                coco_url=f'http://images/{i:012}.jpg', date_captured='2013-11-14 17:02:52')))
        file.write('], "annotations": [')
        for i in range(objects):
            x, y = rng.uniform(0, 500), rng.uniform(0, 380)
            w, h = rng.uniform(8, 120), rng.uniform(8, 90)
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            while len(corners) < 2 * points:
                corners += [x + rng.random() * w, y + rng.random() * h]
            file.write((', ' if i else '') + json.dumps(dict(
                id=i + 1, image_id=1 + i % images, category_id=1 + i % 80, iscrowd=0,
                area=round(w * h, 2), bbox=[round(v, 2) for v in (x, y, w, h)],
                segmentation=[[round(v, 2) for v in corners]])))
        file.write(']}')


def check(path: str) -> None:
    """One round, in this process."""
    from mmengine.config import Config

    from swinv2_mm.datasets.checks import findings
    start, own = time.perf_counter(), time.process_time()
    cfg = Config(dict(
        default_scope='mmdet', model=dict(type='FasterRCNN'), train_dataloader=dict(
            dataset=dict(type='CocoDataset', data_root='', ann_file=path, pipeline=[
                dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True)]))))
    found = list(findings(cfg, ('train',)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f'{time.perf_counter() - start:.1f} s ({time.process_time() - own:.1f} s of processor), '
          f'{peak:,.0f} MB at most, {len(found)} findings')


def main() -> None:
    args = parse_args()
    if args.check:
        check(args.check)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'train.json')
        make(path, args.images, args.objects, args.points)
        print(f'{args.images:,} images, {args.objects:,} objects of {args.points} points, '
              f'{path.stat().st_size / 1e6:,.0f} MB of json; Python {sys.version.split()[0]}')
        for _ in range(args.rounds):
            subprocess.run([sys.executable, __file__, '--check', str(path)], check=True,
                           env={**os.environ, 'XDG_CACHE_HOME': folder})


if __name__ == '__main__':
    main()
