"""The toy data set: scenes that can be trusted, written so that half a set never looks whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import paired

pytest.importorskip('pycocotools')
from pycocotools.coco import COCO

from swinv2_mm.datasets.synthetic import make_shapes, shapes
from swinv2_mm.datasets.synthetic.whole_set import random_stream

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset'
SCRIPT = TOOLS / 'make_shapes.py'
SIZE = (96, 128)



def command(out, *words, size=SIZE):
    return [sys.executable, str(SCRIPT), '--out', str(out), '--size', *map(str, size),
            *map(str, words)]


def run(out, *words, **options):
    return subprocess.run(command(out, *words, **options), capture_output=True, text=True,
                          timeout=60, check=False)


def arguments(out, train=12, val=4, seed=0, force=False):
    words = ['--out', out, '--train', train, '--val', val, '--seed', seed, '--size', *SIZE]
    return [str(word) for word in words] + ['--force'] * force


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def scenes(count, size=SIZE, split='train', seed=0):
    for index in range(count):
        yield make_shapes.sample_scene(random_stream(seed, split, index), size)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A small set, made once: the folder."""
    out = tmp_path_factory.mktemp('made') / 'shapes'
    make_shapes.main(arguments(out))
    return out


@pytest.fixture(scope='module')
def truth():
    """Sixty scenes of the default size, drawn: a list of (scene, image, masks, labels)."""
    return [(scene, *shapes.render(scene)) for scene in scenes(60, (192, 256))]


# ---- the scenes --------------------------------------------------------------------------------


def test_a_scene_depends_on_seed_split_and_index_only():
    def first(seed, split):
        return next(scenes(1, split=split, seed=seed))

    assert first(0, 'train') == first(0, 'train')
    different = [first(0, 'train'), first(1, 'train'), first(0, 'val'), list(scenes(2))[1]]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_rendering_is_a_pure_function_of_the_scene():
    scene = next(scenes(1))
    image, masks, labels = shapes.render(scene)
    np.random.seed(1)
    cv2.setRNGSeed(1)
    shapes._patch.cache_clear()
    again = shapes.render(scene)
    for one, other in paired((image, masks, labels), again):
        np.testing.assert_array_equal(one, other)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert masks.shape == (len(scene.shapes), *SIZE) and masks.dtype == bool
    assert [shapes.KINDS[label] for label in labels] == [shape.kind for shape in scene.shapes]


def test_visible_masks_never_overlap_though_objects_do(truth):
    covered = 0
    for scene, _, masks, _ in truth:
        assert masks.sum(axis=0).max() == 1
        alone = [shapes.visible_masks((shape,), scene.size)[0][0] for shape in scene.shapes]
        np.testing.assert_array_equal(np.any(alone, axis=0), masks.any(axis=0))
        covered += sum((one & ~seen).any() for one, seen in paired(alone, masks))
    assert covered >= 40  # in 60 scenes: occlusion is common, not an accident


def test_later_objects_cover_earlier_ones_in_picture_and_masks():
    skins = [shapes.Skin('solid', (colour, colour), 0.5, 0.0, 0.0, 0)
             for colour in ((255.0, 0.0, 0.0), (0.0, 0.0, 255.0))]
    pose = shapes.Pose(48.0, 48.0, 60.0, 0.0, 1.0)
    discs = (shapes.Shape('disc', pose, skins[0]),
             shapes.Shape('disc', replace(pose, x=68.0), skins[1]))
    scene = replace(next(scenes(1)), noise=0.0, shapes=discs)
    image, masks, _ = shapes.render(scene)
    assert masks[1, 48, 58] and not masks[0, 48, 58] and masks[0, 48, 28]
    np.testing.assert_array_equal(image[48, 58], (0, 0, 255))
    np.testing.assert_array_equal(image[48, 22], (255, 0, 0))


def test_every_object_stays_in_sight():
    for scene in scenes(300, (192, 256)):
        assert shapes.visible_masks(scene.shapes, scene.size)[1].min() >= make_shapes.MIN_VISIBLE


