"""tools/dataset/voc_to_coco.py: boxes of Pascal VOC come out as mmdet reads COCO, and train."""
import json

import numpy as np
import pytest
from helpers import ROOT, checked, last_line, run_tool
from mmdet.datasets import CocoDataset
from PIL import Image

from swinv2_mm.datasets.converters import voc_to_coco

BOX = '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>' \
      '<ymax>{}</ymax></bndbox></object>'


@pytest.fixture
def voc(tmp_path):
    """Two images in train, one in val; a box without an area, and classes not in their order."""
    root = tmp_path / 'voc'
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    boxes = {'a': [('dog', 1, 1, 40, 30), ('cat', 11, 6, 20, 25)], 'b': [],
             'c': [('dog', 5, 5, 4, 9), ('cat', 2, 3, 2, 3)]}
    for name, found in boxes.items():
        text = ''.join(BOX.format(*box) for box in found)
        # The size that a file states is not believed.
        (root / f'Annotations/{name}.xml').write_text(
            f'<annotation><size><width>0</width><height>0</height></size>{text}</annotation>')
        Image.fromarray(np.zeros((30, 40, 3), 'uint8')).save(root / f'JPEGImages/{name}.jpg')
    (root / 'ImageSets/Main/train.txt').write_text('a 1\nb -1\n\n')
    (root / 'ImageSets/Main/val.txt').write_text('c\n')
    return root


def arguments(root, *options):
    return [str(root), '--out', str(root.parent / 'out'), '--splits', 'train', 'val', *options]


def read(root, split, classes):
    """What mmdet makes of it: {file: [(label, x1, y1, x2, y2)]}."""
    data = CocoDataset(
        ann_file=f'{split}.json', data_root=str(root.parent / 'out'),
        metainfo=dict(classes=classes), data_prefix=dict(img='images/'),
        filter_cfg=dict(filter_empty_gt=False), pipeline=[])
    return {sample['img_path'].rpartition('/')[2]: [
        (found['bbox_label'], *found['bbox']) for found in sample['instances']]
        for sample in map(data.get_data_info, range(len(data)))}


def test_mmdet_reads_the_boxes_counted_from_0_with_their_last_pixel(voc):
    done = checked(run_tool('tools/dataset/voc_to_coco.py', *arguments(voc)))
    assert "classes ['cat', 'dog']" in done.stdout
    assert 'val: 1 images, 1 boxes, 1 without an area left out' in done.stdout
    assert read(voc, 'train', ('cat', 'dog')) == {
        'a.jpg': [(1, 0, 0, 40, 30), (0, 10, 5, 20, 25)], 'b.jpg': []}
    assert read(voc, 'val', ('cat', 'dog')) == {'c.jpg': [(0, 1, 2, 2, 3)]}
    content = json.loads((voc.parent / 'out/train.json').read_text())
    assert [(image['width'], image['height']) for image in content['images']] == [(40, 30)] * 2


def test_other_classes_are_left_out_and_counted(voc, capsys):
    voc_to_coco.main(arguments(voc, '--classes', 'dog'))
    assert 'train: 2 images, 1 boxes, 1 of class cat left out' in capsys.readouterr().out
    assert read(voc, 'train', ('dog',))['a.jpg'] == [(0, 0, 0, 40, 30)]


@pytest.mark.parametrize(('file', 'text', 'sentence'), [
    ('ImageSets/Main/val.txt', '../c\n', 'must name each image once and without a folder'),
    ('ImageSets/Main/val.txt', 'c\nc\n', 'must name each image once and without a folder'),
    ('ImageSets/Main/val.txt', None, 'There is no list at'),
    ('Annotations/c.xml', '<annotation><object>', 'must be a VOC annotation'),
    ('Annotations/c.xml', '<annotation><object><name>cat</name></object></annotation>',
     'must be a VOC annotation'),
    ('JPEGImages/c.jpg', 'no image', 'must be an image'),
    ('JPEGImages/c.jpg', None, 'There is no image c.jpg')])
def test_what_cannot_be_read_ends_in_one_sentence_and_nothing_is_left(voc, file, text, sentence):
    if text is None:
        (voc / file).unlink()
    else:
        (voc / file).write_text(text)
    with pytest.raises(voc_to_coco.UserError, match=sentence):
        voc_to_coco.main(arguments(voc))
    assert [path.name for path in voc.parent.iterdir()] == ['voc']


def add(root, name, fields='', size=None, exif=None, box=(5, 6, 10, 20), picture=None):
    """One more image of one dog, in a list of its own; what the tool says of that list."""
    stated = '<size><width>{}</width><height>{}</height></size>'.format(*size) if size else ''
    text = BOX.format('dog', *box).replace('</object>', f'{fields}</object>')
    (root / f'Annotations/{name}.xml').write_text(f'<annotation>{stated}{text}</annotation>')
    tags = Image.Exif()
    if exif:
        tags[0x112] = exif
    Image.fromarray(np.zeros((30, 40, 3), 'uint8')).save(
        root / f'JPEGImages/{picture or name + ".jpg"}', exif=tags)


