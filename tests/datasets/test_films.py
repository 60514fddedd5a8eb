"""The frames of a film are those that a player shows, in whatever it is and wherever one starts."""
import film_checks
import numpy as np
import pytest
from film_checks import COUNT, FILMS, READ, encode, ffmpeg, frame, made, same, shown
from mmengine.registry import TRANSFORMS, DefaultScope

import swinv2_mm.utils.compat  # noqa: F401 - makes mmaction2 importable
from swinv2_mm.datasets import film_index, films
from swinv2_mm.datasets.checks.clips import check_video
from swinv2_mm.datasets.films import Film

SAMPLERS = [dict(type='SampleFrames', clip_len=4), dict(type='SampleFrames', clip_len=5,
                                                        frame_interval=7, num_clips=2)]


def reader(**sample):
    with DefaultScope.overwrite_default_scope('mmaction'):
        return TRANSFORMS.build(dict(type='swinv2_mm.ReadVideo', sample=sample))


def source(path):
    return dict(filename=str(path), start_index=0, label=0, modality='RGB')


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(films, 'INDEXES', film_index.Store())


@pytest.fixture
def decoded(monkeypatch):
    """How often a film was decoded to be numbered."""
    calls, count = [], film_index.counted
    monkeypatch.setattr(film_index, 'counted', lambda *a, **k: calls.append(a) or count(*a, **k))
    return calls


def test_a_player_shows_all_numbered_frames():
    assert same(shown(made('open.mp4')), [frame(number) for number in range(COUNT)])
    assert not same(shown(made('open.mp4')), [frame(number) for number in range(1, COUNT + 1)])


@pytest.mark.parametrize('name', READ)
def test_frames_of_random_clips_are_those_that_a_player_shows(name):
    path = made(name)
    truth = shown(path)
    with Film(str(path)) as film:
        whole = list(film.frames())
    assert same(whole, truth)
    np.random.seed(0)
    for sample in SAMPLERS:
        read = reader(**sample)
        for _ in range(8):
            found = read(source(path))
            assert found['total_frames'] == len(truth)
            assert np.array_equal(found['imgs'], [whole[n] for n in found['frame_inds']])
            assert found['img_shape'] == truth.shape[1:3]


UNUSUAL = {'h264.avi': 'states 960 frames and has 40', 'packed.avi': 'states 40 frames and has 38',
           'mirrored.mp4': 'is to be mirrored', 'turned_and_mirrored.mp4': 'is to be mirrored',
           'turned.mkv': 'is to be turned by 270', 'turned_90.mp4': 'is to be turned by 270',
           'turned_180.mp4': 'is to be turned by 180', 'turned_270.mp4': 'is to be turned by 90',
           'turned_30.mp4': 'is to be turned by 30 degrees when shown, and only quarter turns can',
           'pause.mp4': '0.040 to 2.040 seconds apart, 1 of 39', 'variable.mp4': '6 of 33 unlike',
           'variable.mkv': '6 of 33 unlike'}


@pytest.mark.parametrize('quick', [False, True])
def test_check_finds_nothing_but_what_is_unusual(quick):
    found = {name: [finding.text for finding in check_video(str(made(name)), quick=quick)]
             for name in FILMS}
    assert [name for name in FILMS if found[name]] == [name for name in FILMS if name in UNUSUAL]
    for name, said in UNUSUAL.items():
        assert len(found[name]) == 1 and said in found[name][0], name


@pytest.mark.parametrize('name', ['closed.mp4', 'open.mp4', 'cut_open.mp4', 'open.ts', 'hevc.mp4',
                                  'closed.mkv', 'vp9.webm', 'hidden_frames.webm', 'mpeg4.avi',
                                  'mpeg2.mpg', 'from_the_middle.ts', 'variable.mkv'])
def test_ordinary_films_are_numbered_without_decoding_them(name, decoded):
    Film(str(made(name))).read([0, 5])
    assert not decoded


@pytest.mark.parametrize('name', ['b_frames.avi', 'h264.avi', 'packed.avi', 'joined.ts',
                                  'closed.h264'])
def test_others_are_decoded_once_and_for_all(name, decoded):
    with Film(str(made(name))) as film:
        for number in range(0, COUNT, 5):
            film.read([number])
    for _ in range(3):
        Film(str(made(name))).read([3, 30, 30])
    assert 1 <= len(decoded) <= 2  # twice where a keyframe turns out to be none


@pytest.mark.parametrize('name', ['closed.mp4', 'hevc.mp4', 'mpeg2.mpg'])
def test_where_decoding_cannot_start_at_a_keyframe_it_starts_at_the_first(name, decoded):
    film = Film(str(made(name)))
    index = film._indexed()
    every = index._replace(keys=np.arange(COUNT), starts=index.ranks)
    for number in (5, 17, 39):
        films.INDEXES.put(str(made(name)), every)
        assert same(Film(str(made(name))).read([number]), [frame(number)])
    assert len(decoded) == 3


def test_a_film_is_indexed_again_once_its_file_has_changed(tmp_path, monkeypatch):
    path, calls, index = tmp_path / 'film.mp4', [], film_index.stamped
    monkeypatch.setattr(film_index, 'stamped', lambda reader: calls.append(0) or index(reader))
    for count in (20, 30):
        encode(path, *film_checks.X264, numbers=range(count))
        assert [len(Film(str(path))) for _ in range(3)] == [count] * 3
    assert len(calls) == 2


def test_indexes_take_no_more_memory_than_they_may(tmp_path):
    index = Film(str(made('closed.mp4')))._indexed()
    store = film_index.Store(room=3 * index.bytes)
    for number in range(5):
        path = tmp_path / str(number)
        path.touch()
        store.put(str(path), index)
        store.put(str(path), index)
    assert store.used == 3 * index.bytes
    assert [store.get(str(tmp_path / str(n))) is not None for n in range(5)] == [
        False, False, True, True, True]


