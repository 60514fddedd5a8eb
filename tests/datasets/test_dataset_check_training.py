"""Training that meets bad files: each is named, another takes its place, too many end the run."""
import json
import logging
import re
from pathlib import Path

import bad_files
import numpy as np
import pytest
import torch
from config_checks import LEAVES, load
from helpers import logged
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from PIL import Image
from torch.utils.data import DataLoader

from swinv2_mm.datasets.checks.findings import WARNINGS
from swinv2_mm.utils.faults import Tally

IMAGES = [name for name, (check, *_) in bad_files.MAKERS.items() if check == 'image']
WARNED = [name for name in IMAGES if bad_files.MAKERS[name][1] in WARNINGS]


@pytest.fixture
def warnings():
    """What is logged as a warning, line by line; not by the workers of a loader."""
    with logged(logging.WARNING) as lines:
        yield lines


def build(kind, **settings):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return TRANSFORMS.build(dict(type=kind, **settings))


@pytest.mark.parametrize('name', sorted(set(IMAGES) - set(WARNED)))
def test_a_bad_image_is_skipped_with_its_name_or_is_an_error_with_it(name, tmp_path, warnings):
    path = str(bad_files.write(name, tmp_path))
    load = build('swinv2_mm.LoadImage', bad='skip')
    for _ in range(3):
        assert load(dict(img_path=path)) is None
    assert len(load.tally) == len(warnings) == 1  # once, however often it is drawn
    assert re.fullmatch(rf'{re.escape(path)} .+; another takes its place; bad files so far: 1 of '
                        'at most 100', warnings[0])
    with pytest.raises(ValueError, match=f'^failed to load image {path}: it .*, so replace the'):
        build('swinv2_mm.LoadImage')(dict(img_path=path))


@pytest.mark.parametrize('name', [*WARNED, None])
def test_any_other_image_is_loaded_as_mmcv_loads_it(name, tmp_path, warnings):
    if name:
        path = str(bad_files.write(name, tmp_path))
    else:
        path = str(tmp_path / 'sound.jpg')
        Path(path).write_bytes(bad_files.encoded())
    for settings in ({}, dict(to_float32=True), dict(color_type='grayscale'),
                     dict(imdecode_backend='pillow')):
        ours = build('swinv2_mm.LoadImage', bad='skip', **settings)(dict(img_path=path))
        theirs = build('LoadImageFromFile', **settings)(dict(img_path=path))
        assert ours.keys() == theirs.keys() and ours['img'].dtype == theirs['img'].dtype
        # OpenCV takes colours to grey by other roundings where a PNG is animated; we undo that.
        grey = name == 'animated.png' and settings.get('color_type') == 'grayscale'
        difference = np.abs(np.subtract(ours.pop('img'), theirs.pop('img'), dtype=np.float64))
        assert difference.max() <= (1 if grey else 0) and ours == theirs
    assert not warnings


def test_arguments_that_break_a_rule_are_refused():
    for kind in ('LoadImage', 'LoadMap'):
        with pytest.raises(KeyError, match="bad must be 'raise' or 'skip', got 'ignore'"):
            build(f'swinv2_mm.{kind}', bad='ignore')
        for limit in (-1, 0.5, True):
            with pytest.raises(ValueError, match='limit must be a number of files'):
                build(f'swinv2_mm.{kind}', limit=limit)
    with pytest.raises(ValueError, match='settings must be of .*, got ignore_empty: take it out'):
        build('swinv2_mm.LoadImage', ignore_empty=True)


def test_boxes_of_another_size_are_never_put_on_an_image(tmp_path, warnings):
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / 'a.jpg').write_bytes(bad_files.encoded(exif=turned))
    load = build('swinv2_mm.LoadImage', bad='skip')
    sample = dict(img_path=str(tmp_path / 'a.jpg'), width=48, height=40)
    assert load(sample) is None
    assert 'has 40 x 48 pixels where the annotations say 48 x 40' in warnings[0]
    assert load(sample | dict(width=40, height=48))['img_shape'] == (48, 40)


