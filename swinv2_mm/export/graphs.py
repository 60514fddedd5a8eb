"""A model from pixels to answers, and the file it becomes: ONNX, or torch.export's .pt2."""
from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2_mm.utils.errors import UserError
from swinv2_mm.utils.faults import one_line

from . import steps
from .detectors import finder
from .fixed import fix, halve
from .queries import plain

PIP = 'pip install onnx onnxscript'
# The first opset with an operation for the whole of attention; below it, it is written as products
# and a softmax.
OPSET = 23
# The last one whose RoiAlign onnxruntime knows.
DETECTORS = 20
LOGITS = ['logits', 'labels']
# Last step -> what the file gives.
OUTPUTS = {**dict.fromkeys(('softmax', 'sigmoid', 'clips'), ['scores']), 'values': ['values'],
           'argmax': LOGITS, 'threshold': LOGITS}


class Pixels(nn.Module):
    """A model with its config's normalisation in front and its library's last step behind.

    forward: pixels (B, 3, H, W) as OpenCV reads them, blue first, 0 to 255, of `kind` -> a tuple
    of tensors, named in `outputs`. A whole detector takes uint8 and B = 1, all else float32. Films
    are (B, 3, T, H, W), of whole recognisers (B, views, 3, T, H, W), in the order that mmaction2
    reads them, red first.

    Args:
        model: of mmpretrain, mmseg, mmdet or mmaction2, in eval mode.
        part: 'whole' or 'backbone'.
    """

    def __init__(self, model: nn.Module, part: str):
        super().__init__()
        self.model = model
        self.step = steps.last_step(model) if part == 'whole' else 'backbone'
        settings = model.data_preprocessor
        self.flip = bool(getattr(settings, '_channel_conversion', getattr(settings, 'to_rgb', 0))
                         and model.backbone.in_channels == 3)
        for name in ('mean', 'std'):
            value = getattr(settings, name, None)
            self.register_buffer(name, None if value is None else value.clone())
        stages = [f'stage{i}' for i in getattr(model.backbone, 'out_indices', ())]
        self.finder = finder(model) if self.step == 'boxes' else None
        self.kind = 'uint8' if self.finder else 'float32'
        self.batch = 1 if self.finder else 'any'
        self.outputs = self.finder.outputs if self.finder else OUTPUTS.get(self.step, stages)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = image.float()
        x = x.flip(2 if self.step == 'clips' else 1) if self.flip else x
        x = x if self.mean is None else (x - self.mean) / self.std
        x = x.to(next(self.model.backbone.parameters()).dtype)
        if self.step == 'backbone':
            return tuple(map_.float() for map_ in maps_of(self.model.backbone(x)))
        if self.step == 'clips':
            head = self.model.cls_head
            scores = head(self.model.backbone(x.flatten(0, 1))).float()
            return (head.average_clip(scores, num_segs=x.shape[1]),)
        if self.finder:
            size = tuple(x.shape[2:])
            x = F.pad(x, margins(self.model, size), value=self.model.data_preprocessor.pad_value)
            return self.finder(tuple(map_.float() for map_ in self.model.extract_feat(x)), size)
        return steps.finish(self.step, self._numbers(x), self.model)

    def _numbers(self, x: Tensor) -> Tensor:
        """What the head gives."""
        if self.outputs != LOGITS:
            return self.model(x, mode='tensor').float()
        crop = crop_size(self.model, x.shape[2:])
        if crop != tuple(x.shape[2:]):
            return self._slide(x, crop)
        return self._decode(x)

    def _decode(self, x: Tensor) -> Tensor:
        size = torch.Size(x.shape[2:])
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        return self.model.encode_decode(x, [meta]).float()

    def _slide(self, x: Tensor, crop: tuple[int, int]) -> Tensor:
        """Means of the logits of overlapping crops, as test_cfg.mode='slide' takes them."""
        size, stride = tuple(x.shape[2:]), self.model.test_cfg.stride
        rows, columns = (sorted({min(i * step, whole - part) for i in range(
            -(-(whole - part) // step) + 1)}) for whole, part, step in zip(size, crop, stride))
        places = [(y, x) for y in rows for x in columns]
        crops = torch.cat([x[:, :, top:top + crop[0], left:left + crop[1]]
                           for top, left in places])
        parts = self._decode(crops).chunk(len(places))
        total, count = 0, torch.zeros(size)
        for (top, left), part in zip(places, parts):
            bottom, right = size[0] - top - crop[0], size[1] - left - crop[1]
            total = total + F.pad(part, (left, right, top, bottom))
            count = count + F.pad(torch.ones(crop), (left, right, top, bottom))
        return total / count


def maps_of(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a backbone gives as a tuple; that of videos gives a bare map where there is one."""
    return (found,) if isinstance(found, Tensor) else tuple(found)


def crop_size(model: nn.Module, size: tuple[int, ...]) -> tuple[int, ...]:
    """Size of what a model looks at in one go in pictures of a size (h, w)."""
    test = getattr(model, 'test_cfg', None) or {}
    if test.get('mode') != 'slide':
        return tuple(size)
    return tuple(min(pair) for pair in zip(size, test['crop_size']))


def padded(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """What a detector's preprocessing makes of the size (h, w) of a picture."""
    divisor = model.data_preprocessor.pad_size_divisor
    return tuple(-(-side // divisor) * divisor for side in size)


def margins(model: nn.Module, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """What a detector's preprocessing adds left, right, above and below a picture (h, w)."""
    height, width = padded(model, size)
    return 0, width - size[1], 0, height - size[0]


def check_part(model: nn.Module, part: str, size: tuple[int, int]) -> None:
    """UserError where `part` of a model cannot be exported at a size of picture (h, w)."""
    ndim = getattr(model.backbone, 'ndim', 2)
    if len(size) != ndim:
        raise UserError(f'--size must be {" ".join("THW"[-ndim:])} for this model, '
                        f'got {" ".join(map(str, size))}: give these.')
    if part == 'backbone' or steps.last_step(model) == 'clips':
        return
    if steps.last_step(model) == 'boxes' and not hasattr(model, 'forward_transformer'):
        return  # it clips boxes, or masks, to the picture inside its padding
    # Tests pad pictures to such sizes, and the padding changes what heads see.
    settings = model.data_preprocessor
    test = getattr(settings, 'test_cfg', None) or {}
    divisor = test.get('size_divisor') or getattr(settings, 'pad_size_divisor', 1) or 1
    if any(side % divisor for side in size):
        raise UserError(f'--size must be multiples of {divisor}, to which this config pads '
                        f'pictures when it is tested, got {size[0]} {size[1]}: round it up.')
    least = test.get('size') or size
    if any(side < needed for side, needed in zip(size, least)):
        raise UserError(f'--size must be at least {least[0]} {least[1]}, to which this config pads '
                        f'pictures when it is tested, got {size[0]} {size[1]}: take that.')


@torch.no_grad()
def trace(model: Pixels, size: tuple[int, int], half: bool = False) -> torch.export.ExportedProgram:
    """The program of a model at one size of picture (h, w); `model.batch` says for what batch.

    Any, or one: for detectors, and for heads that look at the pictures of a batch one by one.
    `half`: weights in float16, of heads that find objects or sample maps in float32.
    """
    seen = torch.zeros(1, model.model.backbone.in_channels, *size)
    if model.finder:
        seen = F.pad(seen, margins(model.model, size))
    elif model.step not in ('backbone', 'clips'):
        crop = crop_size(model.model, size)
        seen = seen[..., :crop[0], :crop[1]]
    ready = copy.copy(model)
    ready._modules = dict(model._modules, model=_fixed(model.model, seen, half))
    if model.batch == 'any':
        try:
            names = ['batch', 'views'] if model.step == 'clips' else ['batch']
            return _program(ready, size, (2, 3), {
                i: torch.export.Dim(name, min=1) for i, name in enumerate(names)})
        except Exception:  # noqa: BLE001 - torch raises what it likes; of one picture it says why
            model.batch = 1
    return _program(ready, size, (1, 1), {})


def _program(model: Pixels, size, batch, shapes: dict) -> torch.export.ExportedProgram:
    # A batch of 1 is taken for a constant.
    batch = batch if model.step == 'clips' else batch[:1]
    shape = *batch, model.model.backbone.in_channels, *size
    image = torch.zeros(shape, dtype=getattr(torch, model.kind))
    return torch.export.export(model, (image,), dynamic_shapes=(shapes,), strict=False)


def export(model: Pixels, size: tuple[int, int], path: Path, opset: int | None = None,
           half: bool = False, compiled: bool = False) -> None:
    """Trace a model at a size (h, w) and write it; UserError naming its head where torch cannot."""
    try:
        write(trace(model, size, half), path, model, opset, compiled)
    except (UserError, OSError):
        raise
    except Exception as error:  # torch raises what it likes
        if model.step == 'backbone':
            raise
        raise steps.refusal(steps.head_of(model.model), f'torch cannot write it as {path.suffix} '
                            f'({one_line(error)})') from error


def _fixed(model: nn.Module, image: Tensor, half: bool) -> nn.Module:
    """A copy of the model with its backbone fixed and its head plain."""
    model = copy.deepcopy(model) if half else copy.copy(model)
    model._modules = dict(model._modules, backbone=fix(model.backbone, image))
    head = getattr(model, 'decode_head', None)
    if head is not None:
        model._modules['decode_head'] = plain(head)
    if half and (hasattr(model, 'bbox_head') or hasattr(model, 'rpn_head')
                 or hasattr(model, 'panoptic_head') or hasattr(head, 'pixel_decoder')):
        for name in {'backbone', 'neck'} & set(model._modules):
            halve(model._modules[name])
    elif half:
        halve(model)
    return model


def write(program: torch.export.ExportedProgram, path: Path, model: Pixels,
          opset: int | None = None, compiled: bool = False) -> None:
    """Write the traced program of a model as ONNX, or as .pt2 where the path ends so.

    `compiled`: for this processor, by AOTInductor.
    """
    if compiled:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        return
    if path.suffix == '.pt2':
        torch.export.save(program, path)
        return
    try:
        import onnx_ir.passes.common as passes
        import onnxscript.optimizer

        from . import ops
    except ImportError as error:
        raise UserError(f'ONNX needs {error.name}, which is not installed: {PIP} '
                        'onnxruntime.') from error
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch, about itself
        opset = opset or (DETECTORS if model.finder else OPSET)
        onnx = torch.onnx.export(program, dynamo=True, opset_version=opset, optimize=False,
                                 input_names=['image'], output_names=model.outputs, verbose=False,
                                 custom_translation_table=ops.translations())
    graph = onnx.model
    passes.InlinePass()(graph)
    # All that does not depend on pixels becomes a constant, however large.
    onnxscript.optimizer.fold_constants(graph, input_size_limit=1 << 30, output_size_limit=1 << 30)
    for node in graph.graph:  # for `smaller`, which leaves be what finds objects
        if "'finder'" in node.metadata_props.get('pkg.torch.onnx.name_scopes', ''):
            node.name = f'finder.{node.name}'
    for step in (passes.RemoveUnusedNodesPass(), passes.DeduplicateInitializersPass(),
                 passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
                 passes.CommonSubexpressionEliminationPass(), passes.NameFixPass(),
                 passes.ClearMetadataAndDocStringPass()):
        step(graph)
    onnx.save(path)