def test_a_hidden_object_has_an_empty_mask_and_no_share_in_sight():
    shape = next(scenes(1)).shapes[0]
    big = replace(shape, kind='disc', pose=replace(shape.pose, size=80.0, aspect=1.0))
    small = replace(big, pose=replace(big.pose, size=30.0))
    outside = replace(big, pose=replace(big.pose, x=-80.0))
    masks, shown = shapes.visible_masks((small, outside, big), SIZE)
    assert not masks[:2].any() and shown[0] == shown[1] == 0 and shown[2] > 0
    scene = replace(next(scenes(1)), noise=0.0, shapes=(outside,))
    np.testing.assert_array_equal(shapes.render(scene)[0],
                                  shapes.render(replace(scene, shapes=()))[0])


def test_what_the_border_cuts_off_counts_as_out_of_sight():
    disc = shapes.Shape('disc', shapes.Pose(0.0, 48.0, 40.0, 0.0, 1.0), None)
    assert shapes.visible_masks((disc,), SIZE)[1][0] == pytest.approx(0.5, abs=0.02)


def test_all_kinds_and_textures_and_a_range_of_sizes_occur(truth):
    every = [shape for scene, *_ in truth for shape in scene.shapes]
    assert {shape.kind for shape in every} == set(shapes.KINDS)
    assert {shape.skin.texture for shape in every} == set(shapes.TEXTURES)
    across = np.array([shape.pose.size for shape in every])
    assert across.min() < 30 and across.max() > 85
    assert across.min() >= make_shapes.SIZES[0] and across.max() <= make_shapes.SIZES[1]
    counts = {len(scene.shapes) for scene, *_ in truth}
    assert counts == set(range(2, 7))


def test_some_objects_are_cut_by_the_border(truth):
    cut = [mask for _, _, masks, _ in truth for mask in masks
           if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()]
    assert len(cut) > 10


@pytest.mark.parametrize('kind', shapes.KINDS)
def test_an_outline_has_the_area_of_its_formula_and_keeps_inside_its_circle(kind):
    radius = 40.0
    shape = shapes.Shape(kind, shapes.Pose(64.3, 64.7, 2 * radius, 0.3, 1.0), None)
    mask = shapes.visible_masks((shape,), (128, 128))[0][0]
    star = 5 * 0.45 * np.sin(np.pi / 5)  # ten triangles of sides 1 and 0.45, 36 degrees apart
    cross = 4 * 0.34 * (2 - 0.34) / (1 + 0.34**2)  # two bars less the square they share
    unit = {'disc': np.pi, 'square': 2, 'triangle': 3 * np.sqrt(3) / 4, 'star': star,
            'ring': np.pi * (1 - 0.55**2), 'cross': cross}[kind]
    assert mask.sum() == pytest.approx(unit * radius**2, rel=0.03)
    y, x = np.nonzero(mask)
    assert np.hypot(x + 0.5 - 64.3, y + 0.5 - 64.7).max() < radius + 1
    hole = kind == 'ring'
    assert mask[64, 64] == (not hole)


def test_a_square_with_an_aspect_is_a_rectangle():
    shape = shapes.Shape('square', shapes.Pose(64.0, 64.0, 80.0, 0.0, 0.8), None)
    mask = shapes.visible_masks((shape,), (128, 128))[0][0]
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    assert mask.sum() == pytest.approx(width * height, rel=0.01)
    assert width / height == pytest.approx(0.8, abs=0.03)


def test_a_texture_travels_with_its_object():
    scene = replace(next(scenes(1)), noise=0.0, shadow=(0, 0, 0.0))
    for texture in shapes.TEXTURES:
        skin = replace(scene.shapes[0].skin, texture=texture, colours=((0.0,) * 3, (255.0,) * 3))
        here = shapes.Shape('square', shapes.Pose(40.0, 45.0, 40.0, 0.4, 1.1), skin)
        there = replace(here, pose=replace(here.pose, x=75.0, y=48.0))
        first, masks, _ = shapes.render(replace(scene, shapes=(here,)))
        second, _, _ = shapes.render(replace(scene, shapes=(there,)))
        inside = cv2.erode(masks[0].astype(np.uint8), np.ones((3, 3))) > 0
        moved = np.roll(second, (-3, -35), axis=(0, 1))
        assert np.abs(first[inside].astype(int) - moved[inside]).max() <= 1


