"""A config's model with random weights, an input of a given size for it, and its forward pass.

What tools/analysis measures (work, speed, memory) does not depend on what the weights are.
"""
from __future__ import annotations

import copy

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from swinv2_mm.apis import overrides
from swinv2_mm.utils.errors import UserError, check_file

# Published FLOPs of detectors on COCO are of this size, and none that a short side of 800 and a
# long one of 1333 give.
COCO = {(1333, 800): (800, 1280)}
REGIONS, MASKS = 1000, 100  # of an image


def quiet() -> None:
    """Keep mmengine's remarks on configs out of what a tool prints."""
    MMLogger.get_current_instance().setLevel('WARNING')


def read(path: str, options: dict | None = None) -> Config:
    """The config at a path with options (--cfg-options) applied; its scope becomes the default."""
    check_file(path, 'config', 'give the path of a config file, such as '
               'configs/cls/swinv2_t_w8_256.py')
    cfg = Config.fromfile(path)
    overrides.override(cfg, options or {})
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return cfg


def build(cfg: Config, device: str) -> nn.Module:
    """The model of a config in eval mode, with random weights and nothing downloaded."""
    settings = copy.deepcopy(cfg.model)  # some libraries write into it
    settings.pop('init_cfg', None)
    settings.backbone.pop('init_cfg', None)
    with torch.device(device):
        model = MODELS.build(settings).eval()
    if getattr(model.backbone, 'pretrained_window_sizes', 0) is None:  # they come with weights
        model.backbone.pretrained_window_sizes = model.backbone.window_sizes
    return model.to(device)


def input_size(cfg: Config) -> tuple[int, ...]:
    """Sides (h, w) or (t, h, w) that the config tests at (segmentation: crops it trains on).

    Detectors of COCO that resize to (1333, 800) get 800 x 1280. Raises UserError where a config
    leaves pictures at the size they have.
    """
    loader = cfg.get('test_dataloader') or cfg.train_dataloader
    steps = list(loader.dataset.pipeline)
    if cfg.get('default_scope') == 'mmseg':
        return _pair(cfg.model.data_preprocessor.size)
    found = [step[key] for step in steps for key in ('crop_size', 'scale')
             if key in step and step.type != 'ResizeEdge']
    clips = [part.clip_len for step in steps for part in (step, step.get('sample') or {})
             if 'clip_len' in part]
    if not found:
        raise UserError('The size of the input must be in the test pipeline of the config or in '
                        '--size, and is in neither: add --size H W (a video: T H W).')
    size = tuple(found[-1]) if isinstance(found[-1], (list, tuple)) else found[-1]
    if isinstance(size, tuple):
        size = COCO.get(size, size[::-1])
    return (*clips[:1], *_pair(size))


def _pair(size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def example(cfg: Config, model: nn.Module, size: tuple[int, ...], batch: int = 1) -> dict:
    """Arguments `inputs` and `data_samples` of the model's forward: `batch` normalised inputs.

    `size` is (h, w), or (t, h, w) for a video.
    """
    ndim = model.backbone.ndim
    if len(size) != ndim or min(size) < 1:
        raise UserError(f'--size must be {"T H W" if ndim == 3 else "H W"} for this model, each at '
                        f'least 1, got {" ".join(map(str, size))}.')
    device = next(model.parameters()).device
    shape = (batch, model.backbone.in_channels, *size)
    inputs = torch.randn(shape, device=device)
    scope = cfg.get('default_scope')
    if scope == 'mmaction':
        inputs = inputs[:, None]  # one clip a video
    samples = None
    if scope in ('mmdet', 'mmseg'):
        if scope == 'mmdet':
            from mmdet.structures import DetDataSample as Sample
        else:
            from mmseg.structures import SegDataSample as Sample
        samples = [Sample(metainfo=dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
            scale_factor=(1.0, 1.0), img_id=i)) for i in range(batch)]
    return dict(inputs=inputs, data_samples=samples)


def forward(model: nn.Module, inputs: Tensor, data_samples: list | None):
    """Every layer that a prediction runs, up to its last tensors: no NMS, no resizing of maps.

    Heads on regions get `REGIONS` regions an image and heads of masks `MASKS`, whatever is found
    in it, and no features are cut out for them.
    """
    if hasattr(model, 'roi_head'):
        return _two_stages(model, inputs)
    name = type(model).__name__
    if name == 'SimMIM':
        return model.neck(model.backbone(inputs, None)[0])
    if name == 'Recognizer3D':
        return model(inputs, data_samples, mode='tensor', stage='head')
    if name == 'EncoderDecoder':
        features = model.extract_feat(inputs)
        masks = type(model.decode_head).__name__ == 'Mask2FormerHead'
        return model.decode_head(features, data_samples) if masks else model.decode_head(features)
    if data_samples is None:
        return model(inputs, mode='tensor')
    return model(inputs, data_samples, mode='tensor')


def _two_stages(model: nn.Module, inputs: Tensor) -> list:
    """The layers of an mmdet detector with regions; HTC's masks pass features from stage to stage.

    The official counts, of Swin V1 too, are of 1,000 regions and 100 masks in each stage.
    """
    features = model.extract_feat(inputs)
    outs, parts = [model.rpn_head(features)], model.roi_head
    if getattr(parts, 'with_semantic', False):
        outs.append(parts.semantic_head(features))
    for kind, count in (('bbox', REGIONS), ('mask', MASKS)):
        last = None
        for head, extractor in zip(*(_listed(getattr(parts, name, None))
                                     for name in (f'{kind}_head', f'{kind}_roi_extractor'))):
            shape = len(inputs) * count, extractor.out_channels, *_pair(
                extractor.roi_layers[0].output_size)
            cut = features[0].new_zeros(shape)
            flow = kind == 'mask' and hasattr(head, 'with_conv_res')
            outs.append(head(cut, last) if flow else head(cut))
            last = outs[-1][-1] if flow else None
    return outs


def _listed(module) -> list:
    return [] if module is None else list(module) if isinstance(module, nn.ModuleList) else [module]
