"""How large activations are behind each block: measured, logged while training, drawn."""
import json
import math

import pytest
import torch
from conftest import awaken
from helpers import ROOT, load_tool, read_scalars
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from small_models import small
from torch import nn

from swinv2_mm import SwinTransformerV2
from swinv2_mm.engine.activations import Amplitude, Amplitudes, first_above

tool = load_tool('activations')
SMALL = dict(arch=dict(embed_dims=8, depths=(2, 1), num_heads=(1, 2)), window_size=4,
             out_indices=(0, 1), drop_path_rate=0.0)
NAMES = ['layers.0.blocks.0', 'layers.0.blocks.1', 'layers.1.blocks.0']


class Recogniser(BaseModel):
    """The least that a Runner can train."""

    def __init__(self):
        super().__init__()
        self.backbone = awaken(SwinTransformerV2(**SMALL))

    def init_weights(self):
        """The Runner calls this; the weights are to stay."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.backbone(torch.stack(inputs))[-1].square().mean())


def train(tmp_path, hook, model=None):
    """Four steps with a hook."""
    data = [dict(inputs=torch.randn(3, 16, 16), data_samples=0) for _ in range(4)]
    loader = dict(batch_size=1, num_workers=0, dataset=data, collate_fn=dict(type='pseudo_collate'),
                  sampler=dict(type=DefaultSampler, shuffle=False))
    runner = Runner(
        model or Recogniser(), str(tmp_path), train_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=4), custom_hooks=[hook],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)), default_scope='mmengine',
        experiment_name=tmp_path.name)
    runner.train()
    return runner


def test_the_amplitude_behind_a_fresh_block_is_that_before_it():
    # The blocks of a fresh SwinV2 are the identity.
    model = SwinTransformerV2(**SMALL).eval()
    image = torch.randn(2, 3, 16, 24)
    with torch.no_grad(), Amplitudes(model) as amplitudes:
        model(image)
        before = model.patch_embed(image)
    found = amplitudes.read()
    assert list(found) == NAMES
    for name in NAMES[:2]:
        assert found[name].rms == pytest.approx(math.sqrt(float((before ** 2).mean())), rel=1e-5)
        assert found[name].largest == pytest.approx(float(before.abs().max()), rel=1e-5)
    model(image)
    assert amplitudes.read() == {}  # nothing is left hanging on the model


def test_the_first_block_beyond_a_limit_is_named_and_nan_is_beyond_any():
    good, large, bad = Amplitude(1, 2), Amplitude(1, 200), Amplitude(math.nan, math.nan)
    assert first_above({'a': good, 'b': large, 'c': bad}, 100) == 'b'
    assert first_above({'a': good, 'b': large, 'c': bad}, 1e4) == 'c'
    assert first_above({'a': good, 'b': large}, 1e4) is None


def test_the_hook_logs_every_block_at_its_interval(tmp_path):
    train(tmp_path, dict(type='swinv2_mm.ActivationHook', interval=2))
    rows = [row for row in read_scalars(tmp_path) if any('activations' in key for key in row)]
    assert [row['step'] for row in rows] == [2, 4]
    for row in rows:
        assert [f'activations/backbone.{name}' for name in NAMES] == [
            key for key in row if key.startswith('activations')]
        assert all(0.1 < row[f'activations/backbone.{name}'] < 100 for name in NAMES)


def test_the_hook_names_the_first_block_that_is_not_finite_and_ends_the_run(tmp_path):
    model = Recogniser()
    with torch.no_grad():
        model.backbone.layers[0].blocks[1].norm2.bias[3] = math.nan
    with pytest.raises(ValueError, match=r'Step 1: .* is backbone\.layers\.0\.blocks\.1 with nan'):
        train(tmp_path, dict(type='swinv2_mm.ActivationHook', interval=1, policy='stop'), model)


def test_the_hook_warns_and_goes_on_by_default(tmp_path):
    train(tmp_path, dict(type='swinv2_mm.ActivationHook', interval=3, limit=0.01))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Step 3: activations must stay finite and at most 0.01' in log
    assert 'is backbone.layers.0.blocks.0 with' in log


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match='must have a SwinV2 backbone'):
        Amplitudes(nn.Linear(2, 2))


@pytest.mark.parametrize('argument', [dict(interval=0), dict(limit=0), dict(policy='ignore')])
def test_arguments_of_the_hook_are_checked(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        HOOKS.build(dict(type='swinv2_mm.ActivationHook', **argument))


def test_the_tool_draws_a_curve_a_checkpoint_and_names_the_block(tmp_path, capsys):
    config, checkpoint, model = small(tmp_path, 'cls')
    with torch.no_grad():
        model.backbone.layers[2].blocks[0].norm2.bias += 1e5
    other = tmp_path / 'late.pth'
    torch.save(dict(state_dict=model.state_dict()), other)
    tool.main([str(word) for word in (
        config, checkpoint, other, '--out', tmp_path / 'a.png', '--json', tmp_path / 'a.json',
        '--images', ROOT / 'docs/demo_det.jpg', '--size', 32, 48)])
    said = 'is not finite, or above 10000: backbone.layers.2.blocks.0'
    assert capsys.readouterr().out.count(said) == 1
    early, late = json.loads((tmp_path / 'a.json').read_text()).values()
    assert len(early) == 5 and late['backbone.layers.2.blocks.0']['largest'] > 9e4
    assert early['backbone.layers.1.blocks.0'] == late['backbone.layers.1.blocks.0']
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
