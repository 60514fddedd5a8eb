"""Positions of a model trained from scratch mean the same at any size of image afterwards."""
import logging
import runpy
from types import SimpleNamespace

import pytest
import torch
from conftest import awaken
from helpers import ROOT
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import nn

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.checkpoints import pretrained_windows
from swinv2_mm.engine import PositionsHook

ARCH = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 2))


def runner(backbone, *hooks, **cfg):
    model = nn.Sequential(backbone)
    return SimpleNamespace(model=model, hooks=hooks, cfg=cfg, logger=logging.getLogger('quiet'))


def train(run, *batches):
    """Steps of a training: what its first forward passes see."""
    hook = PositionsHook()
    hook.before_train(run)
    for batch in batches:
        outs = run.model.train()(batch)
        hook.after_train_iter(run, 0)
    return outs


def images(*size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('size, sides', [
    ((64, 64), [(8, 8), (8, 8), (4, 4), (2, 2)]), ((256, 256), [(8, 8)] * 4),
    ((96, 250), [(8, 8), (8, 8), (6, 8), (3, 8)])], ids=str)
def test_the_windows_of_the_first_batch_are_kept_and_change_nothing_there(size, sides):
    model = awaken(SwinTransformerV2(ARCH, window_size=8, drop_path_rate=0))
    with torch.no_grad():
        before = model.eval()(images(*size))
        outs = train(runner(model), images(*size), images(32, 32))
        assert model.pretrained_window_sizes == sides
        after = model.eval()(images(*size))
    assert all(map(torch.equal, before, after)) and len(outs) == 4
    assert pretrained_windows(model.state_dict()) == [((8, 8), side) for side in sides]


def test_an_offset_has_one_bias_at_any_size_of_image():
    """Case 39: stage 3 has maps of 4 x 4 in the training and of 8 x 8 in a test."""
    model = awaken(SwinTransformerV2(ARCH, window_size=8))
    attention = model.layers[2].blocks[0].attn

    def biases():  # of the key one token to the right
        return [attention.position_bias((side, side))[:, 0, 1] for side in (4, 8)]

    with torch.no_grad():
        small, large = biases()
        assert (small - large).abs().max() > 0.01
        train(runner(model), images(64, 64))
        small, large = biases()
        torch.testing.assert_close(small, large)


def test_what_is_set_stays_and_a_checkpoint_is_held_to_what_was_found():
    model = SwinTransformerV2(ARCH, window_size=8, pretrained_window_sizes=[12, 0, (0, 6), 6])
    train(runner(model), images(64, 64))
    assert model.pretrained_window_sizes == [(12, 12), (8, 8), (4, 6), (6, 6)]
    again = SwinTransformerV2(ARCH, window_size=8, pretrained_window_sizes=[12, 0, (0, 6), 6])
    again.load_state_dict(model.state_dict())
    assert again.pretrained_window_sizes == model.pretrained_window_sizes
    train(runner(again), images(128, 128))  # resumed
    assert again.pretrained_window_sizes == model.pretrained_window_sizes
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[12, 8, \(4, 6\), 6\]'):
        SwinTransformerV2(ARCH, window_size=16).load_state_dict(model.state_dict())


def test_videos_averaged_copies_and_other_models_are_thought_of():
    video = SwinTransformerV2Video(ARCH, window_size=8)
    hook = EMAHook()
    run = runner(video, hook)
    hook.ema_model = ExponentialMovingAverage(run.model)
    train(run, torch.randn(1, 3, 8, 64, 64))
    assert video.pretrained_window_sizes == [(4, 8, 8), (4, 8, 8), (4, 4, 4), (4, 2, 2)]
    assert hook.ema_model.module[0].pretrained_window_sizes == video.pretrained_window_sizes
    other = runner(nn.Conv2d(3, 3, 1))
    train(other, images(8, 8))


def test_a_compiled_model_keeps_0_and_is_told(caplog):
    model = SwinTransformerV2(ARCH, window_size=8)
    with caplog.at_level(logging.WARNING, 'quiet'):
        train(runner(model, compile=True), images(64, 64))
    assert 'set it to the windows of the training' in caplog.text
    assert model.pretrained_window_sizes == [(0, 0)] * 4


def test_the_pictures_that_the_cost_of_0_is_measured_on_show_what_they_say():
    page = runpy.run_path(str(ROOT / 'benchmarks' / 'positions.py'), run_name='positions')
    images, sides = page['scenes'](40, 64, torch.Generator().manual_seed(0))
    assert set(sides.tolist()) == {0, 1, 2, 3}
    for image, side in zip(images, sides.tolist()):
        red, green = ((image[channel] > 0.8).nonzero().float().mean(0) for channel in (0, 1))
        down, right = (red - green).tolist()
        assert (right < -12, right > 12, down < -12, down > 12).index(True) == side
        assert min(abs(right), abs(down)) < 1e-3
