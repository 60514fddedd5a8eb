"""Reading clips: the frames that a sampler chose, and a name for every file that is bad."""
import importlib.util
import logging

import cv2
import numpy as np
import pytest
from helpers import logged
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

import swinv2_mm.utils.compat  # noqa: F401 - makes mmaction2 importable
from swinv2_mm.datasets import film_index, film_reader, films

SAMPLE = dict(type='SampleFrames', clip_len=4, frame_interval=3, num_clips=1, test_mode=True)
SIDE, FRAMES = 64, 20


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """20 frames, each of one grey level 10 above the last; and files that are no such thing."""
    folder = tmp_path_factory.mktemp('videos')
    write(folder / 'good.mp4', FRAMES)
    write(folder / 'short.mp4', 5)
    (folder / 'nonsense.mp4').write_bytes(b'this is no video at all')
    (folder / 'empty.mp4').write_bytes(b'')
    whole = (folder / 'good.mp4').read_bytes()
    (folder / 'cut.mp4').write_bytes(whole[:len(whole) * 2 // 3])
    return folder


def write(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'mp4v'), 8,
                             (SIDE, SIDE))
    for i in range(frames):
        writer.write(np.full((SIDE, SIDE, 3), 20 + 10 * i, np.uint8))
    writer.release()


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmaction'):
        return TRANSFORMS.build(cfg)


def reader(**settings):
    return build(dict(type='swinv2_mm.ReadVideo', sample=SAMPLE, **settings))


def source(folder, name):
    return dict(filename=str(folder / name), start_index=0, label=0, modality='RGB')


@pytest.fixture
def warnings():
    """What is logged as a warning, line by line."""
    with logged(logging.WARNING) as lines:
        yield lines


def test_the_frames_asked_for_come_in_their_order(folder):
    found = reader()(source(folder, 'good.mp4'))
    assert found['total_frames'] == FRAMES
    assert list(found['frame_inds']) == [5, 8, 11, 14]  # 10 frames in the middle of 20
    levels = [frame.mean() for frame in found['imgs']]
    assert levels == pytest.approx([70, 100, 130, 160], abs=4.9)  # frames are 10 apart
    assert found['img_shape'] == (SIDE, SIDE)


@pytest.mark.parametrize('name', ['nonsense.mp4', 'empty.mp4', 'cut.mp4', 'missing.mp4'])
def test_a_bad_file_is_an_error_that_names_it(folder, name):
    with pytest.raises(ValueError, match=rf'{name} is not \(it .+\): replace it or'):
        reader()(source(folder, name))


def test_in_training_bad_files_are_named_and_counted_and_others_take_their_place(
        folder, warnings):
    (folder / 'list.txt').write_text('nonsense.mp4 0\nmissing.mp4 0\ngood.mp4 1\n')
    with DefaultScope.overwrite_default_scope('mmaction'):
        data = DATASETS.build(dict(
            type='VideoDataset', ann_file=str(folder / 'list.txt'),
            data_prefix=dict(video=str(folder)),
            pipeline=[dict(type='swinv2_mm.ReadVideo', sample=SAMPLE, bad='skip'),
                      dict(type='FormatShape', input_format='NCTHW'),
                      dict(type='PackActionInputs')]))
    np.random.seed(0)
    for _ in range(4):
        assert [data[i]['data_samples'].gt_label.item() for i in range(3)] == [1, 1, 1]
    said = [line for line in warnings if 'cannot be read' in line]
    assert len(said) == 2  # each is named once
    assert any('nonsense.mp4 cannot' in line for line in said)
    assert any('missing.mp4 cannot' in line for line in said)
    assert said[0].endswith('so far: 1 of at most 100') and said[1].endswith('2 of at most 100')


def test_a_video_shorter_than_the_clip_is_used_named_and_counted(folder, warnings):
    read = reader()
    for _ in range(2):
        found = read(source(folder, 'short.mp4'))
        assert list(found['frame_inds']) == [0, 3, 1, 4]  # 0 3 6 9, counted round and round
    said = [line for line in warnings if 'short videos' in line]
    assert len(said) == 1
    assert said[0].endswith('short.mp4 has 5 frames, fewer than the 10 that a clip spans, so they '
                            'are repeated; short videos so far: 1')


def test_many_short_videos_are_counted_without_a_line_each(folder, warnings):
    read = reader()
    for i in range(40):
        read._note_short(f'{i}.mp4', dict(total_frames=5, clip_len=4, frame_interval=3))
    counts = [int(line.rpartition(' ')[2]) for line in warnings]
    assert counts == [*range(1, 11), 16, 32]


def test_a_video_without_frames_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(films, 'INDEXES', film_index.Store())
    monkeypatch.setattr(film_index, 'stamped', lambda reader: None)
    monkeypatch.setattr(film_reader.Reader, 'packets', lambda self: iter(()))
    with pytest.raises(ValueError, match=r'good.mp4 is not \(it has no frames\)'):
        reader()(source(folder, 'good.mp4'))


def test_a_fault_of_the_config_is_not_taken_for_a_bad_file(folder):
    """It would be retried with a thousand other files, under a name that is not to blame."""
    read = build(dict(type='swinv2_mm.ReadVideo', bad='skip',
                      sample=dict(type='SampleFrames', clip_len='four', frame_interval=1)))
    with pytest.raises(TypeError):
        read(source(folder, 'good.mp4'))


def test_without_pyav_it_is_said_what_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec',
                        lambda name, *a: None if name == 'av' else find(name, *a))
    with pytest.raises(ValueError, match='read by PyAV, the package av, .* `pip install av`'):
        reader()


