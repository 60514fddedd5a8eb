"""What scores a split fits what it scores, and rates and names of a config do something."""
import re
from pathlib import Path

import pytest
import small_sets as sets
from advice import changed, cls, film, follow, found, loaders, name_all, names, seg, spoilt
from mmengine.config import Config

OTHER = r"dict\(type='(\w+)'\)"


def det(change):
    return changed(sets.detection, change)


def evaluate_by(cfg, said, root):
    cfg.val_evaluator = dict(type=re.search(OTHER, said)[1], **(dict(
        ann_file=f'{root}/val.json') if 'Coco' in said else {}))


def boxes_alone(cfg):
    """A detector without masks, whose metric still asks for them."""
    cfg.model = dict(type='FasterRCNN', data_preprocessor=dict(pad_mask=True), roi_head=dict(
        bbox_head=dict(type='Shared2FCBBoxHead', num_classes=2)))


def anchors_alone(cfg):
    cfg.model = dict(type='RetinaNet', data_preprocessor=dict(pad_mask=True), bbox_head=dict(
        type='RetinaHead', num_classes=2))


def best(name):
    return lambda cfg: cfg.update(default_hooks=dict(checkpoint=dict(
        type='CheckpointHook', save_best=name)))


def sampler(split, kind):
    def change(cfg):
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
        cfg[f'{split}_dataloader'].sampler = dict(type=kind)
    return change


def finite(cfg, said, root):
    place, kind = re.search(r"^(\w+)\.sampler .* set it to dict\(type='(\w+)'", said).groups()
    cfg[place].sampler = dict(type=kind)


def step(position, **settings):
    return lambda cfg: cfg.val_dataloader.dataset.pipeline.insert(position, settings)


def take_out(cfg, said, root):
    name = re.search(r'has (\w+),', said)[1]
    steps = cfg.val_dataloader.dataset.pipeline
    cfg.val_dataloader.dataset.pipeline = [s for s in steps if s['type'] != name]


def load_last(cfg, said, root):
    """Swap the step that resizes and LoadAnnotations."""
    assert 'put LoadAnnotations after the steps' in said
    steps = cfg.val_dataloader.dataset.pipeline
    steps[1], steps[2] = steps[2], steps[1]


def of_voc(cfg):
    cfg.val_dataloader.dataset.pipeline.append(dict(type='Resize', scale=(48, 32)))
    cfg.val_evaluator = dict(type='VOCMetric', metric='mAP')


def packed(keys):
    """The truth by the samples, in place of a file."""
    def change(cfg):
        cfg.val_dataloader.dataset.pipeline.append(dict(type='PackDetInputs', meta_keys=keys))
        cfg.val_evaluator.pop('ann_file')
    return change


def leave_out(cfg, said, root):
    assert 'leave it out' in said
    for node in (cfg.val_dataloader, cfg.val_dataloader.dataset):
        node.pop('indices', None)
        node.pop('num_batch_per_epoch', None)


def loss(use_sigmoid):
    return dict(type='CrossEntropyLoss', use_sigmoid=use_sigmoid)


def one_channel(root):
    return sets.maps(root, table={2: 1}, classes=('ground', 'red'), head=dict(
        out_channels=1, loss_decode=loss(False)))


def boxes_of_others(root):
    """Two classes, and objects of the other ones alone."""
    cfg = sets.detection(root, train=sets.objects(category_id=2))
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('red',))
    cfg.model.roi_head.bbox_head.num_classes = cfg.model.roi_head.mask_head.num_classes = 1
    return cfg


def with_red(cfg, said, root):
    assert 'set classes to those that have objects' in said
    sets.put(root, 'train', sets.objects())


def list_of(make):
    """All labels 0 of three."""
    def made(root):
        cfg = make(root)
        text = (root / 'list.txt').read_text()
        (root / 'list.txt').write_text(re.sub(r' \d\n', ' 0\n', text))
        return cfg
    return made


def splits_as_classes(root):
    cfg = sets.folders(root, names=('Train', 'valid'))
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.pop('metainfo')
    return cfg


def one_below(cfg, said, root):
    assert re.search('set data_prefix of (train|val)_dataloader.dataset to one of them', said)
    for split in ('train', 'val'):
        for name in ('Train', 'valid'):
            (root / split / name).rename(root / split / f'{name}s')


