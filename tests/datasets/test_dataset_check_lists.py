"""Annotations and lists: what is wrong in them is found by the tool and refused at the start."""
import json
import math
import re
from pathlib import Path

import bad_files
import numpy as np
import pytest
from bad_files import contents
from helpers import ROOT
from mmengine.config import Config
from PIL import Image
from test_dataset_check import check, listed

from swinv2_mm.datasets.checks import boxes, check_data
from swinv2_mm.utils.errors import UserError


def annotation(**changes):
    return lambda content: content['annotations'][2].update(changes)


def image(**changes):
    return lambda content: content['images'][0].update(changes)


NAN, INF = math.nan, math.inf
# What is changed -> (kind, a pattern of what is said).
ENTRIES = {
    'nan box': (annotation(bbox=[4, NAN, 20, 10]), 'bad box', 'annotation 2 without four finite'),
    'infinite box': (annotation(bbox=[4, 5, INF, 10]), 'bad box', 'finite numbers as bbox'),
    'three numbers': (annotation(bbox=[4, 5, 20]), 'bad box', r'bbox: \[4, 5, 20\]'),
    'text for a box': (annotation(bbox='4 5 20 10'), 'bad box', "'4 5 20 10'"),
    'text in a box': (annotation(bbox=[4, 5, '20', 10]), 'bad box', "'20'"),
    'truth in a box': (annotation(bbox=[4, 5, True, 10]), 'bad box', 'True'),
    'no box': (annotation(bbox=None), 'bad box', 'None'),
    'far too large a number': (annotation(bbox=[4, 5, 10 ** 400, 10]), 'bad box', r'\.\.\.$'),
    'zero width': (annotation(bbox=[4, 5, 0, 10]), 'empty box', 'box of 0 x 10 pixels'),
    'negative height': (annotation(bbox=[4, 5, 20, -10]), 'empty box', '20 x -10'),
    'half a pixel': (annotation(bbox=[4, 5, .5, 10]), 'empty box', '0.5 x 10'),
    'no area': (annotation(area=0), 'empty box', 'area 0'),
    'nan area': (annotation(area=NAN), 'no field', 'without a finite area: nan'),
    'right of the image': (annotation(bbox=[48, 5, 20, 10]), 'box outside', 'outside its image'),
    'above the image': (annotation(bbox=[4, -30, 20, 10]), 'box outside', 'of 48 x 40'),
    'over the edge': (annotation(bbox=[40, 5, 20, 10]), 'box over the edge', 'partly outside'),
    'unknown category': (annotation(category_id=99), 'unknown class', 'unknown category 99'),
    'category as text': (annotation(category_id='3'), 'no field', "category_id '3', where ids"),
    'list as category': (annotation(category_id=[3]), 'unknown class', r'category \[3\]'),
    'unknown image': (annotation(image_id=77), 'unknown image', 'of the unknown image 77'),
    'an id again': (annotation(id=1), 'id twice', 'two annotations of id 1'),
    'no id': (annotation(id=None), 'no field', 'annotation without a whole number as id'),
    'no entry': (lambda c: c['annotations'].append(3), 'no field', 'as id: 3'),
    'an odd polygon': (annotation(segmentation=[[1, 2, 3, 4, 5]]), 'bad mask', 'cannot be drawn'),
    'a polygon of two points': (annotation(segmentation=[[1, 2, 3, 4]]), 'bad mask', 'drawn'),
    'a polygon with nan': (annotation(segmentation=[[1, 2, 3, NAN, 5, 6]]), 'bad mask', 'drawn'),
    'a polygon of text': (annotation(segmentation='1 2 3 4 5 6'), 'bad mask', 'drawn'),
    'runs of another length': (annotation(segmentation=dict(size=[40, 48], counts=[5, 6])),
                               'bad mask', 'drawn'),
    'runs that go back': (annotation(segmentation=dict(size=[2, 2], counts=[-4, 8])), 'bad mask',
                          'drawn'),
    'a mask of a billion rows': (annotation(segmentation=dict(size=[1 << 30, 48], counts='0')),
                                 'bad mask', 'drawn'),
    'an image id again': (image(id=2), 'id twice', 'two images of id 2'),
    'no name': (image(file_name=None), 'no field', 'image without file_name, id 1'),
    'no width': (image(width=None), 'no field', 'without a width in pixels, id 1: None'),
    'width beyond floats': (image(width=10 ** 400), 'no field', r'id 1: 10+\.\.\.$'),
    'height of nan': (image(height=NAN), 'no field', 'without a height'),
    'a name above': (image(file_name='../../etc/passwd'), 'outside the root', "'../../etc/passwd'"),
    'a name from the root': (image(file_name='/etc/passwd'), 'outside the root', 'leads out'),
    'a name through a folder': (image(file_name='x/../../../y.jpg'), 'outside the root', 'leads'),
    'a name with a zero': (image(file_name='a\0.jpg'), 'outside the root', 'leads out'),
    'a category id again': (lambda c: c['categories'].append(dict(id=3, name='ring')), 'id twice',
                            'two categories of id 3'),
    'a category without a name': (lambda c: c['categories'].append(dict(id=9, name=[1])),
                                  'no field', 'category without'),
    'a category of a list': (lambda c: c['categories'].append(dict(id=[9], name='ring')),
                             'no field', 'category without'),
}


