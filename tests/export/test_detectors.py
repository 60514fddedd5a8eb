"""Whole detectors outside of PyTorch: what mmdet finds, by standard operations alone."""
import json
import os
import runpy
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from exported_models import of_mask_rcnn
from helpers import ROOT, load_tool, tensorrt
from PIL import Image
from small_models import small

from swinv2_mm.export import checks, detections, graphs, ops, runner, steps
from swinv2_mm.utils.errors import UserError

export = load_tool('export')
SIZE = (70, 100)  # mmdet pads it


def ready(model):
    return graphs.Pixels(model.requires_grad_(False), 'whole').eval()


def random_image(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8, generator=generator)


def of_htc(cfg):
    """A semantic branch, and masks that pass from stage to stage."""
    roi = cfg.model.roi_head
    extractor = roi.mask_roi_extractor
    roi.update(
        type='HybridTaskCascadeRoIHead', interleaved=True, mask_info_flow=True,
        semantic_roi_extractor=dict(extractor, featmap_strides=[8]),
        semantic_head=dict(
            type='FusedSemanticHead', num_ins=5, fusion_level=1, num_convs=1, in_channels=64,
            conv_out_channels=64, num_classes=7, seg_scale_factor=1 / 8,
            loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2)))
    for stage, head in enumerate(roi.mask_head):
        head.update(type='HTCMaskHead', with_conv_res=stage > 0, conv_out_channels=64)
    cfg.model.type = 'HybridTaskCascade'


def few(cfg):
    """Few regions, of which many are found: what is awake at random is sure of nothing."""
    cfg.model.test_cfg.rpn.update(nms_pre=60, max_per_img=40)
    cfg.model.test_cfg.rcnn.update(score_thr=0.02, max_per_img=30)


@pytest.mark.parametrize('change', [lambda cfg: None, of_mask_rcnn, of_htc],
                         ids=['cascade', 'mask_rcnn', 'htc'])
