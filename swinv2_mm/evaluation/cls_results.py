"""What mmpretrain lacks for tools/test.py: pictures with truth and prediction in a folder.

Importing it registers the hook under the name that tools/test.py puts into a config.
"""
from __future__ import annotations

import os
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

SIDE = 224  # pixels that the longer side of an image is drawn with
LINE = 22  # height of a line of text


@HOOKS.register_module()
class DrawLabels(Hook):
    """Draw each tested image over its true class and the predicted one, red where it is another.

    Files go to WORK_DIR/TIMESTAMP/`folder` as NAME_FOLDER.png, since folders of classes may hold
    images of equal names. mmpretrain's own hook overwrites those, and swaps red and blue.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()) -> None:
        folder = Path(runner.work_dir, runner.timestamp, self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        classes = runner.test_loop.dataloader.dataset.metainfo.get('classes')
        for sample in outputs:
            path = Path(sample.img_path)
            name = f'{path.stem}_{path.parent.name}.png'
            picture = draw(mmcv.imread(os.fspath(path)), sample, classes)
            (folder / name).write_bytes(cv2.imencode('.png', picture)[1])


def draw(image: np.ndarray, sample, classes: tuple | None) -> np.ndarray:
    """(H, W, 3) uint8 BGR with the labels of an mmpretrain DataSample written under it."""
    scale = SIDE / max(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    text = np.full((2 * LINE + 4, SIDE, 3), 255, np.uint8)
    truth, found = sample.get('gt_label'), sample.pred_label
    wrong = truth is not None and set(found.tolist()) != set(truth.tolist())
    scores = [f' {score:.2f}' for score in sample.pred_score.tolist()]
    lines = [('truth', truth, [''] * len(scores), (0, 0, 0)),
             ('found', found, scores, (0, 0, 200 if wrong else 0))]
    for row, (what, labels, after, colour) in enumerate(lines, 1):
        if labels is not None:
            names = ', '.join(f'{classes[i] if classes else i}{after[i]}' for i in labels.tolist())
            cv2.putText(text, f'{what}: {names}', (4, row * LINE - 4),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    room = [(0, side - now) for side, now in zip((SIDE, SIDE), image.shape[:2])]
    return np.vstack([np.pad(image, [*room, (0, 0)], constant_values=255), text])