@pytest.fixture
def data(tmp_path):
    """A data set of the demo, sound; returns its folder and a config that is of it."""
    root = tmp_path / 'data'
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True)
        for name in ('a.jpg', 'b.jpg'):
            (root / split / name).write_bytes(bad_files.encoded())
        (root / f'{split}.json').write_text(json.dumps(contents()))
    config = tmp_path / 'config.py'
    config.write_text(f"""_base_ = '{ROOT}/configs/demo/det_nano.py'
data = dict(data_root='{root}/', metainfo=dict(classes=('disc', 'square')))
train_dataloader = dict(dataset=data)
val_dataloader = dict(dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{root}/val.json')
test_evaluator = val_evaluator
for head in _base_.model.roi_head.bbox_head + _base_.model.roi_head.mask_head:
    head.num_classes = 2
""")
    return root, config


@pytest.mark.parametrize('name', ENTRIES)
def test_a_wrong_entry_is_found(name, tmp_path):
    change, kind, says = ENTRIES[name]
    content = contents()
    change(content)
    found = list(boxes.check_entries(content, 'x.json', f'{tmp_path}/train', str(tmp_path)))
    found = [f for f in found if f.kind != 'no objects']
    of_kind = [f for f in found if f.kind == kind]
    assert of_kind and all(re.search(says, f.text) for f in of_kind), found
    assert all(len(f.text) < 250 for f in found)


def written(root, content, split='train'):
    (root / f'{split}.json').write_text(json.dumps(content))


@pytest.mark.parametrize('name', ['nan box', 'no width', 'an id again', 'a name above'])
def test_an_entry_that_is_an_error_ends_a_run_before_it_starts(name, data):
    root, config = data
    content = contents()
    ENTRIES[name][0](content)
    written(root, content)
    with pytest.raises(UserError, match=f'^{root}/train.json (has|names) .*: .*\\.$'):
        check_data(Config.fromfile(config), 'train')


def test_training_needs_a_box_and_testing_does_not(data):
    root, config = data
    content = contents()
    for left in ([dict(e, bbox=[40, 5, 20, 10]) for e in content['annotations']], []):
        content['annotations'] = left
        written(root, content)
        written(root, content, 'val')
        check_data(Config.fromfile(config), 'val')
        if left:  # over the edge, and of use
            check_data(Config.fromfile(config), 'train')
    with pytest.raises(UserError, match='train.json has 2 images and no box of use: label'):
        check_data(Config.fromfile(config), 'train')


