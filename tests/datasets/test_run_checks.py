"""What a run will use is checked before its first step: each kind, with its cure tried."""
import json
import re

import numpy as np
import pytest
import small_sets as sets
from PIL import Image
from pycocotools import mask as masks

from swinv2_mm.datasets import checks
from swinv2_mm.datasets.checks import findings
from swinv2_mm.utils.errors import UserError


def found(cfg, *splits, level='error'):
    """{kind: sentence} of what is found."""
    return {f.kind: f.sentence for f in findings(cfg, splits or ('train', 'val'))
            if f.level == level}


def sound(cfg):
    """A config that nothing is said of."""
    assert list(findings(cfg, ('train', 'val', 'test'))) == []
    return cfg


def change(**fields):
    """An edit of the second annotation."""
    return lambda content: content['annotations'][1].update(fields)


# -- settings that do not go together -------------------------------------------------------------

def test_nothing_is_said_of_sound_sets(tmp_path):
    sound(sets.detection(tmp_path / 'det'))
    sound(sets.maps(tmp_path / 'seg'))
    sound(sets.folders(tmp_path / 'cls'))


def test_a_metric_that_reads_other_objects_is_refused_and_the_same_elsewhere_is_not(tmp_path):
    cfg = sets.detection(tmp_path)
    copy = sets.objects(first=11)  # numbers of annotations mean nothing
    sets.put(tmp_path, 'copy', copy)
    cfg.val_evaluator.ann_file = f'{tmp_path}/copy.json'
    assert found(cfg) == {}
    copy['annotations'][0]['bbox'][0] += 3
    sets.put(tmp_path, 'copy', copy)
    said = found(cfg)['other truth']
    assert f'{tmp_path}/copy.json' in said
    cfg.val_evaluator.ann_file = re.search("set it to '(.*)'[.]$", said)[1]
    assert found(cfg) == {}
    cfg.val_evaluator.ann_file = 'nowhere.json'
    assert 'there is no file' in found(cfg)['other truth']
    assert found(cfg, 'train') == {}


def test_a_metric_of_more_images_than_its_loader_gives_is_refused(tmp_path):
    few = sets.objects()
    few['images'] = few['images'][:1]
    few['annotations'] = few['annotations'][:2]
    cfg = sets.detection(tmp_path)
    sets.put(tmp_path, 'few', few)
    cfg.val_dataloader.dataset.ann_file = 'few.json'
    assert 'count as missed' in found(cfg)['part of the set']
    cfg.val_evaluator.ann_file = f'{tmp_path}/few.json'
    assert found(cfg) == {}
    cfg.val_dataloader.drop_last = True
    assert 'drop_last' in found(cfg)['part of the set']
    cfg.val_dataloader.drop_last = False
    cfg.val_dataloader.dataset.update(test_mode=False, filter_cfg=dict(filter_empty_gt=True))
    assert 'set test_mode=True' in found(cfg)['part of the set']


def test_joined_sets_whose_image_ids_collide_are_refused_in_tests_only(tmp_path):
    cfg = sets.detection(tmp_path)
    for split in ('train', 'val'):
        one = cfg[f'{split}_dataloader'].dataset
        other = dict(one, ann_file='other.json')
        cfg[f'{split}_dataloader'].dataset = dict(type='ConcatDataset', datasets=[one, other])
    content = sets.objects(first=7)
    sets.put(tmp_path, 'other', content)
    assert list(found(cfg)) == ['ids collide'] and found(cfg, 'train') == {}
    for image in content['images']:
        image['id'] += 3
    for entry in content['annotations']:
        entry['image_id'] += 3
    sets.put(tmp_path, 'other', content)
    whole = json.loads((tmp_path / 'val.json').read_text())
    for key in ('images', 'annotations'):
        whole[key] += content[key]
    sets.put(tmp_path, 'whole', whole)
    cfg.val_evaluator.ann_file = f'{tmp_path}/whole.json'
    assert found(cfg) == {}


def test_splits_that_order_their_classes_otherwise_are_refused(tmp_path):
    cfg = sets.detection(tmp_path)
    content = sets.objects()
    content['categories'] = content['categories'][::-1]
    sets.put(tmp_path, 'val', content)
    cfg.val_dataloader.dataset.metainfo = dict(classes=('blue', 'red'))
    assert 'the same classes in another order' in found(cfg)['class order']
    cfg = sets.maps(tmp_path / 'seg')
    cfg.test_dataloader.dataset.metainfo = dict(classes=('ground', 'blue', 'red'))
    assert list(found(cfg)) == [] and list(found(cfg, 'test')) == ['class order']


