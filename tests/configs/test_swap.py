"""Three lines in a config that each library ships: it trains two steps and tests, as installed."""
from pathlib import Path

import mmseg
import pytest
from helpers import ROOT, checked, make_shapes, run_tool, shrink
from mmengine.config import Config
from mmengine.utils import is_installed

NANO = "_delete_=True, type='swinv2_mm.SwinTransformerV2', arch='nano', window_size=8"
# mmengine looks for `mmseg::` in a distribution named mmsegmentation; OneDL's has another name.
MMSEG = 'mmseg::' if is_installed('mmsegmentation') else f'{Path(mmseg.__path__[0])}/.mim/configs/'
# Library -> what turns one of its configs into one of ours; our data set, its tool, its folder.
SWAPS = {
    'mmdet': (f"""
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict({NANO}),
    neck=dict(in_channels=[32, 64, 128, 256]))
""", 'shapes_instance'),
    'mmseg': (f"""
_base_ = '{MMSEG}upernet/upernet_r50_4xb4-80k_ade20k-512x512.py'
model = dict(
    backbone=dict({NANO}), pretrained=None,
    decode_head=dict(in_channels=[32, 64, 128, 256]), auxiliary_head=dict(in_channels=128))
""", 'shapes_semantic'),
    'mmpretrain': (f"""
_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
model = dict(
    backbone=dict({NANO}, out_indices=(3,)),
    head=dict(in_channels=256))
""", 'shapes_crops'),
    'mmaction': ("""
_base_ = ('mmaction::recognition/swin/'
          'swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py')
custom_imports = dict(imports=['swinv2_mm.utils.compat'], allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, type='swinv2_mm.SwinTransformerV2Video', arch='nano',
                  window_size=(2, 8, 8), out_indices=(3,)),
    cls_head=dict(in_channels=256))
""", 'motions'),
}
LOADERS = [f'{split}_{part}' for split in ('train', 'val', 'test')
           for part in ('dataloader', 'evaluator')]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """data_root of each of our data sets, rendered small."""
    folder = tmp_path_factory.mktemp('data')
    for kind, size in (('crops', 64), ('motions', 32)):
        checked(run_tool(f'tools/dataset/make_{kind}.py', '--out', folder / kind, '--train', 12,
                         '--val', 6, '--size', size))
    return {'shapes_instance': make_shapes(folder / 'shapes'), 'motions': f'{folder}/motions/',
            'shapes_semantic': f'{folder}/crops/', 'shapes_crops': f'{folder}/crops/'}


def shortened(cfg, root, name):
    """The config with one of our data sets, so small that two steps and a test take seconds."""
    ours = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    for key in LOADERS:
        if key in ours:
            cfg[key] = ours[key]
        if key.endswith('dataloader'):
            cfg[key].batch_size, cfg[key].dataset.data_root = 2, root
    if name == 'shapes_instance':
        cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{root}val.json'
    classes = len(ours.metainfo['classes'])
    for part in ('decode_head', 'auxiliary_head', 'head', 'cls_head'):
        if part in cfg.model:
            cfg.model[part].num_classes = classes
    if name == 'shapes_instance':
        for head in ('bbox_head', 'mask_head'):
            cfg.model.roi_head[head].num_classes = classes
        shrink(cfg.model)
    if name == 'shapes_semantic':
        cfg.model.data_preprocessor.size = (32, 32)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.param_scheduler, cfg.optim_wrapper = [], dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.default_hooks.pop('visualization', None)
    cfg.load_from = None
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('library', SWAPS)
def test_the_swap_trains_two_steps_and_tests_in_each_library(library, data, tmp_path):
    text, name = SWAPS[library]
    (tmp_path / 'swapped.py').write_text(text)
    cfg = shortened(Config.fromfile(tmp_path / 'swapped.py'), data[name], name)
    cfg.dump(tmp_path / 'short.py')
    checked(run_tool('tools/train.py', tmp_path / 'short.py', '--work-dir', tmp_path / 'run'))
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    tested = checked(run_tool('tools/test.py', tmp_path / 'short.py', tmp_path / 'run/iter_2.pth',
                              '--work-dir', tmp_path / 'run'))
    assert '(test)' in tested.stdout