def one_name_twice(root):
    content = sets.objects()
    content['categories'].append(dict(id=3, name='red'))
    return sets.detection(root, train=content)


def of_coco(root):
    """Two of COCO's classes, which no setting names."""
    content = sets.objects()
    for category, name in zip(content['categories'], ('person', 'car')):
        category['name'] = name
    cfg = sets.detection(root, train=content, val=content)
    for dataset in loaders(cfg):
        del dataset['metainfo']
    return cfg


def of_its_own(cfg, said, root):
    for dataset in loaders(cfg):
        dataset.metainfo = {}
    name_all(cfg, ('person', 'car'))


def mixed(cfg):
    cfg.data_preprocessor = dict(num_classes=1000)
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.8)])


def texts(**fields):
    return spoilt(**fields), lambda cfg, said, root: (
        sets.put(root, 'train', sets.objects()), said.index('write whole numbers, no text'))


ADVICE = [
    *(('other task', make, says, evaluate_by) for make, says in (
        (det(lambda c: c.update(val_evaluator=dict(type='mmseg.IoUMetric'))),
         'IoUMetric of mmseg, which cannot score what MaskRCNN of mmdet'),
        (cls(lambda c: c.update(val_evaluator=dict(type='mmdet.VOCMetric'))),
         'VOCMetric of mmdet'),
        (seg(lambda c: c.update(val_evaluator=[dict(type='mmpretrain.Accuracy')])),
         'Accuracy of mmpretrain'),
        (film(lambda c: c.update(val_evaluator=dict(type='mmpretrain.Accuracy'))),
         'Recognizer3D of mmaction'))),
    *(('other task', det(change), 'without a mask_head predicts no masks',
       lambda cfg, said, root: cfg.val_evaluator.update(
           metric=re.search("set metric='(.*)'", said)[1]))
      for change in (boxes_alone, anchors_alone)),
    *(('other task', make, 'save_best is', lambda cfg, said, root: best('auto')(cfg))
      for make in (det(best('mIoU')), seg(best('coco/bbox_mAP')), cls(best('top1')),
                   film(best('accuracy/top1')), changed(
                       lambda root: sets.detection(root, metric=['bbox']),
                       best(['auto', 'coco/segm_mAP_50'])))),
    *(('endless', det(sampler(split, kind)), 'never ends', finite) for split, kind in (
        ('val', 'InfiniteSampler'), ('train', 'InfiniteSampler'), ('train', 'MultiSourceSampler'))),
    *(('moved', make, says, take_out) for make, says in (
        (det(step(1, type='RandomFlip', prob=0.5)), 'has RandomFlip'),
        (det(step(2, type='RandomAffine')), 'has RandomAffine'),
        (seg(step(2, type='RandomFlip', prob=[0.2, 0.3], direction=['horizontal', 'vertical'])),
         'has RandomFlip'))),
    *(('moved', seg(step(2, **settings)), 'makes maps of (32, 48) (height, width) for pictures of '
       '(64, 96)', load_last) for settings in (
        dict(type='Resize', scale=(48, 32)), dict(type='CenterCrop', crop_size=(48, 32)))),
    ('moved', changed(lambda root: sets.detection(root, masks=False), of_voc),
     'resizes boxes that were loaded before', load_last),
    ('no masks', det(lambda c: c.train_dataloader.dataset.pipeline[1].update(with_mask=False)),
     'model.roi_head.mask_head learns from', lambda cfg, said, root:
     cfg.train_dataloader.dataset.pipeline[1].update(with_mask=True)),
    ('other truth', det(packed(('img_id', 'ori_shape'))), 'nothing to score by',
     lambda cfg, said, root: cfg.val_evaluator.update(
         ann_file=re.search("set it to '(.*)'[.]$", said)[1])),
    ('part of the set', det(lambda c: c.val_dataloader.dataset.update(indices=1)),
     'whose objects the metric counts as missed', leave_out),
    ('part of the set', det(lambda c: c.val_dataloader.update(num_batch_per_epoch=1)),
     'ends the val split early', leave_out),
    ('part of the set', det(lambda c: setattr(c.val_dataloader, 'dataset', dict(
        type='RepeatDataset', times=2, dataset=c.val_dataloader.dataset))),
     'gives pictures more than once', lambda cfg, said, root: setattr(
         cfg.val_dataloader, 'dataset', cfg.val_dataloader.dataset.dataset)),
    ('ids collide', det(lambda c: setattr(c.val_dataloader, 'dataset', dict(
        type='ConcatDataset', datasets=[c.val_dataloader.dataset] * 2))), 'with itself',
     lambda cfg, said, root: cfg.val_dataloader.dataset.datasets.pop()),
    ('class order', seg(lambda c: c.val_dataloader.dataset.update(reduce_zero_label=True)),
     'differ by one', lambda cfg, said, root: cfg.val_dataloader.dataset.update(
         reduce_zero_label=False)),
    ('ignored number', seg(lambda c: c.val_evaluator.update(ignore_index=[255])),
     'ignore_index=[255]', lambda cfg, said, root: cfg.val_evaluator.update(ignore_index=255)),
    ('other task', film(lambda c: c.val_dataloader.dataset.update(
        multi_class=True, num_classes=3)), 'counts one label a film', lambda cfg, said, root:
        cfg.val_evaluator.update(metric_list=re.search("set it to '(.*)'", said)[1])),
    *(('nothing to learn', changed(make, lambda c: c.train_dataloader.update(
        batch_size=8, drop_last=True)), 'of 3 samples where batch_size is 8',
       lambda cfg, said, root: cfg.train_dataloader.update(batch_size=int(
           re.search('to at most ([0-9]+)', said)[1])))
      for make in (sets.detection, sets.maps, sets.folders, sets.listed, sets.films)),
    ('one class', one_channel, 'out_channels is 1 under a softmax', lambda cfg, said, root:
     cfg.merge_from_dict({re.search(r'set (\S+)=True', said)[1]: True})),
    ('nothing to learn', boxes_of_others, "none of the classes 'red'", with_red),
    ('nothing to learn', lambda root: sets.maps(root, table={0: 255, 1: 255, 2: 255}),
     'all of their pixels are left out', lambda cfg, said, root: sets.maps(root)),
    ('nothing to learn', det(lambda c: c.train_dataloader.dataset.update(filter_cfg=dict(
        min_size=65))), 'a side under 65 pixels', lambda cfg, said, root:
        cfg.train_dataloader.dataset.filter_cfg.update(min_size=int(
            re.search('to at most ([0-9]+)', said)[1]))),
    ('set-up', splits_as_classes, "('Train', 'valid'), which are splits", one_below),
    ('set-up', det(lambda c: [setattr(d, 'metainfo', dict(CLASSES=('red', 'blue')))
                              for d in loaders(c)]), 'metainfo.CLASSES of',
     lambda cfg, said, root: name_all(cfg, ('red', 'blue'))),
    ('set-up', of_coco, "set classes=('person', 'car') in all data sets", of_its_own),
    ('set-up', cls(mixed), 'data_preprocessor.num_classes must be the number', lambda cfg, said,
     root: cfg.data_preprocessor.update(num_classes=int(re.search('head, ([0-9]+)', said)[1]))),
    ('set-up', one_name_twice, "got 'red' for the ids (1, 3)", lambda cfg, said, root:
     sets.put(root, 'train', sets.objects())),
    *(('no field', make, "'1'", mend) for make, mend in (
        texts(image_id='1'), texts(second=dict(category_id='1')), texts(second=dict(id='1')))),
    ('unread', det(lambda c: c.update(optimizer=dict(type='AdamW', lr=1e-4))),
     'set optim_wrapper.optimizer', lambda cfg, said, root: (cfg.update(optim_wrapper=dict(
         optimizer=cfg.optimizer)))),
    *(('unread', det(lambda c, name=name, value=value: c.update({name: value})), said,
       lambda cfg, said, root, name=name: cfg.pop(name)) for name, value, said in (
        ('max_epochs', 50, 'set train_cfg.max_epochs'), ('num_classes', 7, 'of the heads'),
        ('img_scale', (640, 641), 'the scale of the steps in train_dataloader'),
        ('optim_wraper', dict(type='OptimWrapper'), "did you mean 'optim_wrapper'"),
        ('train_dataloder', dict(batch_size=4), "did you mean 'train_dataloader'"),
        ('val_evalutor', dict(type='CocoMetric'), "did you mean 'val_evaluator'"),
        ('param_schedulers', [dict(type='PolyLR')], "did you mean 'param_scheduler'"))),
    ('unread', det(lambda c: c.update(data_root='mine/')), 'train_dataloader.dataset.data_root',
     lambda cfg, said, root: cfg.update(data_root=str(root))),
    ('unread', det(lambda c: c.update(train_pipeline=[dict(type='LoadImageFromFile')])),
     'set train_dataloader.dataset.pipeline', lambda cfg, said, root: cfg.update(
         train_pipeline=cfg.train_dataloader.dataset.pipeline)),
    ('schedule', det(lambda c: c.update(train_cfg=dict(max_epochs=3, val_begin=4))),
     'there is no validation', lambda cfg, said, root: cfg.train_cfg.update(val_begin=3)),
    ('schedule', det(lambda c: (best('auto')(c), setattr(c, 'train_cfg', dict(max_iters=9)),
                                c.default_hooks.checkpoint.update(interval=1))),
     'no checkpoint before its end', lambda cfg, said, root:
     cfg.default_hooks.checkpoint.update(by_epoch=False)),
    *(('schedule', det(lambda c, loop=loop: c.update(train_cfg=loop, param_scheduler=[dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)])),
       f'and the training has {steps}:', lambda cfg, said, root: cfg.param_scheduler[0].update(
           end=int(re.search('a tenth of them, ([0-9]+)', said)[1])))
      for loop, steps in ((dict(max_epochs=30), 60), (dict(max_iters=90), 90))),
    ('schedule', det(lambda c: c.update(train_cfg=dict(max_epochs=4), param_scheduler=[dict(
        type='MultiStepLR', milestones=[8, 11])])), 'it never falls', lambda cfg, said, root:
        cfg.param_scheduler[0].update(milestones=[3])),
    ('schedule', det(lambda c: c.update(train_cfg=dict(max_epochs=4), param_scheduler=[dict(
        type='CosineAnnealingLR', T_max=12)])), 'the rate stays high', lambda cfg, said, root:
        cfg.param_scheduler[0].update(T_max=4)),
    ('schedule', det(lambda c: c.update(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=90), param_scheduler=[dict(
            type='MultiStepLR', milestones=[50])])), 'the rate never changes',
     lambda cfg, said, root: cfg.param_scheduler[0].update(by_epoch=False)),
]


