"""Video configs: the published recipes, models that fit together, a step, a real clip."""

import pytest
import torch
from config_checks import LEAVES, ZOO, assert_decay, assert_published, build, docstring, load
from conftest import awaken
from helpers import ROOT, load_tool, train_step
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from samples import video as sample

from swinv2_mm import ARCHS

OURS = [name for name in LEAVES
        if name.startswith('configs/video/') or name.endswith('/video_nano.py')]
SIZES = {size: f'configs/video/swinv2_{size[0]}_k400.py'
         for size in ('tiny', 'small', 'base', 'large')}
FIRST, SECOND = 'configs/video/swinv2_g_256_k400.py', 'configs/video/swinv2_g_k400.py'
CLIPS = ROOT / 'data' / 'clips'

# What was published. A path into the config (numbers index lists) -> value. VID is the official
# Video Swin code, MMA mmaction2's version of it; A2.2 an appendix of the paper.
MODEL = {
    'model.type': 'Recognizer3D',  # VID
    'model.backbone.patch_size': (2, 4, 4),  # VID
    'model.cls_head.type': 'I3DHead',  # VID
    'model.cls_head.num_classes': 400,  # Kinetics-400
    'model.cls_head.spatial_type': 'avg',  # VID
    'model.cls_head.dropout_ratio': 0.5,  # VID
    'model.data_preprocessor.mean': [123.675, 116.28, 103.53],  # VID
    'model.data_preprocessor.std': [58.395, 57.12, 57.375],  # VID
    'optim_wrapper.optimizer.type': 'AdamW',  # VID, A2.2
    'optim_wrapper.optimizer.betas': (0.9, 0.999),  # VID
    'optim_wrapper.clip_grad': None,  # VID: none
    'optim_wrapper.accumulative_counts': None,  # MMA; VID accumulates
    'param_scheduler.0.type': 'LinearLR',  # VID
    'param_scheduler.0.by_epoch': True,  # VID
    'param_scheduler.0.start_factor': 0.1,  # MMA
    'param_scheduler.1.type': 'CosineAnnealingLR',  # VID, A2.2
    'param_scheduler.1.eta_min': 0,  # VID
    'train_dataloader.dataset.pipeline.2.type': 'RandomResizedCrop',  # VID
    'train_dataloader.dataset.pipeline.4': dict(type='Flip', flip_ratio=0.5),  # VID
    'test_dataloader.dataset.pipeline.0.sample.num_clips': 4,  # VID: 4 x 3 views
    'test_dataloader.dataset.pipeline.2.count': 3,  # VID
    'val_dataloader.dataset.pipeline.0.sample.num_clips': 1,  # VID: 1 x 1 view
    'val_dataloader.dataset.pipeline.2.type': 'CenterCrop',  # VID
}
ROWS = ('crop', 'short side', 'window', 'frames', 'stride', 'epochs', 'warm-up', 'batch', 'lr',
        'backbone lr')
SETTINGS = {
    **dict.fromkeys(SIZES.values(), (224, 256, (8, 7, 7), 32, 2, 30, 2.5, 64, 1e-3, 0.1)),  # VID
    # A2.2; frames, stride, short side and one learning rate for all are ours.
    FIRST: (256, 293, (8, 16, 16), 16, 4, 20, 2.5, 80, 3.6e-4, 1.0),
    SECOND: (320, 366, (8, 20, 20), 16, 4, 5, 1, 64, 5e-5, 1.0),
}
W12 = [(0, 12, 12), (0, 12, 12), (0, 12, 12), (0, 6, 6)]  # 6: the last map of 192 is 6 x 6
# Weight decay and drop path, file and the windows it was trained with, no time among them.
PER_SIZE = {
    SIZES['tiny']: (0.02, 0.1, 'swinv2_tiny_patch4_window8_256.pth', (0, 8, 8)),  # VID, MMA
    SIZES['small']: (0.02, 0.2, 'swinv2_small_patch4_window8_256.pth', (0, 8, 8)),  # MMA; VID 0.1
    SIZES['base']: (0.05, 0.3, 'swinv2_base_patch4_window8_256.pth', (0, 8, 8)),  # VID, MMA
    SIZES['large']: (0.05, 0.4, 'swinv2_large_patch4_window12_192_22k.pth', W12),  # MMA
    FIRST: (0.1, 0.4, None, W12),  # A2.2; drop path: of the giant on ADE20K
    SECOND: (0.1, 0.4, None, W12),
}


