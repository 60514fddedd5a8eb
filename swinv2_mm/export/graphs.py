"""A model from pixels to answers, and the file it becomes: ONNX, or torch.export's .pt2."""
import copy
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from swinv2_mm.utils.errors import UserError

from .fixed import fix

PIP = "pip install onnx onnxscript onnxruntime"
# The first opset with an operation for the whole of attention; below it, it is written as products
# and a softmax.
OPSET = 23


class Pixels(nn.Module):
    """A model with its config's normalisation in front.

    forward: pixels (B, 3, H, W) as OpenCV reads them, blue first, 0 to 255, as float32 -> a tuple
    of tensors, named in `outputs`.

    Args:
        model: of mmpretrain, mmseg or mmdet, in eval mode.
        part: 'whole' or 'backbone'.
    """

    def __init__(self, model: nn.Module, part: str):
        super().__init__()
        self.model = model
        self.kind = kind_of(model) if part == 'whole' else 'backbone'
        settings = model.data_preprocessor
        self.flip = bool(getattr(settings, '_channel_conversion', getattr(settings, 'to_rgb', 0)))
        for name in ('mean', 'std'):
            value = getattr(settings, name, None)
            self.register_buffer(name, None if value is None else value.clone())
        stages = [f'stage{i}' for i in getattr(model.backbone, 'out_indices', ())]
        self.outputs = {'backbone': stages, 'classifier': ['scores'],
                        'segmentor': ['logits', 'labels']}[self.kind]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = image.flip(1) if self.flip else image
        x = x if self.mean is None else (x - self.mean) / self.std
        if self.kind == 'backbone':
            return tuple(self.model.backbone(x))
        if self.kind == 'classifier':
            return (self.model(x, mode='tensor').softmax(dim=1),)
        size = tuple(image.shape[2:])
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        logits = self.model.encode_decode(x, [meta])
        return logits, logits.argmax(dim=1)


def kind_of(model: nn.Module) -> str:
    """'classifier', 'segmentor', or 'backbone' for what is exported no further than that."""
    if type(model).__name__ == 'ImageClassifier':
        return 'classifier'
    # A head of masks pairs queries with pictures in Python, and samples by an operation of mmcv.
    head = getattr(model, 'decode_head', None)
    if type(model).__name__ == 'EncoderDecoder' and not hasattr(head, 'panoptic_head') and (
            type(head).__name__ != 'Mask2FormerHead') and getattr(model, 'num_classes', 0) > 1:
        return 'segmentor'
    return 'backbone'


def check_part(model: nn.Module, part: str, size: tuple[int, int]) -> None:
    """UserError where `part` of a model cannot be exported at a size of picture (h, w)."""
    if getattr(model.backbone, 'ndim', 2) != 2:
        raise UserError('Models of pictures are exported, this one takes videos: export one with '
                        'the backbone SwinTransformerV2.')
    if part == 'whole' and kind_of(model) == 'backbone':
        head = getattr(model, 'decode_head', model)
        raise UserError('Classifiers and segmentors with a head of one score a class are exported '
                        f'whole, this is a {type(head).__name__}: add --part backbone.')
    # mmseg's tests pad pictures to such sizes, and the padding changes what its heads see.
    divisor = (getattr(model.data_preprocessor, 'test_cfg', None) or {}).get('size_divisor') or 1
    if part == 'whole' and any(side % divisor for side in size):
        raise UserError(f'--size must be multiples of {divisor}, to which this config pads '
                        f'pictures when it is tested, got {size[0]} {size[1]}: round it up.')


@torch.no_grad()
def trace(model: Pixels, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The program of a model at one size of picture (h, w), for any batch."""
    channels = model.model.backbone.in_channels
    image = torch.zeros(2, channels, *size)  # a batch of 1 would be taken for a constant
    model = copy.copy(model)
    model._modules = dict(model._modules, model=_fixed(model.model, image))
    batch = torch.export.Dim('batch', min=1)
    return torch.export.export(model, (image,), dynamic_shapes=({0: batch},), strict=False)


def _fixed(model: nn.Module, image: Tensor) -> nn.Module:
    """The model with its backbone fixed; nothing else is copied."""
    model = copy.copy(model)
    model._modules = dict(model._modules, backbone=fix(model.backbone, image))
    return model


def write(program: torch.export.ExportedProgram, path: Path, names: list[str],
          opset: int = OPSET) -> None:
    """Write a traced program as ONNX, or as .pt2 where the path ends so."""
    if path.suffix == '.pt2':
        torch.export.save(program, path)
        return
    try:
        import onnx_ir.passes.common as passes
        import onnxscript.optimizer
    except ImportError as error:
        raise UserError(f'ONNX needs {error.name}, which is not installed: {PIP}.') from error
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch, about itself
        onnx = torch.onnx.export(program, dynamo=True, opset_version=opset, optimize=False,
                                 input_names=['image'], output_names=names, verbose=False)
    model = onnx.model
    passes.InlinePass()(model)
    # All that does not depend on pixels becomes a constant, however large.
    onnxscript.optimizer.fold_constants(model, input_size_limit=1 << 30, output_size_limit=1 << 30)
    for step in (passes.RemoveUnusedNodesPass(), passes.DeduplicateInitializersPass(),
                 passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
                 passes.CommonSubexpressionEliminationPass(), passes.NameFixPass(),
                 passes.ClearMetadataAndDocStringPass()):
        step(model)
    onnx.save(path)
