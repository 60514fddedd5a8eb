"""What is written has the numbers of the user's own data, not those inside the model."""
import json

import cv2
import numpy as np
import pytest
import torch
from infer_checks import DEMOS, ROOT, infer, picture, read
from mmengine.config import Config

from swinv2_mm.apis.inference import numbers
from swinv2_mm.evaluation.present import mend_all


def config(**dataset):
    return Config(dict(test_dataloader=dict(dataset=dict(dataset))))


@pytest.mark.parametrize('dataset, classes, right', [
    (dict(type='BaseSegDataset'), ['a', 'b'], [0, 1]),
    (dict(type='BaseSegDataset', reduce_zero_label=True), ['a', 'b'], [1, 2]),
    # Of ADE20K, whose maps have 0 for what is left out, some classes, in an order of one's own.
    (dict(type='ADE20KDataset'), ['sky', 'wall', 'tree'], [3, 1, 5]),
    (dict(type='ADE20KDataset', reduce_zero_label=False), ['sky', 'wall'], [2, 0]),
    (dict(type='CityscapesDataset'), ['car', 'road'], [13, 0]),
])
def test_classes_have_the_numbers_of_the_maps(dataset, classes, right):
    assert numbers.of_maps(config(**dataset), classes) == right
    wrapped = config(type='RepeatDataset', times=2, dataset=dataset)
    assert numbers.of_maps(wrapped, classes) == right


def test_what_mmseg_reads_from_a_map_is_written_as_it_was(tmp_path):
    """Through mmseg's own reading of a map, so that its order of the two steps is the one taken."""
    from mmseg.datasets import ADE20KDataset
    classes = ('sky', 'wall', 'tree')
    own = np.array([[3, 1], [5, 3]], np.uint8)
    cv2.imwrite(str(tmp_path / 'p.png'), own)
    cv2.imwrite(str(tmp_path / 'p.jpg'), np.zeros((2, 2, 3), np.uint8))
    data = ADE20KDataset(
        data_root=str(tmp_path), data_prefix=dict(img_path='.', seg_map_path='.'),
        metainfo=dict(classes=classes), pipeline=[dict(type='mmseg.LoadAnnotations')])
    inside = data[0]['gt_seg_map']
    assert sorted(np.unique(inside)) == [0, 1, 2]
    from swinv2_mm.evaluation.maps import map_numbers, renumbered
    assert np.array_equal(renumbered(inside, map_numbers(data.metainfo, 3)), own)


def test_maps_of_more_than_255_are_of_16_bits():
    from swinv2_mm.evaluation.maps import renumbered
    assert renumbered(np.array([[0.0, 1.0]]), [7, 300]).dtype == np.uint16


def test_the_maps_of_infer_and_their_json_have_the_numbers_of_the_users_maps(tmp_path):
    cv2.imwrite(str(tmp_path / 'p.png'), picture(0))
    plain = infer('seg', [tmp_path / 'p.png'], tmp_path / 'plain', '--json')
    options = '--cfg-options', 'test_dataloader.dataset.reduce_zero_label=True'
    own = infer('seg', [tmp_path / 'p.png'], tmp_path / 'own', '--json', *options)
    maps = [cv2.imread(str(out / 'p_map.png'), cv2.IMREAD_UNCHANGED) for out in (plain, own)]
    assert len(np.unique(maps[0])) >= 2
    assert np.array_equal(maps[0] + 1, maps[1])
    rows = read(own, 'p')['segments']
    assert {row['label']: row['pixels'] for row in rows} == dict(
        zip(*(part.tolist() for part in np.unique(maps[1], return_counts=True))))
    names = Config.fromfile(ROOT / DEMOS['seg']).test_dataloader.dataset.metainfo.classes
    assert all(row['name'] == names[row['label'] - 1] for row in rows)


def test_sizes_maps_and_drawings_are_those_of_the_picture_as_it_is_shown(tmp_path):
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(picture(0, 64, 96)[..., ::-1]).save(tmp_path / 'p.jpg', exif=exif, quality=95)
    turned = cv2.imread(str(tmp_path / 'p.jpg'))
    assert turned.shape == (96, 64, 3)
    cv2.imwrite(str(tmp_path / 'q.png'), turned)
    out = infer('seg', [tmp_path / 'p.jpg', tmp_path / 'q.png'], tmp_path / 'out')
    for name in 'pq':
        record = read(out, name)
        assert (record['height'], record['width']) == (96, 64)
        assert cv2.imread(str(out / f'{name}.jpg')).shape == (96, 64, 3)
    assert np.array_equal(*(cv2.imread(str(out / f'{name}_map.png'), -1) for name in 'pq'))


def test_the_maps_of_a_test_have_the_numbers_of_the_users_maps(tmp_path):
    from mmseg.evaluation import IoUMetric
    metric = IoUMetric(output_dir=str(tmp_path))
    metric.dataset_meta = dict(classes=('sky', 'wall'), reduce_zero_label=True,
                               label_map={0: 1, 1: 255, 2: 0})
    mend_all([metric])
    found = torch.tensor([[[0, 1]]])
    metric.process(None, [dict(pred_sem_seg=dict(data=found), gt_sem_seg=dict(data=found),
                               img_path='a/p.jpg', reduce_zero_label=True)])
    assert np.array_equal(cv2.imread(str(tmp_path / 'p.png'), 0), [[3, 1]])
    assert len(metric.results) == 1


def test_the_pickle_of_a_test_says_which_numbers_the_classes_have():
    from swinv2_mm.evaluation.seg_results import DumpMaps
    metric = DumpMaps('a.pkl')
    metric.dataset_meta = dict(classes=('a', 'b'), reduce_zero_label=True, label_map=None)
    metric.process(None, [dict(pred_sem_seg=dict(data=torch.tensor([[[0, 1]]])), img_path='p')])
    assert metric.results[0]['numbers'] == [1, 2]


def coco(path, names, first=1, step=1):
    path.write_text(json.dumps(dict(images=[], annotations=[], categories=[
        dict(id=first + step * i, name=name) for i, name in enumerate(names)])))
    return path


def test_categories_have_the_ids_of_the_json_that_is_there(tmp_path):
    cfg = config(data_root=str(tmp_path), ann_file='none.json')
    assert numbers.of_categories(cfg, ['a', 'b']) is None
    coco(tmp_path / 'val.json', ['a', 'x', 'b'], 10, 5)
    cfg.val_dataloader = config(data_root=str(tmp_path), ann_file='val.json').test_dataloader
    assert numbers.of_categories(cfg, ['a', 'b']) == [10, 20]
    assert numbers.of_categories(cfg, ['b', 'a']) is None  # mmdet would not number them so
    (tmp_path / 'val.json').write_text('{')
    assert numbers.of_categories(cfg, ['a', 'b']) is None


def test_boxes_have_the_id_of_their_category(tmp_path):
    classes = Config.fromfile(ROOT / DEMOS['det']).metainfo.classes
    path = coco(tmp_path / 'own.json', classes, 100, 10)
    cv2.imwrite(str(tmp_path / 'p.png'), picture(0))
    out = infer('det', [tmp_path / 'p.png'], tmp_path / 'out', '--json', '--score-thr', '0',
                '--cfg-options', f'test_dataloader.dataset.ann_file={path}')
    rows = read(out, 'p')['instances']
    assert rows and all(row['category_id'] == 100 + 10 * row['label'] for row in rows)
