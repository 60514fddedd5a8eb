"""Training: gradients, checkpointing, stochastic depth, freezing."""
import copy

import pytest
import torch
from torch import nn

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.models import swin
from swinv2_mm.models.swin import Block
from swinv2_mm.models.windows import plan

EXACT = dict(rtol=0, atol=1e-12)


def images(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def run(model, x, seed=0):
    """Outputs and gradients by name, of a loss that gives every output element its own weight."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    outs = model(x)
    outs = outs if isinstance(outs, tuple) else (outs,)
    loss = sum((out * images(*out.shape, seed=9, dtype=out.dtype)).sum() for out in outs)
    if loss.requires_grad:
        loss.backward()
    return (tuple(out.detach() for out in outs),
            {name: p.grad for name, p in model.named_parameters()})


MODELS = {
    'images': (SwinTransformerV2, dict(arch='nano'), (3, 70, 70)),
    'videos': (SwinTransformerV2Video, dict(arch='nano', out_indices=(0, 1, 2, 3)),
               (3, 3, 66, 66)),
    'one out index': (SwinTransformerV2, dict(arch='nano', out_indices=(1,)), (3, 40, 40)),
    'two out indices': (SwinTransformerV2, dict(arch='nano', out_indices=(0, 2)), (3, 70, 70)),
    'extra norms': (SwinTransformerV2, dict(arch=dict(
        embed_dims=8, depths=(2, 3), num_heads=(1, 2), extra_norm_every=2),
        out_indices=(0, 1)), (3, 40, 40)),
}


@pytest.mark.parametrize('cls, settings, size', MODELS.values(), ids=MODELS.keys())
def test_every_parameter_receives_a_gradient(awake, cls, settings, size):
    """So DistributedDataParallel needs no `find_unused_parameters`."""
    model = awake(cls(**settings, window_size=4, drop_path_rate=0)).train()
    _, gradients = run(model, images(1, *size, dtype=torch.float32))
    assert [name for name, grad in gradients.items() if grad is None or not grad.any()] == []


@pytest.mark.parametrize('with_cp, recomputed', [
    (True, 4), ([True, False], 2), ((False, True), 2), (False, 0)], ids=str)
@pytest.mark.parametrize('frozen_stages', [-1, 1])
def test_checkpointed_equals_plain_in_outputs_and_gradients(
        awake, with_cp, recomputed, frozen_stages):
    settings = dict(arch=dict(embed_dims=8, depths=(2, 2), num_heads=(1, 2)), out_indices=(0, 1),
                    window_size=3, drop_path_rate=0.5, frozen_stages=frozen_stages)
    plain = awake(SwinTransformerV2(**settings)).double().train()
    model = SwinTransformerV2(**settings, with_cp=with_cp).double().train()
    model.load_state_dict(plain.state_dict())
    calls = []
    for stage in model.layers:
        for block in stage.blocks:
            block.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    x = images(6, 3, 30, 40)
    outs, gradients = run(plain, x)
    checkpointed_outs, checkpointed = run(model, x)
    torch.testing.assert_close(checkpointed_outs, outs, **EXACT)
    torch.testing.assert_close(checkpointed, gradients, **EXACT)
    if frozen_stages == -1:  # a frozen stage has no backward pass to recompute in
        assert len(calls) == 4 + recomputed
    assert not torch.allclose(run(plain, x, seed=1)[0][1], outs[1])  # paths were dropped


def test_nothing_is_checkpointed_where_nothing_is_differentiated(awake, monkeypatch):
    model = awake(SwinTransformerV2('nano', window_size=4, with_cp=True)).eval()
    monkeypatch.setattr(swin, 'checkpoint', None)
    with torch.no_grad():
        model(images(1, 3, 40, 40, dtype=torch.float32))
    with pytest.raises(TypeError):
        model(images(1, 3, 40, 40, dtype=torch.float32))


@pytest.mark.parametrize('silenced', ['norm1', 'norm2'])
def test_a_dropped_branch_adds_exactly_nothing_and_a_kept_one_is_rescaled(awake, silenced):
    rate, batch = 0.3, 400
    block = awake(Block(2, 8, 2, (0, 0), rate, extra_norm=False)).double()
    nn.init.zeros_(getattr(block, silenced).weight)  # leaves the other branch alone
    nn.init.zeros_(getattr(block, silenced).bias)
    x = images(1, 4, 4, 8).expand(batch, -1, -1, -1)
    layout = plan((4, 4), (4, 4), (0, 0), x)
    with torch.no_grad():
        branch = block.eval()(x, layout)[0] - x[0]
        torch.manual_seed(0)
        out = block.train()(x, layout) - x
    assert branch.abs().mean() > 0.3
    dropped = torch.tensor([bool((sample == 0).all()) for sample in out])
    spread = (rate * (1 - rate) / batch) ** 0.5
    assert abs(dropped.double().mean() - rate) < 4 * spread  # so the expected value is kept
    torch.testing.assert_close(
        out[~dropped], (branch / (1 - rate)).expand_as(out[~dropped]), **EXACT)


def test_drop_path_grows_linearly_over_all_blocks_and_is_silent_in_eval(awake):
    model = awake(SwinTransformerV2('tiny', drop_path_rate=0.22))
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.22, 12))
    model = awake(SwinTransformerV2('nano', window_size=4, drop_path_rate=0.9)).eval()
    x = images(4, 3, 40, 40, dtype=torch.float32)
    assert torch.equal(model(x)[-1], model(x)[-1])


def test_dropping_the_later_stages_leaves_the_rates_of_the_earlier_ones():
    whole, part = (SwinTransformerV2('tiny', drop_path_rate=0.2, out_indices=i)
                   for i in ((0, 1, 2, 3), (0, 1)))
    for stage, same in zip(part.layers, whole.layers):
        assert [b.drop_path.rate for b in stage.blocks] == [b.drop_path.rate for b in same.blocks]


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 4])
def test_frozen_stages_get_no_gradient_and_stay_in_eval_mode_under_a_training_parent(
        awake, frozen_stages):
    model = awake(SwinTransformerV2('nano', window_size=4, frozen_stages=frozen_stages,
                                    drop_path_rate=0.0))
    nn.Sequential(model).train()
    before = copy.deepcopy(model.state_dict())
    run(model, images(1, 3, 64, 64, dtype=torch.float32))

    frozen = [] if frozen_stages < 0 else ['patch_embed.']
    frozen += [f'layers.{i}.' for i in range(frozen_stages)]
    frozen += [f'norm{i}.' for i in range(frozen_stages)]
    for name, parameter in model.named_parameters():
        still = name.startswith(tuple(frozen))
        assert parameter.requires_grad != still, name
        assert (parameter.grad is None) == still, name
    for name, module in model.named_modules():
        if name:
            assert module.training != f'{name}.'.startswith(tuple(frozen)), name
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.eval().modules())


def test_a_frozen_stage_drops_no_path_while_the_rest_trains(awake):
    model = awake(SwinTransformerV2('nano', window_size=4, frozen_stages=4, drop_path_rate=0.9))
    x = images(4, 3, 40, 40, dtype=torch.float32)
    outs = [model.train()(x)[-1], model.train()(x)[-1], model.eval()(x)[-1]]
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_training_goes_on_after_evaluation_in_inference_mode(awake):
    """Whatever is kept between calls must be fit for autograd, whoever computed it first."""
    x = images(1, 3, 84, 116)  # a map and windows that no other test uses: caches start empty
    model = awake(SwinTransformerV2('nano', window_size=(5, 11))).double().eval()
    with torch.inference_mode():
        inferred = model(x)
    outs, gradients = run(model, x)
    torch.testing.assert_close(outs, inferred, **EXACT)
    assert all(gradient.any() for gradient in gradients.values())
