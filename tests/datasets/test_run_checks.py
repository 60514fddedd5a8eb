"""Settings and splits that do not belong together are told before a run."""
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_sets as sets
from advice import changed, cls, film, follow, found, loaders, name_all, names, seg
from PIL import Image

from swinv2_mm.datasets import checks
from swinv2_mm.datasets.checks import coco, findings, stored
from swinv2_mm.datasets.checks.findings import ERRORS, KINDS


def other_truth(root):
    cfg, copy = sets.detection(root), sets.objects(first=11)  # numbers of objects mean nothing
    sets.put(root, 'copy', copy)
    cfg.val_evaluator.ann_file = f'{root}/copy.json'
    assert found(cfg) == {}
    copy['annotations'][0]['bbox'][0] += 3
    sets.put(root, 'copy', copy)
    return cfg


def boxes_in_time(root):
    """AVA's lists, which are no COCO json."""
    cfg = sets.films(root)
    for name in ('train', 'val'):
        (root / f'{name}.csv').write_text(f'{name},902,0.1,0.1,0.5,0.9,12,1\n')
        cfg[f'{name}_dataloader'].dataset = dict(
            type='AVADataset', data_root=str(root), ann_file=f'{name}.csv', pipeline=[])
    cfg.val_evaluator = dict(type='AVAMetric', ann_file=f'{root}/train.csv', num_classes=81)
    return cfg


def more_images(root):
    few, cfg = sets.objects(), sets.detection(root)
    few['images'], few['annotations'] = few['images'][:1], few['annotations'][:2]
    sets.put(root, 'few', few)
    cfg.val_dataloader.dataset.ann_file = 'few.json'
    return cfg


def joined(root, step=0):
    """Two files for one metric, the second's images numbered on by `step`."""
    cfg, other, whole = sets.detection(root), sets.objects(first=7), sets.objects()
    for image in other['images']:
        image['id'] += step
    for entry in other['annotations']:
        entry['image_id'] += step
    sets.put(root, 'other', other)
    for key in ('images', 'annotations'):
        whole[key] += other[key]
    sets.put(root, 'whole', whole)
    for split in ('train', 'val'):
        one = cfg[f'{split}_dataloader'].dataset
        cfg[f'{split}_dataloader'].dataset = dict(
            type='ConcatDataset', datasets=[one, dict(one, ann_file='other.json')])
    cfg.val_evaluator.ann_file = f'{root}/whole.json'
    return cfg


def numbered_through(cfg, said, root):
    assert found(cfg, 'train') == {}
    cfg.val_dataloader.dataset = joined(root, step=3).val_dataloader.dataset


def set_everywhere(cfg, said, root):
    number = int(re.search('set all of them to ([0-9]+)', said)[1])
    heads = [cfg.model.decode_head, *cfg.model.get('auxiliary_head', [])]
    for node in [*heads, cfg.val_evaluator, cfg.test_evaluator]:
        node.ignore_index = number
    cfg.model.data_preprocessor.seg_pad_val = number


def topk(cfg, said, root):
    place, value = re.search(r'^(\S+) asks .* set it to \((\d+),', said).groups()
    cfg.merge_from_dict({place.replace('[0]', '.0'): (int(value),)})


def tasks(cfg):
    cfg.model.head = dict(type='MultiTaskHead', task_heads=dict(
        kind=dict(type='LinearClsHead', num_classes=3)))
    cfg.val_evaluator = dict(type='MultiTasksMetric', task_metrics=dict(
        kind=[dict(type='Accuracy', topk=(1, 5))]))


def weights(cfg, said, root):
    place, number = re.search(r'^(\S+) has .* write (\d+) numbers', said).groups()
    cfg.merge_from_dict({place: [1.0] * int(number)})


def mask2former(cfg, kind='Mask2FormerHead', loss='loss_cls'):
    cfg.model.decode_head = {'type': kind, 'num_classes': 3, loss: dict(
        type='mmdet.CrossEntropyLoss', class_weight=[1.0] * 150 + [0.1])}


def panoptic(cfg):
    things = dict(num_things_classes=2, num_stuff_classes=0)
    cfg.model = dict(type='Mask2Former', panoptic_head=dict(type='Mask2FormerHead', **things),
                     panoptic_fusion_head=dict(type='MaskFormerFusionHead', num_things_classes=80,
                                               num_stuff_classes=0))


def make_whole(cfg, said, root):
    cfg.model.test_cfg = eval(re.search(r"dict\(mode='whole'\)", said)[0])


