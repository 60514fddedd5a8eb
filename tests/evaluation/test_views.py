"""Several views of a picture, tested as one: one view is plain testing, to the bit."""
import copy
import functools

import numpy as np
import pytest
import torch
from config_checks import load
from conftest import awaken
from helpers import shrink
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

from swinv2_mm.evaluation import TwoStageViews

CASCADE, HTC, MASK = (f'configs/det/swinv2_{name}.py' for name in (
    't_cascade', 'l_htcpp', 't_maskrcnn'))
HEIGHT, WIDTH = 60, 80


def narrow(node):
    """Everything of 256 channels has 16, in place: a test of all heads then takes a second."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if value == 256 and 'channels' in str(key):
            node[key] = 16
        elif key in ('num_convs', 'num_shared_convs'):
            node[key] = 1
        elif isinstance(value, (dict, list)):
            narrow(value)


@functools.cache
def detector(name, soft=False, masks=True):
    """A detector with the heads of a config, awake, small and quick, which finds a few things."""
    cfg = shrink(load(name).model)
    narrow(cfg)
    cfg.backbone.update(arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]),
                        window_size=4, pretrained_window_sizes=0, init_cfg=None, with_cp=False)
    cfg.neck.update(in_channels=[8, 16, 32, 64])
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=12, nms=dict(
        type='soft_nms' if soft else 'nms', iou_threshold=0.5))
    heads = cfg.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(fc_out_channels=32, num_classes=3)
    if masks:
        heads = cfg.roi_head.mask_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.update(num_classes=3)
    else:
        cfg.roi_head.update(mask_head=None, mask_roi_extractor=None)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = revert_sync_batchnorm(MODELS.build(cfg)).eval()
        views = MODELS.build(dict(type='swinv2_mm.TwoStageViews', module=model))
    awaken(model.backbone)
    for name, parameter in model.roi_head.named_parameters():  # scores and masks of all sizes
        if 'fc_cls' in name or 'conv_logits' in name:
            parameter.data = torch.randn_like(parameter) * (parameter.ndim > 1)
    return model, views


def picture(seed=0):
    """A photo that is not its own mirror image, (H, W, 3), values 0 to 255."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 10, WIDTH // 10, 3))
    return np.kron(noise, np.ones((10, 10, 1))).astype(np.uint8)


KEYS = 'img_id', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'


def batch(image, steps):
    """What a loader of batch 1 gives of a photo after each list of transforms: a batch a view."""
    from mmengine.dataset import Compose, pseudo_collate
    raw = dict(img=image, img_id=1, ori_shape=image.shape[:2], img_shape=image.shape[:2])
    packed = []
    with DefaultScope.overwrite_default_scope('mmdet'):
        for view in steps:
            pipeline = Compose([TRANSFORMS.build(step) for step in (
                *view, dict(type='PackDetInputs', meta_keys=KEYS))])
            packed.append(pseudo_collate([pipeline(copy.deepcopy(raw))]))
    return packed


def resize(scale):
    return dict(type='Resize', scale=scale, keep_ratio=True)


def flip(prob):
    return dict(type='RandomFlip', prob=prob)


@torch.no_grad()
def look(views, image, steps):
    data = batch(image, steps)
    return views.test_step({key: [view[key] for view in data] for key in data[0]})[0].pred_instances


def assert_same(found, expected):
    assert set(found.keys()) == set(expected.keys()) and len(found) == len(expected) > 3
    for key in found.keys():
        assert torch.equal(found[key], expected[key]), key


def assert_same_masks(found, expected):
    """But for a pixel here and there, whose probability is the threshold itself."""
    assert found.flatten(1).any(1).sum() > 3  # there is something to be compared
    assert (found != expected).sum() <= 0.005 * (found | expected).sum()


@pytest.mark.parametrize('scale', [(80, 60), (171, 128), (55, 41)])
@pytest.mark.parametrize(('name', 'soft', 'masks'), [
    (CASCADE, False, True), (HTC, True, True), (MASK, False, True), (CASCADE, True, False)])
def test_one_view_without_a_flip_is_plain_testing_to_the_bit(name, soft, masks, scale):
    model, views = detector(name, soft, masks)
    data, = batch(picture(), [[resize(scale), flip(0.0)]])
    with torch.no_grad():
        plain = model.test_step(data)[0].pred_instances
    assert ('masks' in plain) == masks
    assert_same(look(views, picture(), [[resize(scale), flip(0.0)]]), plain)


@pytest.mark.parametrize('name', [CASCADE, HTC, MASK])
def test_a_view_that_is_there_twice_changes_nothing(name):
    """Hard suppression takes the doubles away; the mean of two equal masks is the mask."""
    _, views = detector(name)
    once = [resize((171, 128)), flip(0.0)]
    assert_same(look(views, picture(), [once, once]), look(views, picture(), [once]))


