"""SimMIM hides patches of pictures of any sides."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from swinv2_mm.datasets.checks import check_data
from swinv2_mm.models.simmim import MaskedSwinTransformerV2
from swinv2_mm.utils.errors import UserError


def mask(kind, seed=0, **settings):
    np.random.seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        import mmpretrain.datasets  # noqa: F401 - registers its own
        return TRANSFORMS.build(dict(type=kind, **settings))({})['mask']


@pytest.mark.parametrize('settings', [
    {}, dict(input_size=64, mask_patch_size=16), dict(input_size=96, mask_ratio=0.33)], ids=str)
def test_squares_are_hidden_as_by_mmpretrain(settings):
    ours, theirs = (mask(kind, **settings) for kind in (
        'swinv2_mm.SimMIMMaskGenerator', 'mmpretrain.SimMIMMaskGenerator'))
    assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


@pytest.mark.parametrize('size, blocks, ratio', [
    ((64, 128), (4, 8), 0.6), ((128, 64), (8, 4), 0.5), ([60, 100], (4, 7), 0.6),
    ((16, 200), (1, 13), 1.0), ((16, 16), (1, 1), 0.0)], ids=str)
def test_any_sides_give_a_mask_of_whole_blocks(size, blocks, ratio):
    found = mask('swinv2_mm.SimMIMMaskGenerator', input_size=size, mask_patch_size=16,
                 mask_ratio=ratio)
    assert found.shape == (size[0] // 4, size[1] // 4)
    corners = found[::4, ::4]
    assert corners.shape == blocks and corners.sum() == np.ceil(corners.size * ratio)
    whole = np.kron(corners, np.ones((4, 4), int))[:found.shape[0], :found.shape[1]]
    assert np.array_equal(whole, found)


def test_a_model_takes_it(awake):
    """Case 13."""
    model = MaskedSwinTransformerV2('nano', window_size=8).eval()
    found = torch.as_tensor(mask('swinv2_mm.SimMIMMaskGenerator', input_size=(64, 128),
                                 mask_patch_size=16))[None]
    with torch.no_grad():
        (out,) = model(torch.randn(1, 3, 64, 128), found)
        assert out.shape[2:] == (2, 4)
        with pytest.raises(ValueError, match=r"type='swinv2_mm\.SimMIMMaskGenerator' takes"):
            model(torch.randn(1, 3, 64, 128), torch.zeros(1, 16, 16))


@pytest.mark.parametrize('settings, sentence', [
    (dict(input_size=(64, 64, 64)), 'must be a side in pixels or'),
    (dict(input_size=(64, 0)), 'must be a side in pixels or'),
    (dict(mask_patch_size=6), 'must be a multiple of model_patch_size'),
    (dict(mask_ratio=1.5), 'must be from 0 to 1')])
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        mask('swinv2_mm.SimMIMMaskGenerator', **settings)


def test_sides_given_to_mmpretrains_own_are_refused_before_a_run(tmp_path):
    (tmp_path / 'a').mkdir()
    for size in ((64, 128), [64, 64]):
        data = dict(type='CustomDataset', data_root=str(tmp_path), with_label=False, pipeline=[
            dict(type='RandomApply', transforms=[
                dict(type='SimMIMMaskGenerator', input_size=size)])])
        cfg = Config(dict(default_scope='mmpretrain', model=dict(),
                          train_dataloader=dict(dataset=data)))
        with pytest.raises(UserError, match="set type='swinv2_mm.SimMIMMaskGenerator', which"):
            check_data(cfg, 'train')
