"""tools/analysis/memory.py: where the bytes of a training step go, held against what one takes."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.analysis import memory, memory_trace


def features(model, x):
    outs = model(x)
    return outs if isinstance(outs, tuple) else (outs,)


def planned(kind, settings, step):
    with torch.device('meta'):
        model = kind(**settings).train()
    return memory_trace.trace(model, features, step)


def allocated(kind, settings, shape, precision):
    """Most bytes that forward and backward of a real step hold, by torch's profiler."""
    model, x = kind(**settings).train(), torch.rand(shape)

    def step():
        with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bf16'):
            outs = features(model, x)
        torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
    step()  # what is cached for ever
    model.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            most = max(most, now)
    return most


SETTINGS = {
    'plain': (SwinTransformerV2, dict(arch='nano', window_size=8), (2, 3, 192, 192), 'fp32'),
    'checkpointed': (SwinTransformerV2, dict(arch='nano', window_size=16, with_cp=True),
                     (1, 3, 256, 200), 'fp32'),
    'bf16': (SwinTransformerV2, dict(arch='nano', window_size=8), (2, 3, 192, 192), 'bf16'),
    'video': (SwinTransformerV2Video, dict(arch='nano', window_size=(4, 6, 6)),
              (1, 3, 8, 96, 96), 'fp32')}


@pytest.mark.parametrize('kind, settings, shape, precision', SETTINGS.values(), ids=SETTINGS.keys())
def test_a_step_takes_what_is_planned(kind, settings, shape, precision):
    """The rest is what torch's kernels allocate inside, which the plan cannot see."""
    settings = dict(settings, drop_path_rate=0.0)
    step = memory_trace.Step(shape, precision, device='cpu')
    found = planned(kind, settings, step)
    most = allocated(kind, settings, shape, precision)
    assert found.training == pytest.approx(most, rel=0.1)


def test_weights_gradients_and_state_of_giant_are_the_48_gb_of_the_paper(monkeypatch):
    """Section 3.5: 3 billion parameters with AdamW in float32; here all but one step's inside."""
    with torch.device('meta'):
        model = SwinTransformerV2('giant')
    plans = memory.Planner(model, (3, 192, 192), None, True, 'cuda')
    count = sum(p.nbytes for p in model.parameters())
    held = memory_trace.Held(count, count, 2 * count, [0], count, count)
    monkeypatch.setattr(plans, 'held', lambda *_: held)
    alone = plans.bill(memory.Plan(1, 'fp32', 1, 0, None))
    assert alone.weights + alone.gradients + alone.optimizer == pytest.approx(48e9, rel=2e-3)
    assert alone.peak == pytest.approx(48e9, rel=2e-3)
    # Of eight processes, each has an eighth of the state, and gradients once more to send them.
    zero = plans.bill(memory.Plan(1, 'fp32', 8, 1, None))
    assert zero.peak == pytest.approx(12e9 * (1 + 2 / 8 + 1 + 1), rel=2e-3)
    full = plans.bill(memory.Plan(1, 'fp32', 8, 3, None))
    assert full.weights + full.gradients + full.optimizer == pytest.approx(6e9, rel=2e-3)
    assert full.peak < zero.peak


def test_the_state_of_adamw_is_counted_from_an_optimizer():
    found = planned(SwinTransformerV2, dict(arch='nano'), memory_trace.Step((1, 3, 64, 64)))
    model = SwinTransformerV2('nano')
    bytes_ = sum(p.nbytes for p in model.parameters())
    assert found.weights == found.gradients == bytes_
    # Two tensors and a step a parameter; one tensor more of each while foreach works.
    assert found.optimizer == 2 * bytes_ + 4 * len(list(model.parameters()))
    assert 2 * bytes_ <= found.update < 2.5 * bytes_


def test_frozen_stages_take_weights_only():
    step = memory_trace.Step((1, 3, 64, 64))
    found = planned(SwinTransformerV2, dict(arch='nano', frozen_stages=3), step)
    whole = planned(SwinTransformerV2, dict(arch='nano'), step)
    assert found.weights == whole.weights
    trained = [p for n, p in SwinTransformerV2('nano', frozen_stages=3).named_parameters()
               if p.requires_grad]
    assert found.gradients == sum(p.nbytes for p in trained) < whole.gradients
    assert sum(found.stages) < sum(whole.stages)


def test_each_rung_takes_less():
    with torch.device('meta'):
        model = SwinTransformerV2(dict(embed_dims=32, depths=(1, 1), num_heads=(1, 2)),
                                  window_size=16, out_indices=(0, 1))
    plans = memory.Planner(model, (3, 128, 128), None, True, 'cuda')
    asked = memory.Plan(2, 'fp32', 4, 0, None)
    rungs = dict(memory.ladder(asked))
    smallest = 'bf16, checkpointing, batch 1, accumulated'
    peaks = {name: plans.bill(rungs[name]).peak for name in (
        'as asked', 'bf16', 'bf16, ZeRO 1', 'bf16, checkpointing', smallest)}
    assert peaks['as asked'] > peaks['bf16'] > peaks['bf16, ZeRO 1']
    assert peaks['bf16'] > peaks['bf16, checkpointing']
    assert peaks['bf16, checkpointing'] > peaks[smallest]
    # The model's own settings stay as they were for plans that leave them open.
    assert plans.bill(asked) == plans.bill(asked._replace(with_cp=False))


def test_logits_are_those_of_the_windows():
    with torch.device('meta'):
        model = SwinTransformerV2('giant', window_size=32)
    plans = memory.Planner(model, (3, 1536, 1536), None, True, 'cuda')
    # heads x tokens x tokens of a window: 384^2, 192^2, 96^2, and 48^2 padded to 64^2, times 1024.
    assert plans.logits(1, 'bf16') == [
        2 * 16 * 384 ** 2 * 1024, 2 * 32 * 192 ** 2 * 1024, 2 * 64 * 96 ** 2 * 1024,
        2 * 128 * 64 ** 2 * 1024]


def test_the_tool_prints_the_cheapest_rungs_that_fit(capsys):
    memory.main(['configs/cls/swinv2_t_w8_256.py', '--cfg-options', 'model.backbone.arch=nano',
                 'model.head.in_channels=256', '--batch', '2', '--world', '2', '--card', '0.13'])
    shown = capsys.readouterr().out
    assert '2 process(es)' in shown and 'activations kept' in shown
    assert len([line for line in shown.splitlines() if '  fits' in line]) == 1
    assert 'Switch on: ' in shown


@pytest.mark.parametrize('arguments, sentence', [
    ([], 'Give the path of a config or --arch, and not both.'),
    (['--arch', 'tiny'], r'--arch needs --size H W \(a video: T H W\).'),
    (['--arch', 'nano', '--size', '64', '64', '--card', '0.001'],
     'Nothing here fits a card of 0.001 GB')])
def test_what_cannot_be_planned_ends_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        memory.main(arguments)
