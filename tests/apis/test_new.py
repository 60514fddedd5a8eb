"""From a folder as a labelling tool wrote it to a training run, by two commands."""
import json
import shutil

import label_sets as sets
import pytest
from helpers import ROOT, checked, last_line, read_scalars, run_tool, train_step
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from swinv2_mm.apis import new
from swinv2_mm.apis.new import compose, main, window_of
from swinv2_mm.datasets.converters import labels
from swinv2_mm.utils.errors import UserError

# Two iterations of two pictures, and a validation of one.
SHORT = ['--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
         'train_dataloader.batch_size=2', 'default_hooks.logger.interval=1',
         'default_hooks.checkpoint.interval=2']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Folders as `labels` writes them: boxes, masks, maps; and folders of classes."""
    folder = tmp_path_factory.mktemp('new')
    for name, tool, options in (('boxes', sets.labelimg, []), ('maps', sets.cvat, ['--to', 'seg']),
                                ('masks', sets.labelme, ['--classes', 'rod'])):
        labels.main([str(tool(folder / f'{name}_in')), '--out', str(folder / name), *options])
    for split in ('train', 'val'):
        for kind in ('cell', 'rod'):
            sets.photos(folder / 'classes' / split / kind, size=(64, 64))
    return folder


def test_two_commands_train_on_what_labelimg_wrote(tmp_path):
    sets.labelimg(tmp_path / 'in')
    for command in (['dataset/labels.py', 'in', '--out', 'data'],
                    ['new.py', 'det', 'data', '--arch', 'nano'],
                    ['train.py', 'data_det.py', '--work-dir', 'run', *SHORT]):
        checked(run_tool(ROOT / 'tools' / command[0], *command[1:], cwd=tmp_path))
    rows = read_scalars(tmp_path / 'run')
    assert any('loss' in row for row in rows) and any('coco/bbox_mAP' in row for row in rows)


@pytest.mark.parametrize(('tool', 'options'), [
    *((tool, []) for tool in sets.WRITERS), ('labelme', ['--classes', 'rod'])])
def test_what_a_tool_wrote_is_learnt_from(tool, options, tmp_path):
    labels.main([str(sets.WRITERS[tool](tmp_path / 'in')), '--out', str(tmp_path / 'data'),
                 *options])
    main(['det', str(tmp_path / 'data'), '--arch', 'nano', '--batch', '2',
          '--out', str(tmp_path / 'c.py')])
    cfg = Config.fromfile(tmp_path / 'c.py')
    masks = bool(options)  # all objects have one
    assert (cfg.model.roi_head.mask_head is not None) == masks
    with DefaultScope.overwrite_default_scope('mmdet'):
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        model = MODELS.build(cfg.model)
    assert [len(sample.gt_instances) for sample in batch['data_samples']] == [2 - masks] * 2
    losses = train_step(model, batch)
    assert ('s0.loss_mask' in losses) == masks
    assert all(len(part.weight.grad.unique()) > 1 for part in (
        model.roi_head.bbox_head[0].fc_cls, model.backbone.patch_embed.proj))


@pytest.mark.parametrize(('task', 'name', 'metric'), [
    ('seg', 'maps', 'mIoU'), ('cls', 'classes', 'accuracy/top1')])
def test_every_task_trains_at_once(data, tmp_path, task, name, metric):
    main([task, str(data / name), '--arch', 'nano', '--out', str(tmp_path / 'c.py')])
    checked(run_tool('tools/train.py', tmp_path / 'c.py', '--work-dir', tmp_path / 'run', *SHORT))
    assert metric in read_scalars(tmp_path / 'run')[-1]


@pytest.mark.parametrize('arch', ['nano', 'tiny'])
@pytest.mark.parametrize(('task', 'name'), [('det', 'boxes'), ('det', 'masks'), ('seg', 'maps'),
                                            ('cls', 'classes')])
def test_the_config_is_that_of_the_data_and_stands_by_itself(data, tmp_path, task, name, arch):
    main([task, str(data / name), '--arch', arch, '--batch', '4', '--out', str(tmp_path / 'c.py')])
    cfg = Config.fromfile(tmp_path / 'c.py')
    count = dict(maps=3, masks=1).get(name, 2)
    heads = [value for key, value in _walk(cfg.model) if key == 'num_classes']
    assert heads and {*heads} == {count}
    assert cfg.model.backbone.arch == arch
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.data_root == f'{data / name}/' and len(dataset.metainfo.classes) == count
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 4
    assert ('init_cfg' in cfg.model.backbone) == (arch != 'nano')
    if task == 'det':
        assert (cfg.model.roi_head.mask_head is not None) == (name == 'masks')
        assert cfg.val_evaluator.ann_file == f'{data / name}/val.json'
        assert cfg.train_dataloader.dataset.pipeline[1].with_mask == (name == 'masks')
    text = (tmp_path / 'c.py').read_text()
    assert f'window {cfg.model.backbone.window_size} pads least' in text
    assert text.startswith(f'"""SwinV2 {arch} on ') and 'bccd' not in text and 'camvid' not in text