def background(cfg, said, root):
    for path in root.glob('*_maps/*.png'):
        Image.fromarray((np.arange(96 * 64).reshape(64, 96) % 2).astype(np.uint8)).save(path)
    name_all(cfg, ('background', 'ground'))
    cfg.model.decode_head.num_classes = 2


def second_class(cfg, said, root):
    for split in ('train', 'val'):
        shutil.copytree(root / split / 'red', root / split / 'other')
    name_all(cfg, ('other', 'red'))
    cfg.model.head.num_classes = 2


def set_up(make, says, follow):
    return 'set-up', make, says, follow


def misspelt(cfg, said, root):
    """The name that is asked for, in the place of the one that is none."""
    wrong, right = re.search("'([^']*)' (?:is|of) no.* did you mean '([^']*)'|$", said).groups()
    wrong = wrong or re.search("and '(.*)' is none", said)[1]
    right = right or re.search("did you mean '(.*?)'", said)[1]
    name_all(cfg, [right if name == wrong else name
                   for name in cfg.train_dataloader.dataset.metainfo.classes])


def lacks_category(root):
    content = sets.objects()
    content['categories'] = content['categories'][:1]
    content['annotations'] = content['annotations'][::2]
    return sets.detection(root, val=content)


def other_order(root):
    content = sets.objects()
    content['categories'] = content['categories'][::-1]
    return sets.detection(root, val=content)


def as_advised(cfg, said, root):
    if 'write the categories into both files in one order' in said:
        content = json.loads((root / 'val.json').read_text())
        content['categories'].reverse()
        sets.put(root, 'val', content)
    else:
        name_all(cfg, re.findall("'([^']*)'", re.search(r'set classes=\((.*)\) in all', said)[1]))


def ordered_otherwise(root):
    cfg = other_order(root)
    cfg.val_dataloader.dataset.metainfo = dict(classes=('blue', 'red'))
    return cfg


def in_one_order(cfg, said, root):
    sets.put(root, 'val', sets.objects())
    name_all(cfg, sets.META['classes'])


def without_marks(cfg, said, root):
    path = Path(re.search(r'^(\S+) must be plain UTF-8', said)[1])
    path.write_text(path.read_text(re.search(r'read it as ([\w-]+)', said)[1]), 'utf-8')


def marked(name, encoding):
    def make(root):
        cfg = {'list.txt': sets.listed, 'names.txt': sets.listed_maps}.get(
            name, sets.detection)(root)
        (root / name).write_text((root / name).read_text(), encoding)
        return cfg
    return make


def make_folder(cfg, said, root):
    folder = re.search("make the empty folder '(.*?)'", said)[1]
    Path(folder).mkdir()
    assert "'green'" in found(cfg, level='warning')['absent class']


def take_away(cfg, said, root):
    assert 'set classes' not in said
    (root / 'val' / re.search("take away '(.*?)'", said)[1]).rmdir()


def hidden(root):
    cfg = sets.folders(root)
    (root / 'val' / '.ipynb_checkpoints').mkdir()
    return cfg


def black_folders(root):
    cfg = sets.folders(root)
    for split in ('train', 'val'):
        (root / split / 'black').mkdir()
    return cfg


def four_classes(cfg, said, root):
    as_advised(cfg, said, root)
    cfg.model.head.num_classes = 4


