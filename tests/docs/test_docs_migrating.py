"""docs/migrating.md: its configs build, its weights move over, its commands run."""
import importlib.util
from pathlib import Path

import peers
import pytest
import torch
from conftest import awaken
from docs_blocks import block, commands, page
from helpers import checked, run_tool
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner, load_checkpoint

NANO = dict(embed_dims=32, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8])
DIMS = [32, 64, 128, 256]
MMSEG = Path(importlib.util.find_spec('mmseg').submodule_search_locations[0])


def changed(label, folder):
    """The config of a block, in a file of its own."""
    text = block('migrating', label).replace(
        "_base_ = 'swin-tiny", f"_base_ = '{MMSEG}/.mim/configs/swin/swin-tiny")
    (folder / 'changed.py').write_text(text)
    return Config.fromfile(folder / 'changed.py')


def built(cfg, scope, backbone):
    """The model of a config with another backbone, of the channels of nano."""
    model = Config(dict(model=cfg.model.to_dict())).model
    model.backbone = backbone
    if 'neck' in model:
        model.neck.in_channels = DIMS
    else:
        model.decode_head.update(in_channels=DIMS, channels=32)
        model.auxiliary_head.update(in_channels=DIMS[2], channels=32)
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


@pytest.mark.parametrize(('label', 'scope'), [('v1-mmdet', 'mmdet'), ('v1-mmseg', 'mmseg')])
def test_a_config_of_swin_v1_becomes_one_of_swinv2_and_nothing_of_v1_is_left(
        label, scope, tmp_path):
    cfg = changed(label, tmp_path)
    backbone = cfg.model.backbone
    assert backbone.type == 'swinv2_mm.SwinTransformerV2' and backbone.arch == 'tiny'
    assert backbone.pretrained_window_sizes == 'from_checkpoint'
    assert set(backbone) == {'type', 'arch', 'drop_path_rate', 'window_size',
                             'pretrained_window_sizes', 'init_cfg'}
    assert cfg.optim_wrapper.paramwise_cfg == {}
    small = backbone | dict(arch='nano', window_size=8, pretrained_window_sizes=8, init_cfg=None)
    model = built(cfg, scope, small)
    maps = model.backbone(torch.rand(1, 3, 96, 128))
    assert [f.shape[1:] for f in maps] == [(c, 24 >> i, 32 >> i) for i, c in enumerate(DIMS)]
    wrapper = Runner.build_optim_wrapper(type('R', (), dict(model=model))(), cfg.optim_wrapper)
    decays = {group['weight_decay'] for group in wrapper.optimizer.param_groups}
    assert decays == {0, cfg.optim_wrapper.optimizer.weight_decay}


def test_a_whole_detector_of_mmpretrains_backbone_moves_over(tmp_path, caplog):
    import mmpretrain.models  # noqa: F401
    cfg = changed('v1-mmdet', tmp_path)
    old = built(cfg, 'mmdet', dict(
        type='mmpretrain.SwinTransformerV2', arch=NANO | dict(extra_norm_every_n_blocks=0),
        img_size=256, window_size=[8] * 4, pretrained_window_sizes=[8] * 4,
        out_indices=(0, 1, 2, 3)))
    awaken(old.backbone)
    file = tmp_path / 'old_detector.pth'
    torch.save(dict(state_dict=old.state_dict(), meta={}), file)
    settings = {'backbone': dict(type='swinv2_mm.SwinTransformerV2', arch='nano', window_size=8,
                                 pretrained_window_sizes=8)}
    exec(block('migrating', 'whole-detector').replace('old_detector.pth', str(file)), settings)
    new = built(cfg, 'mmdet', settings['backbone'])
    new.init_weights()
    load_checkpoint(new, settings['load_from'], map_location='cpu')  # as mmengine's Runner does
    theirs, ours = old.state_dict(), new.state_dict()
    rest = [name for name in ours if not name.startswith('backbone.')]
    assert rest and all(torch.equal(theirs[name], ours[name]) for name in rest)
    picture = torch.rand(1, 3, 256, 256)  # no stage of window 8 needs padding
    with torch.inference_mode():
        picture = picture.double()  # all but the positions that mmpretrain keeps as float32
        old, new = old.double().eval(), new.double().eval()
        for theirs, ours in zip(old.extract_feat(picture), new.extract_feat(picture)):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_weights_of_timm_give_timms_features():
    program = {}
    exec(block('migrating', 'timm'), program)
    old, new = awaken(program['old']).eval(), program['new'].eval()
    program['load_backbone'](new, old.state_dict())
    picture = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        expected = peers.trunks_in_float64(old, old.forward_features, picture).permute(0, 3, 1, 2)
        torch.testing.assert_close(new.double()(picture.double())[-1], expected, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_the_commands_convert_and_back(tmp_path):
    import mmpretrain.models
    model = mmpretrain.models.SwinTransformerV2(
        NANO | dict(extra_norm_every_n_blocks=0), 256, window_size=[8] * 4)
    torch.save(awaken(model).state_dict(), tmp_path / 'swinv2_old.pth')
    lines = commands(page('migrating'))
    assert len(lines) == 2
    for python, script, *words in lines:
        assert python == 'python'
        done = checked(run_tool(script, *(tmp_path / word if word.endswith('.pth') else word
                                          for word in words)))
    assert 'mmpretrain' in done.stdout
    assert {file.name for file in tmp_path.glob('*.pth')} == {'swinv2_old.pth', 'swinv2_new.pth'}


def test_stages_are_frozen_as_the_table_says():
    import mmpretrain.models

    from swinv2_mm import SwinTransformerV2
    theirs = mmpretrain.models.SwinTransformerV2(
        NANO | dict(extra_norm_every_n_blocks=0), 256, frozen_stages=0)
    theirs.train()  # where it freezes
    ours = SwinTransformerV2('nano', frozen_stages=1)
    count = [sum(p.numel() for p in model.parameters() if not p.requires_grad)
             for model in (theirs, ours)]
    norm = sum(p.numel() for p in ours.norm0.parameters())  # theirs has that of the last stage only
    merging = sum(p.numel() for p in ours.layers[0].downsample.parameters())  # theirs: stage 1's
    assert count[0] == count[1] - norm - merging
