"""tools/infer.py gives the results of tools/test.py, and so do the libraries' own Inferencers."""
import json
import pickle
import re

import cv2
import numpy as np
import pytest
from helpers import ROOT
from infer_checks import (
    DEMOS,
    FEW,
    SCOPES,
    call,
    checkpoint,
    infer,
    picture,
    read,
    write_pictures,
    write_video,
)
from mmengine.config import Config
from mmengine.registry import DefaultScope

# What tools/test.py says of the same files.

def coco_file(folder):
    """Annotations that make a folder of pictures a test set, as data options."""
    classes = Config.fromfile(ROOT / DEMOS['det']).metainfo.classes
    files = sorted(file.name for file in folder.iterdir())
    images = [dict(id=i, file_name=name, height=64, width=96) for i, name in enumerate(files)]
    square = [10, 10, 40, 10, 40, 40, 10, 40]
    notes = [dict(id=i + 1, image_id=i, category_id=1, bbox=[10, 10, 30, 30], area=900, iscrowd=0,
                  segmentation=[square]) for i in range(len(files))]
    kinds = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    path = folder.parent / 'test.json'
    path.write_text(json.dumps(dict(images=images, annotations=notes, categories=kinds)))
    return [f'test_dataloader.dataset.{key}={value}' for key, value in
            (('data_root', f'{folder.parent}/'), ('ann_file', 'test.json'),
             ('data_prefix.img', f'{folder.name}/'))] + [f'test_evaluator.ann_file={path}']


def maps(folder):
    """Maps that make a folder of pictures a test set, as data options."""
    (folder.parent / 'maps').mkdir()
    every = len(Config.fromfile(ROOT / DEMOS['seg']).metainfo.classes)
    map_ = np.tile(np.arange(96, dtype=np.uint8) % every, (64, 1))
    for file in folder.iterdir():
        cv2.imwrite(str(folder.parent / 'maps' / f'{file.stem}.png'), map_)
    return [f'test_dataloader.dataset.{key}={value}' for key, value in
            (('data_root', f'{folder.parent}/'), ('data_prefix.img_path', folder.name),
             ('data_prefix.seg_map_path', 'maps'))]


def class_folders(folder):
    """A test set with all pictures in its first class, as data options."""
    classes = Config.fromfile(ROOT / DEMOS['cls']).metainfo.classes
    for name in classes:
        (folder.parent / 'split' / name).mkdir(parents=True)
        # Every class needs a picture; only those of the first are compared.
        cv2.imwrite(str(folder.parent / 'split' / name / 'other.png'), picture(9))
    for file in folder.iterdir():
        (folder.parent / 'split' / classes[0] / file.name).symlink_to(file)
    return [f'test_dataloader.dataset.data_root={folder.parent}/',
            'test_dataloader.dataset.data_prefix=split']


def video_list(folder):
    path = folder.parent / 'test.txt'
    path.write_text(''.join(f'{folder.name}/{file.name} 0\n' for file in sorted(folder.iterdir())))
    return [f'test_dataloader.dataset.data_root={folder.parent}/',
            'test_dataloader.dataset.ann_file=test.txt']


MAKE = {'det': coco_file, 'seg': maps, 'cls': class_folders, 'video': video_list}


def by_the_test(task, folder):
    """What tools/test.py --out predicts: name of a file -> its sample."""
    dump = folder.parent / 'dump.pkl'
    few = [FEW] if task == 'det' else []
    call('test', ROOT / DEMOS[task], checkpoint(task), '--work-dir', folder.parent / 'work',
         '--out', dump, '--cfg-options', *MAKE[task](folder), *few, 'test_dataloader.batch_size=1',
         scope=SCOPES[task])
    key = 'filename' if task == 'video' else 'img_path'
    return {sample[key].rpartition('/')[2].partition('.')[0]: sample
            for sample in pickle.loads(dump.read_bytes())}


def assert_same(task, sample, record, out):
    """One json of tools/infer.py says what a sample of tools/test.py does, to the last digit."""
    if task == 'det':
        found, rows = sample['pred_instances'], record['instances']
        assert len(rows) >= 5  # else there is nothing to compare
        assert [row['label'] for row in rows] == found['labels'].tolist()
        assert [row['score'] for row in rows] == found['scores'].tolist()
        assert [row['box'] for row in rows] == found['bboxes'].tolist()
        assert [row['mask']['counts'].encode() for row in rows] == [
            mask['counts'] for mask in found['masks']]
    elif task == 'seg':
        labels = sample['pred_sem_seg']['data'][0].numpy()
        assert len(np.unique(labels)) >= 2
        assert np.array_equal(cv2.imread(str(out / record['map']), cv2.IMREAD_UNCHANGED), labels)
        assert {row['label']: row['pixels'] for row in record['segments']} == dict(
            zip(*(part.tolist() for part in np.unique(labels, return_counts=True))))
    else:
        values, labels = sample['pred_score'].topk(5)
        assert values[0] - values[1] > 1e-3
        assert [row['label'] for row in record['top']] == labels.tolist()
        assert [row['score'] for row in record['top']] == values.tolist()


@pytest.mark.slow
@pytest.mark.parametrize('task', DEMOS)
def test_results_are_those_of_tools_test(task, tmp_path):
    folder = tmp_path / 'inputs'
    if task == 'video':
        for i in range(2):
            write_video(folder / f'v{i}.mp4', 8 + i)
    else:
        write_pictures(folder)
    expected = by_the_test(task, folder)
    options = ['--score-thr', '0'] if task == 'det' else []
    out = infer(task, [folder], tmp_path / 'out', *options)
    for file in folder.iterdir():
        record = read(out, file.stem)
        assert record['input'] == str(file) and record['task'] == task
        assert_same(task, expected[file.stem], record, out)
        drawn = cv2.imread(str(out / f'{file.stem}.jpg'))
        assert drawn is not None and drawn.std() > 1