ADVICE = [
    ('other truth', other_truth, 'copy.json', lambda cfg, said, root: cfg.val_evaluator.update(
        ann_file=re.search("set it to '(.*)'[.]$", said)[1])),
    ('other truth', changed(sets.detection, lambda c: c.val_evaluator.update(
        ann_file='nowhere.json')), 'there is no file', lambda cfg, said, root:
        cfg.val_evaluator.update(ann_file=re.search("set it to '(.*)'[.]$", said)[1])),
    ('other truth', boxes_in_time, 'of other content', lambda cfg, said, root:
     cfg.val_evaluator.update(ann_file=re.search("set it to '(.*)'[.]$", said)[1])),
    ('part of the set', more_images, 'count as missed', lambda cfg, said, root:
     cfg.val_evaluator.update(ann_file=re.search("set it to '(.*)'[.]$", said)[1])),
    ('part of the set', changed(sets.detection, lambda c: c.val_dataloader.update(drop_last=True)),
     'set it to False', lambda cfg, said, root: cfg.val_dataloader.update(drop_last=False)),
    ('part of the set', changed(sets.detection, lambda c: c.val_dataloader.dataset.update(
        test_mode=False, filter_cfg=dict(filter_empty_gt=True))), 'set test_mode=True',
     lambda cfg, said, root: cfg.val_dataloader.dataset.update(test_mode=True)),
    ('ids collide', joined, 'image of id', numbered_through),
    ('class order', ordered_otherwise, 'the same classes in another order', in_one_order),
    ('class order', seg(lambda c: c.val_dataloader.dataset.update(metainfo=dict(
        classes=('ground', 'blue', 'red')))), 'in another order', lambda cfg, said, root: name_all(
            cfg, cfg.train_dataloader.dataset.metainfo.classes)),
    *(('ignored number', seg(change), 'different numbers', set_everywhere) for change in (
        lambda c: c.model.decode_head.update(ignore_index=254),
        lambda c: c.val_evaluator.update(ignore_index=0),
        lambda c: c.model.data_preprocessor.update(seg_pad_val=0),
        lambda c: c.model.update(auxiliary_head=[dict(num_classes=3, ignore_index=254)]))),
    ('top-k', cls(lambda c: None, evaluator=dict(type='Accuracy', topk=(1, 5))),
     'asks for (1, 5) of 3 classes', topk),
    ('top-k', cls(lambda c: c.model.head.update(topk=(1, 5), cal_acc=True)), 'model.head.topk',
     topk),
    ('top-k', cls(tasks), 'task_metrics.kind[0].topk', topk),
    ('trivial top-k', film(lambda c: c.val_evaluator.update(metric_options=dict(
        top_k_accuracy=dict(topk=(1, 5))))), 'always 100 %', topk),
    ('trivial top-k', film(lambda c: c.val_evaluator.pop('metric_options')), 'asks for (1, 5)',
     topk),
    ('clip average', film(lambda c: c.model.cls_head.pop('average_clips')), "set it to 'prob'",
     lambda cfg, said, root: cfg.model.cls_head.update(average_clips='prob')),
    ('sizes in a batch', changed(lambda root: sets.maps(root, sizes=((96, 64), (64, 96), (80, 80))),
                                 lambda c: c.val_dataloader.update(batch_size=2)),
     'leave the pipeline in several sizes', lambda cfg, said, root: cfg.val_dataloader.update(
         batch_size=1)),
    ('sizes in a batch', changed(
        lambda root: sets.maps(root, sizes=((96, 64), (64, 96)), steps=[
            dict(type='ResizeShortestEdge', scale=32, max_size=99)]),
        lambda c: c.val_dataloader.update(batch_size=2)), '(32, 48)', lambda cfg, said, root:
        cfg.val_dataloader.dataset.pipeline.__setitem__(1, dict(type='Resize', scale=(32, 32)))),
    ('class weights', seg(lambda c: c.model.decode_head.loss_decode.update(
        class_weight=[1.0] * 4)), 'one for each class.', weights),
    ('class weights', seg(mask2former), 'has 151 numbers for 3 classes', weights),
    ('class weights', seg(lambda c: mask2former(c, 'SideAdapterCLIPHead', 'loss_decode')),
     'write 4 numbers', weights),
    ('class weights', changed(sets.detection, lambda c: c.model.roi_head.bbox_head.update(
        loss_cls=dict(type='CrossEntropyLoss', class_weight=[1.0] * 81))), '81 numbers', weights),
    ('things and stuff', changed(sets.detection, panoptic), 'num_things_classes=80',
     lambda cfg, said, root: cfg.model.panoptic_fusion_head.update(num_things_classes=int(
         re.search('([0-9]+) and 0 where', said)[1]), num_stuff_classes=0)),
    ('slide', seg(lambda c: c.model.update(test_cfg=dict(
        mode='slide', crop_size=(64, 64), stride=(80, 48)))), 'do not cover',
     lambda cfg, said, root: cfg.model.test_cfg.update(stride=(64, 48))),
    ('slide', seg(lambda c: c.model.update(test_cfg=dict(
        mode='slide', crop_size=(64, 64), stride=(48, 48)), decode_head=dict(
            type='Mask2FormerHead', num_classes=3))), 'tools/infer.py --slice', make_whole),
    ('one class', cls(lambda c: None, names=('red',)), 'model.head.num_classes is 1',
     second_class),
    *(('one class', lambda root, head=head: sets.maps(
        root, table={1: 0, 2: 0}, classes=('ground',), head=head), 'nothing to tell apart',
       background) for head in ({}, dict(loss_decode=dict(
           type='CrossEntropyLoss', use_sigmoid=True)))),
    *(set_up(marked(name, encoding), 'starts with a byte order mark', without_marks)
      for name, encoding in (('train.json', 'utf-8-sig'), ('train.json', 'utf-16'),
                             ('list.txt', 'utf-8-sig'), ('names.txt', 'utf-16'))),
    set_up(changed(sets.detection, lambda c: name_all(c, ('red', 'bleu'))),
           "'bleu' is no category of it, did you mean 'blue'", misspelt),
    set_up(cls(lambda c: name_all(c, ('blue', 'gren', 'red'))),
           "'gren' is no folder of it, did you mean 'green'", misspelt),
    set_up(lambda root: sets.maps(root, table={0: 1, 1: 5, 2: 3}, type='ADE20KDataset', classes=(
        'wal', 'tree', 'sky')),
           "'wal' is none: did you mean 'wall'", misspelt),
    set_up(lacks_category, "'blue' is a category of another split alone",
           lambda cfg, said, root: sets.put(root, 'val', sets.objects())),
    set_up(other_order, 'write the categories into both files in one order', as_advised),
    set_up(changed(sets.detection, lambda c: name_all(c, ('blue', 'red'))), 'set classes=',
           as_advised),
    set_up(cls(lambda c: None, lacking=[('val', 'green')]), 'a split may have no', make_folder),
    set_up(cls(lambda c: [d.pop('metainfo') for d in loaders(c)], lacking=[('val', 'green')]),
           'the folders of the training split', make_folder),
    set_up(hidden, "take away '.ipynb_checkpoints'", take_away),
    set_up(black_folders, "set classes=('black', 'blue', 'green', 'red') in all", four_classes),
]