@pytest.mark.parametrize('size', [(32, 32), (32, 300)])
def test_small_images_still_hold_objects(size):
    for scene in scenes(10, size):
        assert len(scene.shapes) >= 2
        assert shapes.render(scene)[0].shape == (*size, 3)


# ---- the files ---------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes(data, tmp_path):
    done = run(tmp_path / 'shapes', '--train', 12, '--val', 4)
    assert done.returncode == 0
    assert done.stderr == 'train 12/12 images\nval 4/4 images\n'
    assert contents(tmp_path / 'shapes') == contents(data)


def test_a_picture_does_not_depend_on_how_many_are_made(data, tmp_path):
    make_shapes.main(arguments(tmp_path / 'few', train=5, val=1))
    few, many = contents(tmp_path / 'few'), contents(data)
    pictures = [name for name in few if name.endswith('.jpg')]
    assert len(pictures) == 6
    assert all(few[name] == many[name] for name in pictures)
    old, new = json.loads(many['train.json']), json.loads(few['train.json'])
    assert new['annotations'] == [one for one in old['annotations'] if one['image_id'] <= 5]


def test_train_and_val_share_no_picture(data):
    pictures = [one for name, one in contents(data).items() if name.endswith('.jpg')]
    assert len(set(pictures)) == len(pictures) == 16


def test_pictures_are_those_of_the_scenes_and_no_object_is_left_unlabelled(data):
    coco = COCO(data / 'train.json')
    for index, scene in enumerate(scenes(12)):
        found = coco.imgToAnns[index + 1]
        assert len(found) == len(scene.shapes)
        assert [coco.cats[one['category_id']]['name'] for one in found] \
            == [shape.kind for shape in scene.shapes]
        image, masks, _ = shapes.render(scene)
        for one, mask in paired(found, masks):
            np.testing.assert_array_equal(coco.annToMask(one), mask)
        stored = cv2.imread(str(data / 'train' / coco.imgs[index + 1]['file_name']))
        assert stored.shape == (*SIZE, 3)
        # Blurred, because jpeg changes the pixel noise most; another scene is off by 20 and more.
        blurred = [cv2.GaussianBlur(one, (0, 0), 2).astype(int) for one in (stored, image)]
        assert np.abs(blurred[0] - blurred[1]).mean() < 2


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_map_holds_background_and_the_class_of_the_shape_on_top(data, split):
    coco = COCO(data / f'{split}.json')
    seen = set()
    for image in coco.imgs.values():
        name = Path(image['file_name']).with_suffix('.png')
        stored = cv2.imread(str(data / f'{split}_maps' / name), cv2.IMREAD_UNCHANGED)
        expected = np.zeros(SIZE, np.uint8)
        for one in coco.imgToAnns[image['id']]:  # category ids count from 1, as the maps do
            expected[coco.annToMask(one) == 1] = one['category_id']
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, expected)
        seen |= set(np.unique(stored))
    assert len(list((data / f'{split}_maps').iterdir())) == len(coco.imgs)
    if split == 'train':
        assert seen == set(range(len(shapes.KINDS) + 1))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_box_and_area_agree_with_the_mask(data, split):
    coco = COCO(data / f'{split}.json')
    assert [one['id'] for one in coco.dataset['images']] == list(range(1, len(coco.imgs) + 1))
    assert list(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert [one['name'] for one in coco.dataset['categories']] == list(shapes.KINDS)
    for one in coco.anns.values():
        mask = coco.annToMask(one)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert one['bbox'] == [columns[0], rows[0], columns[-1] - columns[0] + 1,
                               rows[-1] - rows[0] + 1]
        assert all(isinstance(side, float) for side in one['bbox'])
        assert one['area'] == mask.sum() > 0
        assert one['iscrowd'] == 0
        assert isinstance(one['segmentation']['counts'], str)  # mmdet drops masks of other types


def test_a_count_of_zero_gives_an_empty_split(tmp_path):
    make_shapes.main(arguments(tmp_path / 'shapes', train=0, val=1))
    content = json.loads((tmp_path / 'shapes' / 'train.json').read_text())
    assert content['images'] == content['annotations'] == []


# ---- running twice, and not to the end ---------------------------------------------------------


def test_a_second_run_does_nothing(data, capsys):
    before = {path: path.stat().st_mtime_ns for path in data.rglob('*')}
    make_shapes.main(arguments(data))
    assert 'nothing to do' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in data.rglob('*')} == before


