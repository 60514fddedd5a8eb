"""What is installed: pinned by hashes, with licences listed, and looked up where that can be."""
import json
import subprocess
import sys
import types
from email.message import Message
from pathlib import Path

import audit
import licences
import lock_hashes
import pytest
from helpers import ROOT

A, B = 'a' * 64, 'b' * 64
LOCK = f"""# A comment.

# [tools]
one==1.0
two==2.0 ; python_version < "3.11"
three-x==3.0.post1 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
"""


def test_hashes_stand_below_their_pins_and_nothing_else_changes():
    assert lock_hashes.pins(LOCK) == {
        'one==1.0': set(), 'two==2.0 ; python_version < "3.11"': set(),
        'three-x==3.0.post1': {A, B}}
    assert lock_hashes.render(LOCK, lock_hashes.pins(LOCK)) == LOCK
    hashes = {'one==1.0': {B}, 'two==2.0 ; python_version < "3.11"': {A},
              'three-x==3.0.post1': {A}}
    text = lock_hashes.render(LOCK, hashes)
    assert lock_hashes.pins(text) == hashes and lock_hashes.faults(text) == []
    assert text.startswith('# A comment.\n\n# [tools]\none==1.0 \\\n    --hash=sha256:b')


def test_a_lock_file_that_is_not_whole_is_told():
    assert lock_hashes.faults(LOCK) == [
        'one==1.0 has no hash', 'two==2.0 ; python_version < "3.11" has no hash']
    assert any('is not NAME==VERSION' in fault for fault in lock_hashes.faults('one>=1.0\n'))
    for line in ('one==1.0 --hash=sha256:123', 'one==1.0 --hash=md5:' + A[:32]):
        assert any('no sha256' in fault for fault in lock_hashes.faults(line + '\n'))
    assert any('belongs to no pin' in fault for fault in lock_hashes.faults(f'--hash=sha256:{A}\n'))


def test_every_pin_of_the_lock_has_its_hash():
    assert lock_hashes.faults((ROOT / 'requirements.lock').read_text()) == []


def test_the_markers_of_the_lock_give_each_python_one_version_of_a_package():
    text = (ROOT / 'requirements.lock').read_text()
    for version in lock_hashes.VERSIONS:
        names = [lock_hashes._plain(pin.partition('==')[0]) for pin in lock_hashes.pins(text)
                 if lock_hashes.applies(pin, version)]
        assert len(names) == len(set(names)) > 100
    assert not lock_hashes.applies('a==1 ; sys_platform == "win32"', (3, 11))


def test_pip_refuses_a_file_of_another_hash(tmp_path):
    """What the hashes are for, with a wheel made here and no network."""
    import zipfile
    wheel = tmp_path / 'tiny-1.0-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as file:
        file.writestr('tiny.py', '')
        file.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: tiny\n'
                                                     'Version: 1.0\n')
        file.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\n'
                                                  'Tag: py3-none-any\n')
        file.writestr('tiny-1.0.dist-info/RECORD', '')
    import hashlib
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for value, well in ((right, True), (A, False)):
        lock = tmp_path / 'lock.txt'
        lock.write_text(lock_hashes.render('tiny==1.0\n', {'tiny==1.0': {value}}))
        done = subprocess.run(
            [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--isolated',
             '--find-links', str(tmp_path), '--target', str(tmp_path / value), '--require-hashes',
             '-r', str(lock)], capture_output=True, text=True)
        assert (done.returncode == 0) == well, done.stdout + done.stderr
        assert well or 'DO NOT MATCH THE HASHES' in done.stderr


def test_hashes_are_gathered_for_every_python_and_sources_where_no_wheel_is(monkeypatch):
    asked = []

    def report(wanted, version):
        asked.append((tuple(wanted), version))
        if version and 'source==1.0' in wanted:
            return {}, 'ERROR: No matching distribution found for source==1.0'
        return {pin: {f'{pin}{version}'} for pin in wanted}, ''

    monkeypatch.setattr(lock_hashes, '_report', report)
    found = lock_hashes.gather('source==1.0\nwheel==2.0 ; python_version < "3.11"\n')
    assert found == {'source==1.0': {'source==1.0None'},
                     'wheel==2.0 ; python_version < "3.11"': {
                         'wheel==2.0 ; python_version < "3.11"(3, 10)'}}
    assert [len(pins) for pins, _ in asked] == [2, 1, 1]  # nothing is left to ask for 3.11, 3.12
    monkeypatch.setattr(lock_hashes, '_report', lambda wanted, version: (
        {}, 'ERROR: No matching distribution found for gone==1.0'))
    with pytest.raises(lock_hashes.UserError, match='for Python 3.10.0, and pip says .* gone==1.0'):
        lock_hashes.gather('gone==1.0\n')


def about(**fields):
    message = Message()
    message['Name'] = 'nobody-has-this'
    for key, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            message[key.replace('_', '-')] = value
    return message


def test_a_licence_is_what_the_package_says_of_itself(monkeypatch):
    monkeypatch.setattr(licences, '_by_its_file', lambda about: '')
    assert licences.licence(about(License_Expression='MIT', License='BSD')) == 'MIT'
    assert licences.licence(about(License='long text', Classifier=[
        'License :: OSI Approved :: BSD License', 'Topic :: x'])) == 'BSD License'
    assert licences.licence(about(License='  Apache 2.0\n  and more')) == 'Apache 2.0'
    assert licences.licence(about(License='UNKNOWN')) == 'not stated'


def test_every_pin_has_a_row_in_the_page_of_licences():
    lock = (ROOT / 'requirements.lock').read_text()
    text, missing = licences.page(lock, licences.installed(Path(folder) for folder in sys.path))
    rows = [dict(cells(row) for row in page.splitlines() if row.startswith('| '))
            for page in (text, (ROOT / 'docs' / 'licences.md').read_text())]
    assert rows[0].keys() == rows[1].keys(), 'run tools/licences.py --write'
    for name in rows[0]:
        assert rows[0][name][0] == rows[1][name][0], f'{name}: run tools/licences.py --write'
        assert rows[1][name][1] != 'not stated' or name == 'cuda-toolkit'
    assert 'torch' not in missing and rows[1]['torch'][1] == 'BSD-3-Clause'


def cells(row):
    name, *rest = row.strip('| ').split(' | ')
    return name, rest


def test_an_audit_that_could_not_be_made_says_so(monkeypatch, capsys):
    def answer(stdout='', stderr=''):
        monkeypatch.setattr(audit.subprocess, 'run', lambda *args, **settings:
                            types.SimpleNamespace(stdout=stdout, stderr=stderr))
        status = audit.main([])
        return status, capsys.readouterr().out

    status, said = answer(stderr='python: No module named pip_audit')
    assert status == 3 and 'NOT looked up' in said and 'pip install pip-audit' in said
    status, said = answer(stderr='Traceback\nConnectionError: name resolution failed')
    assert status == 3 and 'ConnectionError: name resolution failed' in said
    clean = dict(name='one', version='1.0', vulns=[])
    assert answer(json.dumps(dict(dependencies=[clean]))) == (0, '1 packages looked up.\n')
    bad = dict(name='two', version='2.0', vulns=[dict(id='X-1', fix_versions=['2.1'])])
    status, said = answer(json.dumps(dict(dependencies=[clean, bad])))
    assert status == 1 and 'two 2.0: X-1, mended in 2.1' in said
    status, said = answer(json.dumps(dict(dependencies=[dict(name='x', skip_reason='not found')])))
    assert status == 1 and 'x was not looked up: not found' in said
