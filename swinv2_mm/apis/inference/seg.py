"""Semantic segmentation, by mmseg's MMSegInferencer."""
import numpy as np
from mmseg.apis import MMSegInferencer

from .models import Predictor

OPACITY = 0.6


class Task(Predictor):
    """A class for every pixel; samples are mmseg's SegDataSample."""

    task = 'seg'

    @staticmethod
    def inferencer(cfg, device: str) -> MMSegInferencer:
        return MMSegInferencer(cfg, None, device=device, show_progress=False)

    def __init__(self, *args):
        super().__init__(*args)
        palette = self.palette or _colours(len(self.classes))
        self.model.dataset_meta = dict(classes=self.classes, palette=palette)

    def labels(self, sample) -> np.ndarray:
        """(H, W), uint8 up to 256 classes, else uint16."""
        found = sample.pred_sem_seg.data[0].cpu().numpy()
        return found.astype(np.uint8 if len(self.classes) <= 256 else np.uint16)

    def record(self, sample) -> dict:
        """Each class that was found, with its pixels, the most first."""
        labels = self.labels(sample)
        numbers, counts = np.unique(labels, return_counts=True)
        rows = [dict(label=label, name=self.classes[label], pixels=count,
                     share=count / labels.size)
                for label, count in zip(numbers.tolist(), counts.tolist())]
        return dict(segments=sorted(rows, key=lambda row: -row['pixels']))

    def draw(self, picture: np.ndarray, sample) -> np.ndarray:
        (drawn,) = self.inferencer.visualize(
            [picture[..., ::-1]], [sample], return_vis=True, opacity=OPACITY)
        return np.ascontiguousarray(drawn[..., ::-1])


def _colours(count: int) -> list[list[int]]:
    """Random colours, the same ones every time."""
    return np.random.default_rng(0).integers(0, 256, (count, 3)).tolist()
