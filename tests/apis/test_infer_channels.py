"""tools/infer.py reads pictures as the test pipeline does: any channels, depths and formats."""
import cv2
import numpy as np
import pytest
import torch
from conftest import awaken
from helpers import ROOT
from infer_checks import DEMOS, call
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from swinv2_mm.apis.inference.inputs import Reader, shown  # isort: skip


def channels(number, **loading):
    """The segmentation demo for pictures of so many channels: options, and a checkpoint of it."""
    cfg = Config.fromfile(ROOT / DEMOS['seg'])
    numbers = dict(mean=None, std=None, bgr_to_rgb=False)
    cfg.model.backbone.in_channels = number
    cfg.model.data_preprocessor.update(numbers)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile', **loading),
                                            *pipeline[1:]]
    return cfg, awaken(model.eval())


def tiff(number, dtype):
    """Writes (H, W, number) as tifffile stores it, by which more than 4 channels can be read."""
    def write(path, array):
        import tifffile
        tifffile.imwrite(path, array.astype(dtype), photometric='minisblack')
    return '.tif', write


READ = {  # channels, settings of the loader, ending and writer, greatest number
    'grey': (1, dict(color_type='grayscale'), '.png', cv2.imwrite, 255),
    'grey of 16 bits': (1, dict(color_type='unchanged'), '.png', cv2.imwrite, 60000),
    'with alpha': (4, dict(color_type='unchanged'), '.png', cv2.imwrite, 255),
    'floats': (3, dict(color_type='unchanged', to_float32=True), '.tiff', cv2.imwrite, 1.0),
    'five channels': (5, dict(color_type='unchanged', imdecode_backend='tifffile'),
                      *tiff(5, np.uint16), 4000),
    'colour read as floats': (3, dict(to_float32=True), '.png', cv2.imwrite, 255),
}


@pytest.mark.parametrize('kind', READ)
def test_pictures_are_read_by_the_loader_of_the_test_pipeline(tmp_path, kind):
    number, loading, ending, write, most = READ[kind]
    cfg, model = channels(number, **loading)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    cfg.dump(str(tmp_path / 'a.py'))
    (tmp_path / 'in').mkdir()
    dtype = {255: np.uint8, 1.0: np.float32}.get(most, np.uint16)
    array = (np.random.default_rng(0).random((40, 48, number)) * most).astype(dtype)
    path = tmp_path / 'in' / f'one{ending}'
    write(str(path), array)
    call('infer', tmp_path / 'a.py', tmp_path / 'a.pth', path, '--out-dir', tmp_path / 'out',
         '--device', 'cpu', scope='mmseg')
    with DefaultScope.overwrite_default_scope('mmseg'):  # as a test reads and computes it
        steps = [step for step in cfg.test_dataloader.dataset.pipeline
                 if 'Annotations' not in step['type']]
        data = Compose(steps)(dict(img_path=str(path)))
        with torch.no_grad():
            (sample,) = model.test_step(dict(inputs=[data['inputs']],
                                             data_samples=[data['data_samples']]))
    labels = cv2.imread(str(tmp_path / 'out/one_map.png'), cv2.IMREAD_UNCHANGED)
    assert (labels == sample.pred_sem_seg.data[0].numpy()).all()
    assert len(np.unique(labels)) > 1 or number > 4  # noise in many channels is one to this model
    assert cv2.imread(str(tmp_path / 'out/one.jpg')).shape == (40, 48, 3)


@pytest.mark.parametrize('array, greatest', [
    (np.full((4, 4), 7, np.uint8), 7), (np.arange(16, dtype=np.uint16).reshape(4, 4), 255),
    (np.arange(80.).reshape(4, 4, 5), 79), (np.zeros((4, 4, 4), np.float32), 0)])
def test_any_picture_can_be_shown(array, greatest):
    seen = shown(array)
    assert seen.shape == (4, 4, 3) and seen.dtype == np.uint8
    assert seen.max() == (77 if array.shape == (4, 4, 5) else greatest)


def test_frames_of_a_film_are_read_as_pictures_of_them(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), frame)
    for step in (dict(color_type='grayscale'), dict(to_float32=True), {}):
        reader = Reader(dict(type='LoadImageFromFile', **step), 'mmseg')
        read = reader(str(tmp_path / 'a.png'))
        same = reader.frame(frame)
        assert read.dtype == same.dtype and read.shape == same.shape
        assert np.abs(read.astype(int) - same.astype(int)).max() <= 1  # grey is rounded otherwise
