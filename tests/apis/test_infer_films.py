"""Films through tools/infer.py and the web page: each frame that a player shows, at its time."""
import importlib

import film_checks
import numpy as np
import pytest
from film_checks import encode, ffmpeg, frame, made, same, shown
from helpers import ROOT
from infer_checks import DEMOS, SCOPES, checkpoint, infer, read
from mmengine.registry import DefaultScope

from swinv2_mm.utils.errors import UserError  # isort: skip
from swinv2_mm.apis.inference import cls, web  # isort: skip
from swinv2_mm.datasets.films import Film  # isort: skip

NAMES = sorted({name for name in film_checks.READ if name.partition('.')[2] not in (
    'h264', 'm2v', 'gif')} - {'cut_closed.mp4', 'turned_180.mp4', 'only_keyframes.mp4'})
RATES = {'fast.avi': '200', 'phone.mp4': '66667/1000', 'slow.mp4': '1/2', 'ntsc.mp4': '30000/1001',
         'camera.mkv': '196263/1000'}


@pytest.fixture
def seen(monkeypatch):
    """The frames that a model of pictures was given, in the place of its answers."""
    found = []
    monkeypatch.setattr(cls.Task, 'predict', lambda self, frames: found.extend(frames) or frames)
    monkeypatch.setattr(cls.Task, 'record', lambda self, sample: dict(top=[]))
    monkeypatch.setattr(cls.Task, 'draw', lambda self, picture, sample: sample)
    return found


def assert_drawn(path, frames, times):
    """A drawn film shows these frames at these times, blue first."""
    with Film(str(path), 'bgr24') as film:
        assert same(list(film.frames()), frames), path.name
        assert film.times == pytest.approx(times, abs=0.002), path.name


def test_the_tool_sees_and_draws_every_frame_of_every_film_at_its_time(seen, tmp_path):
    paths = [made(name) for name in NAMES]
    out = infer('cls', paths, tmp_path, '--batch-size', 7)
    for path, record in records(out, paths):
        truth = shown(path)[..., ::-1]
        mine, seen[:] = seen[:len(truth)], seen[len(truth):]
        assert same(mine, truth), path.name
        with Film(str(path)) as film:
            times, fps = film.times, film.fps
        assert [row['frame'] for row in record['frames']] == [*range(len(truth))]
        assert [row['time'] for row in record['frames']] == pytest.approx(times, abs=1e-6)
        assert record['fps'] == fps
        assert_drawn(out / f'{record["name"]}.mp4', truth, times)
    assert not seen


def records(out, paths):
    """(path, its json) in the order of the paths."""
    found = {}
    for file in out.glob('*.json'):
        record = read(out, file.stem)
        found[record['input']] = record | dict(name=file.stem)
    assert len(found) == len(paths)
    return [(path, found[str(path)]) for path in paths]


def test_the_page_sees_and_draws_every_frame_of_every_film_at_its_time(seen):
    with DefaultScope.overwrite_default_scope(SCOPES['cls']):
        page = web.Shown(str(ROOT / DEMOS['cls']), str(checkpoint('cls')), 'cpu')
        for name in NAMES:
            truth = shown(made(name))[..., ::-1]
            found = page.look(str(made(name)), 0.3, page.window, 1000)
            assert same(seen, truth), name
            seen.clear()
            with Film(str(made(name))) as film:
                times = film.times
            assert [row['time'] for row in found.record['frames']] == pytest.approx(
                times, abs=1e-6)
            assert_drawn(web.Path(found.video), truth, times)
            web.Path(found.video).unlink()


def test_films_of_any_rate_are_drawn_at_their_rate_and_cost_no_other_input(seen, tmp_path):
    """MPEG-4 counts time in at most 65,535 parts of a second; 66.667 a second needs more."""
    folder = tmp_path / 'in'
    folder.mkdir()
    paths = [encode(folder / name, *film_checks.X264[:-2], numbers=range(6), fps=rate)
             for name, rate in sorted(RATES.items())]
    out = infer('cls', [folder], tmp_path / 'out')
    for path, record in records(out, paths):
        rate = eval(RATES[path.name])
        assert record['fps'] == pytest.approx(rate, rel=0.03)
        assert [row['time'] for row in record['frames']] == pytest.approx(
            np.arange(6) / rate, abs=0.0011)
        assert_drawn(out / f'{path.stem}.mp4', [frame(n)[..., ::-1] for n in range(6)],
                     [row['time'] for row in record['frames']])


def test_a_film_that_breaks_off_leaves_nothing_and_costs_itself_alone(seen, tmp_path, capsys):
    folder = tmp_path / 'in'
    folder.mkdir()
    ffmpeg('-i', made('closed.mp4'), '-c', 'copy', '-movflags', '+faststart', folder / 'a.mp4')
    whole = (folder / 'a.mp4').read_bytes()
    (folder / 'a.mp4').write_bytes(whole[:len(whole) * 3 // 4])
    encode(folder / 'b.mp4', *film_checks.X264)
    with pytest.raises(UserError, match='1 of 2 inputs gave no result'):
        infer('cls', [folder], tmp_path / 'out')
    assert f'skipped {folder / "a.mp4"}: it breaks off' in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['b.json', 'b.mp4']


def test_fewer_frames_than_the_packets_tell_of_are_no_whole_film(seen, tmp_path, monkeypatch,
                                                                 capsys):
    frames = Film.frames
    monkeypatch.setattr(Film, 'frames', lambda film: list(frames(film))[:-1])
    with pytest.raises(UserError):
        infer('cls', [made('closed.mp4')], tmp_path / 'out')
    assert 'it breaks off: 39 of 40 frames are there' in capsys.readouterr().err


def test_the_strip_of_an_action_shows_frames_turned_as_marked():
    importlib.import_module('swinv2_mm.utils.compat')  # before anything of mmaction
    from swinv2_mm.apis.inference.video import strip
    up, turned = strip(str(made('open.mp4'))), strip(str(made('turned_90.mp4')))
    assert up.shape == (160, 8 * 213, 3) and turned.shape == (160, 8 * 120, 3)
