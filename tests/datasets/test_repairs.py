"""Annotations whose meaning is beyond doubt are scored as what they mean."""
import small_sets as sets
import torch

from swinv2_mm.datasets import repairs


def perfect(path, content):
    """AP of mmdet's metric for predictions that are the truth itself."""
    from mmdet.evaluation import CocoMetric
    metric = CocoMetric(ann_file=str(path), metric='bbox')
    metric.dataset_meta = dict(classes=('red', 'blue'))
    for image in content['images']:
        own = [a for a in content['annotations'] if a['image_id'] == image['id']]
        boxes = torch.tensor([a['bbox'] for a in own], dtype=torch.float)
        boxes[:, 2:] += boxes[:, :2]
        metric.process({}, [dict(img_id=image['id'], ori_shape=(64, 96), pred_instances=dict(
            bboxes=boxes, scores=torch.full((len(own),), 0.9),
            labels=torch.tensor([a['category_id'] - 1 for a in own])))])
    return metric.evaluate(len(content['images']))['coco/bbox_mAP']


def test_perfect_predictions_are_perfect_whatever_the_first_id(tmp_path):
    repairs.install()
    repairs.install()  # once is enough
    for first in (0, 1):
        content = sets.objects(first=first)
        for entry in content['annotations']:
            entry.pop('iscrowd')
            entry.pop('area')
        sets.put(tmp_path, 'val', content)
        assert perfect(tmp_path / 'val.json', content) == 1.0


def test_mmdet_itself_counts_the_object_of_id_0_as_missed(tmp_path, monkeypatch):
    """Why: when this fails, the repair has no reason any more."""
    from mmdet.datasets.api_wrappers import COCO
    from pycocotools.coco import COCO as PLAIN
    monkeypatch.setattr(COCO, 'createIndex', PLAIN.createIndex)
    content = sets.objects(first=0)
    sets.put(tmp_path, 'val', content)
    assert perfect(tmp_path / 'val.json', content) < 0.9


def test_an_area_is_that_of_the_mask_or_the_box():
    content = sets.objects()
    triangle = content['annotations'][0]
    triangle.update(area=None, segmentation=[[10, 8, 30, 8, 10, 24]])
    content['annotations'][1].update(area=None, segmentation=[])
    content['annotations'][2]['area'] = 5
    areas = [entry['area'] for entry in repairs.repair(content)['annotations']]
    assert 140 < areas[0] < 180 and areas[1:3] == [24 * 20, 5]
