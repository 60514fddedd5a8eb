"""tools/analysis/throughput.py: what is timed, and what is made of the times."""
import json

import pytest
import torch
from helpers import ROOT
from mmengine.registry import DefaultScope

from swinv2_mm.analysis import throughput

DEMO = str(ROOT / 'configs/demo/cls_nano.py')


@pytest.fixture(autouse=True)
def scope():
    """The tool sets the default scope of its process; put back after a test."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def test_configs_take_turns_after_a_warm_up():
    done = []
    runs = [lambda: done.append('a'), lambda: done.append('b')]
    times = throughput.measure(runs, torch.device('cpu'), number=3, warm_up=2)
    assert ''.join(done) == 'aabb' + 'ababab'
    assert [len(taken) for taken in times] == [3, 3] and min(map(min, times)) >= 0


def test_a_ratio_is_of_runs_side_by_side():
    """A machine that becomes ten times slower half way changes no ratio."""
    first, second = [1.0, 1.0, 10.0, 10.0, 10.0], [0.5, 0.5, 5.0, 5.0, 5.0]
    row = throughput.describe('x', (4, 4), second, first, batch=8)
    assert row['speed_ratio'] == 2 and row['milliseconds'] == 5000
    assert row['inputs_per_second'] == pytest.approx(8 / 5)
    assert row['quartiles'] == [500, 5000]


@pytest.mark.parametrize('flags, inputs, gradients', [
    ([], 'whole', False), (['--backbone'], 'backbone', False), (['--train'], 'backbone', True)])
def test_what_is_asked_for_is_run(flags, inputs, gradients, monkeypatch):
    seen, models, real = [], [], throughput.model_inputs.build

    def build(*arguments):
        model = real(*arguments)
        models.append(model)
        model.head.register_forward_hook(lambda *_: seen.append('whole'))
        model.backbone.register_forward_hook(lambda *_: seen.append('backbone'))
        next(model.backbone.parameters()).register_hook(lambda _: seen.append('gradient'))
        return model

    monkeypatch.setattr(throughput.model_inputs, 'build', build)
    args = throughput.parse_args([DEMO, '--size', '32', '32', '--batch-size', '2', *flags])
    run, size = throughput.prepared(DEMO, args)
    assert size == (32, 32) and seen == []
    run()
    assert ('whole' in seen) == (inputs == 'whole') and ('gradient' in seen) == gradients
    assert models[0].training == gradients
    assert all(p.grad is None for p in models[0].parameters())


def test_figures_come_with_their_conditions(capsys):
    throughput.main([DEMO, DEMO, '--size', '32', '32', '--runs', '2', '--warm-up', '0', '--device',
                     'cpu', '--json'])
    told = json.loads(capsys.readouterr().out)
    assert {'device', 'torch', 'dtype', 'batch_size', 'timed', 'runs'} == set(told['conditions'])
    assert told['conditions']['device'].startswith('cpu: ')
    assert len(told['rows']) == 2 and told['rows'][0]['speed_ratio'] == 1


def test_a_gpu_that_is_not_there_ends_in_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='--device cuda needs a GPU'):
        throughput.parse_args([DEMO, '--device', 'cuda'])