@pytest.mark.parametrize('row', ADVICE, ids=names(ADVICE))
def test_what_is_wrong_is_said_and_following_the_advice_makes_it_well(row, tmp_path):
    follow(row, tmp_path)


def a_metric_each(root):
    """Two sets with ids that collide, each scored by itself."""
    cfg = sets.detection(root, masks=False)
    sets.put(root, 'other', sets.objects(bbox=[12, 9, 40, 40], segmentation=None))
    one, metric = cfg.val_dataloader.dataset, cfg.val_evaluator
    cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[
        one, dict(one, ann_file='other.json')])
    cfg.val_evaluator = dict(
        type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'],
        metrics=[metric, dict(metric, ann_file=f'{root}/other.json')])
    best('a/coco/bbox_mAP')(cfg)
    return cfg


SOUND = {
    'sets with a metric each': a_metric_each,
    'a metric of several numbers': seg(lambda c: (best('mIoU')(c), c.val_evaluator.update(
        iou_metrics=['mIoU', 'mDice']))),
    'the best of boxes': det(best('coco/bbox_mAP_50')),
    'iterations without an end': det(lambda c: (sampler('train', 'InfiniteSampler')(c), setattr(
        c, 'train_cfg', dict(type='IterBasedTrainLoop', max_iters=9)))),
    'a flip that never comes': det(step(1, type='RandomFlip', prob=0.0)),
    'a flip that mmseg takes back': seg(step(1, type='RandomFlip', prob=1.0)),
    'augmented tests': det(lambda c: c.val_dataloader.dataset.update(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[
            [dict(type='RandomFlip', prob=1.0)], [dict(type='LoadAnnotations')]])])),
    'samples with their truth': det(packed(('img_id', 'ori_shape', 'instances'))),
    'masks of one stage': det(lambda c: c.update(model=dict(
        type='SOLO', mask_head=dict(type='SOLOHead', num_classes=2)))),
    'masks that cannot be drawn where none are asked': spoilt(
        segmentation=[[]], masks=False, metric=['bbox']),
    'run lengths of another size where none are asked': spoilt(
        segmentation=sets.runs([5, 5, 9, 9], (40, 40)), masks=False, metric=['bbox']),
    'numbers as a table writes them': spoilt(category_id=1.0, second=dict(
        category_id=2.0, id=2.0, image_id=1.0, iscrowd=0.0)),
    'a count of mixed labels where none are mixed': cls(lambda c: c.update(
        data_preprocessor=dict(num_classes=1000))),
    'a half of the pictures, scored by themselves': seg(
        lambda c: c.val_dataloader.dataset.update(indices=2)),
    'a name of its base': det(lambda c: c.update(data_root=c.train_dataloader.dataset.data_root)),
    'a film of joints': film(lambda c: c.model.update(cls_head=dict(
        type='GCNHead', num_classes=3, in_channels=4))),
}