@pytest.mark.parametrize('change', [
    lambda c: c.model.decode_head.update(ignore_index=254),
    lambda c: c.val_evaluator.update(ignore_index=0),
    lambda c: c.model.data_preprocessor.update(seg_pad_val=0),
    lambda c: c.model.update(auxiliary_head=[dict(num_classes=3, ignore_index=254)])])
def test_the_number_that_is_left_out_is_one(tmp_path, change):
    cfg = sets.maps(tmp_path)
    change(cfg)
    said = found(cfg)['ignored number']
    number = int(re.search('set all of them to ([0-9]+)', said)[1])
    cfg.model.decode_head.ignore_index = cfg.val_evaluator.ignore_index = number
    cfg.model.data_preprocessor.seg_pad_val = number
    for head in cfg.model.get('auxiliary_head', []):
        head.ignore_index = number
    assert found(cfg) == {}


def test_top_k_of_more_classes_than_there_are(tmp_path):
    cfg = sets.folders(tmp_path, evaluator=dict(type='Accuracy', topk=(1, 5)))
    said = found(cfg)['top-k']
    assert 'asks for (1, 5) of 3 classes' in said and said.endswith('set it to (1,).')
    cfg.val_evaluator.topk = (1,)
    assert found(cfg) == {}
    cfg.val_evaluator.topk = 3
    assert found(cfg) == {} and list(found(cfg, level='warning')) == ['trivial top-k']


def test_several_sizes_in_a_batch_of_a_segmentation_test(tmp_path):
    cfg = sets.maps(tmp_path, sizes=((96, 64), (64, 96), (80, 80)))
    cfg.val_dataloader.batch_size = 2
    assert 'in 3 sizes' in found(cfg)['sizes in a batch']
    load, *rest = cfg.val_dataloader.dataset.pipeline
    for step, several in ((dict(type='Resize', scale=(96, 64), keep_ratio=True), True),
                          (dict(type='Resize', scale=(96, 64)), False)):
        cfg.val_dataloader.dataset.pipeline = [load, step, *rest]
        assert ('sizes in a batch' in found(cfg)) == several
    cfg.val_dataloader.update(batch_size=1, dataset=cfg.test_dataloader.dataset)
    assert found(cfg) == {}


def test_class_weights_of_another_number_of_classes(tmp_path):
    cfg = sets.maps(tmp_path)
    cfg.model.decode_head.loss_decode.class_weight = [1.0] * 4
    assert 'write 3 numbers: one for each class.' in found(cfg)['class weights']
    cfg.model.decode_head.loss_decode.class_weight = [1.0] * 3
    assert found(cfg) == {}
    cfg.model.decode_head = dict(type='Mask2FormerHead', num_classes=3, loss_cls=dict(
        type='mmdet.CrossEntropyLoss', class_weight=[1.0] * 150 + [0.1]))
    said = found(cfg)['class weights']
    assert 'has 151 numbers for 3 classes' in said and 'write 4 numbers' in said
    cfg.model.decode_head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    assert found(cfg) == {}


def test_sliding_windows_with_a_head_that_cannot_or_with_gaps(tmp_path):
    cfg = sets.maps(tmp_path)
    cfg.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    assert found(cfg) == {}
    cfg.model.test_cfg.stride = (80, 48)
    assert 'do not cover' in found(cfg)['slide']
    cfg.model.decode_head.type = 'Mask2FormerHead'
    assert 'tools/infer.py --slice' in found(cfg)['slide']
    cfg.model.test_cfg = dict(mode='whole')
    assert found(cfg) == {}


def test_one_class_under_a_softmax(tmp_path):
    cfg = sets.folders(tmp_path / 'cls', names=('red',))
    assert 'model.head.num_classes is 1 under a softmax' in found(cfg)['one class']
    cfg.model.head.loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    assert 'one class' not in found(cfg)
    cfg = sets.maps(tmp_path / 'seg', table={1: 0, 2: 0}, classes=('ground',))
    assert 'one class' in found(cfg)


# -- data that cannot teach -----------------------------------------------------------------------

