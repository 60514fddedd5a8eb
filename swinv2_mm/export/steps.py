"""The last step of a model: from its head's numbers to what its library predicts.

It is told from the library's own function that takes it. A head or model that puts another in its
place is refused by name, since nobody here knows what it does.
"""
import importlib

import torch
from torch import Tensor, nn

from swinv2_mm.utils.errors import UserError

# Operations of mmcv that ONNX lacks, or numbers that depend on what is in the picture.
UNTRACEABLE = {
    'CCHead': 'it attends by an operation of mmcv',
    'PSAHead': 'it attends by an operation of mmcv',
    'DMHead': 'it filters each picture by weights made from it',
    'PointHead': 'it looks again at points that depend on the picture',
}


def last_step(model: nn.Module) -> str:
    """Name of the step after a model's head; UserError where it is another one.

    'softmax', 'sigmoid' or 'values' of a classifier, 'argmax' or 'threshold' of a segmentor,
    'boxes' of a detector, 'clips' of a recogniser.
    """
    for library, find in (('mmpretrain', _of_classifier), ('mmseg', _of_segmentor),
                          ('mmdet', _of_detector), ('mmaction', _of_recognizer)):
        if any(kind.__module__.startswith(f'{library}.') for kind in type(model).__mro__):
            return find(model)
    raise refusal(model, 'it is no classifier, segmentor, detector or recogniser')


def refusal(part: nn.Module, reason: str) -> UserError:
    """The error of a model whose `part` keeps it from being exported as a whole."""
    return UserError('A model is exported whole where all it does is known (docs/export.md lists '
                     f'the heads), {type(part).__name__} is not: {reason}; add --part backbone.')


def head_of(model: nn.Module) -> nn.Module:
    """The part of a model that its last step is told of."""
    head = getattr(model, 'decode_head', getattr(model, 'head', getattr(model, 'cls_head', model)))
    return head[-1] if isinstance(head, nn.ModuleList) else head


def _of_classifier(model: nn.Module) -> str:
    from mmpretrain.models import ClsHead, ImageClassifier, MultiLabelClsHead, heads

    if type(model).predict is not ImageClassifier.predict or not model.with_head:
        raise refusal(model, 'it predicts in a way of its own')
    head = type(model.head)
    steps = {ClsHead._get_predictions: 'softmax', MultiLabelClsHead._get_predictions: 'sigmoid'}
    if hasattr(heads, 'RegressionHead'):  # upstream's mmpretrain has none
        steps[heads.RegressionHead._get_predictions] = 'values'
    step = steps.get(getattr(head, '_get_predictions', None))
    if step is None or head.predict not in (ClsHead.predict, MultiLabelClsHead.predict):
        raise refusal(model.head, 'it predicts in a way of its own')
    return step


def _of_segmentor(model: nn.Module) -> str:
    from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
    from mmseg.models.segmentors.base import BaseSegmentor

    kind = type(model)
    known = (kind.postprocess_result is BaseSegmentor.postprocess_result
             and kind.predict is EncoderDecoder.predict
             and kind.inference is EncoderDecoder.inference
             and kind.slide_inference is EncoderDecoder.slide_inference
             and kind.encode_decode in (EncoderDecoder.encode_decode,
                                        CascadeEncoderDecoder.encode_decode))
    if not known:
        raise refusal(model, 'it predicts in a way of its own')
    heads = model.decode_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        for base in type(head).__mro__:
            if base.__name__ in UNTRACEABLE:
                raise refusal(head, UNTRACEABLE[base.__name__])
        if hasattr(head, 'pixel_decoder') and hasattr(head, 'level_embed'):
            from .queries import check_pixels
            check_pixels(head)
    if model.out_channels > 1:
        return 'argmax'
    if not hasattr(heads, 'threshold'):  # of a cascade, or of heads that are made of others
        raise refusal(heads[-1] if isinstance(heads, nn.ModuleList) else heads,
                      'mmseg finds no threshold for its one output, and fails')
    return 'threshold'


def _of_detector(model: nn.Module) -> str:
    from .detectors import finder

    finder(model)
    return 'boxes'


def _of_recognizer(model: nn.Module) -> str:
    from mmaction.models import BaseHead, FeatureHead, Recognizer3D, RGBPoseHead

    if type(model) is not Recognizer3D or getattr(model, 'neck', None) is not None:
        raise refusal(model, 'a Recognizer3D without a neck is known')
    head, settings = model.cls_head, getattr(model, 'test_cfg', None) or {}
    own = any(getattr(type(head), name) is not getattr(BaseHead, name)
              for name in ('predict', 'predict_by_feat', 'average_clip'))
    if own or isinstance(head, (FeatureHead, RGBPoseHead)) or settings.get('fcn_test'):
        raise refusal(head, 'it predicts in a way of its own')
    if head.average_clips not in ('prob', 'score'):
        raise refusal(head, 'it gives a score for each clip and none for the film '
                      '(--cfg-options model.cls_head.average_clips=prob)')
    return 'clips'


def finish(step: str, numbers: Tensor, model: nn.Module) -> tuple[Tensor, ...]:
    """The outputs of a file from the numbers of the head."""
    if step == 'argmax':
        return numbers, numbers.argmax(dim=1)
    if step == 'threshold':
        return numbers, (numbers.sigmoid() > model.decode_head.threshold)[:, 0].long()
    steps = {'softmax': lambda x: x.softmax(dim=1), 'sigmoid': torch.sigmoid,
             'values': lambda x: x}
    return (steps[step](numbers),)


@torch.no_grad()
def predicted(model: nn.Module, step: str, images: Tensor) -> list[Tensor]:
    """What the library's own `test_step` says of pixels (B, C, H, W), named as the file does it.

    Of films: (B, views, C, T, H, W).

    'threshold': probabilities in the place of logits, which the library does not give.
    """
    if step in ('argmax', 'threshold'):
        sample = importlib.import_module('mmseg.structures').SegDataSample
        size = tuple(images.shape[2:])
        samples = model.test_step(dict(inputs=list(images), data_samples=[
            sample(metainfo=dict(ori_shape=size, img_shape=size)) for _ in images]))
        return [torch.stack([sample.seg_logits.data for sample in samples]),
                torch.stack([sample.pred_sem_seg.data[0] for sample in samples]).long()]
    if step == 'boxes':
        sample = importlib.import_module('mmdet.structures').DetDataSample
        size = tuple(images.shape[2:])
        found = model.test_step(dict(inputs=list(images), data_samples=[sample(metainfo=dict(
            ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0)))]))[0].pred_instances
        return [found[key] for key in ('bboxes', 'scores', 'labels', 'masks') if key in found]
    data = None
    if step == 'clips':
        sample = importlib.import_module('mmaction.structures').ActionDataSample
        data = [sample() for _ in images]
    samples = model.test_step(dict(inputs=list(images), data_samples=data))
    return [torch.stack([sample.pred_score for sample in samples])]
