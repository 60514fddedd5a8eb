"""Labels as people have them: each tool's format, read without loss or with every loss counted."""
import json

import label_sets as sets
import numpy as np
import pytest
from label_sets import CELL, HIGH, NAMES, ROD_BOX, WIDE
from PIL import Image

from swinv2_mm.datasets.converters import from_masks, objects, splits
from swinv2_mm.datasets.converters.labels import main
from swinv2_mm.datasets.converters.pictures import Picture
from swinv2_mm.utils.errors import UserError


def content(out):
    """Of the json of all splits: (file name, class, box, has a mask), sorted."""
    found = []
    for file in out.glob('*.json'):
        data = json.loads(file.read_text())
        files = {image['id']: image['file_name'] for image in data['images']}
        names = {entry['id']: entry['name'] for entry in data['categories']}
        found += [(files[thing['image_id']], names[thing['category_id']], thing['bbox'],
                   'segmentation' in thing) for thing in data['annotations']]
    return sorted(found)


def one(root, out, *options):
    """The objects of the first picture of a converted folder: class -> (box, mask, crowd)."""
    main([str(root), '--out', str(out), '--val', '0', *options])
    data = json.loads((out / 'train.json').read_text())
    names = {entry['id']: entry['name'] for entry in data['categories']}
    return {names[thing['category_id']]: thing for thing in data['annotations']}


def box(x, y, x2, y2):
    return [x, y, x2 - x, y2 - y]


@pytest.mark.parametrize('name', sets.WRITERS)
def test_every_tool_gives_the_same_objects_and_says_what_it_lost(name, tmp_path, capsys):
    main([str(sets.WRITERS[name](tmp_path / 'in')), '--out', str(tmp_path / 'out')])
    masked = name != 'labelimg'
    assert content(tmp_path / 'out') == sorted(
        [(photo, 'cell', box(*CELL), False) for photo in NAMES]
        + [(photo, 'rod', box(*ROD_BOX), masked) for photo in NAMES])
    said = capsys.readouterr().out
    assert said.startswith(f'{name}: classes')
    lines = [line for line in said.splitlines() if line.startswith('  ')]
    assert [line if 'nothing' in line else line.strip() for line in lines] == sets.LOST[name]
    assert len(json.loads((tmp_path / 'out' / 'val.json').read_text())['images']) == 1


def test_the_split_depends_on_the_seed_alone_and_keeps_groups_whole():
    def split(names, **more):
        pictures = [Picture(None, name, (1, 1)) for name in names]
        splits.assign(pictures, **{**dict(val=0.2, test=0.1, seed=0), **more})
        return {picture.source: picture.split for picture in pictures}

    names = [f'patient{i // 4}/{i}.png' for i in range(40)]
    found = split(names)
    assert sorted(found.values()) == ['test'] * 4 + ['train'] * 28 + ['val'] * 8
    assert split(names[::-1]) == found
    assert split(names, seed=1) != found
    grouped = split(names, pattern=r'patient(\d+)')
    assert all(len({grouped[name] for name in names[i:i + 4]}) == 1 for i in range(0, 40, 4))
    assert {*grouped.values()} == {'train', 'val', 'test'}
    assert split(names, pattern='folder') == split(names, pattern=r'patient\d+')
    with pytest.raises(UserError, match=r"--group must match the path .*'x' is not in"):
        split(names, pattern='x')
    with pytest.raises(UserError, match='must be left to train on'):
        split(names[:4], pattern='folder')


def test_splits_of_the_labels_stay(tmp_path, capsys):
    root = sets.yolo(tmp_path / 'in')
    for split in ('train', 'val'):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir()
    for i, name in enumerate(NAMES):
        for path in (root / 'images' / name, (root / 'labels' / name).with_suffix('.txt')):
            path.rename(path.parent / ('train' if i < 2 else 'val') / path.name)
    (root / 'classes.txt').unlink()
    (root / 'data.yaml').write_text('path: /elsewhere\ntrain: images/train\nval: images/val\n'
                                    'test: images/test\nnames: {0: rod, 1: cell}\n')
    main([str(root), '--out', str(tmp_path / 'out')])
    data = json.loads((tmp_path / 'out' / 'train.json').read_text())
    assert [image['file_name'] for image in data['images']] == NAMES[:2]
    assert 'test of data.yaml, which is not there, dropped' in capsys.readouterr().out
    main([str(root / 'data.yaml'), '--out', str(tmp_path / 'anew'), '--resplit'])
    assert len(json.loads((tmp_path / 'anew' / 'train.json').read_text())['images']) == 4


