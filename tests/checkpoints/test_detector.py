"""From a detector of Objects365 to one of COCO: what is taken, what starts anew."""
import pytest
import torch
from config_checks import load
from conftest import awaken
from helpers import predict, sample, shrink
from mmengine.registry import MODELS, DefaultScope

from swinv2_mm.checkpoints.detector import ROWS_OF_COCO

BEFORE, AFTER = 'configs/det/swinv2_l_objects365.py', 'configs/det/swinv2_l_htcpp.py'
HEADS = [f'roi_head.bbox_head.{i}.fc_cls' for i in range(3)]


def small(name, **init):
    """A model with the heads of a config on a backbone that takes a second."""
    cfg = shrink(load(name).model)
    cfg.backbone.update(arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]),
                        init_cfg=None, with_cp=False)
    cfg.neck.in_channels = [8, 16, 32, 64]
    for head in cfg.roi_head.bbox_head:
        head.fc_out_channels = 16
    if init:
        cfg.init_cfg = dict(type='swinv2_mm.PretrainedDetector', **init)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A detector of Objects365 with a random value everywhere, and its checkpoint."""
    torch.manual_seed(0)
    model = awaken(small(BEFORE))
    path = tmp_path_factory.mktemp('objects365') / 'iter_67500.pth'
    meta = dict(iter=67500)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return model, str(path)


def test_rows_are_those_of_the_classes_of_the_same_meaning():
    from mmdet.datasets import CocoDataset, Objects365V2Dataset
    others = {
        'bird': 'wild bird', 'handbag': 'handbag/satchel', 'suitcase': 'luggage',
        'skis': 'skiboard', 'sports ball': 'other balls', 'bowl': 'bowl/basin',
        'orange': 'orange/tangerine', 'dining table': 'dinning table', 'tv': 'moniter/tv',
        'teddy bear': 'stuffed toy', 'hair drier': 'hair dryer'}
    names = [name.lower() for name in Objects365V2Dataset.METAINFO['classes']]
    coco = CocoDataset.METAINFO['classes']
    assert [names[row] for row in ROWS_OF_COCO] == [others.get(name, name) for name in coco]


def test_box_branch_and_backbone_come_from_objects365_and_masks_start_anew(trained, caplog):
    before, path = trained
    torch.manual_seed(1)
    fresh = small(AFTER)
    fresh.init_weights()
    torch.manual_seed(1)
    model = small(AFTER, checkpoint=path)
    model.init_weights()
    old, new = before.state_dict(), model.state_dict()
    rows = [*ROWS_OF_COCO, 365]
    for name in HEADS:
        for kind in ('weight', 'bias'):
            assert torch.equal(new[f'{name}.{kind}'], old[f'{name}.{kind}'][rows])
    picked = {f'{name}.{kind}' for name in HEADS for kind in ('weight', 'bias')}
    same = set(old) & set(new) - picked
    assert {name.split('.')[0] for name in same} == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    assert all(torch.equal(new[name], old[name]) for name in same)
    anew = set(new) - set(old)
    assert {name.split('.')[1] for name in anew} == {'mask_head', 'semantic_head'}
    start = fresh.state_dict()
    assert all(float(new[name].std()) == pytest.approx(float(start[name].std()), rel=0.2)
               for name in anew if new[name].ndim == 4)
    assert not set(old) - set(new)
    assert len(predict(model, sample())) >= 0  # it runs


def test_a_model_that_counts_positions_otherwise_is_refused(trained):
    model = small(AFTER, checkpoint=trained[1])
    model.backbone.pretrained_window_sizes = [(8, 8)] * 4
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[12, 12, 12, 6\]'):
        model.init_weights()


def test_a_file_of_a_backbone_alone_is_refused(trained, tmp_path):
    torch.save(trained[0].backbone.state_dict(), tmp_path / 'backbone.pth')
    model = small(AFTER, checkpoint=str(tmp_path / 'backbone.pth'))
    with pytest.raises(ValueError, match='must hold a detector.*PretrainedSwinV2 in'):
        model.init_weights()


def test_the_option_that_the_docstrings_name_is_this_initialiser():
    from config_checks import docstring
    for size in 'lg':
        text = ' '.join(docstring(f'configs/det/swinv2_{size}_objects365.py').split())
        assert 'model.init_cfg.type=swinv2_mm.PretrainedDetector model.init_cfg.checkpoint=' in text
        assert f'option of swinv2_{size}_htcpp' in text
