"""The toy films: the motion is the class, no frame tells it, and the files hold what was drawn."""
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers import last_line, paired, run_tool

from swinv2_mm.datasets.synthetic import make_motions  # isort: skip
from swinv2_mm.datasets.synthetic import shapes  # isort: skip
from swinv2_mm.datasets.synthetic.whole_set import random_stream  # isort: skip

SIDE, FRAMES = 32, 8
FILMS = 300
AXES = ('x', 'y', 'size', 'angle')


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def film(label, index=0):
    return make_motions.sample_film(random_stream(0, 'train', index), label, SIDE, FRAMES)


def unit(pose):
    """Where a pose lies in the range of each axis: x, y, size, angle in [0, 1)."""
    smallest, largest = make_motions.SIZES
    return (pose.x / SIDE, pose.y / SIDE,
            np.log(pose.size / SIDE / smallest) / np.log(largest / smallest),
            pose.angle / (2 * np.pi))


@pytest.fixture(scope='module')
def paths():
    """Of each class the places of many films' shapes: (class, film, frame, axis)."""
    return np.array([[make_motions.path_of(random_stream(1, 'train', 1000 * label + i), label,
                                           FRAMES) for i in range(FILMS)]
                     for label in range(len(make_motions.MOTIONS))])


# ---- the motion --------------------------------------------------------------------------------


def test_a_class_moves_one_number_one_way_and_no_other(paths):
    for label, motion in enumerate(make_motions.MOTIONS):
        steps = np.diff(paths[label], axis=1)
        steps = (steps + 0.5) % 1 - 0.5  # round the circle, the short way
        axis, sign = label // 2, 2 * (label % 2) - 1
        assert (steps[..., axis] * sign > 0).all(), motion
        assert not np.delete(steps, axis, axis=-1).any(), motion
        slowest, fastest = make_motions.SPEEDS[axis]
        passed = np.abs(steps[..., axis]).sum(1) * FRAMES / (FRAMES - 1)
        assert slowest <= passed.min() < passed.max() <= fastest, motion


def test_names_say_what_is_seen():
    """In the masks that are drawn, of a pose whose number goes the way of the class."""
    seen = {}
    for label, motion in enumerate(make_motions.MOTIONS):
        axis, sign = make_motions.DIRECTIONS[label]
        masks = []
        for way in (0, sign):
            poses = dict(x=32.0 + 6 * way * (axis == 0), y=32 + 6.0 * way * (axis == 1),
                         size=30 + 8.0 * way * (axis == 2), angle=0.0)
            shape = shapes.Shape('triangle', shapes.Pose(**poses, aspect=1.0), None)
            masks.append(shapes.visible_masks((shape,), (64, 64))[0][0])
        (y0, x0), (y1, x1) = (np.argwhere(mask).mean(0) for mask in masks)
        seen[motion] = dict(left=x1 < x0 - 5, right=x1 > x0 + 5, up=y1 < y0 - 5, down=y1 > y0 + 5,
                            shrinking=masks[1].sum() < 0.7 * masks[0].sum(),
                            growing=masks[1].sum() > 1.3 * masks[0].sum())
    assert {motion: [name for name, found in what.items() if found]
            for motion, what in seen.items()} == {name: [name] for name in make_motions.MOTIONS}


def test_frames_follow_the_path_that_was_drawn():
    for label in range(len(make_motions.MOTIONS)):
        path = make_motions.path_of(random_stream(0, 'train', label), label, FRAMES)
        for place, scene in paired(path, film(label, label)):
            centres = [unit(shape.pose) for shape in scene.shapes[1:]]
            assert any(np.allclose(centre, place) for centre in centres)


# ---- one frame tells nothing -------------------------------------------------------------------


@pytest.mark.parametrize('frame', [0, 3, 7])
def test_in_every_frame_of_every_class_all_four_numbers_are_even(paths, frame):
    """Kolmogorov and Smirnov's distance from even, its limit at odds of 1 in 10,000 a test."""
    limit = np.sqrt(np.log(2 / 1e-4) / 2 / FILMS)
    for label, motion in enumerate(make_motions.MOTIONS):
        for axis in range(4):
            values = np.sort(paths[label, :, frame, axis])
            ranks = np.arange(FILMS + 1) / FILMS
            far = max(np.abs(values - ranks[:-1]).max(), np.abs(values - ranks[1:]).max())
            assert far < limit, (motion, AXES[axis])


def test_everything_but_the_motion_is_drawn_without_regard_to_the_class():
    """The same stream gives the same shape, skin, background and noise in all classes."""
    def still(scene):
        wall, shape, *_ = scene.shapes
        return replace(scene, shapes=(wall, shape.kind, shape.skin, shape.pose.aspect))

    for index in range(20):
        firsts = {still(film(label, index)[0]) for label in range(len(make_motions.MOTIONS))}
        assert len(firsts) == 1


