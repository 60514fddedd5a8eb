"""Lists of videos are checked before training: lines, labels, classes and heads, files."""
import pytest
from helpers import ROOT, last_line, run_tool
from mmengine.config import Config

# helpers has put tools/ on the path
from swinv2_mm.datasets import checks as data_checks  # isort: skip
from swinv2_mm.utils.errors import UserError  # isort: skip

CONFIG = 'configs/demo/video_nano.py'


@pytest.fixture
def folder(tmp_path):
    """Three videos, by their names; their content is not looked at."""
    (tmp_path / 'clips').mkdir()
    for name in 'abc':
        (tmp_path / f'clips/{name}.mp4').write_bytes(b'')
    write(tmp_path, 'clips/a.mp4 0', 'clips/b.mp4 5', 'clips/c.mp4 3')
    return tmp_path


def write(folder, *lines):
    (folder / 'train.txt').write_text(''.join(f'{line}\n' for line in lines))


def check(folder, split='train', heads=6, **dataset):
    cfg = Config.fromfile(ROOT / CONFIG)
    cfg.model.cls_head.num_classes = heads
    cfg[f'{split}_dataloader'].dataset.update(
        dict(data_root=f'{folder}/', ann_file='train.txt') | dataset)
    if dataset.get('multi_class'):
        cfg.test_evaluator.metric_list = 'mean_average_precision'
    data_checks.check_data(cfg, split)


def refusal(folder, **settings):
    with pytest.raises(UserError) as caught:
        check(folder, **settings)
    message = str(caught.value)
    assert '\n' not in message and message.endswith('.')
    return message.replace(str(folder), 'FOLDER')


def test_a_list_that_is_right_passes(folder):
    check(folder)
    check(folder, metainfo=None)
    write(folder, 'a.mp4 0', 'b 5')  # mmaction2 takes .mp4 for granted
    check(folder, data_prefix=dict(video='clips'))
    write(folder, 'clips/a.mp4,0', 'clips/b.mp4,1')
    check(folder, delimiter=',')
    write(folder, 'clips/a.mp4 0 5', 'clips/b.mp4')
    check(folder, split='test', multi_class=True)


@pytest.mark.parametrize('label', [6, -1, 400])
def test_a_label_outside_the_classes_is_refused_with_file_and_line(folder, label):
    write(folder, 'clips/a.mp4 0', f'clips/b.mp4 {label}')
    assert refusal(folder) == (
        f'Line 2 of FOLDER/train.txt must have a label from 0 to 5, for 6 classes, got {label}: '
        'correct the line, or set num_classes of the head.')
    assert refusal(folder, metainfo=None, heads=6).startswith('Line 2 of FOLDER/train.txt must')


@pytest.mark.parametrize('line', ['clips/b.mp4', 'clips/b.mp4 two', 'clips/my b.mp4 2', '', ' 3',
                                  'clips/b.mp4 1.5', 'clips/b.mp4 1 2'])
def test_a_line_that_is_no_path_and_label_is_refused(folder, line):
    write(folder, 'clips/a.mp4 0', line, 'clips/c.mp4 1')
    assert refusal(folder).startswith(
        'Line 2 of FOLDER/train.txt must be PATH LABEL, a path without spaces and a whole number, '
        f'got {line!r}: correct it, or set delimiter of train_dataloader.dataset')


def test_videos_without_labels_may_be_tested_and_not_trained_on(folder):
    write(folder, 'clips/a.mp4', 'clips/b.mp4')
    check(folder, split='test')
    assert refusal(folder).startswith('Line 1 of FOLDER/train.txt must be PATH LABEL')


def test_missing_videos_are_counted_and_the_first_is_named(folder):
    write(folder, 'clips/a.mp4 0', 'clips/x.mp4 1', 'clips/b.mp4 2', 'clips/y.mp4 3')
    assert refusal(folder) == (
        'Every video of FOLDER/train.txt must be a file, 2 of 4 are not, the first is '
        'FOLDER/clips/x.mp4: put them there, set data_root or data_prefix of '
        'train_dataloader.dataset, or take their lines out.')
    check(folder, data_prefix=dict(video='s3://bucket/clips'))  # the reader's to find


def test_a_missing_empty_or_foreign_list_is_refused(folder):
    assert refusal(folder, ann_file='nowhere.txt').startswith('There is no annotation file at')
    write(folder)
    assert refusal(folder).startswith('FOLDER/train.txt must name at least one video, got none')
    (folder / 'train.txt').write_bytes(b'\x81\xff\x00')
    assert refusal(folder).startswith('FOLDER/train.txt must be a text file with lines PATH LABEL')


def test_heads_and_names_of_classes_must_agree(folder):
    assert refusal(folder, heads=4) == (
        'model.cls_head.num_classes must be the number of metainfo.classes of '
        'train_dataloader.dataset, 6, got 4: set it in the config.')


def test_other_data_sets_of_mmaction2_are_left_to_it(folder):
    check(folder, type='RawframeDataset', ann_file='nowhere.txt')


def test_training_ends_in_that_sentence_before_a_model_is_built(folder):
    write(folder, 'clips/a.mp4 11')
    options = [f'{split}_dataloader.dataset.{key}={value}' for split in ('train', 'val')
               for key, value in (('data_root', f'{folder}/'), ('ann_file', 'train.txt'))]
    done = run_tool('tools/train.py', CONFIG, '--work-dir', folder / 'run',
                    '--cfg-options', *options)
    assert last_line(done) == (
        f'Error: Line 1 of {folder}/train.txt must have a label from 0 to 5, for 6 classes, got '
        '11: correct the line, or set num_classes of the head.')
    assert 'Traceback' not in done.stderr and not (folder / 'run').exists()
