"""Detection, by mmdet's DetInferencer."""
import warnings

import numpy as np
from mmdet.apis import DetInferencer
from mmdet.structures.mask import encode_mask_results

from . import numbers
from .models import Predictor


class Task(Predictor):
    """Boxes, and masks where the model has them; samples are mmdet's DetDataSample."""

    task = 'det'

    @staticmethod
    def inferencer(cfg, device: str) -> DetInferencer:
        return DetInferencer(cfg, None, device, show_progress=False)

    def __init__(self, *args):
        super().__init__(*args)
        meta = dict(classes=tuple(self.classes), palette=self.palette or 'random')
        self.model.dataset_meta = self.inferencer.visualizer.dataset_meta = meta
        self.categories = numbers.of_categories(self.inferencer.cfg, self.classes)

    def keep(self, sample, score_thr: float):
        kept = sample.new()
        kept.pred_instances = sample.pred_instances[sample.pred_instances.scores >= score_thr]
        return kept

    def record(self, sample) -> dict:
        """Boxes as x1, y1, x2, y2 in pixels of the picture, masks as COCO's run lengths.

        Each with the id of its category in the config's json, where that is there to be read.
        """
        found = sample.pred_instances.cpu()
        rows = [dict(label=label, name=self.classes[label], score=score, box=box) for
                label, score, box in zip(*(found[key].tolist()
                                           for key in ('labels', 'scores', 'bboxes')))]
        if self.categories:
            for row in rows:
                row['category_id'] = self.categories[row['label']]
        if 'masks' in found:
            for row, mask in zip(rows, encode_mask_results(found.masks.numpy())):
                row['mask'] = mask | dict(counts=mask['counts'].decode())
        return dict(instances=rows)

    def draw(self, picture: np.ndarray, sample) -> np.ndarray:
        with warnings.catch_warnings():
            # Of every box that ends at the edge of the picture.
            warnings.filterwarnings('ignore', message='.*out of bounds')
            (drawn,) = self.inferencer.visualize(
                [picture[..., ::-1]], [sample], return_vis=True, pred_score_thr=-1.0)
        return np.ascontiguousarray(drawn[..., ::-1])
