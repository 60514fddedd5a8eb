"""Files that a library passes over, or takes for what they are not, are told before a run."""
import json

import pytest
from helpers import ROOT
from mmengine.config import Config
from PIL import Image
from small_sets import detection, objects

from swinv2_mm.datasets.checks import check_data, findings, passed_over
from swinv2_mm.utils.errors import UserError

SEG = dict(type='BaseSegDataset', img_suffix='.jpg', seg_map_suffix='.png', pipeline=[],
           data_prefix=dict(img_path='train', seg_map_path='maps'),
           metainfo=dict(classes=('ground', 'red'), palette=[(0, 0, 0), (9, 0, 0)]))


def segmentation(root, *names, **settings):
    """Pictures of these names, each with a map."""
    for name in names:
        for path in (root / 'train' / name, root / 'maps' / f'{name.rpartition(".")[0]}.png'):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (8, 8)).save(path, format='PNG')
    return Config(dict(default_scope='mmseg', model=dict(), train_dataloader=dict(
        batch_size=2, dataset=SEG | dict(data_root=f'{root}/') | settings)))


def classification(root, *names, **settings):
    """Files of these names, in folders of the classes."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (8, 8)).save(root / name, format='PNG')
    return Config(dict(default_scope='mmpretrain', model=dict(), train_dataloader=dict(
        batch_size=2, dataset=dict(type='CustomDataset', data_root=str(root), pipeline=[])
        | settings)))


def found(cfg, kind='left out'):
    return [finding.sentence for finding in findings(cfg, ('train',)) if finding.kind == kind]


def test_other_endings_of_segmentation_are_counted(tmp_path):
    """Case 22: of six, four are left out."""
    cfg = segmentation(tmp_path, 'a.jpg', 'b.JPG', 'c.jpeg', 'd.png', 'e.jpg', 'f.JPG')
    (sentence,) = found(cfg)
    assert f"{tmp_path}/train holds 4 of 6 images that do not end in img_suffix '.jpg'" in sentence
    assert 'b.JPG, c.jpeg, d.png, ...' in sentence and 'are left out: give all of' in sentence


@pytest.mark.parametrize('name', ['b.JPEG', 'b.tif', 'b.WEBP', 'deep/b.bmp', 'b.gif'])
def test_any_ending_of_pictures_in_any_folder_counts(tmp_path, name):
    (sentence,) = found(segmentation(tmp_path, 'a.jpg', name))
    assert 'holds 1 of 2 images' in sentence and f'({name})' in sentence


@pytest.mark.parametrize('names, settings', [
    (('a.jpg', 'deep/b.jpg'), {}), (('a.JPG', 'b.JPG'), dict(img_suffix='.JPG')),
    (('a_leftImg8bit.png', 'b_leftImg8bit.png'), dict(img_suffix='_leftImg8bit.png')),
    (('a.jpg',), dict(data_prefix=dict(img_path='', seg_map_path='maps')))],  # maps inside it
    ids=['plain', 'upper case', 'cityscapes', 'maps below the pictures'])
def test_what_is_listed_gives_no_word(tmp_path, names, settings):
    (tmp_path / 'maps').mkdir()
    (tmp_path / 'maps' / 'readme.txt').touch()
    assert found(segmentation(tmp_path, *names, **settings)) == []


def test_mmpretrain_leaves_out_webp_which_is_told_with_and_without_labels(tmp_path):
    cfg = classification(tmp_path, 'cat/a.jpg', 'cat/b.JPEG', 'cat/c.webp', 'dog/d.TIF',
                         'dog/e.gif')
    for settings in ({}, dict(with_label=False)):
        cfg.train_dataloader.dataset.update(settings)
        (sentence,) = found(cfg)
        assert 'holds 2 of 5 images' in sentence and '(cat/c.webp, dog/e.gif)' in sentence
        assert 'set extensions of train_dataloader.dataset' in sentence
    cfg.train_dataloader.dataset.extensions = ['.jpg', '.jpeg', '.WEBP', '.tif', '.gif']
    assert found(cfg) == []


def test_a_class_whose_pictures_are_all_left_out_holds_none(tmp_path):
    cfg = classification(tmp_path, 'cat/a.jpg', 'dog/d.webp', 'elk/e.jpg')
    (sentence,) = found(cfg, 'absent class')
    assert "holds no image of 1 of 3 classes: 'dog'" in sentence


@pytest.mark.parametrize('name', ['.ipynb_checkpoints', '__MACOSX', '@eaDir', '.git'])
def test_folders_of_other_programs_are_no_classes_and_no_data(tmp_path, name):
    """Case 27, with and without classes."""
    cfg = classification(tmp_path / 'cls', 'cat/a.jpg', 'dog/b.jpg', f'{name}/a-checkpoint.jpg')
    for metainfo in (None, dict(classes=('cat', 'dog'))):
        cfg.train_dataloader.dataset.metainfo = metainfo
        with pytest.raises(UserError, match=f'/{name} is a folder that another program made, which '
                                            f"mmpretrain takes for a class: take away '{name}'"):
            check_data(cfg, 'train')
    cfg = segmentation(tmp_path / 'seg', 'a.jpg', f'{name}/a-checkpoint.jpg')
    with pytest.raises(UserError, match=f'/{name} is a folder that another program made, whose'):
        check_data(cfg, 'train')


def test_a_class_may_be_called_so_if_the_config_says_it(tmp_path):
    cfg = classification(tmp_path, '.net/a.jpg', 'java/b.jpg',
                         metainfo=dict(classes=('.net', 'java')))
    check_data(cfg, 'train')


@pytest.mark.parametrize('write, cure', [
    (lambda name: f'images\\{name}', "write '0.jpg' for 'images\\\\0.jpg', and so on"),
    (lambda name: f'..\\..\\media\\{name}', "write '0.jpg' for"),
    (lambda name: name.upper(), "write '0.jpg' for '0.JPG', and so on"),
    (lambda name: f'other/{name}', "write '0.jpg' for 'other/0.jpg', and so on"),
    (lambda name: f'none{name}', 'put them there, or set data_root and data_prefix of train_')],
    ids=['a folder of Windows', 'far away', 'upper case', 'a folder too many', 'nowhere'])
def test_names_that_are_no_files_are_counted_with_what_was_meant(tmp_path, write, cure):
    """Case 23."""
    cfg = detection(tmp_path)
    content = objects()
    for image in content['images']:
        image['file_name'] = write(image['file_name'])
    (tmp_path / 'train.json').write_text(json.dumps(content))
    (finding,) = found(cfg, 'missing')
    assert 'names 3 images, and 3 of them are no files in' in finding and cure in finding
    assert ('a \\ in a name is no separator here' in finding) == ('\\' in write(''))


def test_lists_of_the_other_libraries_have_the_word_on_separators(tmp_path):
    cfg = classification(tmp_path, 'cat/a.jpg', ann_file='list.txt',
                         metainfo=dict(classes=('cat', 'dog')))
    (tmp_path / 'list.txt').write_text('cat\\a.jpg 0\n')
    with pytest.raises(UserError, match='is no separator here: write /'):
        check_data(cfg, 'train')
    cfg = segmentation(tmp_path, 'a.jpg', ann_file='names.txt')
    (tmp_path / 'names.txt').write_text('deep\\a\n')
    with pytest.raises(UserError, match='is no separator here: write /'):
        check_data(cfg, 'train')


def test_the_endings_of_mmpretrain_are_its_own():
    import inspect

    from mmpretrain.datasets import CustomDataset
    own = inspect.signature(CustomDataset.__init__).parameters['extensions'].default
    assert tuple(own) == passed_over.MMPRETRAIN and (ROOT / 'docs/data_checks.md').exists()
