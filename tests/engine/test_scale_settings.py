"""Strategies of sharded training: what they take from a config, shard and refuse."""
import re
import types

import pytest
import torch
from config_checks import load
from helpers import DEMO, ROOT, paired
from mmengine import _strategy as mmengine_strategies
from mmengine.config import ConfigDict
from mmengine.registry import STRATEGIES
from test_optimizer import SMALL, Detector, build

from swinv2_mm import SwinTransformerV2
from swinv2_mm.engine import strategies
from swinv2_mm.engine.optimizer import remember_shapes

PAGE = (ROOT / 'docs' / 'scale.md').read_text()


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group(
        'gloo', rank=0, world_size=1, init_method=f'file://{tmp_path}/store')
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def deepspeed(monkeypatch):
    """A stand-in; what the real one does is not tested here."""
    module = types.SimpleNamespace(__version__='0.19.8')
    monkeypatch.setattr(mmengine_strategies.deepspeed, 'deepspeed', module)
    monkeypatch.setattr(mmengine_strategies.deepspeed, 'register_deepspeed_optimizers', list)


def test_every_strategy_that_the_page_names_is_registered():
    names = set(re.findall(r'strategy\.type=(swinv2_mm\.\w+)', PAGE))
    assert names == {f'swinv2_mm.{kind}Strategy' for kind in ('Zero', 'FSDP', 'DeepSpeed')}
    assert all(STRATEGIES.get(name).__module__ == strategies.__name__ for name in names)


def test_blocks_and_mergings_are_units_of_full_sharding():
    model = Detector(SwinTransformerV2('nano'))
    units = strategies._units(model)
    kinds = [type(unit).__name__ for unit in units]
    assert kinds == 8 * ['Block'] + 3 * ['PatchMerging']
    giant = SwinTransformerV2(dict(embed_dims=4, depths=(6,), num_heads=(1,), extra_norm_every=6),
                              out_indices=(0,))
    last = strategies._units(giant)[-1]
    assert type(last.norm3).__name__ == 'LayerNorm'  # the extra norm goes with its block


def test_sharded_parameters_without_their_shapes_are_refused(one_process):
    """Pieces are flat: all of them would go without weight decay."""
    def sharded(model):
        return strategies.FSDP(model, use_orig_params=True, device_id=torch.device('cpu'))
    model = Detector(SwinTransformerV2(SMALL))
    with pytest.raises(ValueError, match=r"strategy.type='swinv2_mm.FSDPStrategy'"):
        build(sharded(model))
    model = Detector(SwinTransformerV2(SMALL))
    expected = build(model, layer_decay_rate=0.5).optimizer.param_groups
    remember_shapes(model)
    found = build(sharded(model), layer_decay_rate=0.5).optimizer.param_groups
    for group, other in paired(found, expected):
        assert group['names'] == other['names']
        assert group['weight_decay'] == other['weight_decay']


def test_deepspeed_gets_what_the_config_says_of_the_optimizer(deepspeed):
    cfg = load(DEMO).optim_wrapper
    cfg.update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale='dynamic',
               accumulative_counts=4, clip_grad=dict(max_norm=5.0))
    strategy = STRATEGIES.build(dict(
        type='swinv2_mm.DeepSpeedStrategy', zero_optimization=dict(stage=3),
        env_kwargs=dict(launcher='none')))
    model = Detector(SwinTransformerV2(SMALL))
    wrapper = strategy.build_optim_wrapper(ConfigDict(cfg), model)
    assert type(wrapper).__name__ == 'DeepSpeedOptimWrapper'
    assert type(wrapper.optimizer) is torch.optim.AdamW
    assert len(wrapper.optimizer.param_groups) == 2
    assert {key: strategy.config[key] for key in (
        'zero_optimization', 'gradient_clipping', 'gradient_accumulation_steps',
        'torch_autocast')} == dict(
            zero_optimization=dict(stage=3), gradient_clipping=5.0, gradient_accumulation_steps=4,
            torch_autocast=dict(enabled=True, dtype='bfloat16'))
    assert cfg.clip_grad == dict(max_norm=5.0)  # the config stays as it is
    with pytest.raises(ValueError, match='clips gradients by their norm'):
        strategy.build_optim_wrapper(
            ConfigDict(cfg, clip_grad=dict(type='value', clip_value=1.0)), model)


def test_deepspeed_that_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(mmengine_strategies.deepspeed, 'deepspeed', None)
    with pytest.raises(ValueError, match=r'pip install deepspeed\.$'):
        STRATEGIES.build(dict(type='swinv2_mm.DeepSpeedStrategy'))