@pytest.mark.parametrize('name', SOUND)
def test_nothing_is_said_of_sound_settings(name, tmp_path):
    cfg = SOUND[name](tmp_path)
    assert found(cfg) == {}
    assert set(found(cfg, level='warning')) <= {'absent class'}


@pytest.mark.parametrize('make', [sets.listed, sets.films])
def test_one_label_alone_is_told_loudly(make, tmp_path):
    said = found(list_of(make)(tmp_path), 'train', level='warning')['absent class']
    assert '2 of 3 classes' in said and 'there is nothing to tell apart; add examples' in said


def test_types_may_be_classes_as_configs_in_plain_python_have_them(tmp_path):
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation import CocoMetric
    from mmseg.datasets import BaseSegDataset

    from swinv2_mm.datasets.checks import findings
    cfg = det(lambda c: c.val_dataloader.dataset.update(indices=1))(tmp_path / 'det')
    cfg.val_dataloader.dataset.type, cfg.val_evaluator.type = CocoDataset, CocoMetric
    sets.put(tmp_path / 'det', 'other', sets.objects(bbox=[1, 1, 9, 9]))
    cfg.val_evaluator.ann_file = f'{tmp_path}/det/other.json'
    kinds = {f.kind for f in findings(cfg, ('train', 'val'))}
    assert kinds == {'part of the set', 'other truth'}
    cfg = sets.maps(tmp_path / 'seg', table={1: 255, 2: 255})
    cfg.train_dataloader.dataset.type = BaseSegDataset
    assert {f.kind for f in findings(cfg, ('train',))} == {'nothing to learn'}


