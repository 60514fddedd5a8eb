"""Tiny data sets with a config of each library, to be spoilt by the tests of checks."""
import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as masks

SIZE = (96, 64)  # width, height
META = dict(classes=('red', 'blue'))


def objects(first=1, size=SIZE, **fields):
    """COCO content of three images with two objects each."""
    boxes = [[10, 8, 20, 16], [50, 30, 24, 20]]
    annotations = [dict(id=first + 2 * i + j, image_id=1 + i, category_id=1 + j, iscrowd=0,
                        bbox=list(box), area=box[2] * box[3], segmentation=[polygon(*box)])
                   for i in range(3) for j, box in enumerate(boxes)]
    for entry in annotations:
        entry.update(fields)
    return dict(images=[dict(id=1 + i, file_name=f'{i}.jpg', width=size[0], height=size[1])
                        for i in range(3)], annotations=annotations,
                categories=[dict(id=1, name='red'), dict(id=2, name='blue')])


def polygon(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def runs(box, size=(64, 96), turned=False):
    """Run lengths of a full box; `turned`: as if rows came first."""
    picture = np.zeros(size, np.uint8)
    x, y, w, h = box
    picture[y:y + h, x:x + w] = 1
    if turned:
        picture = picture.flatten().reshape(size, order='F')
    code = masks.encode(np.asfortranarray(picture))
    return dict(size=list(code['size']), counts=code['counts'].decode())


def write_png(path, array):
    """As PNG, whatever the ending: 16 bits in colour as well, which Pillow does not write."""
    Path(path).write_bytes(cv2.imencode('.png', array)[1])


def detection(root, train=None, val=None, masks=True, metric=('bbox', 'segm')):
    """A config of COCO json below `root`, with pictures."""
    def part(split, content):
        (root / split).mkdir(parents=True, exist_ok=True)
        for image in content['images']:
            path = root / split / str(image['file_name'])
            if not path.exists():
                Image.new('RGB', SIZE, (60, 70, 80)).save(path)
        (root / f'{split}.json').write_text(json.dumps(content))
        return dict(type='CocoDataset', data_root=f'{root}/', ann_file=f'{split}.json',
                    data_prefix=dict(img=f'{split}/'), metainfo=dict(META),
                    test_mode=split != 'train',
                    pipeline=[dict(type='LoadImageFromFile'),
                              dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)])

    def loader(split, content):
        return dict(batch_size=2, dataset=part(split, content or objects()))

    evaluator = dict(type='CocoMetric', ann_file=f'{root}/val.json',
                     metric=[name for name in metric if masks or name != 'segm'])
    heads = dict(bbox_head=dict(type='Shared2FCBBoxHead', num_classes=2))
    if masks:
        heads['mask_head'] = dict(type='FCNMaskHead', num_classes=2)
    return Config(dict(
        default_scope='mmdet', model=dict(type='MaskRCNN', roi_head=heads),
        train_dataloader=loader('train', train), val_dataloader=loader('val', val),
        test_dataloader=loader('val', val), val_evaluator=evaluator, test_evaluator=evaluator))


def put(root, split, content):
    """Write the json of a split anew."""
    (root / f'{split}.json').write_text(json.dumps(content))