@pytest.mark.parametrize('name', [CASCADE, HTC, MASK])
@pytest.mark.parametrize('sizes', [[(160, 120)], [(160, 120), (80, 60)]])
def test_a_mirrored_photo_gives_mirrored_boxes_and_masks(name, sizes):
    """With and without a flip the views of a photo are those of its mirror image."""
    _, views = detector(name)
    steps = [[resize(size), flip(prob)] for size in sizes for prob in (0.0, 1.0)]
    found = look(views, picture(), steps)
    mirrored = look(views, picture()[:, ::-1].copy(), steps)
    boxes = mirrored.bboxes.clone()
    boxes[:, [0, 2]] = WIDTH - mirrored.bboxes[:, [2, 0]]
    torch.testing.assert_close(found.bboxes, boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.scores, mirrored.scores, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.labels, mirrored.labels)
    assert_same_masks(found.masks, mirrored.masks.flip(-1))
    # The model itself sees a difference, else this would show nothing.
    single = look(views, picture(), steps[:1])
    assert (single.masks != look(
        views, picture()[:, ::-1].copy(), steps[:1]).masks.flip(-1)).any()


@pytest.mark.parametrize('direction', ['vertical', 'diagonal'])
def test_other_flips_come_back_as_well(direction):
    """The one view is flipped: boxes and masks are those of plain testing of the flipped photo."""
    model, views = detector(CASCADE)
    axes = dict(vertical=[0], diagonal=[0, 1])[direction]
    turned = np.flip(picture(), axes).copy()
    data, = batch(turned, [[resize((160, 120)), flip(0.0)]])
    with torch.no_grad():
        plain = model.test_step(data)[0].pred_instances
    found = look(views, picture(), [
        [resize((160, 120)), dict(type='RandomFlip', prob=1.0, direction=direction)]])
    torch.testing.assert_close(found.scores, plain.scores)
    boxes = plain.bboxes.clone()
    for axis, side in ((0, HEIGHT), (1, WIDTH)):
        if axis in axes:
            first, second = (1, 3) if axis == 0 else (0, 2)
            boxes[:, [first, second]] = side - plain.bboxes[:, [second, first]]
    torch.testing.assert_close(found.bboxes, boxes, atol=1e-3, rtol=1e-4)
    assert_same_masks(found.masks, plain.masks.flip([axis + 1 for axis in axes]))


def test_masks_of_the_merged_boxes_are_the_mean_of_each_scale():
    """Worked out by hand for Mask R-CNN: one box, its mask in two views, drawn and cut off."""
    model, views = detector(MASK)
    steps = [[resize((80, 60)), flip(0.0)], [resize((160, 120)), flip(0.0)]]
    found = look(views, picture(), steps)
    box, label = found.bboxes[:1], found.labels[0]
    means = []
    for data, scale in zip(batch(picture(), steps), (1.0, 2.0)):
        inputs = model.data_preprocessor(data, False)['inputs']
        rois = torch.cat([box.new_zeros(1, 1), box * scale], 1)
        with torch.no_grad():
            features = model.extract_feat(inputs)
            logits = model.roi_head.mask_head(model.roi_head.mask_roi_extractor(
                features[:4], rois))
        means.append(logits[0, label].sigmoid())
    mean = (means[0] + means[1]) / 2
    x1, y1, x2, y2 = box[0].tolist()
    rows = ((torch.arange(HEIGHT) + 0.5 - y1) / (y2 - y1) * 2 - 1)
    columns = ((torch.arange(WIDTH) + 0.5 - x1) / (x2 - x1) * 2 - 1)
    grid = torch.stack([columns.expand(HEIGHT, -1), rows[:, None].expand(-1, WIDTH)], -1)
    drawn = torch.nn.functional.grid_sample(mean[None, None], grid[None], align_corners=False)
    assert ((drawn[0, 0] >= 0.5) == found.masks[0]).float().mean() > 0.9999
    assert found.masks[0].any()


def test_a_photo_without_a_find_has_no_boxes_and_no_masks(monkeypatch):
    model, views = detector(CASCADE)
    monkeypatch.setitem(model.roi_head.test_cfg, 'score_thr', 1.0)
    found = look(views, picture(), [[resize((80, 60)), flip(0.0)], [resize((80, 60)), flip(1.0)]])
    assert found.bboxes.shape == (0, 4) and found.masks.shape == (0, HEIGHT, WIDTH)


def test_another_detector_is_refused_with_what_to_do():
    class Other(torch.nn.Module):
        def test_step(self, data):
            return data

    with pytest.raises(ValueError, match='got Other: use .*DetTTAModel.*boxes only'):
        TwoStageViews(Other())


@pytest.mark.parametrize(('name', 'count'), [(CASCADE, 6), (HTC, 6), (MASK, 6)])
def test_the_configs_look_at_several_scales_and_flips(name, count):
    cfg = load(name)
    assert cfg.tta_model == Config(dict(m=dict(type='swinv2_mm.TwoStageViews'))).m
    sizes, flips, *_ = cfg.tta_pipeline[1].transforms
    assert len(sizes) * len(flips) == count
    assert cfg.test_pipeline[1].scale in [step.scale for step in sizes]
