"""The position bias kept between evaluations: it saves work and never goes stale."""
import copy
import io
import pickle

import pytest
import torch
from helpers import needs, paired, weights
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from swinv2_mm import SwinTransformerV2
from swinv2_mm.models import attention

X = torch.randn(1, 3, 40, 52, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def model(awake):
    return awake(SwinTransformerV2('nano', window_size=4)).double().eval()


@pytest.fixture
def computed(monkeypatch):
    """A list that grows by one window each time that a position bias is computed."""
    windows, original = [], attention.log_spaced_offsets
    monkeypatch.setattr(attention, 'log_spaced_offsets',
                        lambda window, normaliser: windows.append(window)
                        or original(window, normaliser))
    return windows


def evaluate(model, x=X):
    with torch.no_grad():
        return model(x.to(next(model.parameters()).dtype))


def fresh(model, x=X):
    """The same from a new model with these weights, which has kept nothing."""
    twin = SwinTransformerV2('nano', window_size=4).eval()
    twin.to(next(model.parameters()).dtype).load_state_dict(model.state_dict())
    for new, old in zip(biases(twin), biases(model)):
        new.pretrained_window = old.pretrained_window
    return evaluate(twin, x)


def same(a, b):
    return all(torch.equal(x, y) for x, y in paired(a, b))


def biases(model):
    return [block.attn for stage in model.layers for block in stage.blocks]


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_the_bias_is_computed_once_while_evaluating_and_changes_no_number(model, computed, mode):
    with mode():
        first = model(X)
        count = len(computed)
        assert count == 8  # one for each block
        assert same(model(X), first)
        assert len(computed) == count
    torch.testing.assert_close(model(X), first, rtol=0, atol=1e-11)  # with gradients: uncached
    assert len(computed) == 2 * count


def test_the_bias_is_computed_every_time_in_training(model, computed):
    model.train()
    evaluate(model)
    evaluate(model)
    assert len(computed) == 16


def test_maps_that_shrink_the_window_keep_their_own_bias(model):
    sizes = (40, 52), (8, 12), (4, 4), (12, 8), (20, 4), (4, 20), (40, 52), (8, 12)
    maps = [torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
            for size in sizes]
    outs = [evaluate(model, x) for x in maps]
    for x, out in zip(maps, outs):
        assert same(out, fresh(model, x))


def test_the_bias_of_a_size_not_seen_for_long_is_forgotten(awake, computed):
    model = awake(SwinTransformerV2('nano', window_size=16, out_indices=(0,))).eval()
    sizes = [(1, 3, 4 * tokens, 4) for tokens in range(1, 13)]  # as many windows
    for size in sizes:
        evaluate(model, torch.ones(size))
    count = len(computed)
    evaluate(model, torch.ones(sizes[-1]))
    assert len(computed) == count
    evaluate(model, torch.ones(sizes[0]))
    assert len(computed) > count


def in_place(model):
    with torch.no_grad():
        for attn in biases(model):
            attn.cpb_mlp[0].weight.mul_(0.5)


def in_place_on_the_last_weight(model):
    with torch.no_grad():
        for attn in biases(model):
            attn.cpb_mlp[2].weight.copy_(attn.cpb_mlp[2].weight.flip(1))


def swapped_as_by_an_ema_hook(model):
    """mmengine's EMAHook writes to `.data`, which autograd does not count, then calls eval()."""
    for attn in biases(model):
        attn.cpb_mlp[0].bias.data.copy_(attn.cpb_mlp[0].bias.data.flip(0))
    model.eval()


def a_training_epoch(model):
    model.train()
    for attn in biases(model):
        attn.cpb_mlp[0].bias.data.mul_(2)
    model.eval()


def new_parameters(model):
    for attn in biases(model):
        old = attn.cpb_mlp[2].weight
        attn.cpb_mlp[2].weight = new = nn.Parameter(old.detach().flip(1).clone())
        while new._version < old._version:  # as often changed as the old one: that is no identity
            with torch.no_grad():
                new.mul_(1)


def another_pretrained_window(model):
    for attn in biases(model):
        attn.pretrained_window = (12, 6)


def scaled_state(model, factor=0.5):
    return {name: value * factor if 'cpb_mlp' in name else value
            for name, value in weights(model).items()}


def step(optimizer, **settings):
    def change(model):  # fine-tuning in eval mode, as without drop path
        sum(out.square().sum() for out in model(X)).backward()
        optimizer(model.parameters(), lr=0.1, **settings).step()
    return change


CHANGES = {
    'a weight changed in place': in_place,
    'the last weight changed in place': in_place_on_the_last_weight,
    'an EMA swap': swapped_as_by_an_ema_hook,
    'a training epoch': a_training_epoch,
    'other parameters put in': new_parameters,
    'another pretrained window': another_pretrained_window,
    'torch load_state_dict': lambda m: m.load_state_dict(scaled_state(m)),
    'torch load_state_dict by assignment': lambda m: m.load_state_dict(
        scaled_state(m), assign=True),
    'load_state_dict of one layer': lambda m: [
        attn.cpb_mlp[0].load_state_dict(scaled_state(attn.cpb_mlp[0]) | {
            'bias': attn.cpb_mlp[0].bias * 2}, assign=True) for attn in biases(m)],
    'mmengine load_state_dict': lambda m: load_state_dict(m, scaled_state(m), strict=True),
    'a step of SGD': step(torch.optim.SGD),
    'a step of AdamW': step(torch.optim.AdamW),
    'a fused step of AdamW': step(torch.optim.AdamW, fused=True),
    'another dtype': lambda m: m.to(torch.float32),
}


# What a change needs of torch, where that is not to be had everywhere.
NEEDS = {'a fused step of AdamW': 'a fused optimizer on a CPU',
         **dict.fromkeys(['torch load_state_dict by assignment', 'load_state_dict of one layer'],
                         'loading into a model without memory (device meta)')}


@pytest.mark.parametrize('change', [
    needs(NEEDS[name], change) if name in NEEDS else change for name, change in CHANGES.items()],
    ids=CHANGES.keys())
def test_a_change_of_weights_drops_the_bias(model, change):
    before = evaluate(model)
    change(model)
    after = evaluate(model)
    assert same(after, fresh(model))
    assert not same(after, before)


def test_a_functional_call_uses_the_parameters_that_it_is_given(model):
    before = evaluate(model)
    other = scaled_state(model)
    with torch.no_grad():
        after = torch.func.functional_call(model, other, X)
    assert same(evaluate(model), before)
    model.load_state_dict(other)
    torch.testing.assert_close(fresh(model), after, rtol=0, atol=1e-11)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved_whole(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, pickled, saved_whole])