MAP = np.random.default_rng(0).integers(0, 7, (40, 48)).astype(np.uint8)
MAPS = {
    'of 16 bits': (MAP.astype(np.uint16) * 256, 'holds numbers from 0 to 1536'),
    'in colour': (np.stack([MAP] * 3, -1), 'must hold one number a pixel'),
    'turned': (MAP.T.copy(), 'has 40 x 48 pixels where its image has 48 x 40'),
    'cut': (MAP, 'is cut off'),
    'missing': (None, 'cannot be read .*No such file'),
}


@pytest.mark.parametrize('name', MAPS)
def test_a_bad_map_is_skipped_with_its_name(name, tmp_path, warnings):
    array, says = MAPS[name]
    path = tmp_path / 'map.png'
    if array is not None:
        Image.fromarray(array).save(path)
    if name == 'cut':
        path.write_bytes(path.read_bytes()[:-30])
    sample = dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False, label_map=None,
                  img_shape=(40, 48), ori_shape=(40, 48))
    assert build('swinv2_mm.LoadMap', bad='skip')(dict(sample)) is None
    assert re.search(f'map.png {says}', warnings[0])
    with pytest.raises(ValueError, match='map.png: it '):
        build('swinv2_mm.LoadMap')(dict(sample))


@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_any_other_map_is_loaded_as_mmseg_loads_it(reduce_zero_label, tmp_path):
    for name, array in dict(plain=MAP, wide=MAP.astype(np.uint16)).items():
        Image.fromarray(array).save(tmp_path / f'{name}.png')
        sample = dict(seg_map_path=str(tmp_path / f'{name}.png'), label_map={3: 5},
                      reduce_zero_label=reduce_zero_label, img_shape=(20, 24), ori_shape=(40, 48))
        ours = build('swinv2_mm.LoadMap', bad='skip')(sample | dict(seg_fields=[]))
        theirs = build('LoadAnnotations')(sample | dict(seg_fields=[]))
        assert np.array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
        assert ours['seg_fields'] == theirs['seg_fields'] == ['gt_seg_map']


KINDS = ('empty.jpg', 'zeros.jpg', 'text.jpg', 'page.jpg', 'cut.jpg', 'cut_progressive.jpg',
         'huge.jpg', 'scrambled.jpg', 'film.jpg', 'start_only.jpg')


@pytest.fixture(scope='module')
def thousand(tmp_path_factory):
    """1,000 files of two classes, a hundredth of each of ten kinds bad; (folder, bad names)."""
    root = tmp_path_factory.mktemp('thousand')
    for label in ('0', '1'):
        (root / label).mkdir()
    sound, bad = bad_files.encoded(), set()
    for i in range(1000):
        path = root / str(i % 2) / f'{i:04}.jpg'
        kind = KINDS[i // 10 % 10] if i % 10 == 7 else None
        path.write_bytes(bad_files.MAKERS[kind][3](root) if kind else sound)
        bad |= {str(path)} if kind else set()
    assert len(bad) == 100
    return root, bad


def labelled(root, **settings):
    steps = [dict(type='swinv2_mm.LoadImage', bad='skip', **settings),
             dict(type='Resize', scale=(8, 8)), dict(type='PackInputs')]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dict(type='CustomDataset', data_root=str(root), pipeline=steps))


@pytest.mark.parametrize('workers', [0, 2])
def test_of_1000_files_100_bad_ones_are_counted_and_no_label_goes_astray(thousand, workers):
    root, bad = thousand
    dataset = labelled(root, limit=100)
    samples = [sample['data_samples'] for batch in DataLoader(
        dataset, batch_size=50, num_workers=workers, collate_fn=list) for sample in batch]
    assert len(samples) == 1000
    for sample in samples:
        assert sample.img_path not in bad
        assert sample.gt_label.item() == int(Path(sample.img_path).parent.name)
    # The workers' own copies of the data set wrote to one table.
    assert len(dataset.pipeline.transforms[0].tally) == 100


