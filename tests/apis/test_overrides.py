"""An option that changes nothing in what will run is refused with what would, or told."""
import re
import shlex
from argparse import ArgumentParser

import pytest
from helpers import ROOT
from mmengine.config import Config

from swinv2_mm.apis import overrides
from swinv2_mm.utils.errors import UserError

BCCD = ROOT / 'configs/det/swinv2_n_cascade_bccd.py'
CAMVID = ROOT / 'configs/seg/swinv2_n_upernet_camvid.py'


def parsed(text):
    """The options that a command line gives."""
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={})
    return parser.parse_args(['--cfg-options', *shlex.split(text)]).cfg_options


def refusal(config, text):
    with pytest.raises(UserError) as error:
        overrides.override(Config.fromfile(config), parsed(text))
    return str(error.value)


@pytest.mark.parametrize('config, option, reads', [
    (BCCD, 'data_root=mine/', lambda c: [
        c.train_dataloader.dataset.data_root, c.val_dataloader.dataset.data_root,
        c.val_evaluator.ann_file.partition('/')[0] + '/']),
    (CAMVID, 'crop_size="(64,96)"', lambda c: [
        tuple(c.model.data_preprocessor.size),
        tuple(c.train_dataloader.dataset.pipeline[3].crop_size)]),
    (CAMVID, 'max_iters=77', lambda c: [c.train_cfg.max_iters]),
    (BCCD, 'train_pipeline.1.with_bbox=False', lambda c: [
        c.train_dataloader.dataset.pipeline[1].with_bbox]),
], ids=['folder', 'size', 'length', 'a step of a pipeline'])
def test_a_name_of_the_file_is_refused_and_what_is_advised_changes_what_runs(config, option, reads):
    message = refusal(config, option)
    assert 'is a name inside the config file' in message and message.endswith('.')
    advised = re.search('set what it stands for: (.*)[.]$', message)[1]
    options = parsed(advised)
    assert options, message
    cfg, before = Config.fromfile(config), Config.fromfile(config)
    overrides.override(cfg, options)
    wanted = parsed(option)
    value = next(iter(wanted.values()))
    for now, then in zip(reads(cfg), reads(before)):
        assert now != then and now == (tuple(value) if isinstance(value, list) else value)


def test_a_preprocessor_beside_that_of_the_model_is_refused(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('data_preprocessor = dict(size=(8, 8))\n'
                    'model = dict(data_preprocessor=data_preprocessor)\n')
    message = refusal(path, 'data_preprocessor.size=[4,4]')
    option = re.search('set (model.*)[.]$', message)[1]
    cfg = Config.fromfile(path)
    overrides.override(cfg, parsed(option))
    assert list(cfg.model.data_preprocessor.size) == [4, 4]


def test_one_of_a_list_is_named_by_its_number():
    cfg = Config.fromfile(ROOT / 'configs/demo/det_nano.py')
    with pytest.raises(UserError) as caught:
        overrides.override(cfg, parsed('model.roi_head.bbox_head.num_classes=7'))
    assert 'model.roi_head.bbox_head is a list of 3: give the number of one' in str(caught.value)
    key = re.search('such as (.*)[.]$', str(caught.value))[1]
    overrides.override(cfg, parsed(f'{key}=7'))
    assert cfg.model.roi_head.bbox_head[0].num_classes == 7


@pytest.mark.parametrize('option, testing, said', [
    ('test_dataloader.batch_size=3', False, 'this tool does not read test_dataloader.batch_size'),
    ('train_cfg.max_iters=3', True, 'train_cfg.max_iters, which tools/train.py does'),
    ('nothing.at_all=3', False, 'nothing.at_all is a new name, which mmengine does not read'),
    ('optimizer.lr=0.1', False, 'mmengine does not read: set optim_wrapper.optimizer.'),
    ('data.samples_per_gpu=2', False, 'not read: set train_dataloader, val_dataloader and'),
    ('auto_scale_lr.enabled=True', False, 'auto_scale_lr.enabled is a new name'),
    ('auto_scale_lr.base_batch_size=16', False, None),
    ('find_unused_parameters=True', False, None),
    ('train_dataloader.batch_size=4', False, 'is so in the config already'),
    ('train_dataloader.batch_size=3', False, None),
    ('model.test_cfg.rcnn.score_threshold=0.5', True, 'is a new name beside mask_thr_binary, max_'),
    ('train_dataloader.dataset.metainfo.names=3', False, 'is a new name beside classes, palette'),
    ('model.backbone.frozen_stages=3', False, None),  # its constructor says what it takes
])
def test_an_option_that_changes_nothing_is_told(option, testing, said, capsys):
    cfg = Config.fromfile(ROOT / 'configs/demo/det_nano.py')
    overrides.override(cfg, parsed(option), testing=testing)
    out = capsys.readouterr().out
    assert (said in out) if said else out == ''


@pytest.mark.parametrize('option, arguments, said', [
    ('work_dir=a', dict(work_dir='b'), 'as --work-dir is given'),
    ('load_from=a.pth', dict(checkpoint='b.pth'), 'as the checkpoint of the command line is'),
    ('load_from=a.pth', dict(resume='auto'), 'as --resume is given'),
    ('randomness.seed=3', dict(seed=0), 'as --seed and --deterministic are'),
    ('val_evaluator.metric=bbox', dict(no_validate=True), 'as --no-validate is given'),
    ('tta_model.tta_cfg.nms.iou_threshold=0.9', dict(checkpoint='b', tta=False), 'as --tta is not'),
    ('test_dataloader.dataset.pipeline.1.scale="(9,9)"', dict(checkpoint='b', tta=True),
     'as --tta takes tta_pipeline'),
    ('auto_scale_lr.base_batch_size=3', dict(auto_scale_lr=False), 'as --auto-scale-lr is not'),
    ('work_dir=a', dict(work_dir=None), None),
    ('val_evaluator.metric=bbox', dict(no_validate=False), None),
    ('tta_model.tta_cfg.nms.iou_threshold=0.9', dict(checkpoint='b', tta=True), None),
    ('auto_scale_lr.base_batch_size=3', dict(auto_scale_lr=True), None),
])
def test_an_option_that_another_argument_overrules_is_told(option, arguments, said, capsys):
    cfg = Config.fromfile(ROOT / 'configs/det/swinv2_t_cascade.py')
    overrides.override(cfg, parsed(option), testing='checkpoint' in arguments,
                       rules=overrides.overruled(arguments))
    out = capsys.readouterr().out
    assert (f'{option.partition("=")[0]} is not read, {said}' in out) if said else (
        'is not read, as' not in out)