@pytest.mark.parametrize('row', ADVICE, ids=names(ADVICE))
def test_what_is_wrong_is_said_and_following_the_advice_makes_it_well(row, tmp_path):
    follow(row, tmp_path)


def test_the_advice_of_every_kind_is_followed_by_a_test():
    """What is of single files and lines is held by the tests of those: set it right in the file."""
    from test_run_data import ADVICE as OF_DATA
    from test_run_scored import ADVICE as OF_SCORES
    of_files = tuple(ERRORS)[:tuple(ERRORS).index('set-up')]
    assert {kind for kind, *_ in [*ADVICE, *OF_DATA, *OF_SCORES]} >= set(ERRORS) - set(of_files)


def test_class_weights_are_of_training_alone(tmp_path):
    cfg = seg(mask2former)(tmp_path)
    assert found(cfg, 'val') == {} and list(found(cfg)) == ['class weights']


def test_a_schedule_that_ends_before_the_training_is_told(tmp_path):
    cfg = sets.detection(tmp_path)
    cfg.train_cfg = dict(max_epochs=24)
    cfg.param_scheduler = [dict(type='LinearLR', by_epoch=False, end=5),
                           dict(type='CosineAnnealingLR', begin=0, end=12, T_max=12)]
    assert 'ends after 12 of 24 epochs' in found(cfg, level='warning')['schedule']
    cfg.param_scheduler[1].update(end=24, T_max=24)
    assert found(cfg, level='warning') == {}
    cfg.param_scheduler[1] = dict(type='MultiStepLR', milestones=[8, 11])
    assert found(cfg, level='warning') == {}
    cfg.param_scheduler[1]['end'] = 12
    assert 'schedule' in found(cfg, level='warning')


def test_what_took_long_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'kept'))
    monkeypatch.setattr(stored, 'SLOW', 0)
    cfg = sets.detection(tmp_path / 'data', train=sets.objects(iscrowd=1))
    first, read = list(findings(cfg, ('train', 'val'))), []
    monkeypatch.setattr(coco, '_parsed', lambda path, parse=coco._parsed: (
        read.append(path), parse(path))[1])
    assert list(findings(cfg, ('train', 'val'))) == first and not read
    sets.put(tmp_path / 'data', 'train', sets.objects(iscrowd=0))
    assert list(findings(cfg, ('train', 'val'))) == [] and read
    read.clear()
    for path in (tmp_path / 'kept').rglob('*.json'):
        path.write_text('{"files": {}, "found": [["no such kind", "", ""]]}')
    assert list(findings(cfg, ('train', 'val'))) == [] and read


def test_many_warnings_of_a_kind_are_one_line(tmp_path, capsys):
    cfg = sets.detection(tmp_path, train=sets.objects(bbox=[90, 8, 20, 16]), masks=False)
    checks.check_data(cfg, 'train')
    out = capsys.readouterr().out
    assert f"Warning: 6 times 'box over the edge' ({KINDS['box over the edge'][0]})" in out