def test_decord_is_read_by_pyav_and_said_to_be(folder, warnings):
    found = reader(decoder='decord')(source(folder, 'good.mp4'))
    assert list(found['frame_inds']) == [5, 8, 11, 14]
    assert len(warnings) == 1 and warnings[0].startswith("decoder='decord' is read by PyAV")


@pytest.mark.parametrize('settings, sentence', [
    (dict(decoder='opencv'), "decoder must be 'pyav', got 'opencv'"),
    (dict(bad='ignore'), "bad must be 'raise' or 'skip', got 'ignore'"),
])
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(KeyError, match=sentence):
        reader(**settings)


@pytest.mark.parametrize('shape', [(32, 52), (48, 32), (32, 32)])
def test_three_crops_are_those_of_mmaction2(shape):
    frames = list(np.random.default_rng(0).integers(0, 255, (4, *shape, 3), dtype=np.uint8))
    ours = build(dict(type='swinv2_mm.EvenCrops', crop_size=32))(dict(imgs=frames))
    theirs = build(dict(type='ThreeCrop', crop_size=32))(dict(imgs=frames, img_shape=shape))
    assert len(ours['imgs']) == 12 and ours['img_shape'] == (32, 32)

    def views(found):
        return {b''.join(frame.tobytes() for frame in found['imgs'][i:i + 4]) for i in (0, 4, 8)}

    assert views(ours) == views(theirs)


def test_crops_lie_evenly_from_border_to_border():
    ruler = np.broadcast_to(np.arange(72, dtype=np.uint8)[None, :, None], (32, 72, 3))
    found = build(dict(type='swinv2_mm.EvenCrops', crop_size=32, count=5))(dict(imgs=[ruler] * 2))
    starts = [int(frame[0, 0, 0]) for frame in found['imgs']]
    assert starts == [0, 0, 10, 10, 20, 20, 30, 30, 40, 40]
    with pytest.raises(ValueError, match='count must be at least 1, got 0: take 3'):
        build(dict(type='swinv2_mm.EvenCrops', crop_size=32, count=0))
    with pytest.raises(ValueError, match=r'shorter side of the frames, got 30 for 72 x 32: put'):
        build(dict(type='swinv2_mm.EvenCrops', crop_size=30))(dict(imgs=[ruler]))


def test_the_names_that_scripts_import_stay():
    import swinv2_mm.compat
    import swinv2_mm.videos
    assert swinv2_mm.videos.ReadVideo is type(reader())
