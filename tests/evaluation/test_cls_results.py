"""A classifier from folders of images to pictures, through the tools as a user types them."""
import pickle

import cv2
import numpy as np
import pytest
from helpers import checked, last_line, run_tool

pytest.importorskip('mmpretrain')
CONFIG = 'configs/cls/swinv2_n_cells.py'
CLASSES = ('Platelets', 'RBC', 'WBC')


def picture(folder, name, colour):
    folder.mkdir(parents=True, exist_ok=True)
    image = np.full((40, 60, 3), colour, np.uint8)
    (folder / name).write_bytes(cv2.imencode('.png', image)[1])


@pytest.fixture
def root(tmp_path):
    """Three classes whose images have the same names and one colour each, BGR."""
    for split in ('train', 'val', 'test'):
        for place, name in enumerate(CLASSES):
            colour = [250 if i == place else 10 for i in range(3)]
            for number in range(2):
                picture(tmp_path / split / name, f'{number}.png', colour)
    return tmp_path


def options(root):
    return ['--work-dir', root / 'work', '--cfg-options', 'train_cfg.max_iters=2',
            'default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=2',
            *(f'{split}_dataloader.dataset.data_root={root}/'
              for split in ('train', 'val', 'test'))]


@pytest.mark.slow
def test_folders_of_images_are_trained_on_tested_and_drawn(root):
    done = checked(run_tool('tools/train.py', CONFIG, '--seed', 0, *options(root)))
    assert 'single-label/recall:' in done.stdout
    done = checked(run_tool('tools/test.py', CONFIG, root / 'work' / 'iter_2.pth', '--show-dir',
                            'pictures', '--out', root / 'found.pkl', *options(root)))
    assert 'accuracy/top1:' in done.stdout and 'single-label/recall:' in done.stdout
    found = pickle.loads((root / 'found.pkl').read_bytes())
    assert len(found) == 6 and all(len(one['pred_score']) == 3 for one in found)
    drawn = {path.name: cv2.imread(str(path)) for path in (root / 'work').glob('*/pictures/*')}
    assert sorted(drawn) == sorted(f'{i}_{name}.png' for i in range(2) for name in CLASSES)
    for place, name in enumerate(CLASSES):
        colour = drawn[f'0_{name}.png'][20, 100]  # of the image's own, not swapped
        assert colour.argmax() == place and colour.max() == 250


def test_a_label_outside_the_classes_ends_a_run_before_it_starts(root):
    (root / 'train.txt').write_text('RBC/0.png 1\nWBC/0.png 3\n')
    done = run_tool('tools/train.py', CONFIG, *options(root),
                    'train_dataloader.dataset.ann_file=train.txt')
    assert last_line(done) == (
        f'Error: {root}/train.txt, line 2, must be "IMAGE LABEL" with a label from 0 to 2, a '
        "class, got 'WBC/0.png 3': correct it, or the number of classes.")
    assert not (root / 'work').exists()


def sample(truth, found, score):
    from mmpretrain.structures import DataSample
    one = DataSample().set_pred_label(found).set_pred_score(np.array(score, np.float32))
    return one if truth is None else one.set_gt_label(truth)


@pytest.mark.parametrize('size', [(30, 30), (300, 100), (50, 200)])
def test_a_picture_holds_the_image_and_two_lines_red_where_they_differ(size):
    from swinv2_mm.evaluation.cls_results import LINE, SIDE, draw
    image = np.zeros((*size, 3), np.uint8)
    right, wrong = (draw(image, sample(1, found, [0.2, 0.7, 0.1]), CLASSES) for found in (1, 2))
    for one in (right, wrong):
        assert one.shape == (SIDE + 2 * LINE + 4, SIDE, 3)

    def redness(one):
        return one[SIDE:, :, 2] > one[SIDE:, :, 0].astype(int) + 50

    assert not redness(right).any()
    red = redness(wrong)
    assert red[LINE:].any() and not red[:LINE].any()
    unknown = draw(image, sample(None, 1, [0.2, 0.7, 0.1]), None)  # a test set without labels
    assert (unknown[SIDE:SIDE + LINE] == 255).all() and (unknown[SIDE + LINE:] < 100).any()