@pytest.mark.parametrize('name', ['labelme', 'cvat', 'label-studio', 'supervisely'])
def test_a_mask_of_pixels_comes_out_pixel_for_pixel(name, tmp_path):
    part = np.ones((40, 40), np.uint8)
    part[10:20, 5:25] = part[0, 0] = 0
    root = sets.WRITERS[name](tmp_path / 'in')
    sets.replace_objects(name, root, part)
    thing = one(root, tmp_path / 'out', '--classes', 'rod')['rod']
    assert thing['area'] == part.sum() and thing['bbox'] == box(*ROD_BOX)
    drawn = objects.decode(thing['segmentation'], (WIDE, HIGH))
    assert drawn.sum() == part.sum() and np.array_equal(drawn[10:50, 80:120], part)


def test_boxes_that_are_turned_become_polygons_and_parts_of_a_group_one_object(tmp_path):
    # A quarter turn about the middle, and about the corner: both 30 wide and 20 high then.
    root = sets.cvat(tmp_path / 'cvat')
    file = root / 'annotations.xml'
    file.write_text(file.read_text().replace(
        'xtl="20" ytl="30" xbr="60" ybr="70"', 'rotation="90" xtl="20" ytl="30" xbr="40" ybr="60"'))
    cell = one(root, tmp_path / 'a')['cell']
    assert cell['bbox'] == [15, 35, 30, 20] and cell['segmentation']
    root = sets.label_studio(tmp_path / 'studio')
    file = root / 'project-1.json'
    data = json.loads(file.read_text())
    for task in data:
        task['annotations'][2]['result'][0]['value'].update(
            x=100 * 50 / WIDE, y=100 * 30 / HIGH, width=100 * 20 / WIDE, height=100 * 30 / HIGH,
            rotation=90)
    file.write_text(json.dumps(data))
    assert one(root, tmp_path / 'b')['cell']['bbox'] == [20, 30, 30, 20]
    root = sets.labelme(tmp_path / 'labelme')
    for file in root.glob('*.json'):
        data = json.loads(file.read_text())
        data['shapes'] = [dict(label='rod', shape_type='polygon', group_id=7, points=points)
                          for points in (sets.ROD, [(0, 0), (10, 0), (0, 10)])]
        file.write_text(json.dumps(data))
    rod = one(root, tmp_path / 'c')['rod']
    assert len(rod['segmentation']) == 2 and rod['bbox'] == box(0, 0, 120, 50)


def test_difficult_objects_are_crowds_and_what_has_no_area_is_counted(tmp_path, capsys):
    root = sets.labelimg(tmp_path / 'in')
    file = root / 'photo_0.xml'
    text = file.read_text().replace('<difficult>0', '<difficult>1', 1)
    file.write_text(text.replace(f'<xmax>{ROD_BOX[2]}', f'<xmax>{WIDE + 9}'))
    file = root / 'photo_1.xml'
    file.write_text(file.read_text().replace('<xmax>60', '<xmax>20'))
    spoil(root / 'photo_4.xml', '<ymax>70', '<ymax>30')
    (root / 'photo_2.jpg').unlink()
    (root / 'photo_3.xml').unlink()
    main([str(root), '--out', str(tmp_path / 'out'), '--val', '0'])
    data = json.loads((tmp_path / 'out' / 'train.json').read_text())
    assert [thing['iscrowd'] for thing in data['annotations']] == [1, 0, 0, 0]
    assert data['annotations'][1]['bbox'] == [80, 10, WIDE - 80, 40]
    said = capsys.readouterr().out
    for line in ('1 difficult objects taken as crowds', '2 objects without an area',
                 '1 boxes over the edge of their picture cut', '1 labels without their picture',
                 '1 pictures without labels dropped'):
        assert line in said
    assert len(data['images']) == 3


def test_maps_are_drawn_from_objects_or_taken_from_colours(tmp_path):
    main([str(sets.labelme(tmp_path / 'a')), '--out', str(tmp_path / 'out'), '--to', 'seg'])
    known = json.loads((tmp_path / 'out' / 'classes.json').read_text())
    assert known['classes'] == ['background', 'cell', 'rod'] and known['img_suffix'] == '.jpg'
    file = next((tmp_path / 'out' / 'ann_dir' / 'train').iterdir())
    drawn = np.array(Image.open(file))
    assert drawn.shape == (HIGH, WIDE) and drawn[20, 115] == 2 and drawn[45, 40] == 0
    main([str(sets.masks(tmp_path / 'b')), '--out', str(tmp_path / 'maps'), '--ignore', 'edge'])
    known = json.loads((tmp_path / 'maps' / 'classes.json').read_text())
    assert known['classes'] == ['rod', 'cell'] and known['palette'] == [[128, 0, 0], [0, 128, 0]]
    drawn = np.array(Image.open(next((tmp_path / 'maps' / 'ann_dir' / 'val').iterdir())))
    assert (drawn[0, 0], drawn[41, 0], drawn[90, 0]) == (1, 255, 0)


@pytest.mark.parametrize(('name', 'text'), [
    ('a.txt', '0 0 0 sky\n9 8 7 tall tree\n'), ('a.csv', 'name,r,g,b\nsky,0,0,0\ntall tree,9,8,7'),
    ('labelmap.txt', '# label:color_rgb:parts:actions\nsky:0,0,0::\ntall tree:9,8,7::\n'),
    ('a.json', '{"sky": [0, 0, 0], "tall tree": [9, 8, 7]}')])