# The libraries' own Inferencers, as the page shows them.

def block(name):
    """The python block of the page that is marked with a name."""
    page = (ROOT / 'docs/inference.md').read_text()
    return re.search(rf'<!-- test: {name} -->\n```python\n(.*?)```', page, re.DOTALL)[1]


def by_the_page(task, folder, monkeypatch):
    """What the page's own lines find in the first of two inputs of a folder."""
    text = re.sub(r"'work_dirs/\S+\.pth'", repr(str(checkpoint(task))), block(task))
    few = 'model = dict(test_cfg=dict(rcnn=dict(max_per_img=20)))' if task == 'det' else ''
    config = folder.parent / 'config.py'
    config.write_text(f'_base_ = {str(ROOT / DEMOS[task])!r}\n{few}\n')
    text = text.replace(repr(DEMOS[task]), repr(str(config)))
    monkeypatch.chdir(folder)
    space = {}
    with DefaultScope.overwrite_default_scope(SCOPES[task]):
        exec(text, space)
    return space['found'][0]


@pytest.mark.slow
@pytest.mark.parametrize('task', DEMOS)
def test_the_inferencers_of_the_page_find_what_the_tool_does(task, tmp_path, monkeypatch):
    folder = tmp_path / 'inputs'
    folder.mkdir()
    for i, name in enumerate(('one', 'two')):
        if task == 'video':
            write_video(folder / f'{name}.mp4', 8 + i)
        else:
            cv2.imwrite(str(folder / f'{name}.jpg'), picture(i))
    options = ['--score-thr', '0'] if task == 'det' else []
    out = infer(task, [folder], tmp_path / 'out', '--batch-size', 2, *options)
    record, found = read(out, 'one'), by_the_page(task, folder, monkeypatch)
    if task == 'det':
        rows = record['instances']
        assert len(rows) == 20
        assert [row['label'] for row in rows] == found['labels']
        assert [row['score'] for row in rows] == found['scores']
        assert [row['box'] for row in rows] == found['bboxes']
        assert (folder / 'found' / 'vis' / 'one.jpg').exists()
    elif task == 'seg':
        assert np.array_equal(cv2.imread(str(out / record['map']), cv2.IMREAD_UNCHANGED), found)
    elif task == 'cls':
        assert record['top'][0]['label'] == found['pred_label']
        assert record['top'][0]['score'] == found['pred_score']
    else:
        scores = found['rec_scores'][0]
        assert record['top'][0]['label'] == found['rec_labels'][0][0] == int(np.argmax(scores))
        assert record['top'][0]['score'] == max(scores)


@pytest.mark.parametrize('task', ['det', 'seg', 'cls'])
def test_the_frames_of_a_video_get_what_pictures_of_them_get(task, tmp_path):
    film = write_video(tmp_path / 'film.mp4', 5, (96, 64))
    reader, folder = cv2.VideoCapture(str(film)), tmp_path / 'frames'
    folder.mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / f'f{i}.png'), reader.read()[1])
    options = ['--score-thr', '0.1'] if task == 'det' else []
    out = infer(task, [film, folder], tmp_path / 'out', '--batch-size', 2, *options)
    record = read(out, 'film')
    assert record['fps'] == 10 and [frame['frame'] for frame in record['frames']] == [*range(5)]
    key = {'det': 'instances', 'seg': 'segments', 'cls': 'top'}[task]
    assert any(frame[key] != record['frames'][0][key] for frame in record['frames'])
    for i in (0, 1):  # in a batch of two either way: the last frame of each is in one of its own
        assert record['frames'][i][key] == read(out, f'f{i}')[key]
    drawn = cv2.VideoCapture(str(out / 'film.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert not list(out.glob('*.part*'))


def test_pictures_of_other_sizes_do_not_change_what_a_picture_gets(tmp_path):
    write_pictures(tmp_path / 'a', 2)
    cv2.imwrite(str(tmp_path / 'a' / 'p1.jpg'), picture(1, 80, 96))
    together = infer('seg', [tmp_path / 'a'], tmp_path / 'together', '--batch-size', 2)
    for name in ('p0', 'p1'):
        alone = infer('seg', [tmp_path / 'a' / f'{name}.jpg'], tmp_path / name)
        assert read(alone, name) == read(together, name)


BCCD = ROOT / 'data/bccd/test.json'


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_file(), reason='the BCCD photos are not in data/bccd')
def test_real_photos_get_what_the_inferencer_of_mmdet_finds(tmp_path):
    from mmdet.apis import DetInferencer

    names = [image['file_name'] for image in json.loads(BCCD.read_text())['images'][:3]]
    photos = [str(BCCD.parent / 'images' / name) for name in names]
    out = infer('det', photos, tmp_path, '--score-thr', 0, '--json')
    cfg = Config.fromfile(ROOT / DEMOS['det'])
    cfg.merge_from_dict({FEW.split('=')[0]: 20})
    with DefaultScope.overwrite_default_scope('mmdet'):
        found = DetInferencer(cfg, str(checkpoint('det')), 'cpu')(photos)['predictions']
    for name, one in zip(names, found):
        rows = read(out, name.rpartition('.')[0])['instances']
        assert len(rows) == 20
        assert [row['box'] for row in rows] == one['bboxes']
        assert [row['score'] for row in rows] == one['scores']
