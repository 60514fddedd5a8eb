"""Several views of a picture, scaled and flipped, tested as one: boxes and masks of RoI detectors.

mmdet's DetTTAModel suppresses boxes twice, within a view and between views, and merges no masks.
Here the candidates of all views are suppressed once, and each box that is left gets the mean of the
masks that it has in every view. So one view alone gives exactly what plain testing gives.
"""
import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from ..registry import MODELS

ROI_HEADS = ('StandardRoIHead', 'CascadeRoIHead', 'HybridTaskCascadeRoIHead')


@MODELS.register_module()
class TwoStageViews(BaseTTAModel):
    """Test-time augmentation of Mask R-CNN, Cascade Mask R-CNN and HTC, with masks or without.

    Candidates of all views are brought into the frame of the first one, and test_cfg.rcnn says how
    they are suppressed, as in plain testing (soft-NMS in HTC++). Each mask is the mean of its
    probabilities over stages and views, at 28 x 28, before it is drawn and cut off at
    test_cfg.rcnn.mask_thr_binary.

    Args:
        module: the detector, or its config. Raises ValueError if its RoI head is another one.
    """

    def __init__(self, module, **kwargs):
        super().__init__(module, **kwargs)
        head = type(getattr(self.module, 'roi_head', self.module)).__name__
        if head not in ROI_HEADS:
            raise ValueError(
                f'TwoStageViews tests detectors with {" or ".join(ROI_HEADS)}, got {head}: use '
                "tta_model=dict(type='DetTTAModel', tta_cfg=...), which merges boxes only.")

    def test_step(self, data: dict) -> list:
        """Data samples with their pred_instances, in the pixels of the photos.

        These are boxes (n, 4), scores (n,), labels (n,) and, where there is a mask head, masks
        (n, H, W). `data` hold a list of views, each of them a batch of the same pictures, as
        TestTimeAug and pseudo_collate give it.
        """
        views = [self._look(inputs, samples)
                 for inputs, samples in zip(data['inputs'], data['data_samples'])]
        samples = views[0][0]
        for i, sample in enumerate(samples):
            sample.pred_instances = self._merge([_Picture(view, i) for view in views])
        return samples

    def merge_preds(self, data_samples_list):
        raise NotImplementedError('TwoStageViews merges candidates: call test_step.')

    def _look(self, inputs, samples):
        """One view of a batch: its samples, features, semantic features and raw candidates."""
        detector = self.module
        head = detector.roi_head
        data = detector.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
        samples = data['data_samples']
        features = detector.extract_feat(data['inputs'])
        proposals = detector.rpn_head.predict(features, samples, rescale=False)
        semantic = {}
        if getattr(head, 'with_semantic', False):
            semantic['semantic_feat'] = head.semantic_head(features)[1]
        candidates = head.predict_bbox(
            features, [sample.metainfo for sample in samples], proposals, rcnn_test_cfg=None,
            rescale=not head.with_mask, **semantic)  # as plain testing does
        return samples, features, semantic, candidates

    def _merge(self, views: list) -> InstanceData:
        from mmdet.models.layers import multiclass_nms
        head, cfg = self.module.roi_head, self.module.roi_head.test_cfg
        found = InstanceData()
        with_any = [view for view in views if len(view.boxes)]
        if not with_any:
            found.bboxes, found.scores = views[0].boxes.new_zeros(0, 4), views[0].boxes.new_zeros(0)
            found.labels = found.scores.long()
        else:
            target = views[0].scale if head.with_mask else None
            boxes = torch.cat([view.into(target, view.boxes) for view in with_any])
            scores = torch.cat([view.scores for view in with_any])
            boxes, found.labels = multiclass_nms(
                boxes, scores, cfg.score_thr, cfg.nms, cfg.max_per_img)
            found.bboxes, found.scores = boxes[:, :-1], boxes[:, -1]
        return self._with_masks(found, views) if head.with_mask else found

    def _with_masks(self, found: InstanceData, views: list) -> InstanceData:
        """`found`, boxes in the pixels of the first view, in those of the photo and with masks."""
        head = self.module.roi_head
        last = head.mask_head[-1] if isinstance(head.mask_head, torch.nn.ModuleList) else (
            head.mask_head)
        masks = None
        if len(found):  # views are added one by one: LVIS has 1203 masks a box
            masks = sum(self._masks(view, found.bboxes, views[0]) for view in views) / len(views)
        return last.predict_by_feat(
            [masks], [found], [views[0].meta], head.test_cfg, rescale=True, activate_map=True)[0]

    def _masks(self, view, boxes, first):
        """Probabilities (n, classes, 28, 28) of masks, from one view, mean over the stages."""
        head = self.module.roi_head
        boxes = view.out_of(first.scale, boxes)
        rois = torch.cat([boxes.new_full((len(boxes), 1), view.index), boxes], 1)
        kind = type(head).__name__
        if kind == 'StandardRoIHead':
            stages = [head._mask_forward(view.features, rois)['mask_preds']]
        elif kind == 'CascadeRoIHead':
            stages = [head._mask_forward(stage, view.features, rois)['mask_preds']
                      for stage in range(head.num_stages)]
        else:
            stages = head._mask_forward(
                stage=-1, x=view.features, rois=rois, training=False,
                semantic_feat=view.semantic.get('semantic_feat'))['mask_preds']
        return view.unflip_masks(torch.stack([stage.sigmoid() for stage in stages]).mean(0))


class _Picture:
    """One picture of a batch in one view: its candidates, and ways between the frames."""

    def __init__(self, view, index: int):
        samples, self.features, self.semantic, candidates = view
        self.index, self.meta = index, samples[index].metainfo
        self.boxes, self.scores = candidates[index].bboxes, candidates[index].scores
        self.scale = tuple(self.meta['scale_factor'])  # (x, y): pixels of the view per photo's
        self.flip = self.meta.get('flip_direction') if self.meta.get('flip') else None

    def into(self, scale, boxes):
        """Boxes (n, 4 k) of this view in an unflipped frame; with `scale` None, in the photo's."""
        boxes = self._flip(boxes, self.meta['ori_shape' if scale is None else 'img_shape'])
        return boxes if scale is None else _rescale(boxes, self.scale, scale)

    def out_of(self, scale, boxes):
        """The way back: boxes (n, 4) of an unflipped frame of `scale` in this view."""
        return self._flip(_rescale(boxes, scale, self.scale), self.meta['img_shape'])

    def unflip_masks(self, masks):
        """Masks (n, classes, 28, 28) of this view as they are in the photo."""
        sides = dict(horizontal=[-1], vertical=[-2], diagonal=[-2, -1])
        return masks.flip(sides[self.flip]) if self.flip else masks

    def _flip(self, boxes, shape):
        from mmdet.structures.bbox import bbox_flip
        return bbox_flip(boxes, shape, self.flip) if self.flip else boxes


def _rescale(boxes, old, new):
    """Boxes from pixels of one scale (x, y) into another's; the same scale changes no bit."""
    if old == new:
        return boxes
    factors = boxes.new_tensor([new[0] / old[0], new[1] / old[1]]).repeat(boxes.shape[1] // 2)
    return boxes * factors
