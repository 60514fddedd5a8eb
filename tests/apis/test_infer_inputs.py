"""tools/infer.py and what it is given: inputs of all kinds, bad ones, folders, checkpoints."""
import contextlib
import json
import os
import resource

import cv2
import numpy as np
import pytest
import torch
from conftest import awaken
from helpers import ROOT, last_line, run_tool
from infer_checks import (
    DEMOS,
    SCOPES,
    call,
    checkpoint,
    damaged_animation,
    infer,
    picture,
    read,
    write_pictures,
    write_video,
)

from swinv2_mm import SwinTransformerV2

from swinv2_mm.utils.errors import UserError  # isort: skip
from swinv2_mm.apis.inference import sources  # isort: skip
from swinv2_mm.apis.inference.results import Film, Folder, Full  # isort: skip
from swinv2_mm.apis.inference.windows import set_window  # isort: skip

BOTH = 'picture', 'video'


# Which inputs words name.

def places(*words, kinds=BOTH):
    found, refused = sources.find([str(word) for word in words], kinds)
    return [(source.place, source.kind, source.name) for source in found], refused


def test_files_folders_patterns_and_cameras_are_found_each_once(tmp_path):
    write_pictures(tmp_path, 2)
    film = write_video(tmp_path / 'film.mp4')
    (tmp_path / 'notes.txt').write_text('no picture')
    (tmp_path / 'more').mkdir()
    first, second = (str(tmp_path / f'p{i}.jpg') for i in range(2))
    pictures = [(first, 'picture', 'p0'), (second, 'picture', 'p1')]
    assert places(second, tmp_path) == (
        [pictures[1], (str(film), 'video', 'film'), pictures[0]], [])
    assert places(tmp_path, kinds=('video',)) == ([(str(film), 'video', 'film')], [])
    assert places(tmp_path / '*.jpg') == (pictures, [])
    assert places(tmp_path.parent / '**' / tmp_path.name / 'p0*') == (pictures[:1], [])
    assert places('0', '2') == ([('0', 'camera', 'camera0'), ('2', 'camera', 'camera2')], [])


def test_no_picture_of_a_folder_is_passed_over_for_its_ending(tmp_path):
    """One that cannot be decoded is named as such later, in place of nothing."""
    names = ['a.JPG', 'b.gif', 'c.heic', 'd.WebP', 'e.jfif']
    for name in [*names, 'f.txt']:
        (tmp_path / name).touch()
    found, _ = places(tmp_path)
    assert [(os.path.basename(place), kind) for place, kind, _ in found] == [
        (name, 'picture') for name in names]


@pytest.mark.parametrize('word, reason', [
    ('nothing.jpg', 'there is no such file'), ('*.jpg', 'the pattern matches no picture'),
    ('http://localhost/a.jpg', 'addresses are not fetched'), ('', 'holds no picture or video')])
def test_a_word_that_names_nothing_is_refused_with_its_reason(tmp_path, word, reason):
    word = word if '://' in word else str(tmp_path / word)
    found, refused = places(word)
    assert found == [] and [place for place, _ in refused] == [word]
    assert reason in refused[0].reason


def test_results_of_inputs_of_one_name_do_not_overwrite_each_other(tmp_path):
    for name in ('a/x.jpg', 'b/x.jpg', 'b/x.png', 'a/x_map.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, _ = places(tmp_path / 'a', tmp_path / 'b')
    names = [name for *_, name in found]
    written = [f'{name}{end}' for name in names for end in ('.jpg', '_map.png', '.json')]
    written += [f'{name}.png' for name in names]
    assert len(set(written)) == len(written) and names[0] == 'x'


# Bad inputs among good ones.

def broken(folder, name, content=b'no picture'):
    (folder / name).write_bytes(content)
    return folder / name


def test_bad_pictures_and_videos_are_named_and_the_others_done(tmp_path, capsys):
    folder = write_pictures(tmp_path / 'in', 2)
    bad = [broken(folder, 'bad.jpg'), broken(folder, 'empty.png', b''),
           broken(folder, 'bad.mp4'), folder / 'missing.jpg']
    cut = folder / 'cut.mp4'
    cut.write_bytes(write_video(folder / 'film.mp4', 3).read_bytes()[:200])
    with pytest.raises(UserError, match='5 of 8 inputs gave no result') as error:
        infer('cls', [bad[-1], folder], tmp_path / 'out', '--batch-size', 2)
    said = capsys.readouterr()
    for path in (*bad, cut):
        assert f'skipped {path}: ' in said.err and str(path) in str(error.value)
    assert '3 of 8 inputs done' in said.out
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'film.json', 'film.mp4', 'p0.jpg', 'p0.json', 'p1.jpg', 'p1.json']


