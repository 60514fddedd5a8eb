"""NaN and infinity in losses and gradients; batches that are no fault, however odd."""
import re

import pytest
import torch
from farm import bench, faulty_runs, output
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from swinv2_mm.engine.numerics import NumericsHook
from swinv2_mm.utils import versions

PLAIN, OVERFLOW, STEEP, NAN = 1.0, 100.0, 0.0, float('nan')


class Exp(nn.Module):
    def forward(self, x):
        return torch.exp(x)


class Root(nn.Module):
    """Has no slope at 0 that is a number."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.sqrt(self.gain * x)


class Toy(BaseModel):
    """`exp` of 100 overflows in the second block; 0 has a loss, but no gradient."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Root(), nn.Sequential(nn.Identity(), Exp()), nn.BatchNorm1d(1))
        self.calls = 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.calls += 1
        x = torch.stack(inputs)
        return dict(loss=self.blocks[1](self.blocks[0](x) * x).sum() + 0 * self.blocks[2](x).sum(),
                    other=torch.tensor(1.0))


class Samples(torch.utils.data.Dataset):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        info = dict(img_path=f'pictures/{index}.jpg')
        return dict(inputs=torch.tensor([self.values[index]]),
                    data_samples=BaseDataElement(metainfo=info))


class Weights(Hook):
    """Keeps the gain after each step, and what is logged of it."""

    priority = 'LOWEST'

    def __init__(self):
        self.kept, self.logged = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.kept.append(runner.model.blocks[0].gain.item())
        self.logged.append(dict(outputs))


def train(tmp_path, batches, *, wrapper=None, **settings):
    """Train on batches of two values each; returns the runner and what `Weights` kept."""
    torch.manual_seed(0)
    model, kept = Toy(), Weights()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    runner = Runner(
        model, str(tmp_path), dict(
            dataset=Samples([value for batch in batches for value in batch]), batch_size=2,
            num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)),
        optim_wrapper=wrapper(optimizer) if wrapper else OptimWrapper(
            optimizer, clip_grad=dict(max_norm=1.0)),
        train_cfg=dict(by_epoch=True, max_epochs=1), custom_hooks=[NumericsHook(**settings), kept],
        default_hooks=dict(checkpoint=None, logger=None), log_level='WARNING',
        experiment_name=str(tmp_path).replace('/', '_'))
    runner.train()
    return runner, kept


GOOD = [PLAIN, 0.9]


@pytest.mark.parametrize('bad, says', [
    ([PLAIN, OVERFLOW], r'Step 3: the loss is inf; first in blocks\.1\.1 \(Exp\); '),
    ([STEEP, PLAIN], r'Step 3: the loss is finite, its gradient is not; first in the gradient of '
     r'blocks\.0\.gain, of 1 parameters; '),
    ([NAN, PLAIN], r'Step 3: the loss is nan; the batch itself is not finite; ')])
def test_a_step_that_is_not_finite_leaves_no_trace_but_its_warning(tmp_path, capfd, bad, says):
    runner, kept = train(tmp_path / 'bad', [GOOD, GOOD, bad, GOOD])
    clean, without = train(tmp_path / 'without', [GOOD, GOOD, GOOD])
    assert kept.kept[2] == kept.kept[1] != kept.kept[0]
    assert kept.kept[3] == without.kept[2]  # momentum, weight decay: as if it had not been
    assert runner.model.blocks[2].running_var.equal(clean.model.blocks[2].running_var)
    assert 'loss' not in kept.logged[2] or bad[0] == STEEP  # the loss of which is finite
    assert kept.logged[2]['other'] == 1 and 'loss' in kept.logged[3]
    says += r'the batch is pictures/4\.jpg, pictures/5\.jpg\. Left out, as 0 '
    assert re.search(says, capfd.readouterr().out)
    assert runner.message_hub.get_info('skipped_steps') == 1


def test_looking_for_the_first_module_changes_nothing(tmp_path):
    """It repeats a forward pass: running means and random numbers must not notice."""
    runner, _ = train(tmp_path / 'bad', [GOOD, [PLAIN, OVERFLOW], GOOD])
    assert runner.model.calls == 4
    assert runner.model.blocks[2].num_batches_tracked == 2
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def test_under_policy_stop_the_run_ends_with_weights_of_the_step_before(tmp_path):
    with pytest.raises(ValueError, match=r"Step 2: the loss is inf; .*pictures/3\.jpg: .*'skip'"):
        train(tmp_path, [GOOD, [PLAIN, OVERFLOW], GOOD], policy='stop')


def test_too_many_in_a_row_end_the_run_and_good_steps_between_reset_the_count(tmp_path):
    bad = [PLAIN, OVERFLOW]
    runner, _ = train(tmp_path / 'between', [bad, bad, GOOD, bad, bad, GOOD], max_skips=3)
    assert runner.message_hub.get_info('skipped_steps') == 4
    with pytest.raises(ValueError, match='Step 4: .*number 3 in a row'):
        train(tmp_path / 'row', [GOOD, bad, bad, bad], max_skips=3)


