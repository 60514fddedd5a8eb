"""The optimizer at work: steps, schedules, resuming, logs, scopes, docs."""
import copy
import re

import pytest
import torch
from config_checks import build as build_model
from config_checks import load
from helpers import DEMO, ROOT, logged
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, LinearLR, build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from test_optimizer import (
    SMALL,
    Detector,
    MaskedBackbone,
    build,
    groups_of,
    layer_of,
    settings,
    walk,
)

from swinv2_mm import SwinTransformerV2

PAGE = (ROOT / 'docs' / 'detection.md').read_text()


def tables_of(make):
    """What the constructor logs while `make` runs, a list of lines each time."""
    with logged() as tables:
        make()
    return [table.splitlines() for table in tables if table.startswith('Groups of')]


def test_a_step_moves_each_parameter_by_its_own_rate_and_decay():
    model = Detector(MaskedBackbone(SMALL))
    wrapper = build(model, 'SGD', lr=0.25, layer_decay_rate=0.5, wrapper=dict(
        accumulative_counts=2))
    layers = walk(model.backbone)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):  # each half of the gradient, which is 1 in all: a sum's
        wrapper.update_params(sum(p.sum() for p in model.parameters()))
    for name, p in model.named_parameters():
        rest = name.removeprefix('backbone.')
        lr = 0.25 * 0.5 ** (9 - (layer_of(rest, layers) if rest != name else 9))
        decay = 0.5 if p.ndim > 1 and not re.search('cpb|logit|token', name) else 0
        moved = before[name] - lr * (1 + decay * before[name])
        # One rounding of the parameter and one of the step.
        torch.testing.assert_close(p, moved, rtol=2 ** -22, atol=2 ** -23)


def train(model, wrapper, steps, state=None):
    """Steps on a fixed loss with warm-up and cosine; states after each."""
    schedulers = [LinearLR(wrapper, 0.1, by_epoch=False, end=4),
                  CosineAnnealingLR(wrapper, 20, by_epoch=False, begin=4, eta_min_ratio=0.01)]
    if state:
        model.load_state_dict(state['model'])
        wrapper.load_state_dict(state['wrapper'])
        for scheduler, saved in zip(schedulers, state['schedulers']):
            scheduler.load_state_dict(saved)
    for _ in range(steps):
        wrapper.update_params(sum((p ** 2).sum() + p.sum() for p in model.parameters()))
        for scheduler in schedulers:
            scheduler.step()
    return copy.deepcopy(dict(model=model.state_dict(), wrapper=wrapper.state_dict(),
                              schedulers=[scheduler.state_dict() for scheduler in schedulers]))


def test_schedules_keep_the_shares_and_a_resumed_run_goes_on_as_if_never_stopped(tmp_path):
    torch.manual_seed(0)
    start = Detector().state_dict()
    runs = [Detector() for _ in range(3)]
    for model in runs:
        model.load_state_dict(start)
    wrappers = [build(model, lr=0.01, layer_decay_rate=0.5) for model in runs]
    whole = train(runs[0], wrappers[0], 9)
    torch.save(train(runs[1], wrappers[1], 6), tmp_path / 'state.pth')
    resumed = train(runs[2], wrappers[2], 3, torch.load(tmp_path / 'state.pth', weights_only=True))
    for name, value in whole['model'].items():
        assert torch.equal(value, resumed['model'][name]), name
    for groups in map(groups_of, (wrappers[0], wrappers[2])):
        top = groups[-1]['lr']
        assert 0 < top < 0.01  # past the warm-up, on the way down
        for group in groups:
            assert group['lr'] == pytest.approx(group['lr_scale'] * top, rel=1e-12)


def test_the_groups_are_logged_as_one_table():
    (layered,) = tables_of(lambda: build(
        Detector(SwinTransformerV2(SMALL, frozen_stages=0)), lr=0.01, layer_decay_rate=0.5))
    (plain,) = tables_of(lambda: build(Detector(), lr=0.01))
    assert layered[1].split() == ['lr', 'decay', 'tensors', 'parameters', 'of']
    # Four matrices of 4 channels: 3 x 4 x 4, 4 x 4, and twice 4 x 16.
    assert layered[2].split() == ['3.91e-05', '0.5', '4', '192', 'backbone.layers.0.blocks.0']
    assert layered[4].endswith('backbone.layers.0.blocks.1, backbone.layers.0.downsample')
    # The patch embedding: 4 x 3 x 4 x 4 and three vectors of 4.
    assert layered[-1] == ('Frozen, left out: 4 tensors, 204 parameters of backbone.patch_embed')
    assert len(layered) == 2 + 18 + 1 and len(plain) == 2 + 2
    assert all(line.endswith('  backbone, neck, head') for line in plain[2:])


def test_the_table_in_the_docs_is_what_is_logged():
    cfg = load(DEMO)
    cfg.optim_wrapper.paramwise_cfg = dict(backbone_lr_mult=0.1)
    model = build_model(cfg, 'meta')
    (lines,) = tables_of(lambda: build_optim_wrapper(model, cfg.optim_wrapper))
    assert '```text\n' + '\n'.join(lines[1:]) + '\n```' in PAGE


def test_the_settings_in_the_docs_are_good_for_a_detector():
    text = re.search(r'```python\n(optim_wrapper = .*?)```', PAGE, re.DOTALL)[1]
    cfg = load('configs/det/swinv2_t_cascade.py')
    model = build_model(cfg, 'meta')
    wrapper = build_optim_wrapper(model, Config.fromstring(text, '.py').optim_wrapper)
    found = settings(wrapper, model)
    assert found['roi_head.bbox_head.0.fc_cls.weight'] == pytest.approx((2e-4, 0.05))
    assert found['neck.lateral_convs.0.conv.weight'] == pytest.approx((1e-4, 0.025))
    assert found['backbone.patch_embed.proj.weight'] == pytest.approx((1e-5 * 0.9 ** 13, 0.05))


def test_mixed_precision_takes_the_groups_as_they_are(monkeypatch):
    """The wrapper is built here without a GPU, which it asks for."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    model = Detector()
    amp = build(model, layer_decay_rate=0.5, wrapper=dict(
        type='AmpOptimWrapper', loss_scale='dynamic', clip_grad=dict(max_norm=1.0)))
    assert type(amp).__name__ == 'AmpOptimWrapper'
    assert settings(amp, model) == settings(build(model, layer_decay_rate=0.5), model)
