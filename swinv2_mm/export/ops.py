"""Two steps of detectors whose results are as many as the picture has, with a fixed size given.

torch.export sees each as one operation; in ONNX it is written by standard ones. A .pt2 that holds
them needs this module imported, and torchvision, to be loaded; it needs nothing of OpenMMLab.
"""
from collections.abc import Sequence  # no `from __future__ import annotations`: torch reads them

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.library.custom_op('swinv2_mm::nms', mutates_args=())
def nms(boxes: Tensor, scores: Tensor, iou: float, least: float, count: int) -> Tensor:
    """Numbers of the boxes (n, 4) that stay, best score first, then -1: (count,) int64.

    A box goes where its score (n,) is not above `least`, or where it shares more than `iou` with
    a better one.
    """
    from torchvision.ops import nms

    above = (scores > least).nonzero()[:, 0]
    kept = above[nms(boxes[above], scores[above], iou)[:count]]
    return F.pad(kept, (0, count - len(kept)), value=-1)


@nms.register_fake
def _(boxes, scores, iou, least, count):
    return boxes.new_empty(count, dtype=torch.int64)


@torch.library.custom_op('swinv2_mm::roi_align', mutates_args=())
def roi_align(maps: Sequence[Tensor], boxes: Tensor, levels: Tensor, scales: Sequence[float],
              side: int, samples: int) -> Tensor:
    """Means over a grid in each box (n, 4), each on the map of its level (n,): (n, C, side, side).

    maps: (1, C, h, w) each, that are `scales` of the picture; samples: in a bin, a side; 0 takes
    as many as it has pixels. Half a pixel is taken off, which mmcv calls `aligned`.
    """
    from torchvision.ops import roi_align

    out = boxes.new_zeros(len(boxes), maps[0].shape[1], side, side)
    for level, (map_, scale) in enumerate(zip(maps, scales)):
        rows = (levels == level).nonzero()[:, 0]
        out[rows] = roi_align(map_, [boxes[rows]], side, scale, samples or -1, aligned=True)
    return out


@roi_align.register_fake
def _(maps, boxes, levels, scales, side, samples):
    return boxes.new_empty(boxes.shape[0], maps[0].shape[1], side, side)


def translations() -> dict:
    """What torch.onnx.export writes for each of them."""
    from onnxscript import INT64
    from onnxscript.onnx_opset import opset18 as op
    from onnxscript.onnx_types import FLOAT

    def numbers(*values):
        return op.Constant(value_ints=list(values))

    def onnx_nms(boxes: FLOAT, scores: FLOAT, iou: float, least: float, count: int) -> INT64:
        kept = op.NonMaxSuppression(
            op.Unsqueeze(boxes, numbers(0)), op.Unsqueeze(scores, numbers(0, 1)), numbers(count),
            op.Constant(value_floats=[iou]), op.Constant(value_floats=[least]))
        kept = op.Squeeze(op.Slice(kept, numbers(2), numbers(3), numbers(1)), numbers(1))
        kept = op.Concat(kept, op.Expand(numbers(-1), numbers(count)), axis=0)
        return op.Slice(kept, numbers(0), numbers(count))

    def onnx_roi_align(maps: Sequence[FLOAT], boxes: FLOAT, levels: INT64,
                       scales: Sequence[float], side: int, samples: int) -> FLOAT:
        parts, order = [], []
        for level, (map_, scale) in enumerate(zip(maps, scales)):
            here = op.Cast(op.Equal(levels, numbers(level)), to=1)  # TensorRT finds no booleans
            rows = op.Squeeze(op.NonZero(here), numbers(0))
            parts.append(op.RoiAlign(
                map_, op.Gather(boxes, rows), op.Sub(rows, rows), output_height=side,
                output_width=side, sampling_ratio=samples, spatial_scale=scale,
                coordinate_transformation_mode='half_pixel'))
            order.append(rows)
        rows = op.Concat(*order, axis=0)
        places = op.ScatterElements(rows, rows, op.Range(
            op.Constant(value_int=0), op.Squeeze(op.Shape(rows)), op.Constant(value_int=1)))
        return op.Gather(op.Concat(*parts, axis=0), places)

    space = torch.ops.swinv2_mm
    return {space.nms.default: onnx_nms, space.roi_align.default: onnx_roi_align}
