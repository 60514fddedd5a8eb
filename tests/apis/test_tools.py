"""The command-line tools as a user runs them: train, resume, test, in several processes."""
import os
import pickle
import re
import shutil
import socket

import cv2
import numpy as np
import pytest
import torch
from conftest import awaken
from helpers import (
    DEMO,
    ROOT,
    checked,
    data_options,
    load_tool,
    make_shapes,
    read_scalars,
    run_tool,
)
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import load_backbone

# Two iterations of two images, everything logged and saved.
SHORT = ['train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
         'default_hooks.checkpoint.interval=1', 'default_hooks.logger.interval=1']
IMAGES = 3  # odd, so that two processes cannot share the validation images evenly


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('tools')


@pytest.fixture(scope='module')
def options(folder):
    return ['--cfg-options', *data_options(make_shapes(folder / 'shapes', val=IMAGES)), *SHORT]


@pytest.fixture(scope='module')
def trained(folder, options):
    """A work dir with the checkpoints and the log of two iterations."""
    checked(run_tool('tools/train.py', DEMO, '--work-dir', folder / 'run', '--seed', 3, *options))
    return folder / 'run'


def losses(rows):
    """Step -> losses; times and rates left out."""
    return {row['step']: {key: value for key, value in row.items() if 'loss' in key}
            for row in rows if 'loss' in row}


def validations(rows):
    return sum('coco/bbox_mAP' in row for row in rows)


def metrics(process):
    """The last metrics printed: name -> value."""
    line = [line for line in process.stdout.splitlines() if 'coco/bbox_mAP:' in line][-1]
    return {name: float(value) for name, value in re.findall(r'coco/(\w+): (-?[\d.]+)', line)}


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


def assert_two_processes(process):
    assert 'Distributed training: True' in process.stdout
    assert 'GPU number: 2' in process.stdout  # mmengine's word for processes


def test_training_logs_validates_and_saves(trained):
    rows = read_scalars(trained)
    assert sorted(losses(rows)) == [1, 2]
    assert all(np.isfinite(list(row.values())).all() for row in losses(rows).values())
    assert validations(rows) == 1
    assert {path.name for path in trained.glob('iter_*.pth')} == {'iter_1.pth', 'iter_2.pth'}
    # The config beside the checkpoints is the one that ran, options applied.
    assert Config.fromfile(trained / 'det_nano.py').train_cfg.max_iters == 2


def test_a_seed_gives_the_same_losses_twice_and_no_validate_leaves_validation_out(
        trained, folder, options):
    checked(run_tool('tools/train.py', DEMO, '--work-dir', folder / 'again', '--seed', 3,
                     '--no-validate', *options))
    again = read_scalars(folder / 'again')
    assert losses(again) == losses(read_scalars(trained))
    assert validations(again) == 0


@pytest.mark.parametrize('path', ['auto', 'iter_1.pth'])
def test_resuming_goes_on_from_the_checkpoint(trained, folder, options, path):
    """`--resume` alone takes the newest checkpoint of the work dir, `--resume PATH` that one."""
    work_dir = folder / f'resumed-{path}'
    done = 2 if path == 'auto' else 1
    if path == 'auto':
        work_dir.mkdir()
        shutil.copy(trained / 'iter_2.pth', work_dir)
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_2.pth'))
    resume = ['--resume'] if path == 'auto' else ['--resume', trained / path]
    checked(run_tool('tools/train.py', DEMO, '--work-dir', work_dir, '--no-validate', *resume,
                     *options, f'train_cfg.max_iters={done + 1}'))
    rows = read_scalars(work_dir)
    assert sorted(losses(rows)) == [done + 1]
    # Optimizer and schedule came along: one step further, not back at the first.
    states = [torch.load(file, weights_only=False) for file in (
        trained / f'iter_{done}.pth', work_dir / f'iter_{done + 1}.pth')]
    before, after = (state['optimizer']['state'][0]['step'].item() for state in states)
    assert (before, after) == (done, done + 1)
    schedules = [state['param_schedulers'][0]['last_step'] for state in states]
    assert schedules == [done, done + 1]


