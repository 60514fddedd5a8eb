"""Strips of frames with truth and prediction over them, from a file of tools/test.py --out."""
import pickle

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, last_line, run_tool

from swinv2_mm.visualization import filmstrips  # isort: skip

CONFIG = str(ROOT / 'configs/demo/video_nano.py')
FRAMES, WIDTH, HEIGHT = 20, 64, 48


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    """Frames of one grey level each, from dark to light."""
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'mp4v'), 8,
                             (WIDTH, HEIGHT))
    for i in range(FRAMES):
        writer.write(np.full((HEIGHT, WIDTH, 3), 30 + 10 * i, np.uint8))
    writer.release()
    return path


def sample(film, label, guess, classes=6):
    scores = torch.full((classes,), 0.01)
    scores[guess] = 0.9
    return dict(filename=str(film), gt_label=torch.tensor([label]), pred_score=scores)


def dump(folder, *samples):
    with (folder / 'found.pkl').open('wb') as file:
        pickle.dump(list(samples), file)
    return folder / 'found.pkl'


def draw(folder, *samples, options=()):
    filmstrips.main([CONFIG, str(dump(folder, *samples)), '--out-dir', str(folder / 'strips'),
                     *options])


def test_a_strip_shows_the_whole_film_and_colours_right_and_wrong_apart(film, tmp_path, capsys):
    draw(tmp_path, sample(film, 3, 3), sample(film, 3, 5), sample(film, -1, 5),
         options=['--frames', '5'])
    assert capsys.readouterr().out.splitlines()[-1] == f'wrote 3 strips to {tmp_path / "strips"}'
    right, wrong, unknown = (cv2.imread(str(path)) for path in sorted(
        (tmp_path / 'strips').iterdir()))
    for strip in (right, wrong, unknown):
        frames = np.hsplit(strip[-96:], 5)
        levels = [frame[40:50, 40:90].mean() for frame in frames]
        # From the first frame to the last; half of the distance between two frames is 5.
        assert levels == pytest.approx([30, 80, 120, 170, 220], abs=9.9)

    def colour(strip):
        head = strip[:-96].reshape(-1, 3).astype(int)
        ink = head[head.min(1) < 150].mean(0)  # blue, green, red
        return 'red' if ink[2] > ink[1] + 60 else 'green' if ink[1] > ink[2] + 60 else 'grey'

    assert [colour(strip) for strip in (right, wrong, unknown)] == ['green', 'red', 'grey']


def test_the_first_videos_are_drawn_as_many_as_asked_for(film, tmp_path):
    draw(tmp_path, *[sample(film, i, i) for i in range(4)], options=['--number', '2'])
    names = sorted(path.name for path in (tmp_path / 'strips').iterdir())
    assert names == ['00000_film.png', '00001_film.png']


@pytest.mark.parametrize('change, sentence', [
    (dict(filename='nowhere.mp4'), 'A video must be readable, nowhere.mp4 is not (it cannot be '
     'opened: No such file'),
    (dict(filename=None), 'must hold samples with filename and pred_score, got others: add'),
    (dict(pred_score=torch.ones(5)), 'metainfo.classes of the test data must be 5 names, one for '
                                     'each score in the predictions, got 6'),
])
def test_what_cannot_be_drawn_ends_in_a_sentence(film, tmp_path, change, sentence):
    one = {key: value for key, value in (sample(film, 1, 1) | change).items() if value is not None}
    with pytest.raises(SystemExit) as stop:
        draw(tmp_path, one)
    assert sentence in stop.value.code and '\n' not in stop.value.code


def test_a_missing_file_of_predictions_ends_in_a_sentence(tmp_path):
    done = run_tool('tools/visualization/filmstrips.py', CONFIG, tmp_path / 'no.pkl', '--out-dir',
                    tmp_path)
    assert last_line(done).startswith('Error: There is no file of predictions at')
