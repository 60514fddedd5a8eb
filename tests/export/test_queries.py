"""DINO and Mask2Former outside of PyTorch, with deformable attention as samples of maps."""
import pytest
import torch
from conftest import awaken
from helpers import ROOT, tensorrt
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from small_models import ARCH, CHANNELS

from swinv2_mm.export import checks, graphs, queries, steps
from swinv2_mm.utils.errors import UserError

SIZE = (64, 96)


def dino():
    """DINO of mmdet with a small backbone and two layers, weights random but awake."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/dino.py').model
    cfg.neck.in_channels = CHANNELS[1:]
    cfg.num_queries, cfg.test_cfg.max_per_img = 40, 30
    cfg.encoder.num_layers = cfg.decoder.num_layers = 2
    cfg.bbox_head.num_classes = 5
    return built(cfg, 'mmdet')


def masks(kind):
    """Mask2Former of mmdet for instances, or of mmseg, as `dino`."""
    cfg = Config.fromfile(ROOT / f'configs/_base_/models/mask2former_{kind}.py').model
    head = cfg.panoptic_head if kind == 'instance' else cfg.decode_head
    head.update(in_channels=CHANNELS, num_queries=20)
    head.pixel_decoder.encoder.num_layers, head.transformer_decoder.num_layers = 1, 2
    if kind == 'instance':
        cfg.panoptic_fusion_head.num_things_classes = head.num_things_classes = 5
        head.loss_cls.class_weight = [1.0] * 6
        cfg.test_cfg.max_per_image = 30
    else:
        head.num_classes, head.loss_cls.class_weight = 5, [1.0] * 6
        cfg.data_preprocessor.test_cfg = dict(size_divisor=32)
    model = built(cfg, 'mmdet' if kind == 'instance' else 'mmseg')
    head = model.panoptic_head if kind == 'instance' else model.decode_head
    head.query_feat.weight *= 4  # or all queries see the same
    head.mask_embed[-1].bias *= 0
    head.pixel_decoder.mask_feature.bias *= 0
    return model


def built(cfg, scope):
    cfg.backbone.update(arch=ARCH, window_size=4, drop_path_rate=0.0)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg).eval()
        model.init_weights()
    awaken(model.backbone)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # fresh ones look at the same places for every query
        for name, parameter in model.named_parameters():
            if 'backbone' not in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += noise * (0.3 if parameter.ndim == 1 else 0.05)
    return model.requires_grad_(False)


def ready(model):
    return graphs.Pixels(model, 'whole').eval()


def random_image(batch=1, size=SIZE):
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(0))


def test_dino_of_fixed_shapes_finds_what_mmdet_finds():
    model, image = dino(), random_image()
    found = ready(model)(image)
    expected = steps.predicted(model, 'boxes', image)
    assert len(found) == len(expected) == 3
    assert expected[1].max() - expected[1].min() > 1e-3 and expected[0].std(dim=0).min() > 1
    for ours, theirs in zip(found, expected):
        assert (ours - theirs).abs().max() < 1e-4


def test_proposals_that_tie_may_come_in_either_order_and_no_others(monkeypatch):
    model, image, gaps, topk = ready(dino()), random_image().numpy(), [], torch.topk

    def seen(*args, **settings):
        found = topk(*args, **settings)
        gaps.extend((found[0][0, :-1] - found[0][0, 1:]).tolist())
        return found

    monkeypatch.setattr(torch, 'topk', seen)
    checks.library(model)(image)
    monkeypatch.setattr(torch, 'topk', topk)
    monkeypatch.setattr(queries, 'TIE', min(gaps))
    (other,) = queries.orders(checks.library(model), image)
    found = checks.differences(model, lambda pixels: other, [image])
    assert found == dict(boxes=0, scores=0, alone=0)
    monkeypatch.setattr(queries, 'TIE', -1.0)
    with pytest.raises(UserError, match='must find what PyTorch finds'):
        checks.differences(model, lambda pixels: other, [image])


@pytest.mark.slow
def test_dino_in_onnxruntime_finds_what_mmdet_finds(tmp_path):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed')
    import onnx
    model, file = ready(dino()), tmp_path / 'dino.onnx'
    graphs.write(graphs.trace(model, SIZE), file, model)
    checks.differences(model, checks.runner(file, '.onnx', 1), [random_image().numpy()])
    kinds = [node.op_type for node in onnx.load(file).graph.node]
    assert kinds.count('GridSample') == 2 * 2 * 4  # layers of both, levels
    assert set(kinds) <= tensorrt()


def test_mask2former_of_fixed_shapes_finds_what_mmdet_finds():
    model, size = masks('instance'), (70, 100)  # mmdet pads it
    graphs.check_part(model, 'whole', size)
    pixels = ready(model)
    image = random_image(size=size).numpy()
    found = checks.differences(pixels, lambda image: checks.answers(pixels, image), [image])
    assert found['alone'] == 0 and found['masks'] == 0 and found['boxes'] == 0
    rows = steps.predicted(model, 'boxes', torch.from_numpy(image))
    assert len(rows[0]) == 30 and rows[1].max() > 1.1 * rows[1].min()
    assert rows[0].std(dim=0).max() > 5 and 0.01 < rows[3].float().mean() < 0.95


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['instance', 'semantic'])
def test_mask2former_in_onnxruntime_answers_as_its_library_does(tmp_path, kind):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed')
    import onnx
    model, file = ready(masks(kind)), tmp_path / 'masks.onnx'
    size = (70, 100) if kind == 'instance' else SIZE
    graphs.write(graphs.trace(model, size), file, model)
    image = random_image(1 if kind == 'instance' else 2, size).numpy()
    checks.differences(model, checks.runner(file, '.onnx', 1), [image])
    if kind == 'instance':  # its opset is one that TensorRT reads
        assert {node.op_type for node in onnx.load(file).graph.node} <= tensorrt()


def test_other_maps_and_panoptic_results_of_mask2former_are_refused_by_name():
    model = masks('instance')
    model.panoptic_fusion_head.test_cfg.instance_on = False
    with pytest.raises(UserError, match='MaskFormerFusionHead is not: it joins .*instance_on=True'):
        ready(model)
    model = masks('semantic')
    model.decode_head.pixel_decoder = torch.nn.Identity()
    with pytest.raises(UserError, match='Identity is not: .* MSDeformAttnPixelDecoder may stand'):
        ready(model)


def test_a_size_that_dino_would_pad_is_refused():
    model = dino()
    model.data_preprocessor.pad_size_divisor = 32
    with pytest.raises(UserError, match='--size must be multiples of 32, .*, got 32 80'):
        graphs.check_part(model, 'whole', (32, 80))


def test_relatives_of_dino_are_refused_by_name():
    model = dino()
    model.bbox_head.loss_cls.use_sigmoid = False
    with pytest.raises(UserError, match='DINOHead is not: its scores are no sigmoids'):
        ready(model)
    model.__class__ = type('Relative', (type(model),), {})
    with pytest.raises(UserError, match='Relative is not: .*, DINO is known; add --part backbone'):
        ready(model)