def test_a_detector_trained_here_gives_its_backbone_to_another(trained):
    """mmengine saves python objects beside the weights; they must not stand in the way."""
    backbone = SwinTransformerV2(arch='nano', window_size=8)
    report = load_backbone(backbone, trained / 'iter_2.pth')
    saved = torch.load(trained / 'iter_2.pth', weights_only=False)['state_dict']
    own = {k: v for k, v in backbone.state_dict().items() if k != 'pretrained_windows'}
    assert sorted(report.loaded) == sorted(own) and report.fresh == []
    assert all(torch.equal(value, saved[f'backbone.{key}']) for key, value in own.items())
    assert {key.split('.')[0] for key in report.dropped} == {'neck', 'rpn_head', 'roi_head'}


def test_the_curves_of_the_demo_show_metrics_at_the_iteration_they_were_measured(trained):
    demo = load_tool('demo')
    rows = demo.scalars(trained)
    assert [row['step'] for row in rows if 'loss' in row] == [1, 2]
    assert [row['step'] for row in rows if 'coco/bbox_mAP' in row] == [2]
    picture = cv2.imread(str(demo.draw_curves(trained, demo.TASKS['det'])))
    assert picture is not None and picture.std() > 0


@pytest.fixture(scope='module')
def tested(trained, folder, options):
    """One run of tools/test.py in one process, with everything written."""
    return checked(run_tool(
        'tools/test.py', DEMO, trained / 'iter_2.pth', '--work-dir', folder / 'test', '--out',
        folder / 'one.pkl', '--show-dir', 'drawn', *options))


def read_predictions(path):
    return pickle.loads(path.read_bytes())


def test_testing_repeats_the_metrics_of_training_and_writes_every_prediction(
        tested, trained, folder):
    row = [row for row in read_scalars(trained) if 'coco/bbox_mAP' in row][-1]
    shown = metrics(tested)
    assert {'bbox_mAP', 'segm_mAP'} <= set(shown)
    assert shown == {name: pytest.approx(row[f'coco/{name}'], abs=1e-4) for name in shown}
    predictions = read_predictions(folder / 'one.pkl')
    assert [p['img_id'] for p in predictions] == [1, 2, 3]
    for prediction in predictions:
        found = prediction['pred_instances']
        assert len(found['bboxes']) == len(found['scores']) == len(found['masks']) > 0


def test_show_dir_gets_one_picture_per_image_ground_truth_beside_prediction(tested, folder):
    pictures = sorted((folder / 'test').glob('*/drawn/*'))
    assert len(pictures) == IMAGES
    for path in pictures:
        picture = cv2.imread(str(path))
        assert picture.shape == (64, 2 * 96, 3)
        assert (picture[:, :96] != picture[:, 96:]).any()


def test_two_processes_train_and_scale_the_learning_rate_to_their_batch(
        trained, folder, options, monkeypatch):
    monkeypatch.setenv('PORT', free_port())
    done = checked(run_tool(
        'tools/dist_train.sh', DEMO, 2, '--work-dir', folder / 'two', '--no-validate',
        '--auto-scale-lr', *options, 'env_cfg.dist_cfg.backend=gloo',
        'auto_scale_lr.base_batch_size=8'))
    assert_two_processes(done)
    rows = read_scalars(folder / 'two')
    assert sorted(losses(rows)) == [1, 2]
    # Two processes of two images, where the rate was meant for eight.
    alone = {row['step']: row['lr'] for row in read_scalars(trained) if 'lr' in row}
    scaled = {row['step']: row['lr'] for row in rows if 'lr' in row}
    assert scaled == {step: pytest.approx(lr / 2) for step, lr in alone.items()}


LEAVE = """
import multiprocessing, sys, weakref
from swinv2_mm.utils import entry
import torch
torch.distributed.init_process_group('gloo', init_method=f'file://{sys.argv[1]}', rank=0,
                                     world_size=1)
groups, workers = [], []
def main():
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    model.itself = model  # as a runner and its hooks hold each other
    groups.append(weakref.ref(model))
    model.loader = torch.utils.data.DataLoader(range(4), num_workers=1, persistent_workers=True)
    list(model.loader)
    workers.extend(multiprocessing.active_children())
    END
try:
    entry.run(main)
finally:
    assert not torch.distributed.is_initialized() and groups[0]() is None
    assert [worker.exitcode for worker in workers] == [0]  # torch ends them after a wait else
"""