@pytest.mark.parametrize('name', SETTINGS)
def test_configs_resolve_to_the_published_recipe(name):
    cfg = load(name)
    row = dict(zip(ROWS, SETTINGS[name]))
    decay, drop_path, stem, pretrained = PER_SIZE[name]
    sides = {}
    for split in ('train', 'val', 'test'):
        sample = f'{split}_dataloader.dataset.pipeline.0.sample'
        sides |= {f'{sample}.type': 'SampleFrames', f'{sample}.clip_len': row['frames'],
                  f'{sample}.frame_interval': row['stride']}
    assert_published(cfg, MODEL | sides | {
        'model.backbone.window_size': row['window'],
        'model.backbone.drop_path_rate': drop_path,
        'model.backbone.pretrained_window_sizes': pretrained,
        'model.backbone.init_cfg.checkpoint': stem and ZOO + stem,
        'optim_wrapper.optimizer.lr': row['lr'],
        'optim_wrapper.optimizer.weight_decay': decay,
        'optim_wrapper.paramwise_cfg': dict(backbone_lr_mult=row['backbone lr']),
        'train_cfg.max_epochs': row['epochs'],
        'param_scheduler.0.end': row['warm-up'],
        'param_scheduler.1.end': row['epochs'],
        'param_scheduler.1.T_max': row['epochs'],
        'auto_scale_lr.base_batch_size': row['batch'],
        'train_dataloader.batch_size': row['batch'] // 8,  # the command runs on 8 GPUs
        'train_dataloader.dataset.pipeline.1.scale': (-1, row['short side']),
        'train_dataloader.dataset.pipeline.3.scale': (row['crop'], row['crop']),
        'val_dataloader.dataset.pipeline.1.scale': (-1, row['short side']),
        'val_dataloader.dataset.pipeline.2.crop_size': row['crop'],
        'test_dataloader.dataset.pipeline.1.scale': (-1, row['crop']),
        'test_dataloader.dataset.pipeline.2.crop_size': row['crop'],
    })
    assert f'{name} 8 --amp' in docstring(name)


def test_the_second_stage_of_the_giant_goes_on_from_the_first():
    first, second = load(FIRST), load(SECOND)
    assert second.load_from == f'work_dirs/swinv2_g_256_k400/epoch_{first.train_cfg.max_epochs}.pth'
    # The weights keep counting positions as they learnt to.
    windows = [cfg.model.backbone.pretrained_window_sizes for cfg in (first, second)]
    assert windows[0] == windows[1]


@pytest.mark.parametrize('name', OURS)
def test_the_whole_model_has_the_channels_and_blocks_its_parts_expect(name):
    cfg = load(name)
    backbone = build(cfg, 'meta').backbone
    arch = ARCHS[cfg.model.backbone.arch]
    assert [len(stage.blocks) for stage in backbone.layers] == list(arch.depths)
    assert cfg.model.cls_head.in_channels == backbone.out_channels[0] == 8 * arch.embed_dims
    rates = [block.drop_path.rate for stage in backbone.layers for block in stage.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(cfg.model.backbone.drop_path_rate)


def small(cfg):
    """The same config with a model that takes a step on a CPU in a second."""
    cfg.model.backbone.update(
        arch=dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 1, 2, 2)), drop_path_rate=0.0)
    cfg.model.cls_head.in_channels = 64
    return cfg


