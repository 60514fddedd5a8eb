"""What tools/web_demo.py shows of a file, by itself: needs neither a browser nor gradio."""
import io

import bad_files
import cv2
import numpy as np
import pytest
from helpers import ROOT
from infer_checks import DEMOS, SCOPES, checkpoint, damaged_animation, picture, write_video
from mmengine.registry import DefaultScope
from PIL import Image

from swinv2_mm.apis.inference import web  # isort: skip


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder / name)


def png(image):
    return cv2.imencode('.png', image)[1].tobytes()


@pytest.fixture(scope='module')
def shown():
    with DefaultScope.overwrite_default_scope(SCOPES['cls']):
        return web.Shown(str(ROOT / DEMOS['cls']), str(checkpoint('cls')), 'cpu')


def test_uploads_that_cannot_be_shown_are_refused_by_one_sentence(shown, tmp_path):
    huge = io.BytesIO()
    Image.new('1', (8000, 8000)).save(huge, 'PNG')  # 64 million pixels in 8 KB
    cut = write_video(tmp_path / 'whole.mp4').read_bytes()[:200]
    for name, content, message in [
            ('huge.png', huge.getvalue(), 'must have 40,000,000 pixels at most, this one is 8000'),
            ('cut.png', png(picture(0))[:60], 'cannot be read as a picture'),
            ('moving.png', damaged_animation(), 'cannot be read as a picture'),
            ('empty.jpg', b'', 'cannot be read as a picture'),
            ('cut.mp4', cut, 'cannot be read as a video'),
            ('text.txt', b'text', "cls takes a picture or a video, got 'text.txt'")]:
        with pytest.raises(web.Refusal, match=message) as error:
            shown.look(write(tmp_path, name, content), 0.3, 8, 4)
        assert '\n' not in str(error.value)


def test_of_damaged_pictures_none_is_shown_in_part(tmp_path):
    shown = set()
    for name, (check, kind, _, _) in bad_files.MAKERS.items():
        if check == 'image' and kind != 'missing':
            path = str(bad_files.write(name, tmp_path))
            try:
                assert web.read_picture(path).dtype == np.uint8
                shown.add(kind)
            except web.Refusal as error:
                assert str(tmp_path) not in str(error)
    assert shown == {'cmyk', 'alpha', 'deep', 'animated', 'misnamed', 'tiny', 'blank', 'rotated'}


def test_a_window_of_the_slider_holds_for_one_question(shown, tmp_path):
    path = write(tmp_path, 'a.png', png(picture(0)))
    tops = [shown.look(path, 0.3, window, 4).top for window in (8, 4, 8)]
    assert tops[0] == tops[2] != tops[1] and shown.window == 8


def test_classes_of_one_name_are_told_apart(shown):
    rows = [dict(name='a', label=0, score=0.5), dict(name='a', label=3, score=0.3),
            dict(name='b', label=1, score=0.2)]
    assert web._shares(dict(top=rows)) == {'a (0)': 0.5, 'a (3)': 0.3, 'b': 0.2}