def _walk(part):
    """(key, value) of all dicts in a config."""
    if isinstance(part, dict):
        for item in part.items():
            yield item
            yield from _walk(item[1])
    elif isinstance(part, (list, tuple)):
        for inner in part:
            yield from _walk(inner)


@pytest.mark.parametrize(('size', 'arch', 'window'), [
    ((512, 512), 'tiny', 16), ((384, 384), 'tiny', 12), ((480, 640), 'tiny', 10),
    ((256, 256), 'tiny', 16), ((256, 256), 'nano', 8), ((96, 96), 'nano', 6)])
def test_the_window_divides_the_maps(size, arch, window):
    work, found = window_of(size, arch)
    assert found == window and work < 1.06
    sides = [side // 4 for side in size]
    assert all(side % min(window, side) == 0 for side in sides)


def test_rate_and_schedule_follow_batch_and_number_of_pictures(data, tmp_path):
    whole = tmp_path / 'many'
    shutil.copytree(data / 'boxes', whole)
    content = json.loads((whole / 'train.json').read_text())
    content['images'] *= 500
    (whole / 'train.json').write_text(json.dumps(content))
    few, _ = compose('det', data / 'boxes', 'tiny', 16)
    many, said = compose('det', whole, 'tiny', 2)
    assert few.optim_wrapper.optimizer.lr == 1e-4 and few.train_cfg.max_iters == 1000
    assert many.optim_wrapper.optimizer.lr == 1.25e-5
    assert many.train_cfg.max_iters == 36 * 2000 / 2 and '36 times each picture' in ' '.join(said)
    assert many.default_hooks.checkpoint.interval == many.train_cfg.val_interval == 3600


def test_large_pictures_are_trained_at_less_than_their_size_in_their_shape():
    for arch, most in (('tiny', 1333 * 800), ('nano', 320 * 240)):
        (width, height), _ = new._sizes('det', arch, [(4000, 3000)])
        assert 0.6 * most < width * height < 1.45 * most and abs(width / height - 4 / 3) < 0.02
    assert new._sizes('seg', 'tiny', [(640, 430)] * 3) == ((416, 416), 13)
    assert new._sizes('cls', 'tiny', [(3000, 2000)]) == ((256, 256), 16)


def test_without_a_validation_split_nothing_is_validated(data, tmp_path):
    shutil.copytree(data / 'boxes', tmp_path / 'data')
    (tmp_path / 'data' / 'val.json').unlink()
    cfg, _ = compose('det', tmp_path / 'data', 'nano')
    assert cfg.val_dataloader is cfg.val_cfg is cfg.test_evaluator is None
    assert cfg.default_hooks.checkpoint.save_best is None


def test_what_is_no_data_ends_in_one_sentence(data, tmp_path):
    for task, folder, sentence in (
            ('det', data, r'There is no .*train.json, which task det learns from: .*labels'),
            ('cls', data / 'maps', 'There is no .*train, which'),
            ('seg', data / 'boxes', 'There is no .*img_dir/train, which')):
        with pytest.raises(UserError, match=sentence):
            compose(task, folder)
    shutil.copytree(data / 'maps', tmp_path / 'maps')
    (tmp_path / 'maps' / 'classes.json').write_text('[]')
    with pytest.raises(UserError, match='classes.json must be as `swinv2-mm labels` writes it'):
        compose('seg', tmp_path / 'maps')
    (tmp_path / 'train.json').write_text('{}')
    with pytest.raises(UserError, match='train.json must be as .* writes it, it gives "KeyError'):
        compose('det', tmp_path)
    for options, sentence in ((['--batch', '0'], '--batch must be at least 1'),
                              (['--out', str(data / 'boxes')], '--out must be a new .py file')):
        with pytest.raises(UserError, match=sentence):
            main(['det', str(data / 'boxes'), *options])
    assert last_line(run_tool('tools/dataset/labels.py', tmp_path / 'none', '--out', tmp_path / 'o')
                     ).startswith('Error: There is no folder or file at')


def test_real_blood_cells_are_trained_on_by_their_size(tmp_path):
    if not (ROOT / 'data' / 'bccd' / 'train.json').is_file():
        pytest.skip('data/bccd is not here')
    cfg, said = compose('det', ROOT / 'data' / 'bccd')
    assert cfg.model.backbone.window_size == 10 and 'trained at 640 x 480' in said[1]
