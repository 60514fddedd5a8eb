"""Data that cannot teach what a config asks, or lack what it needs, are told before a run."""
import numpy as np
import pytest
import small_sets as sets
from advice import changed, cls, each, follow, found, loaders, names, rewrite, seg, spoilt
from PIL import Image

from swinv2_mm.datasets.checks import segmentation


def write_ones(cfg, said, root):
    """255 -> 1 in the maps."""
    assert '255, which they hold, is what is left out: write the number of the class' in said
    for path in root.glob('*_maps/*.png'):
        numbers = np.array(Image.open(path))
        Image.fromarray(np.where(numbers == 255, 1, numbers).astype(np.uint8)).save(path)


def deep(high, dtype=np.uint16, channels=()):
    def make(root):
        cfg = sets.detection(root)
        for path in (root / 'train').glob('*.jpg'):
            sets.write_png(path, np.full((64, 96, *channels), high, dtype))
        return cfg
    return make


def eight_bits(cfg, said, root):
    for path in (root / 'train').glob('*.jpg'):
        sets.write_png(path, np.full((64, 96), 250, np.uint8))


def runs_of(entry, **kwargs):
    return sets.runs(entry['bbox'], **kwargs)


def off_diagonal(turn):
    def make(root):
        content = sets.objects()
        content['annotations'] = content['annotations'][1::2]
        for i, entry in enumerate(content['annotations']):
            entry.update(segmentation=turn(entry), category_id=1 + i % 2)
        return sets.detection(root, train=content)
    return make


def encode(cfg, said, root):
    rewrite(root, lambda entry: entry.update(segmentation=runs_of(entry)))


READ_AS = {
    'corners': (lambda x, y, w, h: [x, y, x + w, y + h], lambda a, b, c, d: [a, b, c - a, d - b]),
    'centres': (lambda x, y, w, h: [x + 60 + w / 2, y + 30 + h / 2, w, h],
                lambda a, b, c, d: [a - c / 2, b - d / 2, c, d]),
    'fractions': (lambda x, y, w, h: [x / 96, y / 64, w / 96, h / 64],
                  lambda a, b, c, d: [a * 96, b * 64, c * 96, d * 64]),
    'rows before columns': (lambda x, y, w, h: [y, x + 45, h, w], lambda a, b, c, d: [b, a, d, c]),
}


CURES = dict(zip(READ_AS, ('write width x2 - x1', 'cx - width', 'multiply', 'x, y, width, height')))


def boxes_as(name):
    boxes = [[14, 14, 20, 18], [50, 40, 40, 20]]
    if name == 'rows before columns':
        boxes = [[16, 14, 18, 18]]
    if name == 'centres':
        boxes = [[10, 10, 24, 22], [8, 9, 26, 24]]

    def make(root):
        content = sets.objects(segmentation=None, area=300)
        for i, entry in enumerate(content['annotations']):
            entry['bbox'] = READ_AS[name][0](*boxes[i % len(boxes)])
        return sets.detection(root, train=content, masks=False)
    return make


def read_as(name):
    def follow(cfg, said, root):
        assert CURES[name] in said
        rewrite(root, lambda entry: entry.update(bbox=READ_AS[name][1](*entry['bbox'])))
    return follow


def dev_set(root):
    cfg, content = sets.detection(root), sets.objects()
    del content['annotations']
    sets.put(root, 'dev', content)
    cfg.val_dataloader = cfg.test_dataloader
    cfg.val_dataloader.dataset.ann_file = 'dev.json'
    cfg.test_evaluator = dict(type='CocoMetric', ann_file=f'{root}/dev.json')
    return cfg


def format_only(cfg, said, root):
    assert 'format_only=True' in said
    cfg.test_evaluator.update(format_only=True, outfile_prefix='out')


ADVICE = [
    ('nothing to learn', lambda root: sets.maps(
        root, table={1: 255, 2: 255}, classes=('background', 'object')),
     "holds none of 'object' in the 3 of its 3 maps", write_ones),
    ('nothing to learn', spoilt(iscrowd=1), 'has iscrowd 1 in all 6 objects', each(iscrowd=0)),
    ('crowds', spoilt(second=dict(iscrowd=0), iscrowd=1), 'in 5 of 6', each(iscrowd=0)),
    ('turned mask', off_diagonal(lambda e: sets.runs(e['bbox'][1::-1] + e['bbox'][3:1:-1],
                                                     (96, 64))), 'width before height', encode),
    ('turned mask', off_diagonal(lambda e: runs_of(e, turned=True)), 'row by row', encode),
    ('turned mask', off_diagonal(lambda e: [[v for x, y in zip(
        e['segmentation'][0][::2], e['segmentation'][0][1::2]) for v in (y, x)]]), 'y before x',
     encode),
    ('bad mask', off_diagonal(lambda e: dict(sets.runs([5, 5, 20, 20], (48, 48)), size=[64, 96])),
     'codes 2304 pixels', encode),
    ('mask off its box', spoilt(second=dict(segmentation=[sets.polygon(0, 0, 10, 10)])),
     'annotation 2, 1 of 6', encode),
    *(('not x, y, w, h', boxes_as(name), name, read_as(name)) for name in READ_AS),
    *(('turned box', spoilt(**fields), 'has 6 boxes with an angle',
       each(attributes={}, rotation=180)) for fields in (
        dict(attributes=dict(rotation=50.0, occluded=False)), dict(rotation=-12),
        dict(attributes=dict(angle=90)))),
    ('dark', deep(4000), 'hold numbers up to 4000 of the 65535', eight_bits),
    ('dark', deep(16383, channels=(3,)), 'up to 16383', eight_bits),
    *(('no masks', spoilt(second=dict(segmentation=mask), of=of),
       'annotation 2, 1 of 6', lambda cfg, said, root, of=of: rewrite(
           root, lambda entry: entry.update(segmentation=runs_of(entry)), of))
      for mask in (None, []) for of in ('train', 'val')),
    ('no field', spoilt(second=dict(iscrowd='0')), "iscrowd '0', neither", each(iscrowd=0)),
    ('no field', spoilt(second=dict(iscrowd=2)), 'iscrowd 2', each(iscrowd=0)),
    ('id twice', spoilt(second=dict(id=1)), 'two annotations of id 1', lambda cfg, said, root: (
        rewrite(root, lambda entry: entry.update(id=2) if entry['bbox'][0] == 50 and entry[
            'image_id'] == 1 else None))),
]


