"""What a SimMIM model fills in: measured and drawn as said."""
import json

import cv2
import numpy as np
import pytest
import torch
from config_checks import load
from helpers import checked, last_line, run_tool
from mmengine.registry import MODELS, DefaultScope

DEMO = 'configs/demo/mim_nano.py'
TOOL = 'tools/visualization/reconstructions.py'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint whose decoder says the same grey everywhere, and a folder of two images."""
    folder = tmp_path_factory.mktemp('simmim')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(load(DEMO).model)
    with torch.no_grad():
        model.neck.decoder[0].weight.zero_()
        model.neck.decoder[0].bias.fill_(0.5)
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    (folder / 'images').mkdir()
    for i, grey in enumerate((60, 200)):  # all pixels alike: the mean of what is seen is right
        cv2.imwrite(str(folder / f'images/{i}.png'), np.full((150, 200, 3), grey, np.uint8))
    return folder


def test_distances_are_those_on_hidden_pixels(trained):
    checked(run_tool(TOOL, DEMO, trained / 'model.pth', trained / 'images',
                     '--out-dir', trained / 'out', '--json', trained / 'out.json'))
    values = json.loads((trained / 'out.json').read_text())
    pixels = load(DEMO).model.data_preprocessor
    expected = np.mean([abs((grey - mean) / std - 0.5) for grey in (60, 200)
                        for mean, std in zip(pixels.mean, pixels.std)])
    assert values['masked_l1'] == pytest.approx(expected, abs=1e-4)
    assert values['visible_mean_l1'] == pytest.approx(0, abs=1e-4)


def test_a_picture_shows_the_image_what_is_seen_and_what_is_filled_in(trained):
    checked(run_tool(TOOL, DEMO, trained / 'model.pth', trained / 'images',
                     '--out-dir', trained / 'drawn', '--draw', 1))
    file, = (trained / 'drawn').iterdir()
    image, seen, filled = (cv2.imread(str(file))[:, start:start + 64] for start in (0, 68, 136))
    assert abs(image.astype(int) - 60).max() <= 1
    hidden = abs(seen.astype(int) - 128).max(-1) <= 1
    assert hidden.sum() == 10 * 16 * 16  # ceil(0.6 * 16) squares
    assert np.array_equal(seen[~hidden], image[~hidden])
    assert np.array_equal(filled[~hidden], image[~hidden])
    pixels = load(DEMO).model.data_preprocessor
    grey = [0.5 * std + mean for std, mean in zip(pixels.std, pixels.mean)][::-1]  # RGB to BGR
    assert abs(filled[hidden] - np.array(grey)).max() <= 1


@pytest.mark.parametrize('words, sentence', [
    ((DEMO, '{}/none.pth', '{}/images'), "Error: There is no checkpoint at '{}/none.pth'"),
    (('configs/mim/none.py', '{}/model.pth', '{}/images'), 'Error: There is no config at'),
    ((DEMO, '{}/model.pth', '{}/none'), "Error: There are no images in '{}/none'"),
    (('configs/demo/det_nano.py', '{}/model.pth', '{}/images'),
     "Error: The config must be of a SimMIM model, got one of 'CascadeRCNN'"),
])
def test_bad_input_ends_in_a_sentence(trained, words, sentence):
    words = [word.replace('{}', str(trained)) for word in words]
    done = run_tool(TOOL, *words, '--out-dir', trained / 'refused')
    assert last_line(done).startswith(sentence.replace('{}', str(trained)))
    assert not (trained / 'refused').exists()
