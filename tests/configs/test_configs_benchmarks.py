"""Configs of other benchmarks: data in their real layout train, predict and are scored."""
import collections
import re

import numpy as np
import pytest
import torch
from benchmark_sets import RUNS, coco_panoptic
from config_checks import ZOO, assert_published, build, docstring, load, tidy
from conftest import awaken
from helpers import shrink, train_step
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, DefaultScope
from mmengine.utils import get_installed_path

from swinv2_mm.datasets import repairs
from swinv2_mm.datasets.checks import findings

SIZES = ('scale', 'scales', 'crop_size', 'size', 'max_size')


def smaller(node, factor):
    """Every size in a config divided, in place, so that a picture takes no second."""
    def divide(value):
        if isinstance(value, (tuple, list)):
            return type(value)(divide(part) for part in value)
        return value // factor if isinstance(value, int) and value > 0 else value

    for key, value in list(node.items()) if isinstance(node, dict) else enumerate(node):
        if isinstance(node, dict) and key in SIZES:
            node[key] = divide(value)
        elif isinstance(value, (dict, list)):
            smaller(value, factor)


def small(cfg):
    """The config with a narrow model of the same kind, in place."""
    model, widths = cfg.model, [8, 16, 32, 64]
    model.backbone.update(drop_path_rate=0.0, with_cp=False, arch=dict(
        embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 1, 2, 2)))
    if 'cls_head' in model:
        model.cls_head.in_channels = widths[-1]
    for name in ('neck', 'decode_head', 'panoptic_head'):
        if name in model:
            model[name].in_channels = widths
    if 'auxiliary_head' in model:
        model.auxiliary_head.update(in_channels=widths[2], channels=16)
        model.decode_head.channels = 16
    for head in (model.get('panoptic_head'), model.get('decode_head')):
        if 'transformer_decoder' in (head or {}):
            head.num_queries = 20
            head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
            (head.get('train_cfg') or model.train_cfg).num_points = 100
    if 'roi_head' in model:
        shrink(model)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
        for head in model.roi_head.bbox_head:
            head.update(fc_out_channels=32)
        for stage in model.train_cfg.rcnn:
            stage.sampler.num = 8
    return cfg


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """maker -> the folder it was asked to fill, once."""
    made = {}

    def folder(maker):
        if maker not in made:
            made[maker] = tmp_path_factory.mktemp(maker.__name__)
            maker(made[maker])
        return made[maker]
    return folder