@pytest.mark.parametrize('row', ADVICE, ids=names(ADVICE))
def test_what_is_wrong_is_said_and_following_the_advice_makes_it_well(row, tmp_path):
    follow(row, tmp_path)


SOUND = {
    'boxes': sets.detection, 'maps': sets.maps, 'folders': sets.folders, 'films': sets.films,
    'a list': sets.listed, 'a list of maps': sets.listed_maps,
    'right masks': off_diagonal(runs_of),
    'a head of depths': seg(lambda c: c.model.update(auxiliary_head=[
        dict(type='DepthHead', ignore_index=0)])),
    'a head of edges': seg(lambda c: c.model.update(auxiliary_head=[
        dict(type='STDCHead', num_classes=2)])),
    'a head of words': changed(sets.detection, lambda c: c.model.update(
        bbox_head=dict(type='GroundingDINOHead', num_classes=256))),
    'windows': seg(lambda c: c.model.update(test_cfg=dict(
        mode='slide', crop_size=(64, 64), stride=(48, 48)))),
    'straight boxes': spoilt(attributes=dict(rotation=0.0), rotation=180),
    'sixteen bits': deep(60000), 'sixteen bits in colour': deep(60000, channels=(3,)),
    'no masks where none are asked': spoilt(second=dict(segmentation=None), of='val', masks=False,
                                            metric=['bbox']),
    'one class of several labels': cls(lambda c: c.model.update(head=dict(
        type='MultiLabelLinearClsHead', num_classes=1)), names=('red',), evaluator=dict(
            type='AveragePrecision')),
    'sets of several kinds to test on': seg(lambda c: c.update(test_dataloader=dict(dataset=dict(
        type='ConcatDataset', datasets=[dict(d, metainfo=dict(classes=names)) for d, names in (
            (loaders(c)[2], ('ground', 'red', 'blue')), (loaders(c)[2], ('a', 'b', 'c')))])))),
}


@pytest.mark.parametrize('name', SOUND)
def test_nothing_is_said_of_sound_sets(name, tmp_path):
    cfg = SOUND[name](tmp_path)
    assert found(cfg, 'train', 'val', 'test') == {}
    assert found(cfg, 'train', 'val', 'test', level='warning') == {}


def test_one_dark_picture_of_sixteen_bits_is_none_of_all(tmp_path):
    cfg = deep(60000)(tmp_path)
    sets.write_png(tmp_path / 'train' / '1.jpg', np.full((64, 96), 900, np.uint16))
    assert found(cfg) == {}
    cfg = deep(900)(tmp_path)
    cfg.train_dataloader.dataset.pipeline[0].color_type = 'unchanged'
    assert found(cfg) == {}


def test_a_class_that_no_sample_of_training_holds_is_told(tmp_path):
    for name, make in dict(
            maps=lambda root: sets.maps(root, table={2: 255}),
            list=changed(sets.listed, lambda c: c.model.head.update(num_classes=4)),
            films=changed(sets.films, lambda c: c.model.cls_head.update(num_classes=4))).items():
        cfg = make(tmp_path / name)
        assert found(cfg, 'train') == {}
        assert 'absent class' in found(cfg, 'train', level='warning'), name
    zero = sets.maps(tmp_path / 'zero', table={1: 0, 2: 1}, classes=('a', 'b'),
                     reduce_zero_label=True)
    assert "only 'a'" in found(zero)['nothing to learn']


def test_where_a_sample_of_the_maps_holds_one_class_the_others_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, 'SAMPLE', 2)
    cfg = sets.maps(tmp_path, table={1: 0, 2: 0})
    assert "holds none of 'red', 'blue' in the 3 of its 3" in found(cfg, 'train')[
        'nothing to learn']
    ones = np.full((64, 96), 1, np.uint8)
    Image.fromarray(ones).save(tmp_path / 'train_maps' / '1.png')  # neither the first nor the last
    assert found(cfg, 'train') == {}


def test_what_is_set_right_in_memory_is_told(tmp_path):
    content = sets.objects(first=0, area=None)
    for entry in content['annotations']:
        entry.pop('iscrowd')
    cfg = sets.detection(tmp_path, train=content)
    assert found(cfg) == {}
    assert set(found(cfg, level='warning')) == {'ids from 0', 'no iscrowd', 'no area'}


def test_a_test_set_without_annotations_is_for_others_to_score(tmp_path):
    cfg = dev_set(tmp_path)
    said = found(cfg, 'test')['no field']
    assert 'nothing to score by' in said
    format_only(cfg, said, tmp_path)
    assert found(cfg, 'test') == {}
    cfg.train_dataloader.dataset.ann_file = 'dev.json'
    assert 'an object without annotations' in found(cfg, 'train')['set-up']