def test_a_detector_of_fixed_shapes_finds_what_mmdet_finds(tmp_path, change):
    *_, model = small(tmp_path, 'det', lambda cfg: (few(cfg), change(cfg)))
    image = random_image()
    with torch.no_grad():
        ours = [out.numpy() for out in ready(model)(image)]
    theirs = [out.numpy() for out in steps.predicted(model, 'boxes', image)]
    assert len(theirs[0]) > 10 and ours[3].shape[1:] == (28, 28)
    found = detections.whole(ours, SIZE, dict(mask_thr=0.5))
    for one, other in zip(found[:3], theirs[:3]):
        assert np.abs(one - other).max() < 1e-4
    assert (found[3] != theirs[3]).mean() < 1e-4
    assert ours[1].shape == (30,) and (ours[1][len(theirs[1]):] == 0).all()


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A whole detector as a file, by the tool, with the runner beside it."""
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed')
    folder = tmp_path_factory.mktemp('detector')
    config, checkpoint, model = small(folder, 'det', few)
    random = np.random.default_rng(0)
    picture = cv2.resize(random.integers(0, 256, (9, 12, 3), dtype=np.uint8), SIZE[::-1],
                         interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / 'picture.png'), picture)
    file = folder / 'det.onnx'
    export.main([config, checkpoint, '--size', *map(str, SIZE), '--out', str(file), '--images',
                 str(folder / 'picture.png')])
    return file, model, picture


@pytest.mark.slow
def test_a_whole_detector_is_made_of_standard_operations(exported):
    import onnx
    file, *_ = exported
    model = onnx.load(file)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 20)]
    assert not model.functions
    kinds = {node.op_type for node in model.graph.node}
    assert {'RoiAlign', 'NonMaxSuppression', 'TopK', 'NonZero'} <= kinds
    assert not {'If', 'Loop'} & kinds
    assert kinds <= tensorrt()


@pytest.mark.slow
def test_openvino_finds_what_mmdet_finds(exported):
    pytest.importorskip('openvino', reason='openvino is not installed')
    file, model, picture = exported
    run = checks.runner(file, '.onnx', 1, 'openvino')
    image = picture.transpose(2, 0, 1)[None]
    found = checks.differences(ready(model), run, [image])
    assert found['alone'] == 0 and (run(image)[1] > 0).sum() > 10


@pytest.mark.slow
def test_a_whole_detector_is_exported_by_torch(tmp_path):
    config, checkpoint, _ = small(tmp_path, 'det', few)
    export.main([config, checkpoint, '--size', *map(str, SIZE), '--out', str(tmp_path / 'a.pt2'),
                 '--images', str(ROOT / 'docs/demo_det.jpg')])  # it compares the file
    assert not list(tmp_path.glob('*.json')) and not list(tmp_path.glob('runner.py'))


@pytest.mark.slow
def test_the_runner_finds_without_torch_what_mmdet_finds(exported):
    """In an environment of its own, which holds numpy, onnxruntime and pillow."""
    uv = shutil.which(os.environ.get('UV') or 'uv')  # make brings one where there is none
    if not uv:
        pytest.skip('uv makes the environment, and is not installed')
    file, model, picture = exported
    folder = file.parent
    versions = [f'{name}=={__import__(name).__version__}' for name in ('numpy', 'onnxruntime')]
    python = folder / 'venv/bin/python'
    for command in ([uv, 'venv', '-q', folder / 'venv'],
                    [uv, 'pip', 'install', '-q', '--python', python, *versions, 'pillow']):
        subprocess.run(command, check=True, timeout=300)
    found = subprocess.run([python, '-c', 'import torch'], capture_output=True, text=True)
    assert 'ModuleNotFoundError' in found.stderr
    subprocess.run([python, folder / 'runner.py', file, folder / 'picture.png', '--out',
                    folder / 'results'], check=True, timeout=300)
    (record,) = json.loads((folder / 'results/results.json').read_text())
    image = torch.from_numpy(picture.transpose(2, 0, 1)[None])
    theirs = [out.numpy() for out in steps.predicted(model, 'boxes', image)]
    rows = record['instances']
    assert len(rows) == len(theirs[0]) > 10
    for row, box, score, label, mask in zip(rows, *theirs):
        assert row['label'] == label and abs(row['score'] - score) < 1e-4
        assert np.abs(np.array(row['box']) - box).max() < 0.01
        assert sum(row['mask']['counts'][1::2]) == pytest.approx(mask.sum(), abs=1)
    assert Image.open(folder / 'results/picture.png').size == SIZE[::-1]


def test_nms_gives_as_many_as_are_asked_for():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 50, 50]])
    scores = torch.tensor([0.5, 0.9, 0.7, 0.1])
    assert ops.nms(boxes, scores, 0.5, 0.2, 4).tolist() == [1, 2, -1, -1]
    assert ops.nms(boxes, scores, 0.5, 0.0, 2).tolist() == [1, 2]


@pytest.mark.parametrize('old, new', [((48, 64), (24, 32)), ((48, 64), (100, 77)),
                                      ((33, 50), (96, 20))])
def test_the_runner_resizes_as_opencv_does(old, new):
    pixels = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    ours = runner.scaled(pixels, new, dict(backend='cv2', interpolation='bilinear')).astype(int)
    theirs = cv2.resize(pixels, new[::-1]).astype(int)
    assert np.abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 0.01


def test_the_runner_pastes_masks_as_mmdet_does():
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
    random = np.random.default_rng(0)
    masks = random.random((4, 28, 28), np.float32)
    boxes = np.array([[3.2, 4.7, 30.1, 20.9], [-5, -3, 12, 60], [10, 10, 10.4, 10.6],
                      [0, 0, 80, 50]], np.float32)
    whole, _ = _do_paste_mask(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), 50, 80,
                              skip_empty=False)
    for mask, box, expected in zip(masks, boxes, whole.numpy()):
        assert np.abs(runner.paste(mask, box, (50, 80)) - expected).max() < 1e-4
    assert not runner.paste(masks[0], np.array([5, 5, 5, 9], np.float32), (50, 80)).any()


def test_the_runner_refuses_to_guess_how_pictures_are_resized():
    with pytest.raises(ValueError, match='must say how pictures come to their size'):
        runner.prepare(np.zeros((4, 5, 3), np.uint8), dict(size=[4, 5], resize=None))


def test_run_lengths_are_those_of_coco():
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    coco = pytest.importorskip('pycocotools.mask')
    for rows in (mask, ~mask, mask & False):
        found = runner.runs(rows)
        assert (coco.decode(coco.frPyObjects(found, *found['size'])) == rows).all()


def test_the_runner_needs_no_more_than_it_says():
    names = runpy.run_path(str(ROOT / 'swinv2_mm/export/runner.py'))
    modules = {getattr(value, '__name__', '') for value in names.values()}
    assert not [name for name in modules if name.split('.')[0] in ('torch', 'cv2', 'swinv2_mm')]


def test_a_file_that_finds_otherwise_is_refused():
    rows = [np.array([[0, 0, 10, 10.0], [20, 20, 40, 40]], np.float32),
            np.array([0.9, 0.5], np.float32), np.array([0, 1])]
    images = [np.zeros((1, 3, 50, 50), np.uint8)]

    def compare(*other):
        return detections.compare(lambda image: list(other), lambda image: rows, {}, images)

    assert compare(*rows) == dict(boxes=0.0, scores=0.0, alone=0.0)
    for other, said in (((rows[0] + 0.02, *rows[1:]), 'boxes differ by 0.02'),
                        ((rows[0], rows[1] * 0.99, rows[2]), 'scores differ by'),
                        ((rows[0], rows[1], rows[2][::-1]), 'alone differ by 2'),
                        ((rows[0], rows[1] * [1, 0], rows[2]), 'alone differ by 0.5')):
        with pytest.raises(UserError, match=said):
            compare(*other)
