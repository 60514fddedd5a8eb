"""No false alarm: sets in the shape of known ones, with their quirks, under their own types."""

import numpy as np
import pytest
import small_sets as sets
from advice import found, name_all, rewrite
from mmengine.registry import DefaultScope
from PIL import Image

from swinv2_mm.apis import check
from swinv2_mm.datasets.checks import class_of

SIZE = sets.SIZE


def classes_of(scope, kind):
    with DefaultScope.overwrite_default_scope(scope):
        return class_of(dict(type=kind)).METAINFO['classes']


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def detector(root, kind, names='{}.jpg', images=3, **settings):
    """A detector of all classes of a known type; one object of each, and an image without any.

    Returns the config and the content of its json, to be given quirks and written.
    """
    classes = classes_of('mmdet', kind)
    content = dict(
        images=[dict(id=900 + i, file_name=names.format(i), width=SIZE[0], height=SIZE[1])
                for i in range(images + 1)],
        categories=[dict(id=3 * i + 1, name=name) for i, name in enumerate(classes)],
        annotations=[dict(id=10 ** 9 + i, image_id=900 + i % images, category_id=3 * i + 1,
                          bbox=[4.5, 5, 20.25, 10], area=180.5, iscrowd=0,
                          segmentation=[sets.polygon(5, 5, 18, 10)])
                     for i in range(len(classes))])
    cfg = sets.detection(root, metric=('bbox',), masks=False)
    name_all(cfg, classes)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(dict(type=kind) | settings, ann_file='all.json')
        dataset.data_prefix.img = 'images/'
        dataset.pop('metainfo')
    for evaluator in ('val_evaluator', 'test_evaluator'):
        cfg[evaluator].ann_file = f'{root}/all.json'
    for head in cfg.model.roi_head.values():
        head.num_classes = len(classes)
    return cfg, content


def put(root, content, name=lambda image: image['file_name']):
    sets.put(root, 'all', content)
    for image in content['images']:
        picture(root / 'images' / name(image))


def coco(root):
    cfg, content = detector(root, 'CocoDataset')
    content['annotations'] += [
        dict(content['annotations'][0], id=900100000001, iscrowd=1, segmentation=dict(
            size=[64, 96], counts=[326, 8, 64 * 96 - 334])),
        dict(content['annotations'][0], id=77, bbox=[75.6, 5, 20.9, 10],
             segmentation=[sets.polygon(76, 5, 20, 10)])]  # half a pixel over
    for dataset in (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset):
        dataset.pipeline[1].with_mask = True
    cfg.model.roi_head.mask_head = dict(type='FCNMaskHead', num_classes=80)
    cfg.val_evaluator.metric = ['bbox', 'segm']
    put(root, content)
    return cfg


def objects365_v1(root):
    cfg, content = detector(root, 'Objects365V1Dataset')
    content['categories'].reverse()  # of any order, which mmdet sorts
    for entry in content['annotations']:
        entry.pop('segmentation')
        entry.update(isfake=0, isreflected=0)
    put(root, content)
    return cfg


def objects365_v2(root):
    cfg, content = detector(root, 'Objects365V2Dataset', 'images/v1/patch8/objects365_v1_{}.jpg')
    for entry in content['annotations']:
        entry.pop('segmentation')
    put(root, content, lambda image: image['file_name'].partition('v1/')[2])
    return cfg


def lvis(root):
    cfg, content = detector(root, 'LVISV1Dataset')
    for image in content['images']:
        image['coco_url'] = 'http://images.cocodataset.org/train2017/' + image.pop('file_name')
        image.update(neg_category_ids=[1], not_exhaustive_category_ids=[])
    for entry in content['annotations']:
        entry.pop('iscrowd')
    cfg.val_evaluator.type = cfg.test_evaluator.type = 'LVISMetric'
    put(root, content, lambda image: image['coco_url'].partition('org/')[2])
    return cfg


def cityscapes_boxes(root):
    cfg, content = detector(root, 'CityscapesDataset', 'munster/munster_{}_leftImg8bit.png')
    content['annotations'].append(dict(content['annotations'][0], id=7, iscrowd=1, segmentation=(
        sets.runs([4, 5, 20, 10]))))
    cfg.val_evaluator = [cfg.val_evaluator, dict(
        type='CityScapesMetric', outfile_prefix=f'{root}/x', seg_prefix=f'{root}/y')]
    put(root, content)
    return cfg