def test_maps_of_0_and_255_are_refused_and_the_cure_holds(tmp_path):
    cfg = sets.maps(tmp_path, table={1: 255, 2: 255}, classes=('background', 'object'))
    said = found(cfg)['nothing to learn']
    assert "holds none of 'object' in the 3 of its 3 maps" in said and 'only ' in said
    assert '255, which they hold, is what is left out' in said
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo.label_map = {255: 1}
    for path in tmp_path.glob('*_maps/*.png'):
        numbers = np.array(Image.open(path))
        Image.fromarray(np.where(numbers == 255, 1, numbers).astype(np.uint8)).save(path)
        cfg.train_dataloader.dataset.metainfo.pop('label_map', None)
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo.pop('label_map', None)
    assert found(cfg) == {}


def test_a_class_that_no_map_of_training_holds_is_told(tmp_path):
    cfg = sets.maps(tmp_path, table={2: 255})
    assert found(cfg) == {} and "'blue'" in found(cfg, level='warning')['absent class']
    zero = sets.maps(tmp_path / 'zero', table={1: 0, 2: 1}, classes=('a', 'b'),
                     reduce_zero_label=True)
    assert "only 'a'" in found(zero)['nothing to learn']


def test_objects_that_are_all_crowds_are_refused(tmp_path):
    cfg = sets.detection(tmp_path, train=sets.objects(iscrowd=1))
    assert 'has iscrowd 1 in all 6 objects' in found(cfg)['nothing to learn']
    some = sets.objects()
    for entry in some['annotations'][:2]:
        entry['iscrowd'] = 1
    sets.put(tmp_path, 'train', some)
    assert found(cfg) == {} and 'in 2 of 6' in found(cfg, level='warning')['crowds']


def runs(box, size=(64, 96), turned=False):
    """Run lengths of a full box; `turned`: as if rows came first."""
    picture = np.zeros(size, np.uint8)
    x, y, w, h = box
    picture[y:y + h, x:x + w] = 1
    if turned:
        picture = picture.flatten().reshape(size, order='F')
    code = masks.encode(np.asfortranarray(picture))
    return dict(size=list(code['size']), counts=code['counts'].decode())


@pytest.mark.parametrize('spoil, says', [
    (lambda e: runs(e['bbox']), None),
    (lambda e: runs(e['bbox'][1::-1] + e['bbox'][3:1:-1], (96, 64)), 'width before height'),
    (lambda e: runs(e['bbox'], turned=True), 'row by row'),
    (lambda e: [[v for x, y in zip(e['segmentation'][0][::2], e['segmentation'][0][1::2])
                 for v in (y, x)]], 'y before x')],
    ids=['right', 'turned size', 'turned order', 'turned polygon'])
def test_masks_that_are_turned_are_refused(tmp_path, spoil, says):
    content = sets.objects()
    content['annotations'] = content['annotations'][1::2]  # off the diagonal
    for entry in content['annotations']:
        entry['segmentation'] = spoil(entry)
    said = found(sets.detection(tmp_path, train=content), 'train')
    assert (says in said['turned mask']) if says else said == {}


def test_one_mask_off_its_box_is_a_warning(tmp_path):
    content = sets.objects()
    change(segmentation=[sets.polygon(0, 0, 10, 10)])(content)
    cfg = sets.detection(tmp_path, train=content)
    assert found(cfg) == {}
    assert 'annotation 2, 1 of 6' in found(cfg, level='warning')['mask off its box']


READ_AS = {
    'corners': (lambda x, y, w, h: [x, y, x + w, y + h], 'corners', 'write width x2 - x1'),
    'centres': (lambda x, y, w, h: [x + 60 + w / 2, y + 30 + h / 2, w, h], 'centres', 'cx - width'),
    'fractions': (lambda x, y, w, h: [x / 96, y / 64, w / 96, h / 64], 'fractions', 'multiply'),
    'rows first': (lambda x, y, w, h: [y, x + 45, h, w], 'rows before columns', 'x, y, width'),
}


