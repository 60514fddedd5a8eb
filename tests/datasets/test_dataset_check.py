"""tools/dataset/check.py finds every bad file of a data set, says what it is, and nothing else."""
import csv
import os
import re
import signal
import time

import bad_files
import pytest
import torch
from helpers import DEMO, ROOT, data_options, make_shapes

from swinv2_mm.apis import check
from swinv2_mm.datasets.checks.findings import ERRORS, WARNINGS, table
from swinv2_mm.utils.errors import UserError

SOUND = {'sound.jpg': bad_files.encoded(), 'sound.png': bad_files.encoded('PNG'),
         'grey.png': bad_files.encoded('PNG', 'L'), 'table.png': bad_files.encoded('PNG', 'P'),
         'progressive.jpg': bad_files.encoded(progressive=True),
         'followed.jpg': bad_files.encoded() + b'more', 'sound.bmp': bad_files.encoded('BMP'),
         **({'sound.gif': bad_files.encoded('GIF')} if bad_files.READS_GIF else {}),
         'sound.webp': bad_files.encoded('WEBP'), 'sound.tif': bad_files.encoded('TIFF')}


def listed(*arguments):
    """What the tool returns, and its rows {where: [(level, kind, text)]}."""
    status = check.main([*map(str, arguments), '--workers', '1'])
    with open(arguments[-1], newline='', errors='surrogateescape') as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        found.setdefault(row['where'], []).append((row['level'], row['kind'], row['text']))
    return status, found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    for name in bad_files.MAKERS:
        bad_files.write(name, folder)
    for name, content in SOUND.items():
        (folder / name).write_bytes(content)
    (folder / 'sound.mp4').write_bytes(bad_files.film(folder))
    return folder


@pytest.fixture(scope='module')
def findings(folder):
    """Findings on every file, by the processes that the tool works with."""
    from swinv2_mm.datasets.checks import pool
    jobs = [(bad_files.MAKERS[name][0], str(folder / name), dict(span=10))
            for name in bad_files.MAKERS]
    jobs += [('video' if name.endswith('mp4') else 'image', str(folder / name), {})
             for name in (*SOUND, 'sound.mp4')]
    found = {name: [] for name in (*bad_files.MAKERS, *SOUND, 'sound.mp4')}
    for finding in (f for some in pool.run(jobs, 1) for f in some):
        found[finding.where.rpartition('/')[2]].append(finding)
    return found


@pytest.mark.parametrize('name', bad_files.MAKERS)
def test_a_bad_file_is_found_and_told(findings, name):
    _, kind, says, _ = bad_files.MAKERS[name]
    said = [f for f in findings[name] if re.fullmatch(kind, f.kind)]
    assert len(said) == 1 and re.search(says, said[0].text), findings[name]
    assert '\n' not in said[0].text and len(said[0].text) < 300
    if said[0].level == 'error':
        assert len(findings[name]) == 1  # one reason is enough


@pytest.mark.parametrize('name', [*SOUND, 'sound.mp4'])
def test_nothing_is_said_of_a_sound_file(findings, name):
    assert findings[name] == []


def test_there_are_at_least_forty_kinds_of_bad_file():
    assert len(bad_files.MAKERS) >= 40
    kinds = {kind for _, kind, _, _ in bad_files.MAKERS.values()}
    assert len(kinds) >= 15


def test_the_tool_lists_a_folder_in_one_pass(folder, tmp_path, capsys):
    status, found = listed(folder, '--out', tmp_path / 'faults.csv')
    assert status == 1
    names = {where.rpartition('/')[2] for where in found}
    # What is no plain file is not in a folder's list, and "short" is a matter of a config's clip.
    assert names == set(bad_files.MAKERS) - {'folder.jpg', 'dangling.jpg', 'short.mp4'}
    said = capsys.readouterr()
    count = len(bad_files.MAKERS) - 2 + len(SOUND) + 1
    assert f'{count} files checked: ' in said.out and f'{count}/{count} files' in said.err
    assert re.search(r'^error: .*/empty\.jpg is empty$', said.out, re.MULTILINE)
    assert re.search(r'^ +1 warning: cmyk$', said.out, re.MULTILINE)


def test_a_sound_folder_ends_well_and_warnings_are_no_failure(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'a.jpg').write_bytes(SOUND['sound.jpg'])
    assert listed(tmp_path / 'data', '--out', tmp_path / 'a.csv') == (0, {})
    (tmp_path / 'data' / 'b.png').write_bytes(bad_files.MAKERS['alpha.png'][3](None))
    status, found = listed(tmp_path / 'data', '--out', tmp_path / 'a.csv')
    assert status == 0 and len(found) == 1


def test_a_decoder_that_crashes_hangs_or_takes_all_memory_is_one_finding(monkeypatch, tmp_path):
    from swinv2_mm.datasets.checks import pool
    checks = dict(crash=lambda path: os.kill(os.getpid(), signal.SIGKILL),
                  hang=lambda path: time.sleep(60), eat=lambda path: len(bytearray(1 << 33)),
                  fine=lambda path: [])
    monkeypatch.setattr(pool, 'CHECKS', checks)
    jobs = [(name, name, {}) for name in ('crash', 'fine', 'hang', 'eat', 'fine')]
    found = [f for some in pool.run(jobs, 2, seconds=3, memory=1 << 28) for f in some]
    said = {f.where: (f.kind, f.text) for f in found}
    assert said == {'crash': ('crash', 'ends the process that reads it (status -9)'),
                    'hang': ('crash', 'is not read in 3 seconds'),
                    'eat': ('crash', 'takes more than 256 MB to read')}


def test_workers_do_not_wait_for_threads_that_a_fork_leaves_behind(monkeypatch):
    """Torch's threads of this process are not there in its forks, which hang when they use them."""
    from swinv2_mm.datasets.checks import pool

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.zeros(1 << 20)  # starts the threads
        fill = dict(fill=lambda path: len(torch.zeros(1 << 20)) and [])
        monkeypatch.setattr(pool, 'CHECKS', fill)
        assert list(pool.run([('fill', 'x', {})], 1, seconds=10)) == [[]]
    finally:
        torch.set_num_threads(before)


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    (tmp_path / 'red\x1b[31m\n.jpg').write_bytes(b'')
    assert check.main([str(tmp_path), '--workers', '1']) == 1
    out = capsys.readouterr().out
    assert '\x1b' not in out and 'red\\x1b[31m\\n.jpg is empty' in out


def test_every_kind_is_an_error_or_a_warning_and_stands_in_the_docs():
    assert not set(ERRORS) & set(WARNINGS)
    page = (ROOT / 'docs' / 'data_checks.md').read_text()
    for kinds in (ERRORS, WARNINGS):
        assert table(kinds) in page, 'python -m swinv2_mm.datasets.checks.findings writes them'


def test_settings_on_the_command_line_are_those_that_training_would_take(tmp_path, capsys):
    options = data_options(make_shapes(tmp_path / 'shapes'))
    assert check.main([DEMO, '--workers', '1', '--cfg-options', *options]) == 0
    assert '7 files checked: 0 errors' in capsys.readouterr().out
    with pytest.raises(UserError, match="has 'train_dataloader' and nothing of the name"):
        check.main([DEMO, '--cfg-options', 'train_dataloder.batch_size=2'])
    with pytest.raises(SystemExit):
        check.main([str(tmp_path), '--cfg-options', 'train_dataloader.batch_size=2'])
    assert '--cfg-options are for a config' in capsys.readouterr().err