def xml(name, box, difficult=0):
    corners = ''.join(f'<{key}>{value}</{key}>' for key, value in zip(
        ('xmin', 'ymin', 'xmax', 'ymax'), box))
    return (f'<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name>'
            f'</part><bndbox>{corners}</bndbox></object>')


def voc(root, change=lambda text: text, names=None):
    """VOC's two years joined and repeated, as mmdet's configs have them."""
    classes = classes_of('mmdet', 'VOCDataset')
    cfg = sets.detection(root / 'x', masks=False)
    for year in ('VOC2007', 'VOC2012'):
        home = root / 'VOCdevkit' / year
        for folder in ('ImageSets/Main', 'Annotations'):
            (home / folder).mkdir(parents=True)
        for i in range(2):
            picture(home / 'JPEGImages' / f'00{i}.jpg')
            objects = ''.join(xml(name, (1, 1, 20.7, 30), difficult=int(n == 0))
                              for n, name in enumerate(classes))
            (home / 'Annotations' / f'00{i}.xml').write_text(change(
                f'<annotation><size><width>96</width><height>64</height></size>{objects}'
                f'{xml(classes[0], (1, 1, 96, 64))}</annotation>'))
        (home / 'ImageSets/Main/trainval.txt').write_text('000\n001\n')

    def part(year, test):
        return dict(type='VOCDataset', data_root=f'{root}/VOCdevkit/', test_mode=test,
                    ann_file=f'{year}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'{year}/'), pipeline=[
                        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
                    **(dict(metainfo=dict(classes=names)) if names else {}))

    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=dict(
        type='ConcatDataset', datasets=[part('VOC2007', False), part('VOC2012', False)]))
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset = part('VOC2007', True)
        cfg[f'{split}_evaluator'] = dict(type='VOCMetric', metric='mAP', eval_mode='11points')
    for head in cfg.model.roi_head.values():
        head.num_classes = len(names or classes)
    return cfg


def maps(root, kind, image, label, numbers, **settings):
    """A segmentor of all classes of a known type; `image` and `label` name the files."""
    rng = np.random.default_rng(0)
    classes = classes_of('mmseg', kind)
    cfg = sets.maps(root / 'x', classes=classes, type=kind, **settings)
    palette = np.random.default_rng(1).integers(0, 255, 768).astype(np.uint8)
    for i in range(2):
        picture(root / image.format(i))
        map_ = Image.fromarray(rng.choice(np.array(numbers, np.uint8), SIZE[::-1]))
        if kind == 'PascalVOCDataset':
            map_ = map_.convert('P')
            map_.putpalette(palette.tolist())
        path = root / label.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        map_.save(path)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.pop('metainfo')
        dataset.update(data_root=f'{root}/', data_prefix=dict(
            img_path=image.partition('/')[0], seg_map_path=label.partition('/')[0]))
    return cfg


def ade20k(root):
    return maps(root, 'ADE20KDataset', 'images/ADE_{}.jpg', 'annotations/ADE_{}.png', range(151))


def cityscapes_maps(root):
    return maps(root, 'CityscapesDataset', 'leftImg8bit/ulm/ulm_{}_leftImg8bit.png',
                'gtFine/ulm/ulm_{}_gtFine_labelTrainIds.png', [*range(19), 255])


def voc_maps(root):
    (root / 'Lists').mkdir(parents=True)
    (root / 'Lists/train.txt').write_text('0\n1\n')
    return maps(root, 'PascalVOCDataset', 'JPEGImages/{}.jpg', 'SegmentationClass/{}.png',
                [*range(21), 255], ann_file='Lists/train.txt')


def kinetics(root):
    return sets.films(root, [f'clip {i}_000027_000037.mp4'.replace(' ', '_') for i in range(400)])


def imagenet(root):
    cfg = sets.listed(root)
    picture(root / 'n0' / 'a_0.JPEG')
    for i in range(1, 1000):
        (root / 'n0' / f'a_{i}.JPEG').touch()
    lines = [f'n0/a_{i}.JPEG {i}' for i in range(1000)]
    (root / 'val.txt').write_text('\n'.join(lines) + '\n')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(type='ImageNet', ann_file='val.txt')
    cfg.model.head.num_classes = 1000
    return cfg


# What makes a set, and what is said of it that is no fault; None: its files are not read.
KNOWN = {'coco': (coco, {'no objects'}), 'objects365 v1': (objects365_v1, {'no objects'}),
         'objects365 v2': (objects365_v2, {'no objects'}), 'lvis v1': (lvis, {'no objects'}),
         'cityscapes, boxes': (cityscapes_boxes, {'no objects'}), 'voc': (voc, set()),
         'ade20k': (ade20k, set()), 'cityscapes, maps': (cityscapes_maps, set()),
         'voc, maps': (voc_maps, set()), 'kinetics': (kinetics, None), 'imagenet': (imagenet, None)}