@pytest.mark.parametrize('name', READ_AS)
def test_boxes_that_are_not_x_y_w_h_are_refused_with_what_they_seem_to_be(tmp_path, name):
    turn, says, cure = READ_AS[name]
    boxes = [[16, 14, 18, 18]] if name == 'rows first' else [[14, 14, 20, 18], [50, 40, 40, 20]]
    if name == 'centres':
        boxes = [[10, 10, 24, 22], [8, 9, 26, 24]]
    content = sets.objects()
    for i, entry in enumerate(content['annotations']):
        entry['bbox'] = turn(*boxes[i % len(boxes)])
        entry.pop('segmentation')
        entry['area'] = 300
    said = found(sets.detection(tmp_path, train=content, masks=False), 'train')['not x, y, w, h']
    assert says in said and cure in said, said


@pytest.mark.parametrize('fields', [dict(attributes=dict(rotation=50.0, occluded=False)),
                                    dict(rotation=-12), dict(attributes=dict(angle=90))])
def test_a_turned_rectangle_is_told(tmp_path, fields):
    cfg = sets.detection(tmp_path, train=sets.objects(**fields))
    assert 'has 6 boxes with an angle' in found(cfg, level='warning')['turned box']
    straight = sets.objects(attributes=dict(rotation=0.0), rotation=180)
    assert found(sets.detection(tmp_path, train=straight), level='warning') == {}


def test_twelve_bits_in_sixteen_are_refused(tmp_path):
    cfg = sets.detection(tmp_path)
    for path in (tmp_path / 'train').glob('*.jpg'):
        Image.fromarray(np.full((64, 96), 4000, np.uint16)).save(path, 'PNG')
    assert 'holds numbers up to 4000 of the 65535' in found(cfg)['dark']
    cfg.train_dataloader.dataset.pipeline[0].color_type = 'unchanged'
    assert found(cfg) == {}
    cfg.train_dataloader.dataset.pipeline[0].color_type = 'color'
    for path in (tmp_path / 'train').glob('*.jpg'):
        Image.fromarray(np.full((64, 96), 60000, np.uint16)).save(path, 'PNG')
    assert found(cfg) == {}


# -- fields that are missing ----------------------------------------------------------------------

@pytest.mark.parametrize('mask', [None, []])
@pytest.mark.parametrize('by', ['pipeline', 'metric'])
def test_an_object_without_a_mask_is_refused_where_masks_are_needed(tmp_path, mask, by):
    content = sets.objects()
    change(segmentation=mask)(content)
    cfg = sets.detection(tmp_path, masks=by == 'pipeline', val=content)
    said = found(cfg)['no masks']
    assert 'annotation 2, 1 of 6' in said and ('with_mask' in said) == (by == 'pipeline')
    cfg = sets.detection(tmp_path, masks=False, val=content, metric=['bbox'])
    assert found(cfg) == {}


def test_what_is_set_right_in_memory_is_told(tmp_path):
    content = sets.objects(first=0)
    for entry in content['annotations']:
        entry.pop('iscrowd')
        entry['area'] = None
    cfg = sets.detection(tmp_path, train=content)
    assert found(cfg) == {}
    assert set(found(cfg, level='warning')) == {'ids from 0', 'no iscrowd', 'no area'}


@pytest.mark.parametrize('fields, says', [(dict(iscrowd='0'), "iscrowd '0', neither"),
                                          (dict(iscrowd=2), 'iscrowd 2')])
def test_a_field_that_would_be_taken_for_another_value_is_refused(tmp_path, fields, says):
    assert says in found(sets.detection(tmp_path, train=sets.objects(**fields)))['no field']


def test_json_with_a_byte_order_mark_or_in_another_encoding_is_named(tmp_path):
    cfg = sets.detection(tmp_path)
    text = (tmp_path / 'train.json').read_text()
    for content in (b'\xef\xbb\xbf' + text.encode(), text.encode('utf-16')):
        (tmp_path / 'train.json').write_bytes(content)
        said = found(cfg)['set-up']
        assert f'{tmp_path}/train.json must be' in said and 'save it' in said
    (tmp_path / 'train.json').write_text((tmp_path / 'train.json').read_text('utf-16'))
    assert found(cfg) == {}


def test_a_test_set_without_annotations_is_for_others_to_score(tmp_path):
    content = sets.objects()
    del content['annotations']
    cfg = sets.detection(tmp_path)
    sets.put(tmp_path, 'dev', content)
    cfg.test_dataloader.dataset.ann_file = 'dev.json'
    cfg.test_evaluator = dict(type='CocoMetric', ann_file=f'{tmp_path}/dev.json')
    said = found(cfg, 'test')['no field']
    assert 'nothing to score against' in said and 'format_only=True' in said
    cfg.test_evaluator.update(format_only=True, outfile_prefix='out')
    assert found(cfg, 'test') == {}
    cfg.train_dataloader.dataset.ann_file = 'dev.json'
    assert 'an object without annotations' in found(cfg, 'train')['set-up']


