"""Segmentation data is checked before training: files, numbers in maps, classes and heads."""
import cv2
import numpy as np
import pytest
from helpers import ROOT, last_line, run_tool
from mmengine.config import Config
from PIL import Image

# helpers has put tools/ on the path
from swinv2_mm.datasets import checks as data_checks  # isort: skip
from swinv2_mm.datasets.checks import segmentation  # isort: skip
from swinv2_mm.utils.errors import UserError  # isort: skip

CLASSES = ('ground', 'sky', 'tree')
CONFIG = ROOT / 'configs/seg/swinv2_n_upernet_camvid.py'


@pytest.fixture
def folder(tmp_path):
    """Three images with maps of the numbers 0, 1, 2 and 255."""
    for part in ('img_dir', 'ann_dir'):
        (tmp_path / part / 'train').mkdir(parents=True)
    for name in 'abc':
        cv2.imwrite(str(tmp_path / f'img_dir/train/{name}.jpg'), np.zeros((8, 12, 3), np.uint8))
        write_map(tmp_path, name, [0, 1, 2, 255])
    return tmp_path


def write_map(folder, name, numbers, dtype=np.uint8):
    content = np.resize(np.array(numbers, dtype), (8, 12))
    cv2.imwrite(str(folder / f'ann_dir/train/{name}.png'), content)