def test_weights_that_are_not_finite_end_the_run_at_once(tmp_path, monkeypatch):
    class Broken(Root):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.full((1,), NAN))

    monkeypatch.setattr('test_numerics.Root', Broken)
    with pytest.raises(ValueError, match=r'Step 1: .*weights are not finite before the step: '
                       r'blocks\.0\.gain; .*go back to a checkpoint'):
        train(tmp_path, [GOOD, GOOD])


def test_a_bad_part_of_an_accumulated_step_drops_the_step_and_names_all_its_files(tmp_path, capfd):
    def accumulate(optimizer):
        return OptimWrapper(optimizer, accumulative_counts=2)

    _, kept = train(tmp_path, [GOOD, GOOD, [PLAIN, OVERFLOW], GOOD, GOOD, GOOD], wrapper=accumulate)
    assert kept.kept[3] == kept.kept[1] != kept.kept[5]
    files = ', '.join(rf'pictures/{i}\.jpg' for i in (4, 5, 6, 7))
    assert re.search(rf'first in blocks\.1\.1 .*{files}\.', capfd.readouterr().out)


has_scaler = pytest.mark.skipif(not versions.can('a GradScaler on a CPU'),
                                reason='torch has no GradScaler for a CPU')


class CPUAmp(AmpOptimWrapper):
    """mmengine's, around a scaler that works without a GPU."""

    def __init__(self, optimizer, scale):
        OptimWrapper.__init__(self, optimizer, clip_grad=dict(max_norm=1.0))
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale)
        self._scale_update_param = None
        self.cast_dtype = torch.bfloat16

    optim_context = OptimWrapper.optim_context


@has_scaler
def test_a_scaler_lowers_its_scale_as_it_does_alone_and_nothing_is_said(tmp_path, capfd):
    """A finite loss whose scaled gradient overflows is a scaler's everyday business."""
    def scaled(optimizer):
        return CPUAmp(optimizer, 2.0 ** 127)

    runner, kept = train(tmp_path / 'high', [GOOD] * 4, wrapper=scaled)
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0 ** 127
    assert kept.kept[0] == 1.0  # left out by the scaler
    assert 'not finite' not in capfd.readouterr().out
    assert runner.message_hub.get_info('skipped_steps') is None


@has_scaler
def test_a_loss_that_is_not_finite_leaves_the_scale_as_it_was(tmp_path, capfd):
    runner, kept = train(tmp_path / 'nan', [GOOD, [PLAIN, OVERFLOW], GOOD],
                         wrapper=lambda optimizer: CPUAmp(optimizer, 8.0))
    assert runner.optim_wrapper.loss_scaler.get_scale() == 8
    assert kept.kept[1] == kept.kept[0] != kept.kept[2]
    assert 'Step 2: the loss is inf; first in blocks.1.1' in capfd.readouterr().out


@has_scaler
def test_gradients_that_overflow_at_the_lowest_scale_are_told(tmp_path, capfd):
    train(tmp_path, [GOOD, [STEEP, PLAIN], GOOD], wrapper=lambda o: CPUAmp(o, 1.0))
    assert 'Step 2: the loss is finite, its gradient is not' in capfd.readouterr().out


@pytest.mark.parametrize('settings', [dict(policy='ignore'), dict(max_skips=0)], ids=str)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        NumericsHook(**settings)


# What is odd and no fault ------------------------------------------------------------------------

BLACK = """
for loader in (_base_.train_dataloader, _base_.val_dataloader):
    loader.dataset.pipeline.insert(-1, dict(type='Flat', value={value}))
"""
CAPPED = "custom_hooks.append(dict(type='Capped'))\n"
ODD = {
    'black images': BLACK.format(value=0),
    'white images': BLACK.format(value=255),
    'logit_scale at its cap': CAPPED,
    'one class only': "custom_hooks.append(dict(type='OneClass'))\n",
}
EMPTY = """
_base_.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False, min_size=0)
custom_hooks.append(dict(type='NoObjects'))
"""
IGNORED = "custom_hooks.append(dict(type='NoObjects'))\n"
# Heads and losses see one class or none; what is in a picture, and a scale, the backbones alone.
CASES = [(task, name) for task in ('cls', 'video')
         for name in ('black images', 'white images', 'logit_scale at its cap')] + [
    *((task, 'one class only') for task in ('det', 'seg', 'cls', 'video')),
    *((task, name) for task in ('det', 'seg') for name in ('black images', 'empty ground truth'))]


@pytest.mark.slow
@pytest.mark.parametrize('task, odd', CASES)
def test_training_goes_on_and_every_step_counts(task, odd):
    runs = bench('det', 'seg', 'cls', 'video')
    change = ODD.get(odd, EMPTY if task == 'det' else IGNORED)
    config = runs.folder / f'{task}_{odd.replace(" ", "_")}.py'
    config.write_text(runs.configs[task].read_text() + change)
    work_dir = runs.folder / config.stem
    assert runs.farm.run(config, work_dir) == 0, output(work_dir)[-3000:]
    assert 'Left out' not in output(work_dir)
    record = faulty_runs.read(work_dir)
    losses = [steps[0][0] for steps in record.steps.values()]
    assert len(losses) == faulty_runs.STEPS and all(torch.tensor(losses).isfinite())
    state = faulty_runs.load(work_dir / f'iter_{faulty_runs.STEPS}.pth')['state_dict']
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())
    assert record.weights != faulty_runs.read(runs.references[task]).weights  # the change was felt