# -- what is advised ------------------------------------------------------------------------------

def test_a_misspelt_class_is_named_with_the_nearest(tmp_path):
    cfg = sets.detection(tmp_path)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('red', 'bleu'))
    said = found(cfg)['set-up']
    near = re.search("'bleu' is no category of it, did you mean '(.*)'", said)[1]
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('red', near))
    assert found(cfg) == {}


def test_a_category_that_one_split_lacks_is_to_be_written_there(tmp_path):
    content = sets.objects()
    content['categories'] = content['categories'][:1]
    content['annotations'] = content['annotations'][::2]
    cfg = sets.detection(tmp_path, val=content)
    assert "'blue' is a category of another split alone" in found(cfg)['set-up']
    content['categories'] = sets.objects()['categories']
    sets.put(tmp_path, 'val', content)
    assert found(cfg) == {}


def test_files_of_another_order_are_to_be_written_in_one(tmp_path):
    content = sets.objects()
    content['categories'] = content['categories'][::-1]
    cfg = sets.detection(tmp_path, val=content)
    assert 'write the categories into both files in one order' in found(cfg)['set-up']
    sets.put(tmp_path, 'train', content)
    said = found(cfg)['set-up']
    classes = re.search(r'set classes=(\(.*\)) in all data sets', said)[1]
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo.classes = classes.strip('()').replace(
            "'", '').split(', ')
    assert found(cfg) == {}


@pytest.mark.parametrize('named', [True, False])
def test_a_folder_that_one_split_lacks_is_to_be_made(tmp_path, named):
    cfg = sets.folders(tmp_path, lacking=[('val', 'green')])
    if not named:
        for split in ('train', 'val', 'test'):
            cfg[f'{split}_dataloader'].dataset.metainfo = None
    said = found(cfg)['set-up']
    folder = re.search("make the empty folder '(.*?)'", said)[1]
    (tmp_path / 'val' / 'green').mkdir()
    assert folder == f'{tmp_path}/val/green'
    assert found(cfg) == {} and "'green'" in found(cfg, level='warning')['absent class']


def test_folders_that_are_no_class(tmp_path):
    cfg = sets.folders(tmp_path)
    (tmp_path / 'val' / '.ipynb_checkpoints').mkdir()
    said = found(cfg)['set-up']
    assert "take away '.ipynb_checkpoints'" in said and 'set classes' not in said
    (tmp_path / 'val' / '.ipynb_checkpoints').rmdir()
    for split in ('train', 'val'):
        (tmp_path / split / 'black').mkdir()
    assert "set classes=('black', 'blue', 'green', 'red') in all" in found(cfg)['set-up']
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.metainfo.classes = ('black', 'blue', 'green', 'red')
    cfg.model.head.num_classes = 4
    assert found(cfg) == {}
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.metainfo.classes = ('black', 'blue', 'gren', 'red')
    assert "'gren' is no folder of it, did you mean 'green'" in found(cfg)['set-up']


def test_the_first_error_ends_a_run_and_the_others_are_printed(tmp_path, capsys):
    cfg = sets.detection(tmp_path, train=sets.objects(iscrowd=1), val=sets.objects(iscrowd=2))
    with pytest.raises(UserError, match='train.json has iscrowd 1 in all 6'):
        checks.check_data(cfg, 'train', 'val')
    assert 'Also wrong: ' in capsys.readouterr().out


def test_a_schedule_that_ends_before_the_training_is_told(tmp_path):
    cfg = sets.detection(tmp_path)
    cfg.train_cfg = dict(max_epochs=24)
    cfg.param_scheduler = [dict(type='LinearLR', by_epoch=False, end=500),
                           dict(type='CosineAnnealingLR', begin=0, end=12, T_max=12)]
    assert 'ends after 12 of 24 epochs' in found(cfg, level='warning')['schedule']
    cfg.param_scheduler[1].update(end=24, T_max=24)
    assert found(cfg, level='warning') == {}
    cfg.param_scheduler[1] = dict(type='MultiStepLR', milestones=[8, 11])
    assert found(cfg, level='warning') == {}
