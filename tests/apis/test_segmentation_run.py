"""Segmentation through the tools: training, testing, pictures, predicted maps, several scales."""
import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, checked, make_shapes, read_scalars, run_tool

IMAGES = 3
CONFIG = """
_base_ = '{root}/configs/seg/swinv2_n_upernet_camvid.py'
crop_size = (64, 96)
names = ('background', 'disc', 'square', 'triangle', 'star', 'ring', 'cross')
metainfo = dict(classes=names, palette=[(20 * i, 30 * i, 255 - 30 * i) for i in range(7)])
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=7, loss_decode=dict(class_weight=None)))
for scale, step in zip((48, 96, 144), _base_.tta_pipeline[1].transforms[0]):
    step.scale = (scale, scale)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.9),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
train_dataloader = dict(batch_size=2, dataset=dict(
    data_root='{data}', data_prefix=dict(img_path='train', seg_map_path='train_maps'),
    metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    data_root='{data}', data_prefix=dict(img_path='val', seg_map_path='val_maps'),
    metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('segmentation')


@pytest.fixture(scope='module')
def trained(folder):
    """A config of a data set of one's own, and the checkpoint it trained."""
    data = make_shapes(folder / 'shapes', val=IMAGES)
    (folder / 'own.py').write_text(CONFIG.format(root=ROOT, data=data))
    checked(run_tool('tools/train.py', folder / 'own.py', '--work-dir', folder / 'run', '--seed',
                     0))
    return folder / 'own.py', folder / 'run' / 'iter_2.pth'


@pytest.fixture(scope='module')
def tested(trained, folder):
    return checked(run_tool('tools/test.py', *trained, '--work-dir', folder / 'test', '--show-dir',
                            'drawn', '--out', folder / 'maps.pkl'))


def metrics(process):
    line = [line for line in process.stdout.splitlines() if re.search(r'\bmIoU: [\d.]', line)][-1]
    return {name: float(value) for name, value in re.findall(r'(\w{4}): ([\d.]+)', line)
            if name != 'time'}


def truth(folder):
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            for path in sorted((folder / 'shapes' / 'val_maps').iterdir())]


def test_training_logs_losses_and_mean_iou_at_their_iteration(trained, folder):
    rows = read_scalars(folder / 'run')
    losses = {row['step']: row['loss'] for row in rows if 'loss' in row}
    assert sorted(losses) == [1, 2] and np.isfinite(list(losses.values())).all()
    assert [row['step'] for row in rows if 'mIoU' in row] == [2]


def test_testing_repeats_the_metrics_of_training(tested, folder):
    row = [row for row in read_scalars(folder / 'run') if 'mIoU' in row][-1]
    found = metrics(tested)
    assert set(found) == {'aAcc', 'mIoU', 'mAcc'}
    assert found == {name: pytest.approx(row[name], abs=0.01) for name in found}


def test_out_holds_the_map_of_every_image_and_no_scores(tested, folder):
    found = pickle.loads((folder / 'maps.pkl').read_bytes())
    assert [p['img_path'].rpartition('/')[2] for p in found] == [
        path.name for path in sorted((folder / 'shapes' / 'val').iterdir())]
    right = total = 0
    for prediction, map_ in zip(found, truth(folder)):
        assert set(prediction) == {'img_path', 'pred_sem_seg', 'numbers'}
        assert prediction['numbers'] == list(range(len(prediction['numbers'])))
        data = prediction['pred_sem_seg']['data']
        assert data.dtype == torch.int16 and data.shape == (1, *map_.shape)
        right, total = right + (data[0].numpy() == map_).sum(), total + map_.size
    # The very maps that were measured.
    assert 100 * right / total == pytest.approx(metrics(tested)['aAcc'], abs=0.01)


def test_show_dir_gets_one_picture_an_image_truth_left_prediction_right(tested, folder):
    pictures = sorted((folder / 'test').glob('*/drawn/*'))
    assert [path.name for path in pictures] == [
        path.name for path in sorted((folder / 'shapes' / 'val').iterdir())]
    predictions = pickle.loads((folder / 'maps.pkl').read_bytes())
    for path, prediction, map_ in zip(pictures, predictions, truth(folder)):
        drawn = cv2.imread(str(path))
        height, width = map_.shape
        assert drawn.shape == (height, 2 * width, 3)
        differ = (prediction['pred_sem_seg']['data'][0].numpy() != map_)
        halves = drawn[:, :width].astype(int), drawn[:, width:].astype(int)
        assert differ.any()
        # Where the maps differ the halves do, JPEG and the names of classes aside.
        assert (abs(halves[0] - halves[1]).max(-1) > 8)[differ].mean() > 0.5


def test_several_scales_and_flips_are_merged_into_maps_of_the_pictures_size(trained, folder):
    done = checked(run_tool('tools/test.py', *trained, '--work-dir', folder / 'tta', '--tta',
                            '--out', folder / 'tta.pkl'))
    assert set(metrics(done)) == {'aAcc', 'mIoU', 'mAcc'}
    found = pickle.loads((folder / 'tta.pkl').read_bytes())
    assert [tuple(p['pred_sem_seg']['data'].shape) for p in found] == [(1, 64, 96)] * IMAGES