@pytest.mark.parametrize('name', KNOWN)
def test_nothing_is_said_of_known_sets(name, tmp_path, capsys):
    make, said = KNOWN[name]
    cfg = make(tmp_path)
    assert found(cfg) == {}
    assert set(found(cfg, level='warning')) == (said or set())
    if said is not None:
        cfg.dump(tmp_path / 'config.py')
        status = check.main([str(tmp_path / 'config.py'), '--workers', '1', '--splits', 'train'])
        assert status == 0 and ' 0 errors' in capsys.readouterr().out


def test_voc_is_checked_as_coco_is(tmp_path):
    names = ('aeroplane', 'bycicle')
    cfg = voc(tmp_path / 'slip', names=names)
    said = found(cfg)['unknown class']
    assert "no object 'bycicle'" in said and "did you mean 'bicycle', in all" in said
    cfg = voc(tmp_path / 'mended', names=('aeroplane', 'bicycle'))
    assert found(cfg) == {}
    hard = voc(tmp_path / 'hard', lambda text: text.replace('cult>0', 'cult>1'))
    assert 'has iscrowd 1 in all' in found(hard)['nothing to learn']
    flat = voc(tmp_path / 'flat', lambda text: text.replace('<xmax>20.7', '<xmax>0'))
    assert 'empty box' in found(flat, level='warning')
    photo = tmp_path / 'mended/VOCdevkit/VOC2012/JPEGImages/001.jpg'
    photo.rename(photo.with_suffix('.JPG'))
    cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset.datasets[1]
    assert "write 'VOC2012/JPEGImages/001.JPG' for" in found(cfg)['missing']
    (tmp_path / 'flat/VOCdevkit/VOC2007/Annotations/001.xml').unlink()
    assert 'cannot list its data (FileNotFoundError: ' in found(flat)['set-up']


def test_lvis_numbers_labels_by_all_its_categories(tmp_path):
    cfg = lvis(tmp_path)
    name_all(cfg, classes_of('mmdet', 'LVISV1Dataset')[:5])
    for head in cfg.model.roi_head.values():
        head.num_classes = 5
    assert 'must be all categories of' in found(cfg)['set-up']


def test_a_type_of_one_s_own_is_read_as_its_parent_is(tmp_path):
    cfg = coco(tmp_path)
    rewrite(tmp_path, lambda entry: entry.update(iscrowd=1), 'all')
    for kind in ('DeepFashionDataset', 'iSAIDDataset'):
        for split in ('train', 'val'):
            cfg[f'{split}_dataloader'].dataset.update(
                type=kind, metainfo=dict(classes=classes_of('mmdet', 'CocoDataset')))
        assert 'nothing to learn' in found(cfg)


def test_a_library_lists_its_own_sets_and_fetches_nothing(tmp_path):
    (tmp_path / 'a').mkdir()
    for i in (1, 2):
        picture(tmp_path / 'a' / f'img_0000{i}.jpg')
    (tmp_path / 'list.txt').write_text('a 3 0\n')
    cfg = sets.films(tmp_path / 'x', names=('0.mp4', '1.mp4'))
    cfg.train_dataloader.dataset = dict(
        type='RawframeDataset', ann_file=f'{tmp_path}/list.txt', data_prefix=dict(
            img=f'{tmp_path}/'), pipeline=[])
    cfg.dump(tmp_path / 'config.py')
    assert check.main([str(tmp_path / 'config.py'), '--workers', '1', '--splits', 'train',
                        '--out', str(tmp_path / 'out.csv')]) == 1
    rows = (tmp_path / 'out.csv').read_text().splitlines()[1:]
    assert [row.split(',')[1:3] for row in rows] == [['missing', f'{tmp_path}/a/img_00003.jpg']]
    cfg = sets.listed(tmp_path / 'y')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset = dict(
            type='CIFAR10', data_root=f'{tmp_path}/x', split='train', pipeline=[])
    cfg.model.head.num_classes = 10
    cfg.dump(tmp_path / 'config.py')
    said = list(check.gather(check.parse_args([str(tmp_path / 'config.py')])))
    assert {f.kind for f in said} == {'not listed'} and 'CIFAR10 of ' in said[0].text
    assert not list((tmp_path / 'x').glob('cifar*'))
