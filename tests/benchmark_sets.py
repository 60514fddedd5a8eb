"""Tiny data sets of benchmarks that people name first, in the folders and files of the real ones.

Each maker writes below `root` what a config reads below its data_root.
"""
import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (96, 64)  # width, height
BOXES = [(10, 8, 40, 36), (50, 20, 30, 40)]  # x, y, width, height


def picture(path, seed=0):
    """A picture with two rectangles on noise."""
    pixels = np.random.default_rng(seed).integers(0, 120, (SIZE[1], SIZE[0], 3), np.uint8)
    for i, (x, y, w, h) in enumerate(BOXES):
        pixels[y:y + h, x:x + w, i] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def regions(ground, *numbers):
    """(H, W): `ground` and a number in each of BOXES."""
    map_ = np.full((SIZE[1], SIZE[0]), ground, np.int64)
    for number, (x, y, w, h) in zip(numbers, BOXES):
        map_[y:y + h, x:x + w] = number
    return map_


def write_map(path, map_):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(map_.astype(np.uint8)).save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def cityscapes(root):
    for split in ('train', 'val'):
        for i in range(3):
            stem = f'aachen/aachen_00000{i}_000019'
            picture(root / f'leftImg8bit/{split}/{stem}_leftImg8bit.png', i)
            map_ = regions(0, 13, 18)
            map_[-4:] = 255  # the bonnet of the car
            write_map(root / f'gtFine/{split}/{stem}_gtFine_labelTrainIds.png', map_)


def coco_stuff(root):
    for split in ('train2017', 'val2017'):
        for i in range(3):
            picture(root / f'images/{split}/{i:012}.jpg', i)
            map_ = regions(170, 0, 95)
            map_[:3] = 255
            write_map(root / f'annotations/{split}/{i:012}_labelTrainIds.png', map_)


def pascal_context(root):
    for split in ('train', 'val'):
        names = [f'2008_{split}{i}' for i in range(3)]
        for i, name in enumerate(names):
            picture(root / f'JPEGImages/{name}.jpg', i)
            # 0 is no class; the last of the 59 is numbered 59.
            write_map(root / f'SegmentationClassContext/{name}.png', regions(0, 1, 59))
        lists = root / 'ImageSets/SegmentationContext'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{split}.txt').write_text('\n'.join(names) + '\n')


def _objects(image, first, categories, **fields):
    """COCO entries of the two rectangles, polygons as masks."""
    return [dict(id=first + i, image_id=image, category_id=category, bbox=list(box),
                 area=box[2] * box[3], **fields,
                 segmentation=[[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2],
                                box[1] + box[3], box[0], box[1] + box[3]]])
            for i, (box, category) in enumerate(zip(BOXES, categories))]


def _images(root, split, **fields):
    found = []
    for i in range(1, 4):
        picture(root / split / f'{i:012}.jpg', i)
        found.append(dict(id=i, file_name=f'{i:012}.jpg', width=SIZE[0], height=SIZE[1])
                     | {key: value.format(i) for key, value in fields.items()})
    return found


def coco_panoptic(root):
    from mmdet.datasets import CocoPanopticDataset
    meta = CocoPanopticDataset.METAINFO
    categories = [dict(id=i, name=name, isthing=int(name in meta['thing_classes']))
                  for i, name in enumerate(meta['classes'], 1)]
    for split in ('train2017', 'val2017'):
        images = _images(root, split)
        entries = []
        for image in images:
            ids = [(70 << 16 | 60 << 8 | n) for n in (10, 20, 30)]  # id = R + 256 G + 65536 B
            map_ = regions(*ids)
            colours = np.stack([map_ & 255, map_ >> 8 & 255, map_ >> 16], -1)
            name = image['file_name'].replace('.jpg', '.png')
            write_map(root / f'annotations/panoptic_{split}/{name}', colours)
            boxes = [(0, 0, *SIZE), *BOXES]
            entries.append(dict(image_id=image['id'], file_name=name, segments_info=[
                dict(id=id_, category_id=category, iscrowd=0, bbox=list(box),
                     area=int((map_ == id_).sum()))
                for id_, category, box in zip(ids, (133, 1, 80), boxes)]))
        write_json(root / f'annotations/panoptic_{split}.json',
                   dict(images=images, annotations=entries, categories=categories))
        things = [dict(id=c['id'], name=c['name']) for c in categories if c['isthing']]
        objects = [entry for image in images
                   for entry in _objects(image['id'], 10 * image['id'], (1, 80), iscrowd=0)]
        write_json(root / f'annotations/instances_{split}.json',
                   dict(images=images, annotations=objects, categories=things))


