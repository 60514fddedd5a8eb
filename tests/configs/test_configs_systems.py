"""The paper's detection systems and transformer heads: recipes, whole models, a step each."""
import re
import sys
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from config_checks import assert_published, build, docstring, follow, load
from conftest import awaken
from helpers import DEMO, make_shapes, predict, sample, shrink, train_step
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import PixelData
from PIL import Image
from published_systems import PUBLISHED, SYSTEMS

from swinv2_mm import ARCHS


def with_options(key, option):
    """The config after those --cfg-options of its docstring that begin with `option`."""
    from swinv2_mm.apis import launch
    text = ' '.join(docstring(SYSTEMS[key]).split())
    words = re.search(rf'--cfg-options ({re.escape(option)}=\S+( \w+[.]\S+=\S+)*)', text)[1]
    args = launch.parser('').parse_args(
        [SYSTEMS[key], '--cfg-options', *words.rstrip('.').replace('"', '').split()])
    return launch.load_config(args)


@pytest.mark.parametrize('key', SYSTEMS)
def test_systems_resolve_to_the_published_recipe(key):
    cfg = load(SYSTEMS[key])
    assert_published(cfg, PUBLISHED[key])
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline


@pytest.mark.parametrize('key, file, differs', [
    ('mask2former tiny', 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco', {}),
    ('dino tiny', 'dino/dino-4scale_r50_8xb2-12e_coco', {
        'neck.in_channels': [192, 384, 768], 'num_feature_levels': 4}),
    ('dino large', 'dino/dino-5scale_swin-l_8xb2-12e_coco', {}),
    ('htc++ large', 'htc/htc_r50_fpn_1x_coco', {
        'neck.in_channels': [192, 384, 768, 1536], 'test_cfg.rcnn.nms.type': 'soft_nms',
        'train_cfg.rpn.allowed_border': -1,  # see there
        **{f'roi_head.mask_head.{i}.with_conv_res': True for i in (1, 2)}})])  # the default
def test_heads_are_those_that_mmdet_ships_but_for_what_is_listed(key, file, differs):
    theirs = Config.fromfile(Path(mmdet.__file__).parent / '.mim' / 'configs' / f'{file}.py')
    theirs.merge_from_dict({f'model.{path}': value for path, value in differs.items()})
    ours, theirs = load(SYSTEMS[key]).model.to_dict(), theirs.model.to_dict()
    for model in (ours, theirs):
        del model['backbone'], model['data_preprocessor']
        model.pop('init_cfg', None)
    if 'mask2former' in key:  # there since mmdet 2, and without effect
        del theirs['panoptic_head']['transformer_decoder']['init_cfg']
        del ours['panoptic_head']['transformer_decoder']['init_cfg']
    assert ours == theirs


@pytest.mark.parametrize('key', SYSTEMS)
def test_the_command_trains_at_the_published_batch(key):
    cfg, text = load(SYSTEMS[key]), docstring(SYSTEMS[key])
    gpus = int(re.search(r'dist_train\.sh \S+ (\d+)', text)[1])
    machines = int((re.search(r'NNODES=(\d+)', text) or [0, 1])[1])
    batch = machines * gpus * cfg.train_dataloader.batch_size
    assert batch == PUBLISHED[key]['auto_scale_lr.base_batch_size']
    assert not cfg.auto_scale_lr.enable


@pytest.mark.parametrize('key', SYSTEMS)
def test_the_whole_model_has_the_channels_and_blocks_its_parts_expect(key):
    cfg = load(SYSTEMS[key])
    model = build(cfg, 'meta')
    backbone, arch = model.backbone, ARCHS[key.split()[1]]
    assert [len(stage.blocks) for stage in backbone.layers] == list(arch.depths)
    assert backbone.out_channels == [arch.embed_dims << i for i in backbone.out_indices]
    head = cfg.model.get('neck') or cfg.model.panoptic_head
    assert head.in_channels == backbone.out_channels
    if 'strides' in head:
        assert head.strides == backbone.out_strides
    assert backbone.window_sizes == [(cfg.model.backbone.window_size,) * 2] * 4
    rates = [block.drop_path.rate for stage in backbone.layers for block in stage.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(cfg.model.backbone.drop_path_rate)


@pytest.mark.parametrize('key', SYSTEMS)
def test_the_backbone_learns_at_a_tenth_and_the_rules_of_decay_hold(key):
    cfg = load(SYSTEMS[key])
    model = build(cfg, 'meta')
    with DefaultScope.overwrite_default_scope('mmdet'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    lr, decay = (PUBLISHED[key][f'optim_wrapper.optimizer.{s}'] for s in ('lr', 'weight_decay'))
    embeddings = ('query_embed', 'query_feat', 'level_embed') if 'mask2former' in key else ()
    for name, p in model.named_parameters():
        free = p.ndim <= 1 or any(s in name for s in ('cpb_mlp', 'logit_scale', *embeddings))
        expected = lr * (0.1 if name.startswith('backbone.') else 1), 0 if free else decay
        assert found[id(p)] == pytest.approx(expected), name


def tiny(key):
    """The config with a small backbone, two blocks a stage, and heads that take a second."""
    cfg = load(SYSTEMS[key])
    model, widths = cfg.model, [8, 16, 32, 64]
    every = 2 if key.endswith('giant') else 0
    model.backbone.update(drop_path_rate=0.0, arch=dict(
        embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 1, 2, 2), extra_norm_every=every))
    if 'htc' in key:
        model.neck.in_channels = widths
        shrink(model)
        model.data_preprocessor.batch_augments[0].size = (128, 128)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
        for head, stage in zip(model.roi_head.bbox_head, model.train_cfg.rcnn):
            head.fc_out_channels, stage.sampler.num = 32, 8
    elif 'dino' in key:
        model.neck.in_channels = [widths[i] for i in model.backbone.out_indices]
        model.update(num_queries=20)
        model.encoder.num_layers = model.decoder.num_layers = 1
        model.dn_cfg.group_cfg.num_dn_queries = 4
    else:
        head = model.panoptic_head
        head.update(in_channels=widths, num_queries=10)
        head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
        model.data_preprocessor.batch_augments[0].size = (128, 128)
        model.train_cfg.num_points = 100
    return cfg


def example(key):
    data = sample(masks='dino' not in key)
    if 'htc' in key:
        data['data_samples'][0].gt_sem_seg = PixelData(sem_seg=torch.randint(0, 183, (1, 96, 128)))
    return data


@pytest.mark.parametrize('key', SYSTEMS)
def test_a_training_step_reaches_every_parameter_and_a_prediction_runs(key):
    torch.manual_seed(0)
    model = build(tiny(key))
    model.init_weights()
    awaken(model.backbone)
    losses = train_step(model, example(key))
    assert all(loss.isfinite().all() for value in losses.values()
               for loss in (value if isinstance(value, list) else [value]))
    # Distributed training stops at a parameter without a gradient, wherever it is.
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert [name for name, p in model.backbone.named_parameters()
            if not p.grad.any() or not p.grad.isfinite().all()] == []
    expected = {'mask2former': 'loss_dice', 'dino': 'dn_loss_iou', 'htc++': 'loss_semantic_seg'}
    assert expected[key.split()[0]] in losses

    found = predict(model, example(key))
    assert len(found) and found.scores.isfinite().all() and found.bboxes.isfinite().all()
    assert found.labels.max() < 80 and ('masks' in found) == ('dino' not in key)


@pytest.mark.parametrize('key, option, values', [
    ('dino large', 'train_cfg.max_epochs', {  # D5
        'train_cfg.max_epochs': 36, 'param_scheduler.0.end': 36,
        'param_scheduler.0.milestones': [27, 33]}),
    *[(f'htc++ {size}', option, values) for size in ('large', 'giant') for option, values in (
        ('model.backbone.window_size', {'model.backbone.window_size': 48}),  # table 3
        ('train_dataloader.dataset.pipeline.1.transforms', {
            'train_dataloader.dataset.pipeline.1.transforms': []}))],
    ('htc++ giant', 'runner_type', {
        'runner_type': 'FlexibleRunner', 'strategy.type': 'swinv2_mm.ZeroStrategy'}),
])
def test_options_that_a_docstring_names_do_what_it_says(key, option, values):
    assert {path: follow(load(SYSTEMS[key]), path) for path in values} != values
    assert_published(with_options(key, option), values)


def test_the_window_of_the_tests_leaves_the_normalisers_of_the_weights():
    backbone = build(with_options('htc++ large', 'model.backbone.window_size'), 'meta').backbone
    assert backbone.window_sizes == [(48, 48)] * 4
    assert backbone.pretrained_window_sizes == [(12, 12), (12, 12), (12, 12), (6, 6)]


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """Shapes with masks, and a semantic map for each picture: 0 left, 182 right."""
    root = make_shapes(tmp_path_factory.mktemp('systems') / 'shapes', train=3, val=2)
    folder = tmp_path_factory.mktemp('maps')
    for path in (tmp_path_factory.getbasetemp() / root / 'train').glob('*'):
        map_ = np.zeros(Image.open(path).size[::-1], np.uint8)
        map_[:, map_.shape[1] // 2:] = 182
        Image.fromarray(map_).save(folder / f'{path.stem}.png')
    return root, f'{folder}/'


@pytest.mark.parametrize('key', ['mask2former tiny', 'dino tiny', 'htc++ large'])
def test_the_pipelines_give_pictures_boxes_masks_and_maps_of_one_size(key, coco):
    cfg, (root, maps) = load(SYSTEMS[key]), coco
    if 'htc' in key:
        cfg = with_options(key, 'train_dataloader.dataset.pipeline.1.transforms')
    settings = cfg.train_dataloader.dataset
    settings.update(data_root='', ann_file=f'{root}train.json', filter_cfg=None,
                    metainfo=load(DEMO).train_dataloader.dataset.metainfo)
    settings.data_prefix = dict(img=f'{root}train/', **({'seg': maps} if 'htc' in key else {}))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(settings)
    limit = dict(mask2former=1024, dino=1333)
    for i in range(len(dataset)):
        np.random.seed(i)
        data = dataset[i]
        height, width = data['inputs'].shape[1:]
        truth = data['data_samples']
        assert max(height, width) <= limit.get(key.split()[0], 1536)
        boxes = truth.gt_instances.bboxes.tensor
        assert len(boxes) and boxes[:, 2].max() <= width and boxes[:, 3].max() <= height
        if 'dino' not in key:
            assert truth.gt_instances.masks.masks.shape[1:] == (height, width)
        if 'htc' in key:
            assert truth.gt_sem_seg.sem_seg.shape == (1, height, width)
            assert set(truth.gt_sem_seg.sem_seg.unique().tolist()) <= {0, 182}


BOOST = 'train_dataloader.dataset.pipeline.1.transforms'
CREATER = '''
import numpy as np
def binary_mask_to_polygon(mask):
    contours = [np.ones((4, 2)), np.ones((int(mask.sum()), 2))]
    return {how}
'''


@pytest.mark.parametrize('how, message', [
    (None, 'which is not installed: pip install instaboostfast, or do without by'),
    ('np.subtract(contours, 1)', r'ValueError with numpy .* write \[c - 1 for c in contours\]'),
    ('[c - 1 for c in contours]', None)])
def test_instaboost_without_a_package_that_works_ends_in_what_to_do(
        how, message, tmp_path, monkeypatch):
    from swinv2_mm.datasets.checks import packages
    from swinv2_mm.utils.errors import UserError
    for name in [name for name in sys.modules if name.startswith('instaboostfast')]:
        monkeypatch.delitem(sys.modules, name)
    if how is None:
        monkeypatch.setattr(packages, 'find_spec', lambda name: None)
    else:
        (tmp_path / 'instaboostfast').mkdir()
        (tmp_path / 'instaboostfast' / '__init__.py').touch()
        (tmp_path / 'instaboostfast' / 'pycococreater.py').write_text(CREATER.format(how=how))
        monkeypatch.syspath_prepend(tmp_path)
    dataset = load(SYSTEMS['htc++ large']).train_dataloader.dataset
    if message is None:
        packages.check(dataset, 'train_dataloader')
        return
    with pytest.raises(UserError, match=message) as caught:
        packages.check(dataset, 'train_dataloader')
    assert f'do without by --cfg-options {BOOST}="[]".' in str(caught.value)
    dataset.pipeline[1].transforms = []
    packages.check(dataset, 'train_dataloader')


def test_instaboost_is_found_wherever_it_stands_in_a_pipeline(monkeypatch):
    from swinv2_mm.datasets.checks import packages
    from swinv2_mm.utils.errors import UserError
    monkeypatch.setattr(packages, 'find_spec', lambda name: None)
    boost = dict(type='mmdet.InstaBoost')
    for pipeline, place, hint in [
            ([dict(type='LoadImageFromFile'), boost], '1', 'take it out of the config'),
            ([dict(type='RandomChoice', transforms=[[], [boost]])], '0.transforms.1.0', 'take it')]:
        with pytest.raises(UserError, match=rf'at x.dataset.pipeline.{place} needs .* or {hint}'):
            packages.check(dict(pipeline=pipeline), 'x')


@pytest.mark.parametrize('key', ['htc++ large', 'htc++ giant'])
def test_the_check_of_the_data_comes_to_instaboost_before_the_files(key, monkeypatch):
    from swinv2_mm.datasets.checks import check_data, packages
    from swinv2_mm.utils.errors import UserError
    monkeypatch.setattr(packages, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install instaboostfast'):
        check_data(load(SYSTEMS[key]), 'train')
