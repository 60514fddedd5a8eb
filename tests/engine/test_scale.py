"""Sharded training in several processes: it learns, saves and resumes as one process does."""
import pytest
import torch
from mmengine.registry import MODELS
from scale_runs import CLIP, DDP, FSDP, PLAIN, TWO_HALVES, ZERO, config, detector, prepare, run
from test_scale_settings import NEW

from swinv2_mm.checkpoints import load_backbone
from swinv2_mm.engine.reading import read_run

pytestmark = [pytest.mark.slow, NEW]
STEPS = 4


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scale')
    prepare(folder)
    return folder


@pytest.fixture(scope='module')
def alone(data):
    """One process, which accumulates the gradients of two images; saves in the middle."""
    return run(1, data, alone=config(data, 2 * STEPS, TWO_HALVES, save=STEPS))['alone'][0]


@pytest.fixture(scope='module')
def runs(data, alone):
    """All that needs two processes."""
    half = STEPS // 2
    jobs = dict(
        ddp=config(data, STEPS, DDP),
        zero=config(data, STEPS, ZERO, save=half), fsdp=config(data, STEPS, FSDP, save=half))
    for name, settings in dict(zero=ZERO, fsdp=FSDP).items():
        jobs[f'{name}_again'] = config(
            data, STEPS, settings, resume=data / name / f'iter_{half}.pth')
    for name, settings in dict(ddp=DDP, zero=ZERO, fsdp=FSDP).items():
        jobs[f'{name}_after_alone'] = config(
            data, STEPS + 2, settings, resume=data / 'alone' / f'iter_{STEPS}.pth')
    for name, settings in dict(ddp=DDP, fsdp=FSDP).items():
        jobs[f'{name}_clip'] = config(data, 2, settings, CLIP)
    return run(2, data, **jobs)


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize('name', ['ddp', 'zero', 'fsdp'])
def test_two_processes_follow_the_losses_of_one_on_the_same_batches(runs, alone, data, name):
    """To the last bit: the mean of two gradients is a sum of exact halves, in any order."""
    found = torch.tensor([rank['losses'] for rank in runs[name]]).T  # (steps, halves)
    assert torch.equal(found, torch.tensor(alone['losses']).view(STEPS, 2))
    assert_same_weights(runs[name][0]['weights'], alone['weights'])
    start = torch.load(data / 'start.pth', weights_only=True)['state_dict']
    moved = [key for key, value in start.items() if not torch.equal(value, alone['weights'][key])]
    assert len(moved) > 0.9 * len(start)  # the steps did something


@pytest.mark.parametrize('name', ['zero', 'fsdp'])
def test_groups_of_a_sharded_optimizer_are_those_of_a_plain_one(runs, alone, name):
    assert all(rank['groups'] == alone['groups'] for rank in runs[name])


def test_zero_holds_half_of_the_state_of_the_optimizer(runs, alone):
    for rank in [*runs['zero'], *runs['zero_again']]:
        assert 0.45 * alone['state_bytes'] <= rank['state_bytes'] <= 0.55 * alone['state_bytes']


def test_full_sharding_holds_half_of_weights_and_state(runs, alone):
    for key in ('weight_bytes', 'state_bytes'):
        for rank in [*runs['fsdp'], *runs['fsdp_again']]:
            assert 0.45 * alone[key] <= rank[key] <= 0.55 * alone[key]


@pytest.mark.parametrize('name', ['zero', 'fsdp'])
def test_a_sharded_run_goes_on_from_its_file_as_if_never_stopped(runs, name):
    again = runs[f'{name}_again']
    for whole, part in zip(runs[name], again):
        assert whole['losses'][STEPS // 2:] == part['losses']
    assert_same_weights(again[0]['weights'], runs[name][0]['weights'])


def test_files_of_sharded_runs_are_those_of_plain_ones(runs, data):
    plain = read_run(data / 'alone' / f'iter_{STEPS}.pth')
    for name in ('zero', 'fsdp'):
        file = read_run(data / name / f'iter_{STEPS // 2}.pth')
        assert_same_weights(file['state_dict'], plain['state_dict'])
        found, expected = file['optimizer'], plain['optimizer']
        assert found['param_groups'] == expected['param_groups']
        assert found['state'].keys() == expected['state'].keys()
        for number, state in expected['state'].items():
            assert_same_weights(found['state'][number], state)
        model = MODELS.build(detector(data).model.backbone)
        report = load_backbone(model, data / name / f'iter_{STEPS // 2}.pth')
        assert not report.fresh
        for key, value in model.state_dict().items():
            assert torch.equal(value, plain['state_dict'][f'backbone.{key}']), key


def test_each_process_has_written_half_of_a_folder(data):
    for folder in (data / 'fsdp').glob('iter_*.pth'):
        sizes = [file.stat().st_size for file in folder.glob('*.distcp')]
        assert len(sizes) == 2 and max(sizes) < 0.55 * sum(sizes)
        rest = torch.load(folder / 'run.pth', weights_only=False)
        assert 'state_dict' not in rest and rest['optimizer']['state'] == {}
        assert (folder / 'run.pth').stat().st_size < 0.06 * sum(sizes)
    assert not list((data / 'fsdp').glob('.*.partial'))


def test_every_way_of_training_goes_on_from_the_file_of_one_process(runs):
    expected = runs['ddp_after_alone']
    for name in ('zero_after_alone', 'fsdp_after_alone'):
        assert [rank['losses'] for rank in runs[name]] == [rank['losses'] for rank in expected]
        assert_same_weights(runs[name][0]['weights'], expected[0]['weights'])


def test_one_process_goes_on_from_the_file_of_two(runs, data):
    """Their file is the plain one, so what goes on from it must not depend on how."""
    file = data / 'fsdp' / f'iter_{STEPS // 2}.pth'
    found = run(1, data, **{
        f'{name}_after_two': config(data, STEPS // 2 + 2, settings, resume=file)
        for name, settings in dict(plain=PLAIN, zero=ZERO, fsdp=FSDP).items()})
    plain = found.pop('plain_after_two')[0]
    assert len(plain['losses']) == 2
    for (rank,) in found.values():
        assert rank['losses'] == plain['losses']
        assert_same_weights(rank['weights'], plain['weights'])


def test_three_processes_go_on_from_the_folder_of_two(runs, data):
    """As data parallel does. Sums of three are rounded in another order: float64, 1e-9."""
    folder = data / 'fsdp' / f'iter_{STEPS // 2}.pth'
    found = run(3, data, **{
        f'{name}_float64': config(data, STEPS // 2 + 3, settings, resume=folder)
        for name, settings in dict(ddp=DDP, fsdp=FSDP).items()})
    for sharded, plain in zip(found['fsdp_float64'], found['ddp_float64']):
        assert len(plain['losses']) == 3
        assert sharded['losses'] == pytest.approx(plain['losses'], rel=1e-9)
        for name, value in plain['weights'].items():
            torch.testing.assert_close(sharded['weights'][name], value, rtol=1e-9, atol=1e-9)
    assert plain['weights']['backbone.patch_embed.proj.weight'].dtype == torch.float64


def test_full_sharding_clips_by_the_norm_of_the_whole_gradient(runs):
    """The norm is summed up in another order, over 200,000 squares, hence the tolerance."""
    (expected, _), (found, _) = runs['ddp_clip'], runs['fsdp_clip']
    assert min(expected['norms']) > 1  # 0.5 is what it is clipped to
    assert found['norms'] == pytest.approx(expected['norms'], rel=1e-5)