@pytest.mark.parametrize('workers', [0, 2])
def test_one_bad_file_more_than_the_limit_ends_the_run(thousand, workers):
    root, _ = thousand
    batches = iter(DataLoader(labelled(root, limit=99), batch_size=50, num_workers=workers,
                              collate_fn=list))
    with pytest.raises(ValueError, match='At most 99 training files may be bad .* is number 100'):
        list(batches)
    if workers:
        batches._shutdown_workers()  # a collection of garbage would wait 5 s for each


def test_evaluation_never_replaces_a_file(thousand):
    root, bad = thousand
    dataset = labelled(root)
    dataset.test_mode = True
    with pytest.raises(Exception, match='Test time pipline should not get `None`'):
        dataset[next(i for i in range(1000) if dataset.get_data_info(i)['img_path'] in bad)]


def test_files_that_are_drawn_again_count_once_and_a_full_table_would_be_noticed():
    tally = Tally(100, 'x')
    for i in range(300):
        tally.add(f'{i % 100}.jpg', 'is bad')
    assert len(tally) == 100 and tally.flags.is_shared()
    with pytest.raises(ValueError, match='100.jpg is number 101, it is bad'):
        tally.add('100.jpg', 'is bad')
    assert torch.equal(tally.flags.sum(), torch.tensor(101))


def steps(pipeline):
    """All steps of a pipeline, also inside others."""
    for step in pipeline if isinstance(pipeline, list) else [pipeline]:
        if isinstance(step, list):
            yield from steps(step)
            continue
        yield step
        yield from steps(step.get('transforms') or [])


@pytest.mark.parametrize('name', LEAVES)
def test_every_config_trains_by_the_policy(name):
    cfg = load(name)
    dataset = cfg.train_dataloader.dataset
    dataset = dataset.get('dataset', dataset)  # one that repeats rare classes
    first = dataset.pipeline[0]
    assert first.type in ('swinv2_mm.LoadImage', 'swinv2_mm.ReadVideo') and first.bad == 'skip'
    if cfg.default_scope == 'mmseg':
        assert dataset.pipeline[1].type == 'swinv2_mm.LoadMap'
        assert dataset.pipeline[1].bad == 'skip'
    assert dataset.get('max_refetch', 1000) == 1000
    for split in ('val', 'test'):
        if loader := cfg.get(f'{split}_dataloader'):
            assert all(step.get('bad', 'raise') == 'raise'
                       for step in steps(loader.dataset.pipeline))


def test_a_detector_s_data_set_skips_a_turned_picture(tmp_path):
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=48, height=40) for i in range(4)],
        categories=[dict(id=1, name='disc')],
        annotations=[dict(id=i, image_id=i, category_id=1, iscrowd=0, area=100 + i,
                          bbox=[i, 5, 20, 10], segmentation=[[1, 1, 9, 1, 9, 9]])
                     for i in range(4)])
    (tmp_path / 'train.json').write_text(json.dumps(content))
    (tmp_path / 'train').mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    for i in range(4):
        (tmp_path / 'train' / f'{i}.jpg').write_bytes(
            bad_files.encoded(exif=turned if i == 2 else Image.Exif()))
    settings = load('configs/demo/det_nano.py').train_dataloader.dataset
    settings.update(data_root=f'{tmp_path}/', metainfo=dict(classes=('disc',)))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(settings)
    for i in range(20):
        sample = dataset[i % 4]['data_samples']
        number = int(Path(sample.img_path).stem)
        box = sample.gt_instances.bboxes.tensor[0]
        assert number != 2 and sample.img_shape == (40, 48)
        flip = sample.flip_direction if sample.flip else ''
        left = 48 - number - 20 if 'horizontal' in flip else number
        assert box[0].item() == left