def test_other_arguments_need_force(tmp_path):
    out = tmp_path / 'shapes'
    make_shapes.main(arguments(out, train=2, val=1))
    before = contents(out)
    with pytest.raises(SystemExit, match='give --force to replace it'):
        make_shapes.main(arguments(out, train=2, val=1, seed=5))
    assert contents(out) == before
    make_shapes.main(arguments(out, train=2, val=1, seed=5, force=True))
    assert json.loads((out / 'train.json').read_text())['info']['seed'] == 5
    assert contents(out)['train/000000.jpg'] != before['train/000000.jpg']
    assert os.listdir(tmp_path) == ['shapes']


@pytest.mark.parametrize('lost', ['train/000001.jpg', 'train_maps/000000.png', 'val.json'])
def test_a_set_that_lost_a_file_is_not_taken_for_whole(tmp_path, lost):
    make_shapes.main(arguments(tmp_path / 'shapes', train=2, val=1))
    (tmp_path / 'shapes' / lost).unlink()
    with pytest.raises(SystemExit, match='--force'):
        make_shapes.main(arguments(tmp_path / 'shapes', train=2, val=1))


def test_a_set_of_version_1_which_has_no_maps_is_replaced_by_force_only(tmp_path):
    out = tmp_path / 'shapes'
    make_shapes.main(arguments(out, train=2, val=1))
    new = contents(out)
    for split in ('train', 'val'):
        shutil.rmtree(out / f'{split}_maps')
        path = out / f'{split}.json'
        path.write_text(path.read_text().replace(f'"version":{make_shapes.VERSION}', '"version":1'))
    with pytest.raises(SystemExit) as stop:
        make_shapes.main(arguments(out, train=2, val=1))
    assert str(stop.value) == (
        f'make_shapes.py: --out must be a new folder or a set of version {make_shapes.VERSION} of '
        f'this tool, {out} is of version 1: give --force to replace it')
    make_shapes.main(arguments(out, train=2, val=1, force=True))
    assert contents(out) == new