def test_what_leaves_on_one_side_comes_in_on_the_other():
    pose = shapes.Pose(2.0, 30.0, 20.0, 0.4, 1.0)
    wrapped = make_motions.copies(shapes.Shape('square', pose, None), 64)
    assert sorted((one.pose.x, one.pose.y) for one in wrapped) == [(2.0, 30.0), (66.0, 30.0)]
    corner = make_motions.copies(
        shapes.Shape('square', replace(pose, x=62.0, y=3.0), None), 64)
    assert len(corner) == 4
    inside = make_motions.copies(shapes.Shape('square', replace(pose, x=32.0), None), 64)
    areas = [shapes.visible_masks(one, (64, 64))[0].sum() for one in (wrapped, corner, inside)]
    assert areas == pytest.approx([areas[2]] * 3, rel=0.02)  # none of it is lost


# ---- the files ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('motions') / 'set'
    make_motions.main(['--out', str(folder), '--train', '10', '--val', '3', '--size', '48'])
    return folder


def test_the_lists_name_every_film_and_its_class(data):
    for split, count in (('train', 10), ('val', 3)):
        lines = (data / f'{split}.txt').read_text().splitlines()
        assert lines == [f'{split}/{i:06d}.mp4 {i % 6}' for i in range(count)]
        assert all((data / line.split()[0]).is_file() for line in lines)
    assert json.loads((data / 'set.json').read_text())['classes'] == list(make_motions.MOTIONS)


def test_films_hold_the_frames_that_were_drawn(data):
    for index in range(3):
        scenes = make_motions.sample_film(random_stream(0, 'train', index), index, 48,
                                          FRAMES)
        reader = cv2.VideoCapture(str(data / f'train/{index:06d}.mp4'))
        for scene in scenes:
            found, frame = reader.read()
            assert found and frame.shape == (48, 48, 3)
            # Blurred: codecs keep no pixel noise, and colours at half the resolution.
            both = [cv2.GaussianBlur(one, (0, 0), 3).astype(int)
                    for one in (frame, shapes.render(scene)[0])]
            assert np.abs(both[0] - both[1]).mean() < 4
        assert not reader.read()[0]


def test_the_same_seed_gives_the_same_bytes_however_many_are_made(data, tmp_path):
    make_motions.main(['--out', str(tmp_path / 'few'), '--train', '4', '--val', '1',
                       '--size', '48'])
    few, many = contents(tmp_path / 'few'), contents(data)
    films = [name for name in few if name.endswith('.mp4')]
    assert len(films) == 5 and all(few[name] == many[name] for name in films)
    assert len({many[name] for name in many if name.endswith('.mp4')}) == 13


def test_a_second_run_does_nothing_and_a_lost_film_is_noticed(data, tmp_path, capsys):
    arguments = ['--out', str(tmp_path / 'set'), '--train', '2', '--val', '1', '--size', '32']
    make_motions.main(arguments)
    before = contents(tmp_path / 'set')
    make_motions.main(arguments)
    assert 'nothing to do' in capsys.readouterr().out
    assert contents(tmp_path / 'set') == before
    (tmp_path / 'set/train/000001.mp4').unlink()
    with pytest.raises(SystemExit, match='--force'):
        make_motions.main(arguments)


def test_a_film_that_is_not_written_whole_is_an_error(tmp_path, monkeypatch):
    images = [np.zeros((32, 32, 3), np.uint8)] * 5
    with pytest.raises(OSError, match='OpenCV cannot write mp4 there'):
        make_motions.write_film(tmp_path / 'no folder' / 'film.mp4', images)
    reader = cv2.VideoCapture

    class Short:
        def __init__(self, *args):
            self.real = reader(*args)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def get(self, what):
            return self.real.get(what) - 2

    monkeypatch.setattr(cv2, 'VideoCapture', Short)
    with pytest.raises(OSError, match='3 of 5 frames written'):
        make_motions.write_film(tmp_path / 'film.mp4', images)


@pytest.mark.parametrize('words, sentence', [
    (['--size', '33'], '--size must be even, as video codecs want it, got 33: give 34'),
    (['--size', '16'], '--size must be a side in pixels from 32 to 512, got 16: give at least 32'),
    (['--frames', '4'], '--frames must be a number of frames from 8 to 256, got 4: give at least '
                        '8'),
    (['--train', '-1'], '--train must be a number of films from 0 to 999999, got -1: give at least '
                        '0'),
])
def test_a_bad_argument_ends_with_one_sentence(tmp_path, words, sentence):
    done = run_tool('tools/dataset/make_motions.py', '--out', tmp_path / 'set', *words)
    assert last_line(done) == f'make_motions.py: {sentence}'
    assert not (tmp_path / 'set').exists()
