"""Action recognition, by mmaction2's MMAction2Inferencer."""
import copy

import cv2
import numpy as np
from mmaction.apis import MMAction2Inferencer
from mmaction.models import FeatureHead, RGBPoseHead
from mmengine.dataset import Compose

from swinv2_mm.utils.errors import UserError

from .cls import caption, top
from .models import Predictor
from .sources import open_film

FRAMES = 8  # of a video on its strip
HEIGHT = 160  # of a frame on the strip, in pixels


class Task(Predictor):
    """The likeliest actions in a video file; samples are mmaction2's ActionDataSample."""

    task = 'video'
    kinds = ('video',)

    @staticmethod
    def inferencer(cfg, device: str):
        average = (cfg.model.get('cls_head') or {}).get('average_clips')
        if average not in ('prob', 'score'):
            raise UserError("model.cls_head.average_clips must be 'prob' or 'score', got "
                            f'{average!r}, which gives a score for each clip and none for the '
                            "film: add --cfg-options model.cls_head.average_clips=prob.")
        pipeline = copy.deepcopy(cfg.test_dataloader.dataset.pipeline)
        inferencer = MMAction2Inferencer(cfg, None, device).actionrecog_inferencer
        # It puts another decoder before the pipeline, and cuts its clips and crops down to one:
        # results shall be those of a test.
        inferencer.pipeline = Compose([dict(type='InferencerPackInput'), *pipeline])
        return inferencer

    def __init__(self, *args):
        super().__init__(*args)
        check_head(self.model)

    def record(self, sample) -> dict:
        return dict(top=top(sample.pred_score, self.classes))

    def draw(self, picture: str, sample) -> np.ndarray:
        """Frames of the video at a path, side by side, over its likeliest actions."""
        return caption(strip(picture), top(sample.pred_score, self.classes))


def check_head(model) -> None:
    """UserError where the head of a recogniser gives no score for each class."""
    head = model.cls_head
    if isinstance(head, (FeatureHead, RGBPoseHead)):
        raise UserError(f'The head must give a score for each class, a {type(head).__name__} does '
                        'not: ask model.test_step for what it gives.')


def strip(path: str) -> np.ndarray:
    """Frames evenly spread over a video, side by side, (H, W, 3) uint8 BGR."""
    with open_film(path) as film:
        numbers = np.linspace(0, len(film) - 1, min(FRAMES, len(film))).round().astype(int)
        chosen = film.read(numbers)
    scale = HEIGHT / chosen[0].shape[0]
    size = max(round(chosen[0].shape[1] * scale), 1), HEIGHT
    return cv2.hconcat([cv2.resize(frame, size) for frame in chosen])