def config(folder, *, heads=3, dataset=None, head=None, pipeline=None):
    """The CamVid example, turned to the data in a folder."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.decode_head.update(num_classes=heads, **(head or {}))
    cfg.model.decode_head.loss_decode.class_weight = None  # those of CamVid's classes
    if 'ignore_index' in (head or {}):
        cfg.model.data_preprocessor.seg_pad_val = head['ignore_index']
    cfg.train_dataloader.dataset.update(data_root=f'{folder}/', **(dataset or {}))
    cfg.train_dataloader.dataset.metainfo = dict(classes=CLASSES)
    if pipeline is not None:
        cfg.train_dataloader.dataset.pipeline = pipeline
    return cfg


def refusal(cfg):
    with pytest.raises(UserError) as caught:
        data_checks.check_data(cfg, 'train')
    message = str(caught.value)
    assert '\n' not in message and message.endswith('.')
    return message


def test_data_without_a_fault_pass(folder, capsys):
    data_checks.check_data(config(folder), 'train')
    assert 'maps are checked' not in capsys.readouterr().out


def test_numbers_outside_the_classes_are_refused_naming_file_and_numbers(folder):
    write_map(folder, 'b', [0, 3, 2, 17])
    message = refusal(config(folder))
    assert f'{folder}/ann_dir/train/b.png holds 3, 17' in message
    assert 'must hold 0 to 2 for its 3 classes and 255' in message
    assert 'train_dataloader.dataset' in message


def test_the_number_that_the_heads_leave_out_is_the_one_allowed(folder):
    for name in 'abc':
        write_map(folder, name, [0, 1, 9])
    data_checks.check_data(config(folder, head=dict(ignore_index=9)), 'train')
    assert 'holds 9' in refusal(config(folder))
    write_map(folder, 'a', [0, 255])
    assert 'a.png holds 255' in refusal(config(folder, head=dict(ignore_index=9)))


def test_heads_inside_a_model_for_augmented_tests_count_too(folder):
    for name in 'abc':
        write_map(folder, name, [0, 1, 9])
    cfg = config(folder, head=dict(ignore_index=9))
    cfg.model = dict(type='SegTTAModel', module=cfg.model)
    data_checks.check_data(cfg, 'train')
    cfg.model.module.decode_head.num_classes = 4
    assert refusal(cfg).startswith('model.module.decode_head.num_classes must be')


def test_data_on_another_machine_are_left_to_their_reader(tmp_path):
    data_checks.check_data(config('http://server/streets'), 'train')
    here = config(tmp_path / 'nowhere', dataset=dict(backend_args=dict(backend='http')))
    data_checks.check_data(here, 'train')
    here.train_dataloader.dataset.pop('backend_args')
    assert 'There is no folder of images' in refusal(here)


def test_with_reduce_zero_label_classes_count_from_one(folder):
    for name in 'abc':
        write_map(folder, name, [0, 1, 3, 255])
    data_checks.check_data(config(folder, dataset=dict(reduce_zero_label=True)), 'train')
    write_map(folder, 'c', [0, 4])
    message = refusal(config(folder, dataset=dict(reduce_zero_label=True)))
    assert 'must hold 1 to 3' in message and 'c.png holds 4' in message


def test_a_number_that_eight_bits_would_turn_into_a_class_is_refused(folder):
    """mmseg cuts maps to 8 bits, where 257 becomes 1 without a word."""
    write_map(folder, 'a', [0, 257], np.uint16)
    assert 'a.png holds 257' in refusal(config(folder))


def test_a_colour_table_is_read_by_its_numbers_and_a_colour_picture_refused(folder):
    table = Image.fromarray(np.resize(np.array([0, 1, 2], np.uint8), (8, 12)), 'P')
    table.putpalette([200, 10, 10] * 256)
    table.save(folder / 'ann_dir/train/a.png')
    data_checks.check_data(config(folder), 'train')
    Image.new('RGB', (12, 8)).save(folder / 'ann_dir/train/a.png')
    message = refusal(config(folder))
    assert 'a.png has shape (8, 12, 3)' in message and 'one number a pixel' in message


def test_an_image_without_its_map_is_named(folder):
    (folder / 'ann_dir/train/b.png').unlink()
    message = refusal(config(folder))
    assert f'{folder}/ann_dir/train/b.png is missing, 1 of 3 maps' in message


@pytest.mark.parametrize('part', ['img_dir', 'ann_dir'])
def test_a_missing_folder_is_named_with_the_setting(folder, part):
    (folder / part).rename(folder / 'elsewhere')
    message = refusal(config(folder))
    assert f'There is no folder of {"images" if part == "img_dir" else "maps"} at ' in message
    assert f'{folder}/{part}/train' in message and 'data_prefix' in message


def test_a_folder_without_images_of_the_suffix_is_refused(folder):
    message = refusal(config(folder, dataset=dict(img_suffix='.tif')))
    assert "must hold images ending in '.tif', got none" in message


def test_a_list_of_images_is_followed(folder):
    (folder / 'names.txt').write_text('a\nd\n')
    message = refusal(config(folder, dataset=dict(ann_file='names.txt')))
    assert f'{folder}/img_dir/train/d.jpg is missing, 1 of 2 images' in message
    assert 'There is no list of images' in refusal(config(folder, dataset=dict(ann_file='no.txt')))


def test_a_map_that_cannot_be_decoded_is_named(folder):
    (folder / 'ann_dir/train/c.png').write_bytes(b'no picture')
    assert f'The map {folder}/ann_dir/train/c.png cannot be decoded' in refusal(config(folder))


def test_heads_of_another_number_of_classes_are_refused(folder):
    message = refusal(config(folder, heads=4))
    assert message.startswith('model.decode_head.num_classes must be') and '3, got 4' in message


@pytest.mark.parametrize('classes', [None, 'ground'])
def test_classes_must_be_a_tuple_of_names(folder, classes):
    cfg = config(folder)
    cfg.train_dataloader.dataset.metainfo = dict(classes=classes)
    assert 'metainfo.classes of train_dataloader.dataset must be a tuple' in refusal(cfg)


def test_colours_left_from_other_classes_are_refused(folder):
    cfg = config(folder)
    cfg.train_dataloader.dataset.metainfo.palette = [(0, 0, 0)] * 11
    assert 'must hold a colour for each class, 3, got 11' in refusal(cfg)
    cfg.train_dataloader.dataset.metainfo.palette = []
    data_checks.check_data(cfg, 'train')


def test_pictures_without_maps_may_be_predicted(folder):
    (folder / 'ann_dir').rename(folder / 'elsewhere')
    steps = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    data_checks.check_data(config(folder, pipeline=steps), 'train')


def test_maps_read_inside_test_time_augmentation_are_checked(folder):
    write_map(folder, 'b', [7])
    steps = [dict(type='LoadImageFromFile'),
             dict(type='TestTimeAug', transforms=[[dict(type='mmseg.LoadAnnotations')],
                                                  [dict(type='PackSegInputs')]])]
    assert 'b.png holds 7' in refusal(config(folder, pipeline=steps))


def test_of_a_large_set_a_spread_sample_is_read_and_this_is_said(folder, monkeypatch, capsys):
    monkeypatch.setattr(segmentation, 'SAMPLE', 2)
    write_map(folder, 'b', [7])  # first and last are read
    data_checks.check_data(config(folder), 'train')
    assert 'the numbers in 2 of its 3 maps are checked' in capsys.readouterr().out
    write_map(folder, 'c', [8])
    assert 'c.png holds 8' in refusal(config(folder))


def test_the_rules_are_those_that_mmseg_trains_by(folder):
    """Numbers pass exactly when mmseg's own loading gives a class or what is left out."""
    from mmseg.datasets import ADE20KDataset
    from mmseg.datasets.transforms import LoadAnnotations
    all_numbers = np.arange(256)
    Image.fromarray(all_numbers.astype(np.uint8)[None]).save(folder / 'all.png')
    names = ADE20KDataset.METAINFO['classes']
    for classes in (names, names[20:10:-1]):  # a subset in another order
        built = ADE20KDataset(metainfo=dict(classes=classes), lazy_init=True)
        loaded = LoadAnnotations()(dict(
            seg_map_path=str(folder / 'all.png'), seg_fields=[], label_map=built.label_map,
            reduce_zero_label=built.reduce_zero_label))['gt_seg_map'].ravel()
        trained = segmentation.as_trained(all_numbers, built.reduce_zero_label, built.label_map)
        assert (trained == loaded).all()
        assert (loaded == 255).any() and (loaded < len(classes)).sum() == len(classes)


def test_training_ends_in_the_sentence_before_the_model_is_built(folder):
    write_map(folder, 'b', [99])
    done = run_tool('tools/train.py', CONFIG, '--work-dir', folder / 'work', '--cfg-options',
                    f'train_dataloader.dataset.data_root={folder}/', 'model.arch=nonsense')
    sentence = last_line(done)
    assert sentence.startswith('Error: Maps of train_dataloader.dataset must hold 0 to 10')
    assert 'b.png holds 99' in sentence
    assert not (folder / 'work').exists()