@pytest.mark.parametrize('end, status', [('pass', 0), ('sys.exit(75)', 75)])
def test_a_process_leaves_its_group_and_models_before_python_ends(tmp_path, end, status):
    """Else a thread of gloo may abort it, and a good run ends with the status of a crash."""
    done = run_tool('-c', LEAVE.replace('END', end), tmp_path / 'store')
    assert done.returncode == status, done.stderr


def test_two_processes_test_to_the_same_result_as_one(
        tested, trained, folder, options, monkeypatch):
    monkeypatch.setenv('PORT', free_port())
    done = checked(run_tool(
        'tools/dist_test.sh', DEMO, trained / 'iter_2.pth', 2, '--work-dir', folder / 'test2',
        '--out', folder / 'two.pkl', *options, 'env_cfg.dist_cfg.backend=gloo'))
    assert_two_processes(done)
    assert metrics(done) == metrics(tested)
    one, two = (read_predictions(folder / f'{name}.pkl') for name in ('one', 'two'))
    assert [p['img_id'] for p in two] == [p['img_id'] for p in one]
    for a, b in zip(one, two):
        torch.testing.assert_close(b['pred_instances']['bboxes'], a['pred_instances']['bboxes'])


AUGMENTED = """
_base_ = '{root}/configs/det/swinv2_t_maskrcnn.py'
model = dict(
    backbone=dict(arch='nano', window_size=8, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32), mask_roi_extractor=dict(out_channels=32),
        bbox_head=dict(num_classes=6, in_channels=32, fc_out_channels=32),
        mask_head=dict(num_classes=6, in_channels=32, conv_out_channels=32)),
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0)))
metainfo = dict(classes=('disc', 'square', 'triangle', 'star', 'ring', 'cross'))
for step, short in zip(_base_.tta_pipeline[1].transforms[0], (64, 80, 96)):
    step.scale = (160, short)
train_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(metainfo=metainfo))
"""


def test_tta_merges_boxes_and_masks(folder, options):
    path = folder / 'augmented.py'
    path.write_text(AUGMENTED.format(root=ROOT))
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    awaken(model.backbone)
    torch.save({'state_dict': model.state_dict()}, folder / 'augmented.pth')
    data = [option for option in options if option.startswith(('--', 'test_', 'val_'))]
    done = checked(run_tool('tools/test.py', path, folder / 'augmented.pth', '--tta', '--work-dir',
                            folder / 'tta', '--out', folder / 'tta.pkl', *data))
    assert set(metrics(done)) == {f'{what}_mAP{end}' for what in ('bbox', 'segm')
                                  for end in ('', '_50', '_75', '_s', '_m', '_l')}
    predictions = read_predictions(folder / 'tta.pkl')
    assert len(predictions) == IMAGES
    for prediction in predictions:  # in the frame of the original picture
        found = prediction['pred_instances']
        boxes = found['bboxes']
        assert len(boxes) and boxes[:, 2].max() <= 97 and boxes[:, 3].max() <= 65
        assert len(found['masks']) == len(boxes)
        assert all(mask['size'] == [64, 96] for mask in found['masks'])


def test_tta_by_mmdet_merges_no_masks_and_says_so(capsys):
    cfg = Config.fromfile('configs/det/swinv2_t_maskrcnn.py')
    cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms'), max_per_img=100))
    load_tool('test')._augment(cfg, 'mmdet')
    assert '--tta by DetTTAModel merges boxes only: masks are left out.' in capsys.readouterr().out
    assert cfg.model.module.roi_head.mask_head is None
    assert cfg.test_evaluator.metric == 'bbox'
    assert cfg.test_dataloader.dataset.pipeline == cfg.tta_pipeline


def test_the_shell_scripts_say_how_they_are_called():
    for script in ('dist_train.sh', 'dist_test.sh'):
        done = run_tool(f'tools/{script}', DEMO)
        assert done.returncode == 2
        assert done.stderr.startswith(f'usage: tools/{script} CONFIG')
        assert os.access(ROOT / 'tools' / script, os.X_OK)


def test_amp_and_deterministic_reach_the_runner(monkeypatch):
    train = load_tool('train')
    cfg = Config.fromfile(DEMO)
    monkeypatch.setattr(train, 'get_device', lambda: 'cuda')
    monkeypatch.setattr('sys.argv', ['train.py', DEMO, '--amp', '--deterministic', '--seed', '5'])
    train.apply(train.parse_args(), cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert cfg.randomness == dict(seed=5, deterministic=True)