def test_entries_that_are_left_out_are_counted_when_a_run_starts(data, capsys):
    root, config = data
    content = contents()
    annotation(bbox=[4, 5, 0, 10])(content)
    (root / 'train.json').write_text(json.dumps(content))
    check_data(Config.fromfile(config), 'train', 'val')
    out = capsys.readouterr().out
    assert 'Warning: ' in out and 'train.json has annotation 2 with a box of 0 x 10' in out
    assert 'val.json' not in out


def test_a_config_is_checked_with_its_lists_and_sizes(data, tmp_path):
    root, config = data
    assert listed(config, '--out', tmp_path / 'a.csv') == (0, {})
    (root / 'val' / 'b.jpg').write_bytes(b'')
    (root / 'train' / 'a.jpg').unlink()
    turned = Image.Exif()
    turned[0x0112] = 6  # 90 degrees: boxes lie elsewhere
    (root / 'train' / 'b.jpg').write_bytes(bad_files.encoded(exif=turned))
    status, found = listed(config, '--out', tmp_path / 'a.csv')
    assert status == 1
    assert found.pop(f'{root}/val/b.jpg') == [('error', 'empty', 'is empty')]
    assert found.pop(f'{root}/train/a.jpg')[0][1] == 'missing'
    assert found.pop(f'{root}/train.json')[0][1] == 'missing'  # told at the start of a run too
    kinds = {kind: text for _, kind, text in found.pop(f'{root}/train/b.jpg')}
    assert kinds['other size'] == 'has 40 x 48 pixels where the annotations say 48 x 40'
    assert 'rotated' in kinds and not found


def test_json_that_cannot_be_read_is_one_finding(data, tmp_path):
    root, config = data
    for text in ('{"images": [', '[' * 100_000, '\xff', ''):
        (root / 'train.json').write_text(text, encoding='latin-1')
        status, found = listed(config, '--splits', 'train', '--out', tmp_path / 'a.csv')
        assert status == 1 and {kind for rows in found.values() for _, kind, _ in rows} == {
            'set-up'}


def test_maps_are_checked_against_classes_and_images(tmp_path):
    root = tmp_path / 'maps'
    for part in ('train', 'train_maps'):
        (root / part).mkdir(parents=True)
    sound = np.random.default_rng(0).integers(0, 7, (40, 48)).astype(np.uint8)

    def put(name, array, mode=None):
        (root / 'train' / f'{name}.png').write_bytes(bad_files.encoded('PNG'))
        Image.fromarray(array, mode).save(root / 'train_maps' / f'{name}.png')

    put('sound', sound)
    put('ignored', np.where(sound == 3, 255, sound).astype(np.uint8))
    put('number', np.where(sound == 3, 9, sound).astype(np.uint8))
    put('deep', sound.astype(np.uint16) * 256)
    put('wide_but_sound', sound.astype(np.uint16))
    put('turned', sound.T.copy())
    put('colour', np.stack([sound] * 3, -1))
    put('cut', sound)
    cut = root / 'train_maps' / 'cut.png'
    cut.write_bytes(cut.read_bytes()[:-20])
    config = tmp_path / 'config.py'
    config.write_text(f"""_base_ = '{ROOT}/configs/demo/seg_nano.py'
train_dataloader = dict(dataset=dict(data_root='{root}/', img_suffix='.png'))
""")
    status, found = listed(config, '--splits', 'train', '--out', tmp_path / 'a.csv')
    start = found.pop('train_dataloader')  # what tools/train.py would end with
    assert status == 1 and [kind for _, kind, _ in start] == ['set-up']
    said = {Path(where).stem: rows for where, rows in found.items()}
    assert {name: rows[0][1] for name, rows in said.items()} == {
        'number': 'unknown class', 'deep': 'map of 16 bits', 'turned': 'other size',
        'colour': 'map in colour', 'cut': 'truncated'}
    assert said['number'][0][2] == 'holds 9, which is no class'


