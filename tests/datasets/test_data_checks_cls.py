"""Classification data is looked at before a run starts: folders, lists, classes, heads."""
import pytest
from config_checks import load
from helpers import ROOT  # noqa: F401 - puts tools/ on the path
from mmengine.config import Config, ConfigDict

from swinv2_mm.datasets.checks import check_data  # isort: skip
from swinv2_mm.utils.errors import UserError  # isort: skip

CLASSES = ('cat', 'dog', 'owl')


@pytest.fixture
def root(tmp_path):
    """Two splits of three classes, one image each, and their list."""
    for split in ('train', 'val'):
        for name in CLASSES:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / '0 0.jpg').touch()
        lines = [f'{name}/0 0.jpg {label}\n' for label, name in enumerate(CLASSES)]
        (tmp_path / f'{split}.txt').write_text(''.join(lines))
    return tmp_path


def config(root, kind='CustomDataset', classes=CLASSES, num_classes=3, **settings):
    metainfo = dict(metainfo=dict(classes=classes)) if classes else {}
    data = dict(type=kind, data_root=str(root), pipeline=[], **metainfo)
    data |= dict(data_prefix='train') | settings
    return Config(dict(
        default_scope='mmpretrain', train_dataloader=dict(dataset=data),
        model=dict(data_preprocessor=dict(num_classes=num_classes),
                   head=dict(type='LinearClsHead', num_classes=num_classes))))


def refused(cfg, sentence):
    with pytest.raises(UserError) as error:
        check_data(cfg, 'train')
    assert str(error.value) == sentence


def test_whole_data_passes_as_folders_and_as_a_list(root):
    (root / 'train' / 'readme.txt').touch()  # no folder, so no class
    (root / 'names.txt').write_text('cat\ndog\nowl\n')
    for settings in ({}, dict(data_prefix=dict(img_path='train')), dict(ann_file='train.txt'),
                     dict(classes=None), dict(classes=str(root / 'names.txt')),
                     dict(root='', data_prefix=str(root / 'train')),
                     dict(data_prefix='train/cat', with_label=False, num_classes=7),
                     dict(kind='ImageNet21k', classes=None, data_prefix='', split='train')):
        check_data(config(**dict(root=root) | settings), 'train')


def test_what_mmpretrain_reads_is_what_was_checked(root):
    # Its label of a folder is the place of the folder's name in the alphabet, as the check says.
    datasets = pytest.importorskip('mmpretrain.datasets')
    found = datasets.CustomDataset(data_root=str(root), data_prefix='train',
                                   metainfo=dict(classes=CLASSES[::-1]))
    one = found.get_data_info(0)
    assert 'cat' in one['img_path'] and one['gt_label'] == 0
    assert found.metainfo['classes'][0] == 'owl'
    refused(config(root, classes=CLASSES[::-1]),
            f"metainfo.classes of train_dataloader.dataset must be the folders of {root}/train in "
            "alphabetical order, got ('owl', 'dog', 'cat') where the folders are ('cat', 'dog', "
            "'owl'): set classes=('cat', 'dog', 'owl') in all data sets.")


def test_a_folder_that_is_no_class_is_refused_though_it_is_hidden(root):
    (root / 'train' / '.cache').mkdir()  # mmpretrain would take it for class 0
    refused(config(root),
            f'{root}/train must hold the data alone, and {root}/train/.cache is a folder that '
            "another program made, which mmpretrain takes for a class: take away '.cache'.")


def test_missing_data_is_refused_with_the_setting_to_change(root):
    refused(config(root, data_prefix='trian'),
            f"There is no folder of images at '{root}/trian': put the data there, or set data_root "
            'and data_prefix of train_dataloader.dataset.')
    refused(config(root, ann_file='trian.txt'),
            f"There is no list of images at '{root}/trian.txt': put it there, or set data_root and "
            'ann_file of train_dataloader.dataset.')
    refused(config(root, ann_file='train.txt', data_prefix='val/cat'),
            f"{root}/train.txt names 3 images, and 3 of them are no files in {root}/val/cat, the "
            "first is 'cat/0 0.jpg': write '0 0.jpg' for 'cat/0 0.jpg', and so on, or set "
            'data_prefix of train_dataloader.dataset to where these names start from.')
    refused(config(root, data_prefix='train/cat'),
            f'{root}/train/cat must hold one folder of images for each class, got none: make them, '
            'or set ann_file of train_dataloader.dataset to a list of lines "IMAGE LABEL".')


@pytest.mark.parametrize('line', ['owl/0 0.jpg 3', 'owl/0 0.jpg -1', 'owl/0 0.jpg owl', '',
                                  'owl/0.jpg', 'owl/0.jpg 1.0'])
def test_a_label_outside_the_classes_is_refused_with_file_and_line(root, line):
    lines = (root / 'train.txt').read_text().splitlines()
    (root / 'train.txt').write_text('\n'.join([*lines, line, 'cat/0 0.jpg 0']) + '\n')
    refused(config(root, ann_file='train.txt'),
            f'{root}/train.txt, line 4, must be "IMAGE LABEL" with a label from 0 to 2, a class, '
            f'got {line!r}: correct it, or the number of classes.')


def test_the_list_of_an_imagenet_layout_is_found_and_read(root):
    (root / 'meta').mkdir()
    (root / 'meta' / 'train.txt').write_text('cat/0 0.jpg 21841\n')
    refused(config(root, 'ImageNet21k', classes=None, num_classes=21841, data_prefix='',
                   split='train'),
            f'{root}/meta/train.txt, line 1, must be "IMAGE LABEL" with a label from 0 to 21840, a '
            "class, got 'cat/0 0.jpg 21841': correct it, or the number of classes.")


def test_imagenet_folders_must_be_a_thousand(root):
    pytest.importorskip('mmpretrain.datasets')
    refused(config(root, 'ImageNet', classes=None, num_classes=1000, data_prefix='', split='train'),
            f'{root}/train must hold the 1000 folders of the classes of train_dataloader.dataset, '
            'got 3: complete the data, or set metainfo.classes.')


@pytest.mark.parametrize('settings', [{}, dict(classes=None), dict(ann_file='train.txt')])
def test_a_model_for_another_number_of_classes_is_refused(root, settings):
    for place in ('head', 'data_preprocessor'):
        cfg = config(root, **settings)
        cfg.model[place].num_classes = 5
        refused(cfg, f'model.{place}.num_classes must be the number of classes of the data, 3, got '
                     '5: set it in the config.')


def test_classes_must_be_names(root):
    refused(config(root, classes='cat'),
            "classes of train_dataloader.dataset must be a tuple of names or a file with one name "
            "a line, got the string 'cat': write ('cat',).")


def test_data_sets_inside_wrappers_are_looked_at(root):
    cfg = config(root, num_classes=4)
    cfg.train_dataloader.dataset = ConfigDict(
        type='ClassBalancedDataset', oversample_thr=0.1, dataset=cfg.train_dataloader.dataset)
    with pytest.raises(UserError, match='must be the number of classes of the data, 3, got 4'):
        check_data(cfg, 'train')


@pytest.mark.parametrize('name', ['configs/cls/swinv2_n_cells.py', 'configs/demo/cls_nano.py'])
def test_a_config_without_its_data_says_where_to_put_it(name, tmp_path):
    cfg = load(name)
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    refused(cfg, f"There is no folder of images at '{tmp_path}/train': put the data there, or set "
                 'data_root and data_prefix of train_dataloader.dataset.')
