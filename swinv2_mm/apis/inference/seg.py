"""Semantic segmentation, by mmseg's MMSegInferencer."""
import numpy as np
from mmseg.apis import MMSegInferencer
from mmseg.models.segmentors.base import BaseSegmentor
from torch import nn

from swinv2_mm.evaluation.maps import renumbered
from swinv2_mm.utils.errors import UserError

from . import numbers
from .models import Predictor

OPACITY = 0.6


class Task(Predictor):
    """A class for every pixel; samples are mmseg's SegDataSample."""

    task = 'seg'

    @staticmethod
    def inferencer(cfg, device: str) -> MMSegInferencer:
        inferencer = MMSegInferencer(cfg, None, device=device)
        inferencer.show_progress = False  # mmseg 1.2.2 takes no such argument
        return inferencer

    def __init__(self, *args):
        super().__init__(*args)
        check_model(self.model)
        palette = self.palette or _colours(len(self.classes))
        self.model.dataset_meta = dict(classes=self.classes, palette=palette)
        self.numbers = numbers.of_maps(self.inferencer.cfg, self.classes)

    def labels(self, sample) -> np.ndarray:
        """(H, W), each class by its number in the user's maps: uint8, or uint16."""
        return renumbered(self._found(sample), self.numbers)

    def _found(self, sample) -> np.ndarray:
        """(H, W), each class by its place in `classes`."""
        return sample.pred_sem_seg.data[0].cpu().numpy().astype(np.int64)

    def record(self, sample) -> dict:
        """Each class that was found, with its pixels, the most first."""
        found = self._found(sample)
        rows = [dict(label=self.numbers[i], name=self.classes[i], pixels=count,
                     share=count / found.size)
                for i, count in zip(*(part.tolist() for part in np.unique(
                    found, return_counts=True)))]
        return dict(segments=sorted(rows, key=lambda row: -row['pixels']))

    def draw(self, picture: np.ndarray, sample) -> np.ndarray:
        (drawn,) = self.inferencer.visualize(
            [picture[..., ::-1]], [sample], return_vis=True, opacity=OPACITY)
        return np.ascontiguousarray(drawn[..., ::-1])


def check_model(model) -> None:
    """UserError where a segmentor gives no class for each pixel, as one of depths does."""
    if type(model).postprocess_result is not BaseSegmentor.postprocess_result:
        raise UserError(f'The model must give a class for each pixel, a {type(model).__name__} '
                        'does not: ask model.test_step for what it gives.')
    head = model.decode_head
    if model.out_channels == 1 and not hasattr(head, 'threshold'):
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        raise UserError('A head of one output must be the only one, as mmseg finds no threshold '
                        f'else, got one before {type(head).__name__}: set out_channels=2.')


def _colours(count: int) -> list[list[int]]:
    """Random colours, the same ones every time."""
    return np.random.default_rng(0).integers(0, 256, (count, 3)).tolist()