def test_every_palette_is_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert from_masks.read_palette(tmp_path / name) == {'sky': (0, 0, 0), 'tall tree': (9, 8, 7)}


def spoil(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(('name', 'change', 'options', 'sentence'), [
    ('labelimg', lambda root: spoil(root / 'photo_0.xml', '<xmin>20', '<xmin>x'), (),
     r"photo_0.xml cannot be read as labels, it gives .*'x'"),
    ('labelimg', lambda root: spoil(root / 'photo_0.xml', f'<width>{WIDE}', '<width>999'), (),
     'photo_0.xml must be of the picture as it is decoded, it says 999 x 96'),
    ('labelimg', lambda root: (root / 'photo_0.jpg').write_text('no'), (), 'must be an image'),
    ('labelimg', lambda root: (root / 'ImageSets' / 'Main').mkdir(parents=True), (),
     'is Pascal VOC with its lists.*voc-to-coco'),
    ('yolo', lambda root: spoil(root / 'labels' / 'photo_0.txt', '1 0', '7 0'), (),
     r"photo_0.txt cannot be read as labels, it gives .*'7 0.* is no class of 2"),
    ('yolo', lambda root: (root / 'classes.txt').unlink(), ('--format', 'yolo'),
     'The names of YOLO classes must be in'),
    ('yolo', lambda root: None, ('--images', 'tests'), 'has a label file'),
    ('labelme', lambda root: spoil(root / 'photo_0.json', '"label": "cell", ', ''), (),
     "photo_0.json cannot be read as labels, it gives \"KeyError: 'label'"),
    ('labelme', lambda root: spoil(root / 'photo_0.json', '}', ''), ('--format', 'labelme'),
     'photo_0.json cannot be read as labels'),
    ('cvat', lambda root: spoil(root / 'annotations.xml', '</meta>', '</meta><track/>'), (),
     'is "CVAT for video"'),
    ('cvat', lambda root: spoil(root / 'annotations.xml', '80.00,10.00;', 'nan,10;'), (),
     'a box of'),
    ('label-studio', lambda root: spoil(root / 'project-1.json', 'photo', 'film'), (),
     'must lie beside it or below --images'),
    ('label-studio', lambda root: spoil(root / 'project-1.json', '"image_rotation": 0',
                                        '"image_rotation": 90'), (), 'turned for labelling'),
    ('masks', lambda root: spoil(root / 'labelmap.txt', 'edge', '# edge'), (),
     r'must hold the colours of the palette, it has \(9, 9, 9\)'),
    ('masks', lambda root: (root / 'labelmap.txt').unlink(), (), 'need names of 1 to 255 classes'),
    ('masks', lambda root: None, ('--to', 'det'), 'do not tell one object from another'),
    ('cvat', lambda root: (root / 'classes.txt').write_text('rod'), (), 'like yolo and like cvat'),
    ('cvat', lambda root: None, ('--classes', 'tree'),
     r"must be classes of the labels, \['tree'\]"),
    ('labelimg', lambda root: None, ('--to', 'seg'), 'must hold objects that can be taken'),
    ('labelimg', lambda root: None, ('--val', '1'), 'must be shares that leave some'),
    ('labelimg', lambda root: None, ('--out', '.'), 'must be a new folder')])
def test_what_cannot_be_read_ends_in_one_sentence(tmp_path, name, change, options, sentence):
    root = {**sets.WRITERS, 'masks': sets.masks}[name](tmp_path / 'in')
    change(root)
    with pytest.raises(UserError, match=sentence) as error:
        main([str(root), '--out', str(tmp_path / 'out'), *map(str, options)])
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'out').exists()


def test_yolo_takes_scores_keypoints_and_lists(tmp_path, capsys):
    root = sets.photos(tmp_path / 'in' / 'obj_train_data').parent
    for i, name in enumerate(NAMES):
        more = ' 0.9' if i else ' 0.1 0.1 2 0.2 0.2 2'
        label = (root / 'obj_train_data' / name).with_suffix('.txt')
        label.write_text(f'0 0.5 0.5 0.25 0.5{more}\n')
    (root / 'train.txt').write_text(''.join(f'data/obj_train_data/{name}\n' for name in NAMES[:-1]))
    (root / 'data.yaml').write_text('train: train.txt\nnames: [cell]\nkpt_shape: [2, 3]\n')
    main([str(root), '--out', str(tmp_path / 'out')])
    said = capsys.readouterr().out
    assert '1 pictures that data.yaml does not list dropped' in said and '3 scores dropped' in said
    assert '1 keypoints of boxes dropped' in said
    assert {tuple(row[2]) for row in content(tmp_path / 'out')} == {(48, 24, 32, 48)}