@pytest.mark.parametrize('name', OURS)
def test_a_training_step_reaches_every_parameter_and_views_are_averaged(name):
    cfg = small(load(name))
    cfg.model.cls_head.dropout_ratio = 0.0
    torch.manual_seed(0)
    model = build(cfg)
    model.init_weights()
    awaken(model.backbone)
    losses = train_step(model, sample(1))
    assert losses['loss_cls'].isfinite()
    assert [key for key, p in model.named_parameters()
            if not (p.requires_grad and p.grad.any() and p.grad.isfinite().all())] == []

    model.eval()
    data = model.data_preprocessor(sample(6), False)
    with torch.no_grad():
        found = model(**data, mode='predict')
        views = model(data['inputs'], stage='head').softmax(1)
    assert len(found) == 1 and views.shape == (6, cfg.model.cls_head.num_classes)
    torch.testing.assert_close(found[0].pred_score, views.mean(0))
    assert views.std(0).max() > 1e-4  # the views do differ


@pytest.mark.parametrize('name', OURS)
def test_decay_and_learning_rates_are_those_of_the_recipe(name):
    cfg = load(name)
    assert_decay(cfg)
    model = build(cfg, 'meta')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    lr = cfg.optim_wrapper.optimizer.lr
    share = (cfg.optim_wrapper.get('paramwise_cfg') or {}).get('backbone_lr_mult', 1.0)
    for key, parameter in model.named_parameters():
        wanted = lr * (share if key.startswith('backbone.') else 1.0)
        assert rates[id(parameter)] == pytest.approx(wanted), key


def test_no_flip_turns_one_motion_of_the_demo_into_another():
    cfg = load('configs/demo/video_nano.py')
    assert all('Flip' not in str(cfg[f'{split}_dataloader']) for split in ('train', 'val', 'test'))


def through_the_pipeline(cfg, folder, split='test'):
    """The real clip as the data set of a config gives it."""
    if not (CLIPS / 'clip_0.mp4').exists():
        pytest.skip('data/clips/clip_0.mp4 is not there')
    (folder / 'list.txt').write_text('clip_0.mp4 7\n')
    place = dict(data_root='', ann_file=str(folder / 'list.txt'),
                 data_prefix=dict(video=str(CLIPS)))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return DATASETS.build(cfg[f'{split}_dataloader'].dataset | place)[0]


def test_a_real_clip_goes_through_all_pipelines_of_kinetics(tmp_path):
    cfg = load(SIZES['tiny'])
    for split, views in (('train', 1), ('val', 1), ('test', 12)):
        data = through_the_pipeline(cfg, tmp_path, split)
        assert data['inputs'].shape == (views, 3, 32, 224, 224)
        assert data['data_samples'].gt_label.item() == 7
    wide = load(SECOND)
    wide.test_dataloader.dataset.pipeline[2].count = 5
    assert through_the_pipeline(wide, tmp_path)['inputs'].shape == (20, 3, 16, 320, 320)


@pytest.mark.slow
def test_a_real_clip_gives_one_prediction_of_the_tiny_model(tmp_path):
    cfg = load(SIZES['tiny'])
    data = pseudo_collate([through_the_pipeline(cfg, tmp_path)])
    cfg.model.test_cfg = dict(max_testing_views=4)  # at a time, for memory
    torch.manual_seed(0)
    model = build(cfg).eval()
    with torch.no_grad():
        found, = model.test_step(data)
    assert found.pred_score.shape == (400,)
    torch.testing.assert_close(found.pred_score.sum(), torch.tensor(1.0))


def test_transforms_resolve_under_the_scope_of_mmaction2():
    cfg = load(SIZES['tiny'])
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for step in (*cfg.train_pipeline, *cfg.val_pipeline, *cfg.test_pipeline):
            assert TRANSFORMS.build(step)


def test_the_demo_names_the_classes_of_its_data_in_their_order():
    cfg = load('configs/demo/video_nano.py')
    assert cfg.metainfo.classes == load_tool('make-motions').MOTIONS
    assert cfg.model.cls_head.num_classes == len(cfg.metainfo.classes)
