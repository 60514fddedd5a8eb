"""Full, read-only and slow disks: one clear message, earlier files intact, and a run to resume."""
import errno
import json
import logging
import os
import subprocess
import time

import numpy as np
import pytest
import torch
from farm import bench, faulty_runs, output, reliability

from swinv2_mm.engine import checkpoints, records
from swinv2_mm.engine.files import newest_whole
from swinv2_mm.engine.records import LocalVisBackend, quiet_log_files
from swinv2_mm.utils.errors import outside_fault

FOUR = ('det', 'seg', 'cls', 'video')


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MB; only root may mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip('mounting a disk takes rights that this process lacks')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def last_line(work_dir):
    return output(work_dir).strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['seg', 'cls'])
def test_a_checkpoint_for_which_there_is_no_room_ends_the_run_and_harms_no_other(name):
    runs = bench(*FOUR)
    work_dir = runs.folder / f'{name}_full'
    one = (runs.references[name] / 'iter_8.pth').stat().st_size
    assert runs.farm.run(runs.configs[name], work_dir, fault=dict(full=int(1.5 * one))) == 1
    assert last_line(work_dir) == (
        f'Error: OSError: Checkpoint iter_4.pth could not be written to {work_dir}: No space left '
        'on device; one of iteration 2 is there: make room or the folder writable, then go on with '
        '--resume.')
    assert newest_whole(work_dir) == (work_dir / 'iter_2.pth', [])
    assert not reliability.damaged(work_dir) and not list(work_dir.glob('.*'))
    assert runs.farm.run(runs.configs[name], work_dir, '--resume') == 0
    assert not reliability.differences(work_dir, runs.references[name])


@pytest.mark.slow
def test_a_real_disk_that_fills_up_ends_in_the_same_sentence(small_disk):
    """The kernel's own refusal, of checkpoints, logs and records alike; then there is room."""
    runs = bench(*FOUR)
    work_dir, filling = small_disk / 'run', small_disk / 'filling'
    one = (runs.references['cls'] / 'iter_8.pth').stat().st_size
    filling.write_bytes(bytes((16 << 20) - int(1.6 * one)))
    work_dir.mkdir()
    status = runs.farm.run(runs.configs['cls'], work_dir)
    filling.unlink()
    assert status == 1 and 'iter_4.pth could not be written' in last_line(work_dir)
    assert not reliability.damaged(work_dir)
    assert runs.farm.run(runs.configs['cls'], work_dir, '--resume') == 0
    assert not reliability.differences(work_dir, runs.references['cls'])


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_named_at_once(tmp_path):
    """/proc for root, who may write everywhere else."""
    runs = bench(*FOUR)
    locked = tmp_path / 'locked'
    locked.mkdir(mode=0o555)
    locked = locked if os.geteuid() else '/proc/1'
    status = runs.farm.run(runs.configs['cls'], tmp_path / 'run', '--work-dir', f'{locked}/work')
    assert status == 1
    assert str(locked) in last_line(tmp_path / 'run')


def test_outside_faults_say_what_to_do():
    assert outside_fault(OSError(errno.ENOSPC, 'No space left on device')) == (
        'No space left on device: make room, then run the command again (training: with --resume, '
        'all checkpoints are whole).')
    assert outside_fault(OSError(errno.EROFS, 'Read-only file system', 'runs/x')) == (
        "Read-only file system at 'runs/x': change its permissions, or give another folder "
        '(--work-dir, --show-dir, --out).')
    assert outside_fault(RuntimeError('[gloo/pair.cc:534] Connection closed by peer [::1]:4')
                         ).startswith('Another process of this training is gone')
    assert outside_fault(ValueError('x')) is outside_fault(FileNotFoundError('x')) is None


@pytest.fixture
def said(monkeypatch):
    """Sentences that would be logged."""
    sentences = []
    monkeypatch.setattr(records, 'say', sentences.append)
    return sentences


def test_records_are_whole_lines_or_not_there_and_the_run_goes_on(tmp_path, monkeypatch, said):
    backend = LocalVisBackend(str(tmp_path))
    backend.add_scalars(dict(loss=1.0), step=1)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, 'write', lambda file, line: write(file, line[:7]))
        backend.add_scalars(dict(loss=2.0), step=2)
        backend.add_scalars(dict(loss=3.0), step=3)
    backend.add_scalars(dict(loss=4.0), step=4)
    rows = [json.loads(line) for line in (tmp_path / 'scalars.json').read_text().splitlines()]
    assert [row['step'] for row in rows] == [1, 4]
    assert len(said) == 2
    assert f'{tmp_path}/scalars.json cannot be written (No space left on device): ' in said[0]
    assert said[1].startswith('2 records or pictures were lost')


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch, said):
    import cv2

    backend = LocalVisBackend(str(tmp_path))
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    backend.add_image('x', image, step=1)
    path = tmp_path / 'vis_image' / 'x_1.png'
    assert (cv2.imread(str(path))[..., ::-1] == image).all()
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'full')))
        backend.add_image('x', image // 2, step=1)
        backend.add_image('y', image, step=1)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert len(said) == 1 and f'{path} cannot be written (full): the run goes on' in said[0]


def test_a_log_file_without_room_is_said_once_instead_of_a_traceback_a_line(capfd):
    if not os.path.exists('/dev/full'):
        pytest.skip('no /dev/full here')
    logger = logging.Logger('full')
    logger.addHandler(logging.FileHandler('/dev/full'))
    quiet_log_files(logger)
    for _ in range(3):
        logger.warning('a line')
    error = capfd.readouterr().err
    assert error.count('/dev/full cannot be written (No space left on device)') == 1
    assert 'Traceback' not in error


class Log:
    def __init__(self):
        self.said = []

    def warning(self, text):
        self.said.append(text)


@pytest.mark.parametrize('taken, between, warned', [(30, 100, True), (30, 1000, False),
                                                    (5, 10, False)])
def test_a_slow_disk_is_told_of_where_it_costs_a_tenth_of_the_time(taken, between, warned):
    hook, runner = checkpoints.CheckpointHook(), type('Runner', (), dict(logger=Log()))()
    started = time.time() - taken
    hook._last_save = started - between
    hook._tell_slow(runner, 'iter_5.pth', started)
    assert bool(runner.logger.said) == warned
    if warned:
        assert runner.logger.said == [
            f'Writing iter_5.pth took {taken} s, after {between} s of training: save less often '
            '(interval), or to a faster disk (out_dir).']


@pytest.mark.slow
def test_a_run_killed_while_a_slow_disk_flushes_has_lost_nothing_but_time():
    runs = bench(*FOUR)
    fault = dict(slow=0.1, place='flush', count=9)
    came, wrong = reliability.chain(runs, 'cls', runs.folder / 'slow', [('slow', fault)])
    assert came == ['slow'] and not wrong


@pytest.mark.slow
def test_the_state_of_an_optimizer_is_in_each_checkpoint_and_in_no_best_one():
    runs = bench(*FOUR)
    for path in runs.references['cls'].glob('*.pth'):
        content = faulty_runs.load(path)
        assert ('optimizer' in content) != path.name.startswith('best_')
        assert torch.is_tensor(content['progress']['random'][0]['torch'])