def lvis(root):
    from mmdet.datasets import LVISV1Dataset
    names = LVISV1Dataset.METAINFO['classes']
    for split, folder in (('train', 'train2017'), ('val', 'val2017')):
        images = _images(root, folder,
                         coco_url=f'http://images.cocodataset.org/{folder}/{{:012}}.jpg')
        for image in images:
            del image['file_name']
            image.update(neg_category_ids=[2], not_exhaustive_category_ids=[])
        objects = [entry for image in images
                   for entry in _objects(image['id'], 10 * image['id'], (1, 1203))]
        categories = [dict(id=i, name=name, synset=f'{name}.n.01', frequency='fcr'[i % 3],
                           image_count=3, instance_count=3) for i, name in enumerate(names, 1)]
        write_json(root / f'annotations/lvis_v1_{split}.json',
                   dict(images=images, annotations=objects, categories=categories))


def objects365(root):
    from mmdet.datasets import Objects365V2Dataset
    categories = [dict(id=i, name=name)
                  for i, name in enumerate(Objects365V2Dataset.METAINFO['classes'], 1)]
    for split in ('train', 'val'):
        images, objects = [], []
        for i in range(1, 4):
            name = f'patch8/objects365_v1_{i:08}.jpg'
            picture(root / split / name, i)
            images.append(dict(id=i, file_name=f'images/v1/{name}', width=SIZE[0], height=SIZE[1]))
            objects += _objects(i, 10 * i, (1, 365), iscrowd=0)
        for entry in objects:
            del entry['segmentation']
        write_json(root / f'annotations/zhiyuan_objv2_{split}.json',
                   dict(images=images, annotations=objects, categories=categories))


def _films(root, train, val, lists, classes):
    from film_checks import X264, encode
    for split, folder in (('train', train), ('val', val)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        names = [f'{split}_{i}.mp4' for i in range(2)]
        for name in names:
            encode(root / folder / name, *X264, numbers=range(70))
        lines = [f'{name} {label}\n' for name, label in zip(names, (0, classes - 1))]
        Path(root / lists.format(split)).write_text(''.join(lines))


def something_something(root):
    _films(root, 'videos', 'videos', 'sthv2_{}_list_videos.txt', 174)


def kinetics600(root):
    _films(root, 'videos_train', 'videos_val', 'kinetics600_{}_list_videos.txt', 600)


RUNS = {  # config -> maker of its data
    'configs/seg/swinv2_t_upernet_cityscapes.py': cityscapes,
    'configs/seg/swinv2_t_mask2former_cityscapes.py': cityscapes,
    'configs/seg/swinv2_l_mask2former_cityscapes.py': cityscapes,
    'configs/seg/swinv2_t_upernet_cocostuff.py': coco_stuff,
    'configs/seg/swinv2_t_upernet_context59.py': pascal_context,
    'configs/det/swinv2_t_mask2former_panoptic.py': coco_panoptic,
    'configs/det/swinv2_l_mask2former_panoptic.py': coco_panoptic,
    'configs/det/swinv2_l_cascade_lvis.py': lvis,
    'configs/det/swinv2_t_mask2former_lvis.py': lvis,
    'configs/det/swinv2_l_objects365.py': objects365,
    'configs/det/swinv2_g_objects365.py': objects365,
    'configs/video/swinv2_b_sthv2.py': something_something,
    'configs/video/swinv2_b_k600.py': kinetics600,
}