def test_a_picture_on_which_opencv_crashes_is_named(tmp_path, capsys):
    folder = write_pictures(tmp_path / 'in', 1)
    bad = broken(folder, 'moving.png', damaged_animation())
    with pytest.raises(UserError, match='1 of 2 inputs gave no result'):
        infer('cls', [folder], tmp_path / 'out')
    assert f"skipped {bad}: it cannot be decoded (part b'" in capsys.readouterr().err


def test_a_model_of_actions_names_pictures_and_broken_videos(tmp_path, capsys):
    folder = tmp_path / 'in'
    good, image = write_video(folder / 'good.mp4'), write_pictures(folder, 1) / 'p0.jpg'
    bad = broken(folder, 'bad.mp4')
    with pytest.raises(UserError, match='2 of 3 inputs gave no result'):
        infer('video', [image, bad, good], tmp_path / 'out')
    said = capsys.readouterr().err
    assert f'skipped {image}: it is no video, and a model of actions needs one' in said
    assert f'skipped {bad}: A video must be readable' in said
    assert read(tmp_path / 'out', 'good')['input'] == str(good)


@pytest.mark.slow
def test_the_tool_ends_in_one_sentence_and_a_status_of_1(tmp_path):
    write_pictures(tmp_path / 'in', 1)
    process = run_tool('tools/infer.py', DEMOS['cls'], checkpoint('cls'), tmp_path / 'in',
                       tmp_path / 'none.jpg', '--out-dir', tmp_path / 'out')
    assert last_line(process) == (f'Error: 1 of 2 inputs gave no result: {tmp_path / "none.jpg"} '
                                  '(there is no such file).')
    assert process.returncode == 1 and 'Traceback' not in process.stderr
    assert len(read(tmp_path / 'out', 'p0')['top']) == 5


# Cameras.

class Camera:
    """What cv2.VideoCapture is for a camera: frames as long as one asks."""

    def __init__(self, number):
        self.number, self.count = number, 0

    def isOpened(self):
        return self.number == 0

    def read(self):
        self.count += 1
        if self.count > 4:
            raise KeyboardInterrupt  # Ctrl-C
        return True, picture(self.count, 32, 32)

    def get(self, key):
        return {cv2.CAP_PROP_FPS: 30.0}.get(key, -1.0)

    def release(self):
        pass