def test_force_never_removes_what_this_tool_did_not_write(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(SystemExit, match='holds other files'):
        make_shapes.main(arguments(tmp_path, force=True))
    make_shapes.main(arguments(tmp_path / 'shapes', train=1, val=1))
    (tmp_path / 'shapes' / 'notes.txt').write_text('mine')
    with pytest.raises(SystemExit, match='holds other files'):
        make_shapes.main(arguments(tmp_path / 'shapes', force=True))
    assert (tmp_path / 'shapes' / 'notes.txt').read_text() == 'mine'


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device')])
@pytest.mark.parametrize('existing', [False, True])
def test_a_stopped_run_changes_nothing_and_leaves_nothing(tmp_path, monkeypatch, error, existing):
    out = tmp_path / 'shapes'
    if existing:
        make_shapes.main(arguments(out, train=1, val=1, seed=7))
    before = contents(out)
    original, calls = make_shapes.render, []

    def failing(scene):
        calls.append(scene)
        if len(calls) == 4:
            assert list(tmp_path.glob('.shapes.partial-*/train/000002.jpg'))
            raise error
        return original(scene)

    monkeypatch.setattr(make_shapes, 'render', failing)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        make_shapes.main(arguments(out, force=True))
    assert contents(out) == before
    assert os.listdir(tmp_path) == ['shapes'] * existing


def test_a_failed_last_rename_puts_the_old_set_back(tmp_path, monkeypatch):
    out = tmp_path / 'shapes'
    make_shapes.main(arguments(out, train=1, val=1))
    before, original = contents(out), Path.rename

    def failing(path, target):
        if '.partial-' in path.name:
            raise OSError(5, 'Input/output error')
        return original(path, target)

    monkeypatch.setattr(Path, 'rename', failing)
    with pytest.raises(SystemExit, match='Input/output error'):
        make_shapes.main(arguments(out, train=1, val=1, seed=3, force=True))
    assert contents(out) == before
    assert os.listdir(tmp_path) == ['shapes']


@pytest.mark.skipif(os.name != 'posix', reason='signals of POSIX')
@pytest.mark.parametrize('kill', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_nothing_that_looks_whole(tmp_path, kill):
    out = tmp_path / 'shapes'
    # A shell starts its background jobs with SIGINT ignored, and children inherit that.
    with subprocess.Popen(command(out, '--train', 5000), stderr=subprocess.PIPE, text=True,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as job:
        try:
            deadline = time.monotonic() + 30
            while not list(tmp_path.glob('.*/train/*.jpg')) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert list(tmp_path.glob('.*/train/*.jpg'))
        finally:
            job.send_signal(kill)
        said = job.communicate(timeout=30)[1]
    assert job.returncode != 0
    assert not out.exists()
    assert not list(tmp_path.rglob('*.json'))
    assert 'Traceback' not in said
    if kill != signal.SIGKILL:
        assert os.listdir(tmp_path) == []


# ---- bad arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize('words, sentence', [
    (['--train', '-3'], '--train must be a number of images from 0 to 999999, got -3: '
                        'give at least 0'),
    (['--val', '-1'], '--val must be a number of images from 0 to 999999, got -1: give at least 0'),
    (['--size', '31', '64'], '--size must be two sides in pixels from 32 to 2048, got 31: '
                             'give at least 32'),
    (['--size', '64', '9999'], '--size must be two sides in pixels from 32 to 2048, got 9999: '
                               'give at most 2048'),
    (['--seed', '-1'], '--seed must be a whole number from 0 to 4294967295, got -1: '
                       'give at least 0'),
    (['--train', 'many'], "argument --train: invalid int value: 'many': see --help for what it "
                          'takes'),
])
def test_a_bad_argument_ends_with_one_sentence(tmp_path, words, sentence):
    done = run(tmp_path / 'shapes', *words)
    assert done.returncode != 0
    assert done.stderr == f'make_shapes.py: {sentence}\n'
    assert os.listdir(tmp_path) == []


def test_an_out_that_cannot_be_a_folder_ends_with_one_sentence(tmp_path):
    file = tmp_path / 'file'
    file.write_text('kept')
    done = run(file, '--train', 1)
    assert done.returncode != 0
    assert done.stderr == (f'make_shapes.py: --out must be a folder, {file} is a file: '
                           'choose another --out\n')
    done = run(file / 'below', '--train', 1)
    assert done.returncode != 0
    assert done.stderr.startswith(f'make_shapes.py: --out must be a folder that can be written, '
                                  f'{file / "below"} gives "')
    assert done.stderr.endswith('": make room or choose another --out\n')
    assert done.stderr.count('\n') == 1
    assert file.read_text() == 'kept'


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_without_leave_to_write_ends_with_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path / 'shapes', '--train', 1)
    tmp_path.chmod(0o700)
    assert done.returncode != 0
    assert 'Permission denied' in done.stderr and done.stderr.count('\n') == 1


def test_a_missing_package_is_named_with_the_line_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(SystemExit, match='^make_shapes.py: this set is written with pycocotools, '
                                         'which is missing: run `pip install pycocotools`$'):
        make_shapes.main(arguments(tmp_path / 'shapes', train=1, val=0))
    assert os.listdir(tmp_path) == []