def maps(root, table=None, classes=('ground', 'red', 'blue'), head=None, sizes=(SIZE,), steps=(),
         **dataset):
    """A config of pictures and maps below `root`; `table` is {number made: number written}."""
    rng = np.random.default_rng(0)

    def part(split):
        for folder in (split, f'{split}_maps'):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            wide, high = sizes[i % len(sizes)]
            numbers = rng.integers(0, 3, (high, wide)).astype(np.uint8)
            written = np.array([(table or {}).get(n, n) for n in range(3)], np.uint8)[numbers]
            Image.fromarray(written).save(root / f'{split}_maps' / f'{i}.png')
            Image.new('RGB', (wide, high), (60, 70, 80)).save(root / split / f'{i}.jpg')
        return dict(dict(type='BaseSegDataset') | dataset, data_root=f'{root}/',
                    data_prefix=dict(img_path=split, seg_map_path=f'{split}_maps'),
                    metainfo=dict(classes=classes), test_mode=split != 'train',
                    pipeline=[dict(type='LoadImageFromFile'), *steps, dict(type='LoadAnnotations'),
                              dict(type='PackSegInputs')])

    evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    decode = dict(type='UPerHead', num_classes=len(classes), loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=False))
    return Config(dict(
        default_scope='mmseg', model=dict(
            type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor'),
            decode_head=decode | (head or {}), test_cfg=dict(mode='whole')),
        train_dataloader=dict(batch_size=2, dataset=part('train')),
        val_dataloader=dict(batch_size=1, dataset=part('val')),
        test_dataloader=dict(batch_size=1, dataset=part('val')), val_evaluator=evaluator,
        test_evaluator=evaluator))


def folders(root, names=('blue', 'green', 'red'), lacking=(), **settings):
    """A config of class folders below `root`; `lacking` are (split, class) without a folder."""
    for split in ('train', 'val'):
        for name in names:
            if (split, name) not in lacking:
                (root / split / name).mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (8, 8), (60, 70, 80)).save(root / split / name / '0.jpg')

    def loader(split):
        return dict(batch_size=2, dataset=dict(
            type='CustomDataset', data_root=str(root), data_prefix=split,
            metainfo=dict(classes=names), pipeline=[dict(type='LoadImageFromFile')]))

    evaluator = settings.pop('evaluator', dict(type='Accuracy', topk=(1,)))
    return _classifier(loader, evaluator, len(names))


def _classifier(loader, evaluator, count):
    head = dict(type='LinearClsHead', num_classes=count)
    return Config(dict(
        default_scope='mmpretrain', model=dict(type='ImageClassifier', head=head),
        train_dataloader=loader('train'), val_dataloader=loader('val'),
        test_dataloader=loader('val'), val_evaluator=evaluator, test_evaluator=evaluator))


def listed(root):
    """A config of pictures and a list "IMAGE LABEL" of three classes without names."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(3):
        Image.new('RGB', (8, 8), (60, 70, 80)).save(root / f'{i}.jpg')
    (root / 'list.txt').write_text(''.join(f'{i}.jpg {i}\n' for i in range(3)))
    dataset = dict(type='CustomDataset', data_root=str(root), ann_file='list.txt', data_prefix='',
                   pipeline=[dict(type='LoadImageFromFile')])
    return _classifier(lambda split: dict(batch_size=2, dataset=dict(dataset)),
                       dict(type='Accuracy', topk=(1,)), 3)


def listed_maps(root):
    """As `maps`, with a list of the pictures."""
    cfg = maps(root, ann_file='names.txt')
    (root / 'names.txt').write_text('0\n1\n2\n')
    return cfg


def films(root, names=('0.mp4', '1.mp4', '2.mp4')):
    """A config of a list of films, of which nothing is read."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).write_bytes(b'not read')
    (root / 'list.txt').write_text(''.join(f'{name} {i}\n' for i, name in enumerate(names)))
    loader = dict(batch_size=2, dataset=dict(
        type='VideoDataset', data_root=str(root), ann_file='list.txt', data_prefix=dict(video=''),
        pipeline=[dict(type='DecordInit')]))
    head = dict(type='I3DHead', num_classes=len(names), average_clips='prob')
    evaluator = dict(type='AccMetric', metric_options=dict(top_k_accuracy=dict(topk=(1,))))
    return Config(dict(
        default_scope='mmaction', model=dict(type='Recognizer3D', cls_head=head),
        train_dataloader=loader, val_dataloader=loader, test_dataloader=loader,
        val_evaluator=evaluator, test_evaluator=evaluator))
