"""Two-stage detectors as one plain computation of fixed shapes, built of a model's own parts.

    TwoStage(model)(maps, size) -> boxes (n, 4), scores (n,), labels (n,), masks (n, s, s)

n is `max_per_img` of the config: where less is found, the rest has the score 0. One picture at a
time: how much is found differs from picture to picture.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .steps import refusal

Size = tuple[int, int]


def finder(model: nn.Module) -> nn.Module:
    """What follows the neck of a detector; UserError where it is not known."""
    if hasattr(model, 'roi_head'):
        return TwoStage(model)
    if hasattr(model, 'forward_transformer'):
        from .queries import Dino
        return Dino(model)
    if hasattr(model, 'panoptic_fusion_head'):
        from .queries import Masks
        return Masks(model)
    raise refusal(model, 'of detectors, those with a RoI head, DINO and Mask2Former are known')


class TwoStage(nn.Module):
    """What `RPNHead` and the RoI head of an mmdet detector do in a test, on maps of a neck.

    Args:
        model: Faster, Mask or Cascade R-CNN, Hybrid Task Cascade; others are refused by name.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        check(model)
        self.rpn, self.roi = model.rpn_head, model.roi_head
        self.outputs = ['boxes', 'scores', 'labels'] + ['masks'] * self.roi.with_mask
        cfg = self.roi.test_cfg
        self.settings = dict(score_thr=cfg.score_thr, nms_iou=cfg.nms.iou_threshold,
                             max_per_img=cfg.max_per_img, mask_thr=cfg.get('mask_thr_binary', 0.5))

    def forward(self, maps: tuple[Tensor, ...], size: Size) -> tuple[Tensor, ...]:
        """maps: (1, C, h, w) each; size: (h, w) of the picture in pixels, without its padding."""
        semantic = self.roi.semantic_head(maps)[1] if semantic_of(self.roi) else None
        boxes, there = self._proposals(maps, size)
        boxes, logits, deltas = self._refined(maps, semantic, boxes, size)
        boxes, scores, labels = self._detections(boxes, there, logits, deltas, size)
        if not self.roi.with_mask:
            return boxes, scores, labels
        return boxes, scores, labels, self._masks(maps, semantic, boxes, labels)

    def _proposals(self, maps, size: Size) -> tuple[Tensor, Tensor]:
        """Boxes (K, 4) that may hold something, and which of them are there: (K,)."""
        cfg, coder = self.rpn.test_cfg, self.rpn.bbox_coder
        priors = self.rpn.prior_generator.grid_priors([map_.shape[-2:] for map_ in maps],
                                                      device=maps[0].device)
        rows = []
        for level, parts in enumerate(zip(*self.rpn(maps), priors)):
            logits, deltas = (part[0].permute(1, 2, 0) for part in parts[:2])
            if self.rpn.use_sigmoid_cls:
                scores = logits.reshape(-1).sigmoid()
            else:
                scores = logits.reshape(-1, 2).softmax(-1)[:, 0]
            scores, index = scores.topk(min(cfg.nms_pre, len(scores)))
            boxes = _decode(coder, parts[2][index], deltas.reshape(-1, 4)[index], size)
            rows.append((boxes, scores, torch.full_like(scores, level)))
        boxes, scores, levels = (torch.cat(column) for column in zip(*rows))
        if cfg.get('min_bbox_size', -1) >= 0:
            wide = (boxes[:, 2:] - boxes[:, :2] > cfg.min_bbox_size).all(dim=1)
            scores = torch.where(wide, scores, -1.0)
        return _best(boxes, scores, levels, cfg.nms, -0.5, cfg.max_per_img)[:2]

    def _refined(self, maps, semantic, boxes: Tensor, size: Size):
        """Boxes, logits of the classes and deltas of the boxes of the last stage."""
        heads = stages(self.roi.bbox_head)
        total = 0
        for stage, head in enumerate(heads):
            found = self._pooled(stages(self.roi.bbox_roi_extractor)[stage], maps, boxes)
            if semantic is not None and 'bbox' in self.roi.semantic_fusion:
                found = found + self._semantic(semantic, boxes, found)
            logits, deltas = head(found)
            total = total + logits
            if stage + 1 < len(heads):
                if head.custom_activation:
                    logits = head.loss_cls.get_activation(logits)
                chosen = logits[:, :-1].argmax(dim=1)
                if not head.reg_class_agnostic:
                    index = chosen[:, None, None].expand(-1, 1, 4)
                    deltas = deltas.view(len(boxes), -1, 4).gather(1, index)[:, 0]
                boxes = _decode(head.bbox_coder, boxes, deltas, size)
        return boxes, total / len(heads), deltas

    def _detections(self, boxes, there, logits, deltas, size: Size):
        head, cfg = stages(self.roi.bbox_head)[-1], self.roi.test_cfg
        scores = (head.loss_cls.get_activation(logits) if head.custom_cls_channels
                  else logits.softmax(dim=-1))[:, :-1]
        scores = torch.where(there[:, None], scores, -1.0)
        count, classes = scores.shape
        if not head.reg_class_agnostic:
            boxes = boxes.repeat_interleave(classes, dim=0)
        boxes = _decode(head.bbox_coder, boxes, deltas.view(-1, 4), size).view(count, -1, 4)
        boxes = boxes.expand(-1, classes, -1).reshape(-1, 4)
        labels = torch.arange(classes, device=scores.device).repeat(count)
        boxes, there, index = _best(boxes, scores.reshape(-1), labels, cfg.nms, cfg.score_thr,
                                    cfg.max_per_img)
        return boxes, torch.where(there, scores.reshape(-1)[index], 0.0), labels[index]

    def _masks(self, maps, semantic, boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities of the mask of each box's class, over the box: (n, s, s)."""
        heads, extractors = stages(self.roi.mask_head), stages(self.roi.mask_roi_extractor)
        found = [self._pooled(extractor, maps, boxes) for extractor in
                 (extractors[-1:] if is_htc(self.roi) else extractors)]
        if is_htc(self.roi):
            if semantic is not None and 'mask' in self.roi.semantic_fusion:
                found[0] = found[0] + self._semantic(semantic, boxes, found[0])
            last = None
            for head in heads:
                logits, last = head(found[0], last if self.roi.mask_info_flow else None)
            masks = [logits.sigmoid()]
        else:
            masks = [head(part).sigmoid() for head, part in zip(heads, found)]
        mask = sum(masks) / len(masks)
        if heads[-1].class_agnostic:
            return mask[:, 0]
        index = labels[:, None, None, None].expand(-1, 1, *mask.shape[2:])
        return mask.gather(1, index)[:, 0]

    def _semantic(self, semantic: Tensor, boxes: Tensor, like: Tensor) -> Tensor:
        found = self._pooled(self.roi.semantic_roi_extractor, (semantic,), boxes)
        return torch.nn.functional.adaptive_avg_pool2d(found, like.shape[-2:])

    @staticmethod
    def _pooled(extractor: nn.Module, maps, boxes: Tensor) -> Tensor:
        layers = extractor.roi_layers
        maps = list(maps[:len(layers)])
        rows = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        levels = extractor.map_roi_levels(rows, len(maps)) if len(maps) > 1 else \
            torch.zeros_like(rows[:, 0]).long()
        from . import ops  # needs torch 2.4, which others that come here do without

        return ops.roi_align(maps, boxes, levels, [layer.spatial_scale for layer in layers],
                             layers[0].output_size[0], layers[0].sampling_ratio)


def _decode(coder, boxes: Tensor, deltas: Tensor, size: Size) -> Tensor:
    """Boxes moved by deltas, within the picture."""
    boxes = coder.decode(boxes, deltas)
    if not coder.clip_border:
        return boxes
    return boxes.clamp(min=0).minimum(boxes.new_tensor([size[1], size[0]] * 2))


def _best(boxes, scores, groups, cfg, least: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes that NMS within each group leaves, whether each is there, and their numbers."""
    moved = boxes
    if not cfg.get('class_agnostic'):
        # As mmcv does it: groups lie side by side, so that boxes of two never overlap.
        furthest = torch.where((scores > least)[:, None], boxes, 0.0).max()
        moved = boxes + (groups * (furthest + 1))[:, None]
    from . import ops

    kept = ops.nms(moved, scores, cfg.iou_threshold, least, min(count, len(boxes)))
    index = kept.clamp(min=0)
    return boxes[index], kept >= 0, index


def stages(part) -> list[nn.Module]:
    """The parts of a RoI head, one for each stage."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def is_htc(roi: nn.Module) -> bool:
    return hasattr(roi, 'mask_info_flow')


def semantic_of(roi: nn.Module) -> bool:
    return is_htc(roi) and roi.with_semantic


def check(model: nn.Module) -> None:
    """UserError that names the first part or setting that is not known here."""
    from mmdet.models import HybridTaskCascadeRoIHead, RPNHead, StandardRoIHead
    from mmdet.models.detectors import TwoStageDetector
    from mmdet.models.roi_heads import CascadeRoIHead

    rpn, roi = model.rpn_head, model.roi_head
    if type(model).predict is not TwoStageDetector.predict:
        raise refusal(model, 'it predicts in a way of its own')
    _known([rpn], RPNHead)
    _known([roi], StandardRoIHead, CascadeRoIHead, HybridTaskCascadeRoIHead)
    _check_roi(roi)
    for name, cfg in (('rpn', rpn.test_cfg), ('rcnn', roi.test_cfg)):
        kind = cfg.nms.get('type', 'nms')
        if kind != 'nms' or set(cfg.nms) - {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}:
            raise refusal(roi, f'model.test_cfg.{name}.nms is {dict(cfg.nms)}, and ONNX has plain '
                               'NMS alone, as others change scores box after box in a loop '
                               '(--cfg-options model.test_cfg.rcnn.nms.type=nms, if its other '
                               'answers will do)')


def _check_roi(roi: nn.Module) -> None:
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead, HTCMaskHead
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
    from mmdet.models.task_modules import DeltaXYWHBBoxCoder

    extractors = stages(roi.bbox_roi_extractor)
    if roi.with_mask:
        _known(stages(roi.mask_head), FCNMaskHead, HTCMaskHead)
        extractors = extractors + stages(roi.mask_roi_extractor)
    if semantic_of(roi):
        extractors = [*extractors, roi.semantic_roi_extractor]
    _known(extractors, SingleRoIExtractor)
    _known([head.bbox_coder for head in stages(roi.bbox_head)], DeltaXYWHBBoxCoder)
    for head in stages(roi.bbox_head):
        if not (head.with_reg and head.with_cls):
            raise refusal(head, 'it gives no boxes or no classes')
    for layer in [layer for extractor in extractors for layer in extractor.roi_layers]:
        if type(layer).__name__ != 'RoIAlign' or layer.pool_mode != 'avg' or not layer.aligned:
            raise refusal(layer, 'means of an aligned RoIAlign are known')


def _known(parts: list[nn.Module], *kinds: type) -> None:
    for part in parts:
        if type(part) not in kinds:
            names = ' and '.join(kind.__name__ for kind in kinds)
            raise refusal(part, f'in its place {names} may stand')