def test_what_a_base_left_over_is_no_word_worth(tmp_path):
    (tmp_path / 'base.py').write_text(
        "optimizer = dict(type='SGD')\noptim_wrapper = dict(optimizer=optimizer)\n")
    (tmp_path / 'leaf.py').write_text(
        "_base_ = 'base.py'\noptim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW'))\n")
    plain = sets.detection(tmp_path)
    for name, said in (('leaf', set()), ('leaf2', {'unread'})):
        if said:
            text = (tmp_path / 'leaf.py').read_text()
            (tmp_path / 'leaf2.py').write_text(f"{text}lr_config = dict(policy='step')\n")
        cfg = Config.fromfile(Path(tmp_path, f'{name}.py'))
        cfg.merge_from_dict(plain._cfg_dict.to_dict())
        from swinv2_mm.datasets.checks import findings
        assert {f.kind for f in findings(cfg, ('train', 'val'))} == said


def test_images_that_a_list_or_a_folder_leaves_out_are_counted(tmp_path):
    cfg = sets.detection(tmp_path / 'det')
    for image in (content := sets.objects())['images'][:1]:
        image.update(width=20)
    sets.put(tmp_path / 'det', 'train', content)
    cfg.train_dataloader.dataset.filter_cfg = dict(min_size=32)
    assert 'has 1 of 3 images with a side under 32' in found(cfg, level='warning')['left out']
    cfg = sets.folders(tmp_path / 'cls')
    (tmp_path / 'cls/train/red/0.jpg').rename(tmp_path / 'cls/train/0.jpg')
    said = found(cfg, level='warning')
    assert 'holds 1 images beside its folders' in said['left out'] and "'red'" in said[
        'absent class']
