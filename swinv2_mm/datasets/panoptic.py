"""What mmdet takes from the package panopticapi, which no index of packages has.

Numbers of segments and their colours in pictures, and the sums of panoptic quality
(Kirillov et al., Panoptic Segmentation, CVPR 2019, equation 1):

    PQ = (sum of IoU over matched pairs) / (matched + unmatched found / 2 + unmatched true / 2)
"""
from __future__ import annotations

import sys
import types
from collections import defaultdict
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

VOID = 0  # the number of no segment
OFFSET = 1 << 24  # beyond all numbers of segments


def rgb2id(colours: np.ndarray) -> np.ndarray:
    """(..., 3) colours -> (...) numbers: red + 256 green + 65536 blue."""
    red, green, blue = np.moveaxis(np.asarray(colours, np.int64), -1, 0)
    return red + (green << 8) + (blue << 16)


def id2rgb(numbers: np.ndarray) -> np.ndarray:
    """(...) numbers -> (..., 3) colours."""
    numbers = np.asarray(numbers, np.int64)
    return np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)


@dataclass
class Sums:
    """Of one class: IoU of matched pairs, their number, unmatched found, unmatched true."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0


class PQStat:
    """Sums by class, which are added up over pictures and processes."""

    def __init__(self):
        self.sums: dict[int, Sums] = defaultdict(Sums)

    def __getitem__(self, category: int) -> Sums:
        return self.sums[category]

    def __iadd__(self, other: PQStat) -> PQStat:
        for category, sums in other.sums.items():
            for key, value in vars(sums).items():
                setattr(self.sums[category], key, getattr(self.sums[category], key) + value)
        return self

    def pq_average(self, categories: dict[int, dict],
                   isthing: bool | None) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Means over the classes that are there: things (True), stuff (False) or both (None).

        Returns those of PQ, SQ and RQ with the number of classes `n`, and the three of each class,
        0 for one that is not there.
        """
        each, present = {}, []
        for category, info in categories.items():
            if isthing is None or isthing == bool(info['isthing']):
                sums = self.sums[category]
                count = sums.tp + 0.5 * sums.fp + 0.5 * sums.fn
                each[category] = dict(
                    pq=sums.iou / count if count else 0.0,
                    sq=sums.iou / sums.tp if sums.tp else 0.0,
                    rq=sums.tp / count if count else 0.0)
                if count:
                    present.append(each[category])
        means = {key: sum(value[key] for value in present) / max(len(present), 1)
                 for key in ('pq', 'sq', 'rq')}
        return means | dict(n=len(present)), each


def install() -> None:
    """Let mmdet in this process find all this where panopticapi is not installed."""
    if 'panopticapi' in sys.modules or find_spec('panopticapi'):
        return
    package = types.ModuleType('panopticapi')
    package.utils = package.evaluation = sys.modules[__name__]
    sys.modules.update({'panopticapi': package, 'panopticapi.utils': package.utils,
                        'panopticapi.evaluation': package.evaluation})
    from mmdet.evaluation.functional import panoptic_utils
    from mmdet.evaluation.metrics import coco_panoptic_metric

    for module in (panoptic_utils, coco_panoptic_metric):  # may have looked before
        vars(module).update(panopticapi=package, PQStat=PQStat, VOID=VOID, OFFSET=OFFSET,
                            rgb2id=rgb2id, id2rgb=id2rgb)