def place(cfg, root):
    """The config with its data below `root`: one data_root is all there is to change."""
    def moved(node):
        if isinstance(node, dict):
            return {key: moved(value) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(moved(part) for part in node)
        return node.replace(cfg.data_root, f'{root}/') if isinstance(node, str) else node

    return Config(moved(cfg.to_dict()))


def prepared(name, folders):
    cfg = place(load(name), folders(RUNS[name]))
    smaller([cfg[f'{split}_dataloader'] for split in ('train', 'val')],
            4 if cfg.default_scope == 'mmaction' else 8)
    smaller(cfg.model.data_preprocessor, 8)
    return small(cfg)


@pytest.mark.parametrize('name', RUNS)
def test_data_in_their_real_layout_train_predict_and_are_scored(name, folders):
    cfg = prepared(name, folders)
    torch.manual_seed(0)
    np.random.seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        repairs.install()
        train, val = (DATASETS.build(cfg[f'{split}_dataloader'].dataset)
                      for split in ('train', 'val'))
        model = revert_sync_batchnorm(build(cfg))
        model.init_weights()
        awaken(model.backbone)
        batch = pseudo_collate([train[0], train[1]])
        losses = train_step(model, batch)
        for key, value in losses.items():
            for loss in value if isinstance(value, list) else [value]:
                assert loss.isfinite().all(), key
        assert [key for key, p in model.backbone.named_parameters()
                if not (p.requires_grad and p.grad.any() and p.grad.isfinite().all())] == []

        model.eval()
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = val.metainfo
        with torch.no_grad():
            for i in range(len(val)):
                data = pseudo_collate([val[i]])
                found = model.test_step(data)
                if 'panoptic' in name:
                    assert found[0].pred_panoptic_seg.sem_seg.shape == (1, 64, 96)
                evaluator.process(found, data)
        metrics = evaluator.evaluate(len(val))
        assert metrics and all(np.isfinite(value) for value in metrics.values()), metrics
        assert 'panoptic' not in name or 'coco_panoptic/PQ' in metrics


@pytest.mark.parametrize('name', [name for name in RUNS if 'swinv2_g' not in name])
def test_the_check_before_a_run_finds_nothing_wrong_with_them(name, folders, monkeypatch):
    from swinv2_mm.datasets.checks import packages
    monkeypatch.setattr(packages, 'find_spec', lambda name: True)
    cfg = place(load(name), folders(RUNS[name]))
    found = list(findings(cfg, ('train', 'val')))
    assert [finding for finding in found if finding.level == 'error'] == []


def test_a_missing_package_ends_in_the_line_that_installs_it(monkeypatch):
    from swinv2_mm.datasets.checks import check_data, packages
    from swinv2_mm.utils.errors import UserError
    monkeypatch.setattr(packages, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='needs the package lvis, which .*pip install lvis'):
        check_data(load('configs/det/swinv2_l_cascade_lvis.py'), 'train')


def test_panoptic_quality_is_that_of_the_formula(folders):
    """By mmdet's metric, over three pictures, against sets of pixels."""
    root = folders(coco_panoptic)
    repairs.install()
    from mmdet.datasets import CocoPanopticDataset
    from mmdet.evaluation import CocoPanopticMetric
    from mmdet.evaluation.functional import INSTANCE_OFFSET
    metric = CocoPanopticMetric(ann_file=f'{root}/annotations/panoptic_val2017.json',
                                seg_prefix=f'{root}/annotations/panoptic_val2017/', nproc=1)
    metric.dataset_meta = CocoPanopticDataset.METAINFO
    # In each picture stuff 132 with things 0 and 79 (BOXES) are true. Found: a part of thing 0, too
    # little of it in the last picture; thing 79 under another name in the first; and all the stuff.
    pairs = {0: [], 79: [], 132: []}  # IoU of each true segment with what is found of its class
    wrong = collections.Counter()  # found and not true
    for number, (height, label) in enumerate([(30, 1), (20, 79), (10, 79)], 1):
        found = np.full((64, 96), 132)
        found[8:8 + height, 10:50] = 0 + INSTANCE_OFFSET
        found[20:60, 50:80] = label + INSTANCE_OFFSET * 2
        pairs[0].append(height / 36)
        pairs[79].append(float(label == 79))
        ground = 64 * 96 - 40 * 36 - 30 * 40
        pairs[132].append(ground / (ground + 40 * (36 - height)))
        wrong[0] += height == 10
        wrong[1] += label == 1
        metric.process(None, [dict(
            img_id=number, img_path=f'{number:012}.jpg', ori_shape=(64, 96),
            pred_panoptic_seg=dict(sem_seg=torch.from_numpy(found[None])))])
    classes = {}
    for name in {**pairs, **wrong}:
        good = [iou for iou in pairs.get(name, []) if iou > 0.5]
        missed = len(pairs.get(name, [])) - len(good)
        classes[name] = sum(good) / (len(good) + 0.5 * missed + 0.5 * wrong[name])
    found = metric.evaluate(3)
    assert found['coco_panoptic/PQ'] == pytest.approx(100 * np.mean(list(classes.values())))
    stuff = classes.pop(132)
    assert 0.5 < stuff < 1
    assert found['coco_panoptic/PQ_st'] == pytest.approx(100 * stuff)
    assert found['coco_panoptic/PQ_th'] == pytest.approx(100 * np.mean(list(classes.values())))


def theirs(library, stem):
    folder = get_installed_path(library)
    return Config.fromfile(f'{folder}/.mim/configs/{stem}.py')


@pytest.mark.parametrize('size, stem', [
    ('t', 'swin-t-p4-w7-224_8xb2-lsj-50e'), ('l', 'swin-l-p4-w12-384-in21k_16xb1-lsj-100e')])
def test_panoptic_mask2former_is_that_of_mmdet(size, stem):
    ours = load(f'configs/det/swinv2_{size}_mask2former_panoptic.py')
    shipped = theirs('mmdet', f'mask2former/mask2former_{stem}_coco-panoptic')
    for model in (ours.model, shipped.model):
        model.pop('init_cfg', None)
        model.panoptic_head.transformer_decoder.pop('init_cfg', None)
        assert model.pop('backbone').drop_path_rate == 0.3
    assert tidy(ours.model.to_dict()) == tidy(shipped.model.to_dict())
    assert ours.train_cfg.max_iters == shipped.train_cfg.max_iters
    schedule = shipped.param_scheduler
    assert ours.param_scheduler[0].milestones == schedule.milestones
    assert ours.param_scheduler[0].end == schedule.end
    assert ours.train_dataloader.batch_size == shipped.train_dataloader.batch_size
    assert ours.optim_wrapper.clip_grad == shipped.optim_wrapper.clip_grad
    steps, wanted = tidy(ours.train_pipeline[1:]), tidy(shipped.train_pipeline[1:])
    steps[2].pop('resize_type')  # the default
    assert steps == wanted


@pytest.mark.parametrize('size, stem', [('t', 'swin-t'), ('l', 'swin-l-in22k-384x384-pre')])
def test_mask2former_of_cityscapes_is_that_of_mmseg(size, stem):
    ours = load(f'configs/seg/swinv2_{size}_mask2former_cityscapes.py')
    shipped = theirs('mmseg', f'mask2former/mask2former_{stem}_8xb2-90k_cityscapes-512x1024')
    head = tidy(shipped.model.decode_head)
    head['pixel_decoder']['encoder']['layer_cfg']['self_attn_cfg'].pop('im2col_step')  # defaults
    head['transformer_decoder']['layer_cfg']['ffn_cfg'].pop('add_identity')
    assert tidy(ours.model.decode_head) == head
    assert tidy(ours.model.data_preprocessor) == tidy(shipped.model.data_preprocessor)
    assert tidy(ours.train_cfg) == tidy(shipped.train_cfg)
    assert tidy(ours.param_scheduler) == tidy(shipped.param_scheduler)
    assert tidy(ours.train_pipeline[2:]) == tidy(shipped.train_pipeline[2:])
    assert tidy(ours.test_pipeline) == tidy(shipped.test_pipeline)
    assert ours.optim_wrapper.clip_grad == shipped.optim_wrapper.clip_grad


@pytest.mark.parametrize('name, data', [
    ('cityscapes', 'cityscapes'), ('cocostuff', 'coco-stuff164k'),
    ('context59', 'pascal_context_59')])
def test_pictures_of_upernet_are_cropped_and_scaled_as_in_mmseg(name, data):
    ours = load(f'configs/seg/swinv2_t_upernet_{name}.py')
    shipped = theirs('mmseg', f'_base_/datasets/{data}')
    for split in ('train', 'val'):
        one, two = (tidy(cfg[f'{split}_dataloader'].dataset) for cfg in (ours, shipped))
        for key in ('type', 'data_prefix', 'ann_file'):
            assert one.get(key) == two.get(key)
        assert one['data_root'].rstrip('/') == two['data_root'].rstrip('/')
        if split == 'train':
            assert one['pipeline'][2:] == two['pipeline'][2:]
    assert ours.crop_size == shipped.crop_size
    assert ours.test_pipeline[1] == shipped.test_pipeline[1]


def test_the_box_branch_of_objects365_is_that_of_htcpp():
    boxes, whole = (load(f'configs/det/swinv2_g_{name}.py') for name in ('objects365', 'htcpp'))
    one, two = boxes.model.to_dict(), whole.model.to_dict()
    for key in ('neck', 'rpn_head', 'backbone'):
        assert one[key] == two[key]
    for ours, other in zip(one['roi_head']['bbox_head'], two['roi_head']['bbox_head']):
        assert ours.pop('num_classes') == 365 and other.pop('num_classes') == 80
        assert ours == other
    for stage in two['train_cfg']['rcnn']:
        stage.pop('mask_size')
    two['test_cfg']['rcnn'].pop('mask_thr_binary')
    assert one['train_cfg'] == two['train_cfg'] and one['test_cfg'] == two['test_cfg']


BASE22K = {'model.backbone.arch': 'base', 'model.backbone.init_cfg.checkpoint':
           ZOO + 'swinv2_base_patch4_window12_192_22k.pth'}
OBJECTS365 = {  # A2.2
    'model.backbone.window_size': 32, 'optim_wrapper.optimizer.lr': 1.2e-3,
    'optim_wrapper.optimizer.weight_decay': 0.05, 'auto_scale_lr.base_batch_size': 96,
    'train_cfg.max_iters': 67500, 'model.test_cfg.rcnn.nms.type': 'soft_nms'}
# VID: the official Video Swin configs. D: detectron2's projects/ViTDet, LVIS, Swin-L.
PUBLISHED = {
    'configs/det/swinv2_l_objects365.py': OBJECTS365 | {'model.backbone.arch': 'large'},
    'configs/det/swinv2_g_objects365.py': OBJECTS365 | {'model.backbone.arch': 'giant'},
    'configs/det/swinv2_l_cascade_lvis.py': {  # D
        'train_dataloader.dataset.oversample_thr': 1e-3, 'train_cfg.max_iters': 78125,
        'param_scheduler.0.end': 250, 'param_scheduler.1.milestones': [69444, 75231],
        'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.weight_decay': 0.05,
        'auto_scale_lr.base_batch_size': 64, 'model.backbone.drop_path_rate': 0.3,
        'model.test_cfg.rcnn.score_thr': 0.02, 'model.test_cfg.rcnn.max_per_img': 300},
    'configs/video/swinv2_b_k600.py': BASE22K | {  # VID
        'optim_wrapper.optimizer.lr': 3e-4, 'optim_wrapper.optimizer.weight_decay': 0.05,
        'model.backbone.drop_path_rate': 0.2, 'model.cls_head.num_classes': 600,
        'model.backbone.window_size': (8, 7, 7), 'train_cfg.max_epochs': 30,
        'test_dataloader.dataset.pipeline.0.sample.num_clips': 4},
    'configs/video/swinv2_b_sthv2.py': {  # VID
        'optim_wrapper.optimizer.lr': 3e-4, 'optim_wrapper.optimizer.weight_decay': 0.05,
        'model.backbone.drop_path_rate': 0.4, 'model.cls_head.num_classes': 174,
        'model.cls_head.label_smooth_eps': 0.1, 'model.backbone.window_size': (16, 7, 7),
        'train_cfg.max_epochs': 60, 'param_scheduler.1.end': 60, 'param_scheduler.1.T_max': 60,
        'train_pipeline.0.sample': dict(type='UniformSample', clip_len=32),
        'train_pipeline.4.magnitude': 7, 'train_pipeline.4.num_ops': 4,
        'train_pipeline.5.erase_prob': 0.25},
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_recipes_are_the_published_ones(name):
    assert_published(load(name), PUBLISHED[name])


@pytest.mark.parametrize('name', RUNS)
def test_the_command_trains_at_the_batch_of_the_recipe(name):
    cfg, text = load(name), docstring(name)
    gpus = int(re.search(r'dist_train\.sh \S+ (\d+)', text)[1])
    machines = int((re.search(r'NNODES=(\d+)', text) or [0, 1])[1])
    batch = machines * gpus * cfg.train_dataloader.batch_size
    assert batch == cfg.auto_scale_lr.base_batch_size
    assert re.search(rf'batch {batch} \(', text)


def test_the_windows_of_something_something_grow_from_those_of_kinetics():
    """Positions in time are counted by the window that its weights were trained with."""
    before, after = (load(f'configs/video/swinv2_b_{name}.py').model.backbone
                     for name in ('k400', 'sthv2'))
    assert before.get('window_size', (8, 7, 7))[0] == after.pretrained_window_sizes[0] == 8
    assert before.pretrained_window_sizes[1:] == after.pretrained_window_sizes[1:]
    assert after.init_cfg.checkpoint.startswith('work_dirs/swinv2_b_k400/')
