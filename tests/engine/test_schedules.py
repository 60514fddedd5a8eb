"""A resumed run has the rates of its config."""
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=((inputs * self.weight + self.bias) ** 2).mean())


class Rates(Hook):
    """The rate of each epoch, or of each iteration."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append((runner.epoch, runner.iter,
                          [g['lr'] for g in runner.optim_wrapper.param_groups],
                          runner.optim_wrapper.param_groups[0]['weight_decay']))


def cosine(end, by_epoch=True, begin=0):
    return dict(type='CosineAnnealingLR', by_epoch=by_epoch, begin=begin, end=end,
                eta_min=1e-6)


def warmed(end):
    return [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
            cosine(end)]


def run(folder, epochs, schedule, resume=False, lr=1e-3, decay=0.05, **keys):
    hook = Rates()
    data = [dict(inputs=torch.ones(1) * i) for i in range(6)]
    wrapper = dict(optimizer=dict(type='AdamW', lr=lr, weight_decay=decay),
                   paramwise_cfg=dict(bias_lr_mult=2.0, custom_keys=keys))
    runner = Runner(
        Line(), str(folder), train_dataloader=DataLoader(data, batch_size=2),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), resume=resume,
        optim_wrapper=wrapper, cfg=dict(optim_wrapper=wrapper),
        param_scheduler=schedule, default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1)), custom_hooks=[dict(
                type='swinv2_mm.ScheduleHook')], experiment_name=f'{folder}{epochs}{resume}{lr}')
    runner.register_hook(hook)
    runner.train()
    return hook.seen


@pytest.mark.parametrize('make', [
    lambda end: [cosine(end)], warmed, lambda end: [cosine(end * 3, by_epoch=False)],
    lambda end: [dict(type='MultiStepLR', milestones=[end // 2], gamma=0.1)],
    lambda end: [dict(type='PolyLR', end=end, power=0.9)]],
    ids=['cosine', 'warm-up by iteration', 'cosine by iteration', 'steps', 'power'])
def test_a_run_resumed_for_longer_has_the_rates_of_one_that_was_that_long(tmp_path, make):
    whole = run(tmp_path / 'whole', 8, make(8))
    run(tmp_path / 'cut', 4, make(4))
    resumed = run(tmp_path / 'cut', 8, make(8), resume=True)
    assert [e for e, *_ in resumed] == [e for e, *_ in whole[12:]] != []
    for (_, _, rates, _), (_, _, right, _) in zip(resumed, whole[12:]):
        assert rates == pytest.approx(right, rel=1e-9)


def test_the_rates_of_case_03(tmp_path):
    """lr 1e-3, cosine to 1e-6 over 8 epochs: what epochs 5 to 8 must have."""
    run(tmp_path, 4, [dict(cosine(4), T_max=4)])
    seen = run(tmp_path, 8, [dict(cosine(8), T_max=8)], resume=True)
    assert [rates[0] for _, _, rates, _ in seen[::3]] == pytest.approx(
        [5.005e-4, 3.094e-4, 1.473e-4, 3.902e-5], rel=1e-3)


def test_a_changed_rate_or_decay_is_taken_and_said(tmp_path):
    whole = run(tmp_path / 'whole', 4, [cosine(4)], lr=2e-3, decay=0.1)
    run(tmp_path / 'cut', 2, [cosine(4)])
    resumed = run(tmp_path / 'cut', 4, [cosine(4)], resume=True, lr=2e-3, decay=0.1)
    assert resumed[-1][3] == 0.1
    for (_, _, rates, _), (_, _, right, _) in zip(resumed, whole[6:]):
        assert rates == pytest.approx(right, rel=1e-9)
    log = ''.join(path.read_text() for path in (tmp_path / 'cut').glob('*/*.log'))
    assert 'The config has other weight_decay, initial_lr than the checkpoint' in log


def test_a_schedule_that_the_checkpoint_had_not_starts_from_the_beginning_of_the_run(tmp_path):
    whole = run(tmp_path / 'whole', 4, [cosine(4)])
    run(tmp_path / 'cut', 2, None)
    resumed = run(tmp_path / 'cut', 4, [cosine(4)], resume=True)
    for (_, _, rates, _), (_, _, right, _) in zip(resumed, whole[6:]):
        assert rates == pytest.approx(right, rel=1e-9)


def test_the_same_config_is_left_as_the_checkpoint_has_it(tmp_path):
    whole = run(tmp_path / 'whole', 4, warmed(4))
    run(tmp_path / 'cut', 2, warmed(4))
    assert run(tmp_path / 'cut', 4, warmed(4), resume=True) == whole[6:]
    log = ''.join(path.read_text() for path in (tmp_path / 'cut').glob('*/*.log'))
    assert 'The config has other' not in log


def test_rules_for_names_that_no_parameter_has_are_told(tmp_path):
    run(tmp_path, 1, [cosine(1)], weight=dict(lr_mult=0.5),
        absolute_pos_embed=dict(decay_mult=0.0))
    (log,) = tmp_path.rglob('*.log')
    assert 'custom_keys has absolute_pos_embed, which is in the name of no' in log.read_text()