@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_a_copy_of_an_evaluated_model_is_whole_and_on_its_own(model, duplicate, mode):
    with mode():
        before = model(X)
    twin = duplicate(model)
    assert same(evaluate(twin), before)
    in_place(twin)
    assert same(evaluate(twin), fresh(twin))
    assert same(evaluate(model), before)


def test_a_copy_does_not_take_the_count_of_changes_for_the_original_s(model):
    """Torch counts changes of a tensor from 0 in each copy, so that the counts meet again."""
    for _ in range(3):
        in_place(model)
    evaluate(model)
    twin = copy.deepcopy(model)
    for _ in range(5):
        in_place(twin)
        assert same(evaluate(twin), fresh(twin))


def test_parameters_that_take_the_place_of_freed_ones_are_not_taken_for_them(model):
    """As in an ensemble: the next tensors may get the address and the id of the last."""
    for factor in (0.5, 1.0, 2.0, -1.0, 3.0):
        state = scaled_state(model, factor)
        with torch.no_grad():
            out = torch.func.functional_call(model, state, X)
            other = torch.func.functional_call(copy.deepcopy(model), state, X)
        assert same(out, other)
        del state


def test_a_pickled_model_holds_its_weights_and_no_cached_bias(awake):
    model = awake(SwinTransformerV2('nano', window_size=16)).eval()
    cold = len(pickle.dumps(model))
    evaluate(model, torch.randn(1, 3, 128, 128))
    assert len(pickle.dumps(model)) < 1.05 * cold
