"""The toy classification set: one shape a picture, kinds balanced, found again when whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from swinv2_mm.datasets.synthetic import (
    make_crops,
    shapes,
)
from swinv2_mm.datasets.synthetic.whole_set import random_stream

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset'


SIZE = 48
KINDS = len(shapes.KINDS)


def arguments(out, train=14, val=6, seed=0, force=False):
    words = ['--out', out, '--train', train, '--val', val, '--seed', seed, '--size', SIZE]
    return [str(word) for word in words] + ['--force'] * force


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A small set, made once: the folder."""
    out = tmp_path_factory.mktemp('made') / 'crops'
    make_crops.main(arguments(out))
    return out


@pytest.fixture(scope='module')
def drawn():
    """For 60 pictures: the kind asked for, the scene, and its mask cut to the picture."""
    made = []
    for index in range(60):
        kind = shapes.KINDS[index % KINDS]
        scene = make_crops.sample_crop(random_stream(0, 'train', index), kind, SIZE)
        _, masks, labels = shapes.render(scene)
        edge = make_crops.AROUND
        made.append((labels, scene, masks[0], masks[0][edge:-edge, edge:-edge]))
    return made


def test_there_is_one_folder_a_kind_and_as_many_pictures_of_each(data):
    assert sorted(path.name for path in data.iterdir()) == [
        'set.json', 'train', 'train_maps', 'val', 'val_maps']
    for split, count in (('train', 14), ('val', 6)):
        folders = {path.name: sorted(one.name for one in path.iterdir())
                   for path in (data / split).iterdir()}
        assert set(folders) == set(shapes.KINDS)
        assert sum(map(len, folders.values())) == count
        for number, kind in enumerate(shapes.KINDS):
            assert folders[kind] == [f'{index:06d}.jpg' for index in range(number, count, KINDS)]


def test_mmpretrain_reads_the_folders_as_classes(data):
    datasets = pytest.importorskip('mmpretrain.datasets')
    found = datasets.CustomDataset(data_root=str(data), data_prefix='train')
    assert found.metainfo['classes'] == tuple(sorted(shapes.KINDS))
    assert list(found.metainfo['classes']) == json.loads((data / 'set.json').read_text())['classes']
    for index in range(len(found)):
        one = found.get_data_info(index)
        assert Path(one['img_path']).parent.name == found.metainfo['classes'][one['gt_label']]


def test_a_picture_shows_one_shape_of_its_kind_upright_in_the_middle(drawn):
    for index, (labels, scene, whole, inside) in enumerate(drawn):
        assert labels.tolist() == [index % KINDS]
        # 0.9 across and 0.06 aside leave the border at most 0.01 of the side, plus half a pixel.
        assert inside.sum() >= 0.97 * whole.sum() > 0
        rows, columns = np.nonzero(inside)
        across = max(np.ptp(rows), np.ptp(columns)) + 1
        assert SIZE * make_crops.ACROSS[0] * 0.7 < across < SIZE * make_crops.ACROSS[1] + 2
        pose = scene.shapes[0].pose
        assert abs(np.array([pose.x, pose.y]) - 64 - SIZE / 2).max() <= 0.06 * SIZE
        if shapes.KINDS[index % KINDS] in ('triangle', 'star'):  # their highest point is a tip
            top = columns[rows == rows.min()].mean() + 64 - pose.x, rows.min() + 64 - pose.y
            # It leans by 0.3, and by 1.3 times that where the shape is that much wider than high.
            assert abs(np.arctan2(top[0], -top[1])) < 0.3 * 1.3 + 0.1


def test_a_picture_is_the_middle_of_its_scene(data):
    for index in range(14):
        kind = shapes.KINDS[index % KINDS]
        scene = make_crops.sample_crop(random_stream(0, 'train', index), kind, SIZE)
        stored = cv2.imread(str(data / 'train' / kind / f'{index:06d}.jpg'))
        assert stored.shape == (SIZE, SIZE, 3)
        middle = shapes.render(scene)[0][64:64 + SIZE, 64:64 + SIZE]
        # Blurred, because jpeg changes the pixel noise most; another scene is off by 20 and more.
        blurred = [cv2.GaussianBlur(one, (0, 0), 2).astype(int) for one in (stored, middle)]
        assert np.abs(blurred[0] - blurred[1]).mean() < 2


def test_the_background_tells_no_kind(drawn):
    # Ten of each kind: mean colours of the backgrounds spread alike within and between kinds.
    colours = np.array([np.mean(scene.colours, axis=0) for _, scene, *_ in drawn])
    kinds = np.array([labels[0] for labels, *_ in drawn])
    between = np.std([colours[kinds == kind].mean(axis=0) for kind in range(KINDS)], axis=0)
    # Of means of ten the spread is 1/sqrt(10) = 0.32 of that of one; 0.7 is beyond chance.
    assert (between < 0.7 * colours.std(axis=0)).all()


def test_a_picture_is_the_same_however_many_are_made(data, tmp_path):
    make_crops.main(arguments(tmp_path / 'few', train=7, val=1))
    few, many = contents(tmp_path / 'few'), contents(data)
    pictures = [name for name in few if name.endswith('.jpg')]
    assert len(pictures) == 8
    assert all(few[name] == many[name] for name in pictures)
    every = [one for name, one in many.items() if name.endswith('.jpg')]
    assert len(set(every)) == len(every) == 20  # train and val share none


def test_a_second_run_does_nothing_and_another_set_needs_force(tmp_path, capsys):
    out = tmp_path / 'crops'
    make_crops.main(arguments(out, train=6, val=0))
    before = contents(out)
    make_crops.main(arguments(out, train=6, val=0))
    assert 'nothing to do' in capsys.readouterr().out
    (out / 'train' / 'disc' / '000000.jpg').unlink()
    for more in (dict(), dict(seed=1)):
        with pytest.raises(SystemExit, match=r'^make_crops.py: .*: give --force to replace it$'):
            make_crops.main(arguments(out, train=6, val=0, **more))
    make_crops.main(arguments(out, train=6, val=0, force=True))
    assert contents(out) == before
    assert os.listdir(tmp_path) == ['crops']


def test_another_makers_set_is_never_replaced(tmp_path):
    (tmp_path / 'set.json').write_text('{"info": {"description": "toy motions"}}')
    with pytest.raises(SystemExit, match='holds other files: choose another --out'):
        make_crops.main(arguments(tmp_path, force=True))


@pytest.mark.parametrize('words, sentence', [
    (['--train', '-3'], '--train must be a number of images from 0 to 999999, got -3: '
                        'give at least 0'),
    (['--size', '600'], '--size must be a side in pixels from 32 to 512, got 600: '
                        'give at most 512'),
    (['--size', 'big'], "argument --size: invalid int value: 'big': see --help for what it takes"),
])
def test_a_bad_argument_ends_with_one_sentence(tmp_path, words, sentence):
    done = subprocess.run([sys.executable, TOOLS / 'make_crops.py', '--out', tmp_path / 'crops',
                           *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stderr == f'make_crops.py: {sentence}\n'
    assert os.listdir(tmp_path) == []


def test_a_map_holds_the_kind_where_the_shape_is(data, drawn):
    for index in range(14):
        kind = shapes.KINDS[index % KINDS]
        found = cv2.imread(str(data / f'train_maps/{kind}/{index:06d}.png'), cv2.IMREAD_UNCHANGED)
        labels, _, _, inside = drawn[index]
        assert found.dtype == np.uint8
        assert np.array_equal(found, inside * (1 + labels[0]))
