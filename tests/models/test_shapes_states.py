"""Whatever was done to a model before, its features are those of a fresh one with its weights."""
import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import awaken
from helpers import paired, weights
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.utils import versions

SETTINGS = dict(arch=dict(embed_dims=8, depths=(2, 2), num_heads=(1, 2)), window_size=4,
                out_indices=(0, 1), drop_path_rate=0)
SIZES = ((24, 30), (16, 16), (9, 40), (5, 5))


def images(size, seed=1, batch=1):
    return torch.randn(batch, 3, *size, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def fresh(model, x):
    """The features of a new model with these weights, which has kept nothing; a plain forward."""
    dtype = next(model.parameters()).dtype
    twin = SwinTransformerV2(**SETTINGS).to(dtype)
    twin.load_state_dict(weights(model))
    with torch.no_grad():
        return twin(x.to(dtype))


def saved(model):
    file = io.BytesIO()
    torch.save(weights(model), file)
    file.seek(0)
    twin = SwinTransformerV2(**SETTINGS).to(next(model.parameters()).dtype)
    twin.load_state_dict(torch.load(file, weights_only=True))
    return twin.train(model.training)


def stepped(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sum(out.float().square().mean() for out in model(images(SIZES[1]).to(dtype(model)))).backward()
    optimizer.step()
    return model


def dtype(model):
    return next(model.parameters()).dtype


def averaged(model):
    """Weights taken in and out by `.data`, as mmengine's EMAHook does, which then calls eval()."""
    for parameter in model.parameters():
        parameter.data.mul_(0.9)
    return model.eval()


def loaded(model):
    model.load_state_dict({name: value * 1.1 if value.is_floating_point() else value
                           for name, value in weights(model).items()})
    return model


def assigned(model):
    state = {name: value.clone() * 0.9 if value.is_floating_point() else value.clone()
             for name, value in weights(model).items()}
    model.load_state_dict(state, assign=True)
    return model


def functional(model):
    with torch.no_grad():
        torch.func.functional_call(model, {
            name: value * 2 if value.is_floating_point() else value
            for name, value in weights(model).items()}, images(SIZES[0]).to(dtype(model)))
    return model


ACTIONS = {
    'train': lambda model: model.train(), 'eval': lambda model: model.eval(),
    'a step': stepped, 'an average': averaged, 'load': loaded, 'assign': assigned,
    'deepcopy': copy.deepcopy, 'pickle': lambda model: pickle.loads(pickle.dumps(model)),
    'a round trip through a file': saved, 'float32': lambda model: model.float(),
    'float64': lambda model: model.double(), 'bfloat16 and back':
        lambda model: model.bfloat16().double(), 'a functional call': functional,
    'no gradients': lambda model: model.requires_grad_(False),
    'gradients': lambda model: model.requires_grad_(True),
    'zero_grad': lambda model: (model.zero_grad(), model)[1],
}
if not versions.can('loading into a model without memory (device meta)'):
    del ACTIONS['assign']
LOOKS = {'grad': torch.enable_grad, 'no_grad': torch.no_grad, 'inference': torch.inference_mode}


def same(outs, references):
    # Of one path or of two, whose sums run in another order: a thousand roundings.
    limit = 1e-11 if references[0].dtype == torch.float64 else 1e-4
    for out, reference in paired(outs, references):
        torch.testing.assert_close(out.detach(), reference, rtol=0, atol=limit)


@given(st.lists(st.one_of(
    st.tuples(st.just('do'), st.sampled_from(sorted(ACTIONS))),
    st.tuples(st.sampled_from(sorted(LOOKS)), st.sampled_from(SIZES))), min_size=3, max_size=12))
@settings(max_examples=50, deadline=None, derandomize=True,
          phases=(Phase.explicit, Phase.generate))
def test_features_do_not_depend_on_what_was_done_before(history):
    model = awaken(SwinTransformerV2(**SETTINGS)).double().eval()
    for what, which in [*history, ('no_grad', SIZES[0]), ('grad', SIZES[1])]:
        if what == 'do':
            model = stepped(model.requires_grad_(True)) if which == 'a step' else ACTIONS[which](
                model)
            continue
        x = images(which).to(dtype(model))
        with LOOKS[what]():
            outs = model(x)
        same(outs, fresh(model, x))


@pytest.mark.parametrize('action', ACTIONS)
def test_a_state_dict_is_the_same_before_and_after_evaluation(action):
    model = ACTIONS[action](awaken(SwinTransformerV2(**SETTINGS)).double())
    before = {name: value.clone() for name, value in weights(model).items()}
    model.eval()
    with torch.no_grad():
        for size in SIZES:
            model(images(size).to(dtype(model)))
    after = weights(model)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not list(model.named_buffers()) or set(dict(model.named_buffers())) <= set(before)


def test_what_was_evaluated_in_inference_mode_can_be_trained_at_once():
    """Tensors of inference mode may not enter a graph: none that is kept may be one."""
    model = awaken(SwinTransformerV2(**SETTINGS)).double().eval()
    x = images(SIZES[0])
    with torch.inference_mode():
        model(x)
    sum(out.sum() for out in model(x)).backward()
    assert all(p.grad is not None for p in model.parameters())
    for parameters in (model.layers[0].parameters(), model.parameters()):
        model.requires_grad_(True)
        for parameter in parameters:  # frozen, so that a kept bias could enter the graph
            parameter.requires_grad_(False)
        with torch.inference_mode():
            model(x)
        y = x.clone().requires_grad_()
        sum(out.sum() for out in model(y)).backward()
        assert y.grad.isfinite().all() and y.grad.abs().max() > 0


@pytest.mark.parametrize('mode', LOOKS)
@pytest.mark.parametrize('kind, sizes', [
    (SwinTransformerV2, SIZES), (SwinTransformerV2Video, [(4, *size) for size in SIZES])])
def test_threads_may_call_one_model_at_once(mode, kind, sizes):
    """As a server does: each thread its own size, the first call of all at the same moment."""
    model = awaken(kind(**SETTINGS)).double().eval()
    alone = []
    for i, size in enumerate(sizes * 2):
        with torch.no_grad():
            alone.append(copy.deepcopy(model)(images(size, seed=i)))

    def call(i):
        with LOOKS[mode]():  # a thread has its own
            return model(images(sizes[i % len(sizes)], seed=i))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            outs = list(threads.map(call, range(2 * len(sizes))))
            model.train().eval()  # forget, so that they meet again
            for out, reference in zip(outs, alone):
                same(out, reference)


def test_threads_may_train_on_one_model_and_gradients_add_up():
    model = awaken(SwinTransformerV2(**SETTINGS)).double().train()
    for size in SIZES:
        sum(out.sum() for out in model(images(size))).backward()
    alone = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    def gradients(size):
        outs = model(images(size))
        return torch.autograd.grad(sum(out.sum() for out in outs), list(model.parameters()))

    with ThreadPoolExecutor(4) as threads:
        together = [sum(parts) for parts in zip(*threads.map(gradients, SIZES))]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
