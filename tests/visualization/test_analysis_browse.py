"""tools/analysis/browse_dataset.py: pictures of what the pipeline of each task feeds the model."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, checked, data_options, make_shapes, run_tool
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from swinv2_mm.visualization import browse_dataset as browse

DATA = {'det': 'shapes', 'seg': 'crops', 'cls': 'crops', 'mim': 'crops', 'video': 'motions'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('browse')
    make_shapes(folder / 'shapes', train=3, val=2)
    for tool, size in (('crops', 64), ('motions', 32)):
        checked(run_tool(f'tools/dataset/make_{tool}.py', '--out', folder / tool, '--train', 12,
                         '--val', 6, '--size', size))
    return folder


@pytest.fixture(autouse=True)
def scope():
    """The tool sets the default scope of its process; put back after a test."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def run(task, data, out, *arguments):
    """Draw with the demo's config of a task on tiny data; returns the pictures."""
    root = f'{data / DATA[task]}/'
    options = data_options(root) if task == 'det' else [
        f'{split}_dataloader.dataset.data_root={root}'
        for split in (('train',) if task == 'mim' else ('train', 'val', 'test'))]
    browse.main([f'configs/demo/{task}_nano.py', '--out-dir', str(out), *arguments,
                 '--cfg-options', *options])
    return [cv2.imread(str(path)) for path in sorted(out.iterdir())]


@pytest.fixture
def seen(monkeypatch):
    """(pixels as the model gets them, sample) of everything that is drawn."""
    found, real = [], browse.draw

    def draw(cfg, preprocessor, image, sample, classes):
        frames = image.reshape(-1, 3, *image.shape[-3:])[0].transpose(0, 1) if image.ndim > 3 else (
            image[None])
        rgb = browse.is_rgb(cfg, preprocessor)
        found.append(([browse.pixels(preprocessor, frame, rgb) for frame in frames], sample))
        return real(cfg, preprocessor, image, sample, classes)

    monkeypatch.setattr(browse, 'draw', draw)
    return found


@pytest.mark.parametrize('task', ['det', 'seg', 'cls'])
def test_pictures_have_the_colours_of_their_files(task, data, seen, tmp_path, monkeypatch):
    """Red as red: whatever order of colours the model gets, and however they are normalised."""
    monkeypatch.chdir(ROOT)
    pictures = run(task, data, tmp_path / 'out', '--split', 'val', '--number', '2')
    assert len(pictures) == len(seen) == 2 and all(p.std() > 0 for p in pictures)
    for (image,), sample in seen:
        file = cv2.imread(sample.img_path)
        # Resizing keeps the mean, but for rounding and what interpolation leaves out at edges.
        np.testing.assert_allclose(image.mean((0, 1)), file.mean((0, 1)), atol=3)


def test_a_clip_is_drawn_frame_by_frame_in_the_colours_of_the_film(
        data, seen, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (picture,) = run('video', data, tmp_path / 'out', '--split', 'val', '--number', '1')
    frames, sample = seen[0]
    reader = cv2.VideoCapture(sample.filename)
    film = [reader.read()[1] for _ in range(8)]
    assert len(frames) == 4
    for frame in frames:
        assert min(np.abs(frame.astype(int) - other).mean() for other in film) < 4
    assert picture.shape[1] == 3 * 4 * (32 + 1)  # four frames with gaps, three times enlarged


def test_what_simmim_hides_is_grey(data, seen, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    pictures = run('mim', data, tmp_path / 'out', '--number', '2', '--repeat', '2')
    assert len(pictures) == 4
    for picture, ((image,), sample) in zip(pictures, seen):
        mask = sample.mask.numpy().repeat(4, 0).repeat(4, 1).astype(bool)  # patches of 4 pixels
        right = picture[0:2 * 64:2, 2 * 64:4 * 64:2]
        assert (right[mask] == 128).all() and (right[~mask] == image[~mask]).all()
    assert (seen[0][1].mask != seen[1][1].mask).any()  # each time anew


def test_masks_and_boxes_lie_on_the_objects():
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    mask = np.zeros((1, 400, 500), np.uint8)
    mask[0, 100:200, 50:150] = 1
    sample = DetDataSample(gt_instances=InstanceData(
        bboxes=torch.tensor([[50.0, 100, 150, 200]]), labels=torch.tensor([1]),
        masks=BitmapMasks(mask, 400, 500)))
    picture = browse.draw_instances(np.zeros((400, 500, 3), np.uint8), sample, ('a', 'b'))
    shade = np.array(browse.colour(1))
    assert (picture[180, 100] == shade // 2).all() and (picture[100, 100] == shade).all()
    changed = picture.any(-1)
    assert changed[100:200, 50:150].all() and not changed[:80].any() and not changed[210:].any()


def test_a_map_is_drawn_beside_its_picture_and_black_where_it_is_ignored():
    from mmseg.structures import SegDataSample

    labels = torch.full((1, 320, 320), 255)
    labels[:, :160] = 2
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    picture = browse.draw_map(np.full((320, 320, 3), 7, np.uint8), sample, None)
    assert (picture[:320, :320] == 7).all() and (picture[160:320, 320:640] == 0).all()
    assert (picture[:160, 320:640] == browse.colour(2)).all()


def test_labels_after_mixup_come_with_their_shares(monkeypatch):
    from mmpretrain.structures import DataSample

    written = []
    monkeypatch.setattr(browse, 'put', lambda image, text, *rest: written.append(text))
    image = np.zeros((32, 32, 3), np.uint8)
    mixed = DataSample().set_gt_score(torch.tensor([0.3, 0, 0.7]))
    browse.draw_label(image, mixed, ('a', 'b', 'c'))
    browse.draw_label(image, DataSample().set_gt_label(1), None)
    assert written == ['a 0.30, c 0.70', '1']


def test_batches_are_mixed_as_in_the_training_of_the_recipe():
    cfg = browse.model_inputs.read(str(ROOT / 'configs/cls/swinv2_t_w8_256.py'))
    kinds = browse.build_preprocessor(cfg).batch_augments.augments
    assert [type(kind).__name__ for kind in kinds] == ['Mixup', 'CutMix']


def test_data_that_are_not_there_and_a_split_that_is_not_end_in_a_sentence(data, tmp_path):
    with pytest.raises(ValueError, match='There is no annotation file at'):
        browse.main([str(ROOT / 'configs/det/swinv2_t_cascade.py'), '--out-dir', str(tmp_path)])
    with pytest.raises(ValueError, match='The config must have val_dataloader'):
        browse.main([str(ROOT / 'configs/demo/mim_nano.py'), '--out-dir', str(tmp_path),
                     '--split', 'val'])
    assert not Path(tmp_path, '00000.png').exists()