def test_a_film_that_turns_out_shorter_is_sampled_again(monkeypatch):
    """As where frames are not decoded that an index by time stamps counts."""
    path = made('closed.mp4')
    index = Film(str(path))._indexed()
    longer = index._replace(times=np.append(index.times, 9 + np.arange(300)),
                            ranks=index.ranks + (index.ranks > 20) * 300)
    films.INDEXES.put(str(path), longer)
    found = reader(type='SampleFrames', clip_len=30, frame_interval=11, test_mode=True)(
        source(path))
    assert found['total_frames'] == COUNT
    assert same(found['imgs'], shown(path)[found['frame_inds']])


@pytest.mark.parametrize('sampler, numbers', [
    (dict(type='SampleFrames', clip_len=6, frame_interval=9, test_mode=True),
     [0, 9, 18, 27, 36, 5]),
    (dict(type='SampleFrames', clip_len=6, frame_interval=9, test_mode=True,
          out_of_bound_opt='repeat_last'), [0, 9, 18, 27, 36, 36])])
def test_a_clip_past_the_end_goes_on_as_its_sampler_says(sampler, numbers):
    found = reader(**sampler)(source(made('open.mp4')))
    assert found['frame_inds'].tolist() == numbers
    assert same(found['imgs'], shown(made('open.mp4'))[numbers])


def test_each_frame_is_an_array_of_its_own():
    """Flips are done in place; the same one twice would be none."""
    pictures = Film(str(made('open.mp4'))).read([3, 5, 3, 3])
    pictures[0][:] = 0
    assert same(pictures[1:], shown(made('open.mp4'))[[5, 3, 3]])


def test_with_a_rate_frames_are_chosen_by_the_time_they_are_shown():
    steady, pause = made('closed.mp4'), made('pause.mp4')  # 2 seconds of pause after frame 19
    half = dict(type='SampleFrames', clip_len=8, target_fps=12.5, test_mode=True)
    found = reader(**half)(source(steady))
    assert found['frame_inds'].tolist() == [12 + n for n in (0, 2, 4, 6, 8, 10, 12, 15)]
    assert found['avg_fps'] == 25
    slow = dict(type='SampleFrames', clip_len=7, target_fps=2, test_mode=True)
    found = reader(**slow)(source(pause))
    times = Film(str(pause)).times
    assert times[-1] == pytest.approx(39 / 25 + 2)
    assert found['avg_fps'] == pytest.approx(39 / times[-1])
    # About half a second apart: 0.55 s is 13.7 frames of 1/25, 2.83 s is 0.83 s and the pause.
    assert found['frame_inds'].tolist() == [0, 13, 19, 19, 19, 20, 34]


def test_frames_of_a_variable_rate_keep_their_times():
    for name in ('variable.mp4', 'variable.mkv'):
        film = Film(str(made(name)))
        kept = [n for n in range(COUNT) if n % 7 != 3]
        assert film.times == pytest.approx(np.array(kept) / 25, abs=0.002)
        assert same(film.read(range(len(kept))), [frame(number) for number in kept])


def test_bytes_are_a_film_too():
    path = made('open.ts')
    assert same(Film(path.read_bytes()).read([30, 2]), shown(path)[[30, 2]])


def test_frames_of_another_size_midway_get_that_of_the_first(tmp_path):
    path = tmp_path / 'film.ts'
    other = ffmpeg('-i', made('closed.ts'), '-vf', 'scale=96:64', *film_checks.X264, '-f', 'mpegts',
                   '-')
    path.write_bytes(made('closed.ts').read_bytes() + other)
    with Film(str(path)) as film:
        assert len(film) == 2 * COUNT
        assert same(film.read([10, 50]), [frame(10)] * 2)


# What is refused.

@pytest.mark.parametrize('name, share, reason', [
    ('closed.mp4', .5, 'it cannot be opened: Invalid data found'),
    ('fast.mp4', .8, 'it breaks off'), ('prores.mov', .9, 'it cannot be opened')])
def test_a_film_that_is_cut_off_is_refused(tmp_path, name, share, reason):
    if name == 'fast.mp4':
        ffmpeg('-i', made('closed.mp4'), '-c', 'copy', '-movflags', '+faststart', tmp_path / name)
    whole = (tmp_path / name if name == 'fast.mp4' else made(name)).read_bytes()
    (tmp_path / name).write_bytes(whole[:int(len(whole) * share)])
    with pytest.raises(ValueError, match=reason):
        Film(str(tmp_path / name)).read(range(35))


def test_a_film_that_is_turned_otherwise_is_refused():
    with pytest.raises(ValueError, match='it is to be turned by 30 degrees when shown, and only '):
        Film(str(made('turned_30.mp4'))).read([0])


def test_a_codec_that_cannot_be_decoded_is_named(tmp_path):
    ffmpeg('-i', made('closed.mp4'), '-c:v', 'libwebp_anim', tmp_path / 'film.webp')
    with pytest.raises(ValueError, match=r'it cannot be decoded \(webp: Invalid data'):
        next(Film(str(tmp_path / 'film.webp')).frames())


def test_sound_alone_is_no_film(tmp_path):
    ffmpeg('-f', 'lavfi', '-i', 'sine=d=0.2', tmp_path / 'sound.mp4')
    with pytest.raises(ValueError, match='it has no pictures'):
        Film(str(tmp_path / 'sound.mp4'))


def test_no_address_is_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('http://localhost/film.mp4', 'concat:a.ts|b.ts'):
        with pytest.raises(ValueError, match='it cannot be opened: No such file'):
            Film(name)
