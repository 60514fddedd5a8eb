"""Large pictures in tiles: what is put together is what one look at the whole would give."""
import cv2
import numpy as np
import pytest
import torch
from infer_checks import infer, picture, read, write_pictures
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from swinv2_mm.apis.inference.tiles import Tiled, starts  # isort: skip


@pytest.mark.parametrize('length, side, overlap', [
    (100, 100, 0.5), (40, 100, 0.2), (101, 100, 0.0), (1000, 320, 0.25), (999, 64, 0.9)])
def test_tiles_cover_a_side_with_the_overlap_asked_for_and_hang_over_nowhere(length, side, overlap):
    places = starts(length, side, overlap)
    assert places[0] == 0 and places[-1] == max(length - side, 0)
    for a, b in zip(places, places[1:]):
        assert 0 < b - a <= max(side * (1 - overlap), 1) + 1  # rounded to whole pixels


class Seer:
    """Sees every rectangle of one grey on black, cut as its picture cuts it: a perfect detector."""

    task = 'det'

    def __init__(self, masks):
        self.masks, self.batches = masks, []

    def predict(self, pictures):
        self.batches.append(len(pictures))
        return [self.look(one) for one in pictures]

    def look(self, one):
        found = []
        for grey in np.unique(one[..., 0])[1:]:
            mask = one[..., 0] == grey
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            found.append((box, int(grey) % 2, 0.2 + mask.sum() / mask.size / 2, mask))
        # A cut object scores the higher the less of it there is, which must not help it.
        boxes, labels, scores, masks = zip(*found) if found else ([], [], [], [])
        sample = DetDataSample()
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
            labels=torch.tensor(labels, dtype=torch.int64),
            scores=1 - torch.tensor(np.array(scores, np.float32).reshape(-1)))
        if self.masks:
            sample.pred_instances.masks = torch.tensor(
                np.array(masks, bool).reshape(-1, *one.shape[:2]))
        return sample


def scene(seed, height=500, width=700, count=40):
    """Rectangles, each of a grey of its own and not above 60 pixels, that do not touch."""
    rng, scene, boxes = np.random.default_rng(seed), np.zeros((height, width, 3), np.uint8), []
    while len(boxes) < count:
        w, h = rng.integers(10, 60, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        if scene[max(y - 2, 0):y + h + 2, max(x - 2, 0):x + w + 2].any():
            continue
        boxes.append((x, y, x + w, y + h))
        scene[y:y + h, x:x + w] = len(boxes)
    return scene, boxes


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('seed', range(3))
def test_objects_smaller_than_the_overlap_are_found_whole_and_once(seed, masks):
    image, boxes = scene(seed)
    seer = Seer(masks)
    (sample,) = Tiled(seer, side=256, overlap=0.25, batch_size=4).predict([image])
    found = sample.pred_instances
    assert sorted(map(tuple, found.bboxes.int().tolist())) == sorted(boxes)
    assert (found.scores.diff() <= 0).all() and sum(seer.batches) == 12 and max(seer.batches) == 4
    for i, (x1, y1, x2, y2) in enumerate(found.bboxes.int().tolist()):
        assert found.labels[i] == int(image[y1, x1, 0]) % 2
        if masks:
            assert np.array_equal(found.masks[i], image[..., 0] == image[y1, x1, 0])
            assert found.masks[i, y1:y2, x1:x2].all()
    assert set(found.keys()) == {'bboxes', 'labels', 'scores', *(['masks'] if masks else [])}


@pytest.mark.parametrize('masks', [False, True])
def test_a_picture_with_nothing_in_it_has_no_objects(masks):
    black = np.zeros((300, 300, 3), np.uint8)
    (sample,) = Tiled(Seer(masks), 128).predict([black])
    assert len(sample.pred_instances) == 0
    if masks:
        assert sample.pred_instances.masks.shape == (0, 300, 300)


def test_objects_that_one_tile_tells_apart_stay_apart():
    class Nested(Seer):
        def look(self, one):
            sample = DetDataSample()
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[20.0, 20, 90, 90], [30, 30, 70, 70]]),
                labels=torch.zeros(2, dtype=torch.int64), scores=torch.tensor([0.9, 0.8]))
            return sample

    (sample,) = Tiled(Nested(False), 128).predict([np.zeros((128, 128, 3), np.uint8)])
    assert len(sample.pred_instances) == 2


class Mapper:
    """Logits that are a function of a pixel, and of its tile so that means matter."""

    task = 'seg'

    def __init__(self, classes):
        self.classes = classes

    def logits(self, one):
        grey = torch.from_numpy(one[..., 0].astype(np.float32))
        noise = one.astype(np.float32).mean() * torch.arange(self.classes)[:, None, None]
        return torch.sin(grey * (1 + torch.arange(self.classes))[:, None, None]) + noise / 100

    def predict(self, pictures):
        samples = []
        for one in pictures:
            sample = SegDataSample()
            sample.seg_logits = PixelData(data=self.logits(one))
            samples.append(sample)
        return samples


@pytest.mark.parametrize('size', [(300, 170), (64, 200), (40, 50)])
def test_a_pixel_has_the_class_of_the_mean_logits_of_its_tiles(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    mapper = Mapper(4)
    (sample,) = Tiled(mapper, 64, 0.4, batch_size=3).predict([image])
    total = torch.zeros(4, *size, dtype=torch.float64)
    for y in starts(size[0], 64, 0.4):
        for x in starts(size[1], 64, 0.4):
            total[:, y:y + 64, x:x + 64] += mapper.logits(image[y:y + 64, x:x + 64])
    # The mean and the sum of a pixel's logits have their maximum at the same class.
    assert torch.equal(sample.pred_sem_seg.data[0], total.argmax(0))


def test_a_picture_that_one_tile_holds_gets_what_it_gets_without_tiles(tmp_path):
    folder = write_pictures(tmp_path / 'in', 1)
    for task, options in (('det', ('--score-thr', '0')), ('seg', ())):
        whole = read(infer(task, [folder], tmp_path / task, '--json', *options), 'p0')
        tiled = read(infer(task, [folder], tmp_path / f'{task}_tiled', '--slice', 96, '--json',
                           *options), 'p0')
        assert whole == tiled


@pytest.mark.parametrize('task', ['det', 'seg'])
def test_large_pictures_are_drawn_whole(task, tmp_path):
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in' / 'large.jpg'), picture(0, 130, 200))
    out = infer(task, [tmp_path / 'in'], tmp_path / 'out', '--slice', 96, '--batch-size', 4)
    assert cv2.imread(str(out / 'large.jpg')).shape == (130, 200, 3)
    record = read(out, 'large')
    if task == 'seg':
        assert sum(row['pixels'] for row in record['segments']) == 130 * 200
    else:
        boxes = np.array([row['box'] for row in record['instances']])
        assert boxes[:, 2].max() > 110 and boxes[:, 3].max() > 100  # seen beyond the first tile
