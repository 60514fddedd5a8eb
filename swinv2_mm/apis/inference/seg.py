"""Semantic segmentation, by mmseg's MMSegInferencer."""
import numpy as np
from mmseg.apis import MMSegInferencer

from swinv2_mm.evaluation.maps import renumbered

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


def _colours(count: int) -> list[list[int]]:
    """Random colours, the same ones every time."""
    return np.random.default_rng(0).integers(0, 256, (count, 3)).tolist()
