"""A file measured without torch gives what tools/test.py says of its model."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import checked, load_tool, run_tool
from PIL import Image
from small_models import small

from swinv2_mm.export import runner, steps

export = load_tool('export')
SIZE = (64, 96)


@pytest.fixture(scope='module')
def bare(tmp_path_factory):
    """A Python in an environment of its own, without torch and all of OpenMMLab."""
    uv = shutil.which(os.environ.get('UV') or 'uv')  # make brings one where there is none
    if not uv:
        pytest.skip('uv makes the environment, and is not installed')
    folder = tmp_path_factory.mktemp('bare')
    python = folder / 'venv/bin/python'
    versions = [f'{name}=={__import__(name).__version__}' for name in ('numpy', 'onnxruntime')]
    for command in ([uv, 'venv', '-q', folder / 'venv'],
                    [uv, 'pip', 'install', '-q', '--python', python, *versions, 'pillow',
                     'pycocotools']):
        subprocess.run(command, check=True, timeout=300)
    found = subprocess.run([python, '-c', 'import torch'], capture_output=True, text=True)
    assert 'ModuleNotFoundError' in found.stderr
    return python


def pixels(seed, size=SIZE):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.NEAREST)


def of_classes(root, cfg):
    """Six pictures in folders of three of six classes."""
    cfg.test_evaluator = [dict(type='Accuracy', topk=(1,)), dict(
        type='SingleLabelMetric', items=('recall',), average='macro')]
    for i in range(6):
        folder = root / 'val' / ('disc', 'ring', 'star')[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels(i, (64, 64)).save(folder / f'{i}.png')
    for name in set(cfg.test_dataloader.dataset.metainfo.classes) - {'disc', 'ring', 'star'}:
        (root / 'val' / name).mkdir()
    return root / 'val', root / 'val'


def of_maps(root, cfg):
    """Maps in which 0 is left out, of photos that are padded."""
    cfg.test_dataloader.dataset.img_suffix = '.png'
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.reduce_zero_label = True
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1] = dict(type='Resize', scale=SIZE[::-1], keep_ratio=True)
    pipeline[2].reduce_zero_label = True
    for folder in ('val', 'val_maps'):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        pixels(i, (50, 90)).save(root / f'val/{i}.png')
        labels = np.random.default_rng(9 + i).integers(0, 5, (6, 9), dtype=np.uint8)
        labels[labels == 4] = 255
        Image.fromarray(labels).resize((90, 50), Image.NEAREST).save(root / f'val_maps/{i}.png')
    return root / 'val', root / 'val_maps'


def of_objects(root, cfg):
    cfg.model.test_cfg.rpn.update(nms_pre=60, max_per_img=40)
    cfg.model.test_cfg.rcnn.update(score_thr=0.02, max_per_img=30)
    cfg.test_evaluator.ann_file = f'{root}/val.json'
    (root / 'val').mkdir(parents=True)
    for i in range(3):
        pixels(i).save(root / f'val/{i}.png')
    return root / 'val', root / 'val.json'


def some_of_what_is_found(root, model):
    """COCO json of two in three objects that the model finds, a little moved."""
    rows = []
    for i in range(3):
        image = np.asarray(Image.open(root / f'val/{i}.png'))[..., ::-1].transpose(2, 0, 1)
        boxes, _, labels, masks = (out.numpy() for out in steps.predicted(
            model, 'boxes', torch.from_numpy(image[None].copy())))
        for j in range(0, len(boxes), 3):
            for box, label, mask in zip(boxes[j:j + 2] + 1.5, labels[j:j + 2], masks[j:j + 2]):
                rows.append(dict(
                    id=len(rows) + 1, image_id=i, category_id=int(label) + 1, iscrowd=0,
                    bbox=[*map(float, box[:2]), *map(float, box[2:] - box[:2])],
                    area=float(mask.sum()), segmentation=runner.runs(mask)))
    classes = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')
    (root / 'val.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=f'{i}.png', height=SIZE[0], width=SIZE[1]) for i in range(3)],
        annotations=rows, categories=[dict(id=i + 1, name=name)
                                      for i, name in enumerate(classes)])))


TASKS = {'cls': (of_classes, (32, 32), ('accuracy/top1', 'single-label/recall')),
         'seg': (of_maps, SIZE, ('mIoU', 'aAcc')),
         'det': (of_objects, SIZE, ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50'))}


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_a_file_alone_measures_as_the_tool_does(tmp_path, bare, task):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed')
    write, size, names = TASKS[task]
    root, places = tmp_path / 'data', []

    def change(cfg):
        cfg.test_dataloader = cfg.test_dataloader.copy()
        cfg.test_dataloader.dataset.data_root = f'{root}/'
        places.extend(write(root, cfg))

    config, checkpoint, model = small(tmp_path, task, change)
    if task == 'det':
        some_of_what_is_found(root, model)
    said = checked(run_tool('tools/test.py', config, checkpoint, '--work-dir', tmp_path / 'w',
                            cwd=Path(__file__).parents[2])).stdout
    file = tmp_path / 'a.onnx'
    export.main([config, checkpoint, '--size', *map(str, size), '--out', str(file), '--images',
                 *map(str, sorted(places[0].rglob('*.*g'))[:2])])
    done = subprocess.run([bare, tmp_path / 'runner.py', file, places[0], '--truth', places[1]],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in names:
        expected = float(re.findall(rf'{name}: ([0-9.]+)', said)[-1])
        assert 0 < expected < (1 if task == 'det' else 100)
        assert found[name] == pytest.approx(expected, abs=1e-3 if task == 'det' else 0.1)