LINES = {  # of a list "PATH LABEL" of two classes
    'sound': ('a.jpg 0\nb.jpg 1', {}),
    'a word': ('a.jpg 0\nb.jpg one', {'bad line'}),
    'no label': ('a.jpg 0\nb.jpg', {'bad line'}),
    'another class': ('a.jpg 0\nb.jpg 2', {'unknown class'}),
    'twice': ('a.jpg 0\nb.jpg 1\na.jpg 0', {'file twice'}),
    'two labels': ('a.jpg 0\nb.jpg 1\na.jpg 1', {'two labels'}),
    'above': ('a.jpg 0\n../../b.jpg 1', {'outside the root'}),
    'missing': ('a.jpg 0\nc.jpg 1', {'missing'}),
}
START = {'bad line', 'unknown class', 'outside the root'}  # refused at the start as well


@pytest.mark.parametrize('name', LINES)
@pytest.mark.parametrize('task', ['cls', 'video'])
def test_a_wrong_line_of_a_list_is_found(name, task, tmp_path):
    text, kinds = LINES[name]
    root = tmp_path / 'data'
    root.mkdir()
    if task == 'video':
        text = text.replace('.jpg', '.mp4')
    for name in ('a', 'b'):
        (root / f'{name}.jpg').write_bytes(bad_files.encoded())
        (root / f'{name}.mp4').write_bytes(bad_files.film(tmp_path))
    (root / 'list.txt').write_text(text)
    prefix = "''" if task == 'cls' else 'dict(video="")'
    head = 'head' if task == 'cls' else 'cls_head'
    config = tmp_path / 'config.py'
    config.write_text(f"""_base_ = '{ROOT}/configs/demo/{task}_nano.py'
model = dict({head}=dict(num_classes=2))
train_dataloader = dict(dataset=dict(
    data_root='{root}/', ann_file='list.txt', data_prefix={prefix},
    metainfo=dict(classes=('left', 'right'))))
""")
    status, found = listed(config, '--splits', 'train', '--out', tmp_path / 'a.csv')
    said = {kind for rows in found.values() for _, kind, _ in rows}
    assert said - {'set-up'} == set(kinds)
    assert status == (1 if set(kinds) - {'file twice'} else 0)
    if set(kinds) & START:
        with pytest.raises(UserError):
            check_data(Config.fromfile(config), 'train')


def test_folders_of_classes_are_checked(tmp_path):
    root = tmp_path / 'data' / 'train'
    classes = ('cross', 'disc', 'ring', 'square', 'star', 'triangle')
    for name in classes:
        (root / name).mkdir(parents=True)
        if name != 'star':
            (root / name / 'a.jpg').write_bytes(bad_files.encoded())
    (root / 'disc' / 'notes.txt').write_text('mine')
    (root / 'ring' / 'b.png').write_bytes(b'')
    config = tmp_path / 'config.py'
    config.write_text(f"""_base_ = '{ROOT}/configs/demo/cls_nano.py'
train_dataloader = dict(dataset=dict(data_root='{tmp_path}/data/'))
""")
    status, found = listed(config, '--splits', 'train', '--out', tmp_path / 'a.csv')
    assert status == 1 and {where.rpartition('train/')[2]: rows[0][1]
                            for where, rows in found.items()} == {
        f'{root}': 'absent class', 'disc/notes.txt': 'ignored', 'ring/b.png': 'empty'}


def test_mistakes_in_the_arguments_end_in_a_sentence(tmp_path, capsys):
    with pytest.raises(UserError, match="There is no file or folder at 'nope'"):
        check.main(['nope'])
    with pytest.raises(UserError, match="There is no config at 'nope.py'"):
        check.main(['nope.py'])
    with pytest.raises(SystemExit):
        check.main([str(tmp_path), '--workers', '0'])
    assert '--workers must be at least 1, got 0' in capsys.readouterr().err
