"""What classification configs make of images and of 22K weights, and what their page shows."""
import re

import numpy as np
import pytest
import torch
from config_checks import LEAVES, ZOO, build, load
from conftest import awaken
from helpers import ROOT, paired, weights
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, DefaultScope

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import from_native
from swinv2_mm.checkpoints.imagenet import ROWS_OF_1K

pytest.importorskip('mmpretrain')


def leaf(name):
    return f'configs/cls/swinv2_{name}.py'


IMAGENET = [name for name in LEAVES if name.startswith('configs/cls/') and name != leaf('n_cells')]
FINE_TUNE = [leaf(name) for name in ('b_w16_256_ft', 'l_w16_256_ft', 'b_w24_384_ft',
                                     'l_w24_384_ft')]


@pytest.mark.parametrize('name', [leaf('t_w8_256'), leaf('b_w24_384_ft'), leaf('b_22k_192'),
                                  leaf('g_640_ft'), leaf('n_cells')])
def test_pipelines_give_images_of_the_size_of_the_config(name, tmp_path):
    import cv2
    cfg = load(name)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'image.jpg'), image)
    for split, pipeline in (('train', cfg.train_pipeline), ('test', cfg.get('test_pipeline', []))):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            data = dict(img_path=str(tmp_path / 'image.jpg'), gt_label=1)
            for step in pipeline:
                data = TRANSFORMS.build(step)(data)
        side = cfg.train_pipeline[1].scale
        if pipeline:
            assert data['inputs'].shape == (3, side, side), split
            assert data['inputs'].dtype == torch.uint8


def test_random_augmentation_is_timms_with_its_strengths():
    timm = pytest.importorskip('timm.data.auto_augment')
    from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
    ours = RANDAUG_POLICIES['timm_increasing']
    theirs = timm.rand_augment_transform(  # as the official settings spell it
        'rand-m9-mstd0.5-inc1', dict(translate_const=115, img_mean=(124, 116, 104)))
    assert theirs.num_layers == 2 and len(theirs.ops) == len(ours)
    assert all(op.prob == 0.5 and op.magnitude == 9 and op.magnitude_std == 0.5
               for op in theirs.ops)
    step = load(leaf('t_w8_256')).train_pipeline[3]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = TRANSFORMS.build(step)
    assert all(one.prob == 0.5 for one in built.transforms)
    for policy, name in paired(ours, timm._RAND_INCREASING_TRANSFORMS):
        strength = timm.LEVEL_TO_ARG[name]
        assert ('magnitude_range' in policy) == (strength is not None), name
        if strength is not None and 'Translate' not in name:  # theirs is in pixels
            low, high = policy['magnitude_range']
            value = low + 0.9 * (high - low)
            theirs = abs(strength(9, {})[0])
            factor = policy['type'] in ('ColorTransform', 'Contrast', 'Brightness', 'Sharpness')
            # Theirs are factors around 1; whole levels are rounded.
            assert abs(theirs - 1) == pytest.approx(value) if factor else (
                theirs == pytest.approx(value, abs=0.7)), name
    assert step.hparams.pad_val == [round(x) for x in (103.53, 116.28, 123.675)]


def test_erased_pixels_are_drawn_around_the_mean_that_images_are_normalised_by():
    # timm draws from N(0, 1) after normalising, which is N(mean, std) before; here in BGR.
    for name in IMAGENET:
        cfg = load(name)
        erasing, images = cfg.train_pipeline[4], cfg.model.data_preprocessor
        assert images.to_rgb
        assert list(erasing.fill_color) == list(images.mean)[::-1]
        assert list(erasing.fill_std) == list(images.std)[::-1]


@pytest.mark.parametrize('name', FINE_TUNE)
def test_the_head_starts_from_the_matching_rows_of_the_22k_file(name, tmp_path):
    arch = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    source = awaken(SwinTransformerV2(arch, window_size=[12, 12, 12, 6]), seed=3)
    state = weights(source) | {
        'head.weight': torch.randn(21841, 64), 'head.bias': torch.randn(21841)}
    windows = [((w, w), (w, w)) for w in (12, 12, 12, 6)]
    torch.save({'model': from_native(state, 'official', windows)}, tmp_path / '22k.pth')

    cfg = load(name)
    cfg.model.backbone.arch = arch
    cfg.model.head.in_channels = 64
    cfg.model.init_cfg.checkpoint = str(tmp_path / '22k.pth')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config(dict(model=cfg.model)).model)
        model.init_weights()
    rows = torch.tensor(ROWS_OF_1K)
    assert torch.equal(model.head.fc.weight, state['head.weight'][rows])
    assert torch.equal(model.head.fc.bias, state['head.bias'][rows])
    for key, value in weights(model.backbone).items():
        assert torch.equal(value, weights(source)[key]), key

    cfg.model.backbone.pretrained_window_sizes = 0  # would count positions otherwise
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config(dict(model=cfg.model)).model)
        with pytest.raises(ValueError, match='must normalise relative positions'):
            model.init_weights()


def inheriting(folder, word):
    """The example config with the block of docs/classification.md that holds a word under it."""
    page = (ROOT / 'docs' / 'classification.md').read_text()
    found = [text for text in re.findall(r'```python\n(.*?)```', page, re.DOTALL) if word in text]
    assert len(found) == 1
    path = folder / 'mine.py'
    path.write_text(f"_base_ = '{ROOT}/{leaf('n_cells')}'\n{found[0]}")
    return Config.fromfile(path)


def test_the_wrapper_of_the_docs_shows_rare_classes_more_often(tmp_path):
    cfg = inheriting(tmp_path, 'ClassBalancedDataset')
    dataset = cfg.train_dataloader.dataset
    counts = dict(zip(dataset.dataset.metainfo.classes, (40, 57, 3)))
    for name, count in counts.items():
        (tmp_path / 'train' / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / 'train' / name / f'{number}.jpg').touch()
    dataset.dataset.data_root = str(tmp_path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = DATASETS.build(dataset)
    shown = [built.get_cat_ids(i)[0] for i in range(len(built))]
    assert [shown.count(i) for i in range(3)] == [40, 57, 3 * 2]  # sqrt(0.1 / 0.03) is 1.8


def test_the_weights_of_the_docs_go_into_the_model(tmp_path):
    cfg = inheriting(tmp_path, 'swinv2_tiny_patch4_window8_256')
    model = build(cfg, 'meta')
    assert model.head.fc.weight.shape == (3, 768)
    assert cfg.model.init_cfg.checkpoint == f'{ZOO}swinv2_tiny_patch4_window8_256.pth'
    assert model.backbone.pretrained_window_sizes == [(8, 8)] * 4