@pytest.mark.parametrize('options, count', [((), 4), (('--max-frames', 2), 2)])
def test_a_camera_runs_until_it_is_interrupted_or_told_to_stop(tmp_path, monkeypatch, options,
                                                               count):
    real = cv2.VideoCapture
    monkeypatch.setattr(sources.cv2, 'VideoCapture',
                        lambda place: Camera(place) if isinstance(place, int) else real(place))
    out = infer('cls', ['0'], tmp_path, *options)
    assert len(read(out, 'camera0')['frames']) == count
    assert real(str(out / 'camera0.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == count


def test_a_camera_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r'99 \(there is no camera 99\)'):
        infer('cls', ['99'], tmp_path)


def test_a_model_of_actions_takes_no_camera(tmp_path):
    with pytest.raises(UserError, match='A camera never ends'):
        infer('video', ['0'], tmp_path)


# Folders and full disks.

def test_a_folder_that_cannot_be_written_to_is_refused_before_the_model_is_read(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--out-dir must be a folder that can be written to'):
        call('infer', ROOT / DEMOS['cls'], 'no checkpoint.pth', 'x.jpg', '--out-dir',
             tmp_path / 'file' / 'out', scope='mmpretrain')


def test_the_folder_of_the_inputs_is_refused_for_the_results(tmp_path):
    write_pictures(tmp_path, 1)
    before = (tmp_path / 'p0.jpg').read_bytes()
    with pytest.raises(UserError, match='--out-dir must not be a folder of inputs'):
        infer('cls', [tmp_path / 'p0.jpg'], tmp_path)
    assert (tmp_path / 'p0.jpg').read_bytes() == before


@contextlib.contextmanager
def files_of_at_most(size):
    """Writing beyond `size` bytes fails, as it does where a disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_results_from_before_a_disk_is_full_are_whole_and_nothing_else_is_left(tmp_path):
    folder = write_pictures(tmp_path / 'in', 2)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'p1.png'), noise)
    os.remove(folder / 'p1.jpg')
    with files_of_at_most(1 << 20), pytest.raises(Full, match='p1.jpg cannot be written .*room'):
        infer('cls', [folder], tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['p0.jpg', 'p0.json']
    assert cv2.imread(str(tmp_path / 'out' / 'p0.jpg')) is not None


def test_a_drawn_video_that_did_not_fit_is_an_error_and_not_a_short_video(tmp_path):
    film = Film(Folder(str(tmp_path)), 'film', dict(input='x'), 25.0)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with files_of_at_most(1 << 18), pytest.raises(Full, match='film.mp4 cannot be written'):
        for number in range(30):
            film.add(dict(top=[]), noise, number / 25)
        film.close()
    assert list(tmp_path.iterdir()) == []


def test_a_film_is_one_json_of_all_its_frames(tmp_path):
    film = Film(Folder(str(tmp_path)), 'film', dict(input='x'), None)
    film.add(dict(top=[1]), None, 0.0)
    film.add(dict(top=[2]), None, 0.04)
    assert not (tmp_path / 'film.json').exists()
    film.close()
    assert json.loads((tmp_path / 'film.json').read_text()) == dict(
        input='x', frames=[dict(frame=0, time=0.0, top=[1]), dict(frame=1, time=0.04, top=[2])])


# Checkpoints and options.

@pytest.mark.parametrize('config, weights, options, message', [
    ('cls', 'seg', (), 'must be of the model that the config describes, backbone, head; .* is of '
     'backbone, decode_head'),
    ('cls', 'cls', ('--cfg-options', 'model.backbone.arch=tiny'), 'lacks .* tensors'),
    ('cls', 'cls', ('--cfg-options', 'model.head.num_classes=4',
                    'test_dataloader.dataset.metainfo.classes=["a","b","c","d"]'),
     r'must have the classes of the config, .* \(6, 256\) in the file and \(4, 256\) in the model'),
    ('cls', 'cls', ('--cfg-options', 'test_dataloader.dataset.metainfo.classes=["a","b"]'),
     'must be 6 names, one for each class of the model, got 2'),
    ('cls', 'cls', ('--score-thr', '0.5'), '--score-thr is for detection'),
    ('cls', 'cls', ('--slice', '64'), '--slice is for detection and segmentation'),
    ('cls', 'cls', ('--batch-size', '0'), 'must be at least 1'),
    ('cls', 'cls', ('--device', 'cuda:77'), '--device must be one that torch can use'),
    ('mim', 'cls', (), 'must have a test_dataloader')])
def test_what_does_not_go_together_is_refused_by_one_sentence(tmp_path, config, weights, options,
                                                              message):
    write_pictures(tmp_path / 'in', 1)
    with pytest.raises(UserError, match=message) as error:
        call('infer', ROOT / f'configs/demo/{config}_nano.py', checkpoint(weights),
             tmp_path / 'in', '--out-dir', tmp_path / 'out', *options, scope=SCOPES['cls'])
    assert '\n' not in str(error.value)


def test_detections_below_the_threshold_are_left_out(tmp_path):
    folder = write_pictures(tmp_path / 'in', 1)
    rows = read(infer('det', [folder], tmp_path / 'all', '--score-thr', 0, '--json'), 'p0')
    scores = [row['score'] for row in rows['instances']]
    middle = sorted(scores)[len(scores) // 2]
    kept = read(infer('det', [folder], tmp_path / 'some', '--score-thr', middle), 'p0')
    assert kept['instances'] == [row for row in rows['instances'] if row['score'] >= middle]
    assert not (tmp_path / 'all' / 'p0.jpg').exists()


@pytest.mark.parametrize('window', [4, (4, 8), [16, 8, 4, 4]], ids=str)
def test_a_changed_window_is_that_of_a_model_built_with_it_and_the_old_normaliser(window):
    image = torch.randn(1, 3, 256, 280, generator=torch.Generator().manual_seed(0))
    changed = awaken(SwinTransformerV2('nano', window_size=8)).eval()
    built = SwinTransformerV2('nano', window_size=window, pretrained_window_sizes=8).eval()
    built.load_state_dict(changed.state_dict())
    with torch.no_grad():
        before = changed(image)
        set_window(changed, window)
        assert all(torch.equal(a, b) for a, b in zip(changed(image), built(image)))
        set_window(changed, 8)
        assert all(torch.equal(a, b) for a, b in zip(changed(image), before))
    with pytest.raises(ValueError, match='window_size'):
        set_window(changed, 0)


def test_a_larger_window_changes_nothing_where_no_map_is_larger_than_the_old_one():
    image = torch.randn(1, 3, 32, 24, generator=torch.Generator().manual_seed(0))  # maps of 8 x 6
    model = awaken(SwinTransformerV2('nano', window_size=8)).eval()
    with torch.no_grad():
        before = model(image)
        set_window(model, 16)
        assert all(torch.equal(a, b) for a, b in zip(model(image), before))


def test_another_window_is_asked_for_by_an_option(tmp_path):
    folder = write_pictures(tmp_path / 'in', 1)
    scores = [read(infer('cls', [folder], tmp_path / str(n), *options), 'p0')['top'][0]['score']
              for n, options in enumerate([(), ('--window', 8), ('--window', 4, 4, 4, 4)])]
    assert scores[0] == scores[1] != scores[2]
