"""Image classification, by mmpretrain's ImageClassificationInferencer."""
import cv2
import numpy as np
from mmpretrain import ImageClassificationInferencer
from mmpretrain.models import ClsHead, MultiLabelClsHead, heads

from swinv2_mm.utils.errors import UserError

from .models import Predictor

# Upstream's mmpretrain has no head for regression.
SCORELESS = tuple(getattr(heads, name) for name in ('MultiTaskHead', 'RegressionHead')
                  if hasattr(heads, name))
TOP = 5
LINE = 22  # height of a line of text, in pixels
WIDTH = 224  # of a picture at least, for the text under it


class Task(Predictor):
    """The likeliest classes; samples are mmpretrain's DataSample."""

    task = 'cls'

    @staticmethod
    def inferencer(cfg, device: str) -> ImageClassificationInferencer:
        if cfg.model.type.rpartition('.')[2] != 'ImageClassifier':
            raise UserError(f'The model must be an ImageClassifier, got {cfg.model.type}: what '
                            'SimMIM fills in is drawn by tools/visualization/reconstructions.py.')
        return ImageClassificationInferencer(cfg, pretrained=False, device=device)

    def __init__(self, *args):
        super().__init__(*args)
        check_head(self.model)
        self.several = isinstance(self.model.head, MultiLabelClsHead)

    def record(self, sample) -> dict:
        """The likeliest classes; where a picture may have several, also those that it has."""
        rows = dict(top=top(sample.pred_score, self.classes))
        if self.several:
            rows['found'] = [dict(label=label, name=self.classes[label])
                             for label in sample.pred_label.tolist()]
        return rows

    def draw(self, picture: np.ndarray, sample) -> np.ndarray:
        """The picture over its likeliest classes."""
        return caption(picture, top(sample.pred_score, self.classes))


def check_head(model) -> None:
    """UserError where the head of a classifier gives no score for each class."""
    head = model.head
    known = isinstance(head, (ClsHead, MultiLabelClsHead)) or not type(
        head).__module__.startswith('mmpretrain.')  # those of others may well give one
    if not known or isinstance(head, SCORELESS):
        raise UserError(f'The head must give a score for each class, a {type(head).__name__} does '
                        'not: ask model.test_step for what it gives.')


def top(scores, classes: list[str]) -> list[dict]:
    """The classes of the highest scores, the first one first."""
    values, labels = scores.cpu().topk(min(TOP, len(scores)))
    return [dict(label=label, name=classes[label], score=score)
            for label, score in zip(labels.tolist(), values.tolist())]


def caption(picture: np.ndarray, rows: list[dict]) -> np.ndarray:
    """A picture with a bar and a line of text for each class under it."""
    height, width = picture.shape[:2]
    if width < WIDTH:
        size = WIDTH, max(round(height * WIDTH / width), 1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        height, width = picture.shape[:2]
    text = np.full((LINE * len(rows) + 6, width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        share = min(max(row['score'], 0), 1)  # of models that give no probabilities
        end = (round(width * share), i * LINE + LINE)
        cv2.rectangle(text, (0, i * LINE + 4), end, (225, 215, 190), -1)
        # OpenCV's letters are ASCII; others would be drawn as question marks, several for one.
        said = f'{row["score"]:.2f}  {row["name"]}'.encode('ascii', 'replace').decode()
        cv2.putText(text, said, (4, (i + 1) * LINE - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0),
                    1, cv2.LINE_AA)
    return np.vstack([picture, text])
