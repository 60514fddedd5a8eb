"""Kill and resume on all four tasks: the short form of benchmarks/reliability.py."""
import random
import re
import signal

import pytest
from farm import bench, faulty_runs, output, reliability

from swinv2_mm.engine.checkpoints import STOPPED
from swinv2_mm.engine.files import POINTER, newest_whole
from swinv2_mm.engine.reading import read_run

FOUR = ('det', 'seg', 'cls', 'video')
pytestmark = pytest.mark.slow


def struck(name, *faults, tasks=FOUR, folder=None):
    """Run a task through faults that must all come, to an end that must be as without them."""
    runs = bench(*tasks)
    work_dir = runs.folder / (folder or '_'.join([name, *(kind for kind, _ in faults)]))
    came, wrong = reliability.chain(runs, name, work_dir, list(faults))
    assert not wrong, '\n'.join([*wrong, output(work_dir)[-3000:]])
    assert came == [kind for kind, _ in faults]
    return work_dir


@pytest.mark.parametrize('name', FOUR)
def test_a_run_killed_while_saving_and_before_validation_ends_as_if_it_had_not_been(name):
    """Twice each: half of a checkpoint's bytes, and all saved but the validation that was due."""
    struck(name, ('writing', dict(place='writing', count=1)),
           ('validation', dict(place='before validation', count=0)))


KILLS = [('step', 5), ('flush', 6), ('rename', 4), ('renamed', 3), ('remove', 0),
         ('after validation', 1)]


@pytest.mark.parametrize('place, count', KILLS, ids=str)
def test_there_is_no_moment_at_which_a_kill_does_harm(place, count):
    """A classifier with averaged weights and more checkpoints than are kept."""
    struck('cls', (place, dict(place=place, count=count)), folder=f'cls_{place}_{count}')


def test_last_checkpoint_never_names_a_file_that_a_resumed_run_removes():
    """Of one file that is kept: killed when the second was there and the first still named."""
    struck('epochs', ('renamed', dict(place='renamed', count=5)),
           ('validation', dict(place='in validation', count=0)), tasks=('epochs',))


def test_runs_killed_at_random_moments_end_as_if_they_had_not_been():
    runs = bench(*FOUR)
    some = runs._replace(configs={name: runs.configs[name] for name in ('seg', 'video')})
    injected, _, reasons = reliability.kill(
        some, 4, random.Random(), kinds=(reliability.MOMENT, 'in a step'))
    assert sum(injected.values()) >= 4 and not reasons, '\n'.join(reasons)


@pytest.mark.parametrize('name', ['cls', 'video'])  # with averaged weights and without
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_is_used(name):
    runs = bench(*FOUR)
    some = runs._replace(configs={name: runs.configs[name]}, folder=runs.folder / f'{name}_damage')
    some.folder.mkdir()
    _, _, reasons = reliability.damage_newest(some, 1, random.Random())
    assert not reasons, '\n'.join(reasons)


def test_a_notice_in_an_epoch_is_obeyed_and_the_rest_of_the_epoch_is_done_later():
    """With workers that load in advance; and again while the checkpoint is validated."""
    runs = bench('epochs')
    work_dir = runs.folder / 'notice'
    fault = dict(place='step', count=1, signal=signal.SIGTERM)
    assert runs.farm.run(runs.configs['epochs'], work_dir, fault=fault) == STOPPED
    assert (work_dir / POINTER).read_text().endswith('iter_2.pth')
    assert 'Stopped as asked after iteration 2, all saved' in output(work_dir)
    fault = dict(place='in validation', count=0, signal=signal.SIGTERM)
    assert runs.farm.run(runs.configs['epochs'], work_dir, '--resume', fault=fault) == STOPPED
    assert runs.farm.run(runs.configs['epochs'], work_dir, '--resume') == 0
    assert not reliability.differences(work_dir, runs.references['epochs'])  # no iter_2.pth either
    assert faulty_runs.read(work_dir).first == [1, 3, 5]


def test_a_run_without_a_seed_is_resumed_with_the_seed_it_drew():
    """Both of its processes would draw their own; data must go on in the order of the first."""
    runs = bench(*FOUR)
    config = runs.configs['cls']
    whole, cut = runs.folder / 'seedless', runs.folder / 'seedless_cut'
    (runs.folder / 'fixed.py').write_text(config.read_text() + 'randomness = dict(seed=None)\n')
    assert runs.farm.run(config, whole, '--seed', '11') == 0
    assert runs.farm.run(config, cut, '--seed', '11', fault=dict(place='step', count=4)) == -9
    assert runs.farm.run(runs.folder / 'fixed.py', cut, '--resume') == 0
    assert not reliability.differences(cut, whole)


def test_a_checkpoint_is_read_without_running_code_that_might_be_in_it():
    """mmengine falls back to unpickling anything where a file holds what torch does not know."""
    runs = bench(*FOUR)
    for name in FOUR:
        whole, _ = newest_whole(runs.references[name])
        content = read_run(whole)
        assert 'best_score' in content['message_hub']['runtime_info'] and 'progress' in content


def test_when_one_of_two_processes_is_killed_the_other_ends_soon_and_says_why():
    runs = bench(*FOUR)
    work_dir = runs.folder / 'two'
    fault = dict(place='step', count=3)
    statuses = runs.farm.run(runs.configs['cls'], work_dir, fault=fault, ranks=2, timeout=60)
    assert statuses == [1, -signal.SIGKILL]  # the first was not killed for outliving it by 60 s
    last = output(work_dir).strip().splitlines()[-1]
    assert re.match('Error: Another process of this training is gone: .* --resume', last)
    whole = runs.folder / 'two_whole'
    assert runs.farm.run(runs.configs['cls'], whole, ranks=2) == [0, 0]
    assert runs.farm.run(runs.configs['cls'], work_dir, '--resume', ranks=2) == [0, 0]
    assert not reliability.differences(work_dir, whole)