def made(root, text, capsys):
    """(json, last lines) of a split whose list is this text."""
    (root / 'ImageSets/Main/own.txt').write_text(text, encoding='utf-8')
    voc_to_coco.main([str(root), '--out', str(root.parent / 'out'), '--splits', 'own'])
    return json.loads((root.parent / 'out/own.json').read_text()), capsys.readouterr().out


@pytest.mark.parametrize(('exif', 'size'), [
    (None, (40, 30)), (3, (40, 30)), (6, (30, 40)), (8, (30, 40)), (5, None)])
def test_a_photo_has_the_size_that_it_is_decoded_with(voc, capsys, exif, size):
    import mmcv
    add(voc, 'photo', size=size, exif=exif)
    content, _ = made(voc, 'photo', capsys)
    (image,) = content['images']
    decoded = mmcv.imread(str(voc.parent / 'out/images' / image['file_name']))
    assert (image['height'], image['width']) == decoded.shape[:2]


@pytest.mark.parametrize(('exif', 'size', 'sentence'), [
    (6, (40, 30), 'says 40 x 30 and photo.jpg has 30 x 40, which its EXIF turns'),
    (None, (30, 40), 'says 30 x 40 and photo.jpg has 40 x 30: its labels were drawn on another'),
    (None, (80, 60), 'says 80 x 60 and photo.jpg has 40 x 30: its labels were drawn on another')])
def test_boxes_of_another_picture_are_refused(voc, capsys, exif, size, sentence):
    add(voc, 'photo', size=size, exif=exif)
    with pytest.raises(voc_to_coco.UserError, match=sentence):
        made(voc, 'photo', capsys)


@pytest.mark.parametrize(('name', 'line'), [
    ('IMG 2 (copy)', 'IMG 2 (copy)'), ('photo [1]', 'photo [1]  '), ('a b', '\ufeffa b -1'),
    ('shot 1', 'shot 1'), ('shot 1', 'shot 1  1'), ('über', 'über'), ('x.y', 'x.y'),
    ('photo', 'photo.jpg'), ('photo', 'photo.JPG 0')])
def test_a_line_of_a_list_is_a_name_and_at_most_a_flag(voc, capsys, name, line):
    add(voc, name)
    content, _ = made(voc, line + '\r\n', capsys)
    assert [image['file_name'] for image in content['images']] == [f'{name}.jpg']


def test_a_picture_is_also_found_by_the_name_in_its_annotation(voc, capsys):
    add(voc, 'photo', picture='IMG_1.jpg')
    path = voc / 'Annotations/photo.xml'
    path.write_text(path.read_text().replace(
        '<annotation>', '<annotation><filename>C:\\photos\\IMG_1.jpg</filename>'))
    content, _ = made(voc, 'photo', capsys)
    assert content['images'][0]['file_name'] == 'IMG_1.jpg'


def test_every_field_is_carried_over_or_counted(voc, capsys):
    add(voc, 'one', '<difficult>1</difficult><truncated>1</truncated><pose>Unspecified</pose>')
    add(voc, 'two', '<difficult>0</difficult><truncated>0</truncated><pose>Left</pose>'
                    '<part><name>head</name></part><truncated>1</truncated>')
    content, said = made(voc, 'one\ntwo', capsys)
    assert [note['iscrowd'] for note in content['annotations']] == [1, 0]
    assert ("own: 2 images, 2 boxes, 1 boxes with 'part', which is not carried over, 1 boxes with "
            "'pose', which is not carried over, 2 boxes with 'truncated', which is not carried "
            'over, 1 difficult (iscrowd 1)') in said


def test_a_folder_that_is_there_stays(voc):
    (voc.parent / 'out').mkdir()
    done = run_tool('tools/dataset/voc_to_coco.py', *arguments(voc))
    assert '--out must be a new folder' in last_line(done)


@pytest.mark.skipif(not (ROOT / 'data/bccd/val.json').is_file(), reason='data/bccd is not here')
def test_bccd_comes_out_as_the_files_here(tmp_path):
    """From VOC annotations written back from them: same boxes, in the same order."""
    known = json.loads((ROOT / 'data/bccd/val.json').read_text())
    names = {kind['id']: kind['name'] for kind in known['categories']}
    root = tmp_path / 'BCCD'
    for folder in ('Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    (root / 'JPEGImages').symlink_to(ROOT / 'data/bccd/images')
    for image in known['images']:
        boxes = [(names[a['category_id']], a['bbox']) for a in known['annotations']
                 if a['image_id'] == image['id']]
        text = ''.join(BOX.format(name, x + 1, y + 1, x + w, y + h) for name, (x, y, w, h) in boxes)
        (root / 'Annotations' / f'{image["file_name"][:-4]}.xml').write_text(
            f'<annotation>{text}</annotation>')
    (root / 'ImageSets/Main/val.txt').write_text(
        '\n'.join(image['file_name'][:-4] for image in known['images']))
    voc_to_coco.main([str(root), '--out', str(tmp_path / 'out'), '--splits', 'val'])
    assert json.loads((tmp_path / 'out/val.json').read_text()) == known
