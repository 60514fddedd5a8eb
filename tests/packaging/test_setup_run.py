"""Whole runs of the set-up against a stub Python that writes down what it is asked to do."""
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = '\n'.join(f'# [{name}]\n{name}-pin==1' for name in
                 ('tools', 'opencv', 'torch', 'mmcv', 'packages', 'peers')) + '\n'

# Plays the interpreter and the one inside the environment. `calls` is what it was asked;
# `fail_on`, when it is there, holds a word at which it prints `failure` and fails.
STUB = r"""#!/bin/sh
here={here}
echo "$*" >> $here/calls
if [ -f $here/fail_on ] && echo "$*" | grep -q -e "$(cat $here/fail_on)"; then
    cat $here/failure; exit 1
fi
case "$*" in
    *importlib.util*) echo '{answer}' ;;
    *"import torch"*) echo "False None None" ;;
    "-m venv"*)
        for last; do :; done
        mkdir -p $last/bin $last/lib/python3.11/site-packages
        cp $here/bin/python3.11 $last/bin/python ;;
    *torch-pin*)
        site=$here/repo/.venv/lib/python3.11/site-packages
        rm -rf $site/torch-*; mkdir "$site/torch-$(cat $here/torch).dist-info" ;;
    *mmcv-pin*) [ ! -f $here/slow ] || {{ echo $$ > $here/slow; exec sleep 60; }} ;;
    *"setup_checks.py all") [ -f $here/cured_by_rebuild ] && ! grep -q force-reinstall $here/calls \
        && {{ echo "undefined symbol."; exit 3; }} ;;
esac
exit 0
"""


class Checkout:
    """A copy of the set-up with stubs around it."""

    def __init__(self, base):
        self.base, self.repo = base, base / 'repo'
        (self.repo / 'tools').mkdir(parents=True)
        shutil.copy(ROOT / 'tools' / 'setup_checks.py', self.repo / 'tools')
        self.copy('setup_needs.py', 'DISK_GB = 12', 'DISK_GB = 0')  # this disk is not the subject
        self.copy('setup_env.py', 'SIGN_OF_LIFE = 20', 'SIGN_OF_LIFE = 0.1')
        (self.repo / 'requirements.lock').write_text(LOCK)
        (self.repo / 'setup.py').write_text('')
        (base / 'torch').write_text('2.11.0')
        (base / 'bin').mkdir()
        answer = dict(exe=str(base / 'bin' / 'python3.11'), version=[3, 11], missing=[])
        self.program('python3.11', STUB.format(here=base, answer=json.dumps(answer)))
        self.program('c++', '#!/bin/sh\n')
        self.program('g++', '#!/bin/sh\n')

    def copy(self, name, old, new):
        text = (ROOT / 'tools' / name).read_text()
        assert text.count(old) == 1
        (self.repo / 'tools' / name).write_text(text.replace(old, new))

    def program(self, name, text):
        (self.base / 'bin' / name).write_text(text)
        (self.base / 'bin' / name).chmod(0o755)

    def fail_on(self, word, output=''):
        (self.base / 'fail_on').write_text(word)
        (self.base / 'failure').write_text(output)

    def start(self, *arguments):
        (self.base / 'calls').write_text('')
        path = f"{self.base / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
        env = dict(os.environ, PATH=path, MAX_JOBS='1')
        for name in ('PYTHON', 'CXX'):
            env.pop(name, None)
        command = [sys.executable, self.repo / 'tools' / 'setup_env.py', *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env=env)

    def run(self, *arguments):
        """(exit code, lines printed, calls of the stub since the last run)"""
        process = self.start(*arguments)
        output = process.communicate(timeout=30)[0]
        calls = (self.base / 'calls').read_text().splitlines()
        return process.returncode, output.splitlines(), calls


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def installed(calls):
    """What pip was asked to install, in order; `-e PATH` as '-e'."""
    return [next(word for word in call.split() if word == '-e' or word.endswith('==1'))
            for call in calls if call.startswith('-m pip install')]


MAIN = ['tools-pin==1', 'opencv-pin==1', 'torch-pin==1', 'mmcv-pin==1', 'packages-pin==1', '-e']


def test_sections_are_installed_in_order_without_their_dependencies(checkout):
    code, lines, calls = checkout.run()
    assert code == 0 and lines[-1] == '.venv is ready.'
    assert installed(calls) == MAIN
    assert all('--no-deps --no-build-isolation' in c for c in calls if c.startswith('-m pip'))
    assert not (checkout.repo / '.venv-peers').exists()


def test_pins_with_hashes_go_to_pip_as_a_file_and_bind_it(checkout):
    pin = 'torch-pin==1 --hash=sha256:' + 'a' * 64
    lock = checkout.repo / 'requirements.lock'
    lock.write_text(LOCK.replace('torch-pin==1', pin.replace(' ', ' \\\n    ')))
    checkout.run()
    calls = (checkout.base / 'calls').read_text().splitlines()
    listed = checkout.repo / '.venv' / 'pins.txt'
    assert listed.read_text() == pin + '\n'
    assert [call for call in calls if '--require-hashes' in call] == [
        call for call in calls if call.endswith(f'--require-hashes -r {listed}')] != []


def test_opencv_is_tried_before_the_long_build(checkout):
    calls = checkout.run()[2]
    tried = next(i for i, call in enumerate(calls) if call.endswith('setup_checks.py cv2'))
    assert tried < next(i for i, call in enumerate(calls) if 'torch-pin' in call)


def test_every_step_is_announced_with_its_time(checkout):
    steps = [line for line in checkout.run()[1] if line.startswith('- ')]
    assert len(steps) == 8 and all('(about ' in step for step in steps)


def test_a_second_run_does_nothing(checkout):
    checkout.run('--peers')
    assert checkout.run('--peers') == (0, [], [])


def test_peers_come_after_and_see_the_main_environment(checkout):
    assert checkout.run('--peers')[0] == 0
    site = checkout.repo / '.venv-peers' / 'lib' / 'python3.11' / 'site-packages'
    main = checkout.repo / '.venv' / 'lib' / 'python3.11' / 'site-packages'
    assert (site / 'main.pth').read_text() == f"import site; site.addsitedir('{main}')\n"


def test_a_changed_lock_updates_in_place_and_remakes_peers(checkout):
    checkout.run('--peers')
    with open(checkout.repo / 'requirements.lock', 'a') as file:
        file.write('other-pin==1\n')
    calls = checkout.run('--peers')[2]
    assert installed(calls) == MAIN + ['peers-pin==1']
    assert [call.split()[-1] for call in calls if '-m venv' in call] == [
        str(checkout.repo / '.venv-peers')]


def test_peers_are_remade_with_the_main_environment(checkout):
    checkout.run('--peers')
    shutil.rmtree(checkout.repo / '.venv')
    assert installed(checkout.run()[2]) == MAIN
    assert installed(checkout.run('--peers')[2]) == ['peers-pin==1']


def test_another_torch_compiles_mmcv_again(checkout):
    checkout.run()
    (checkout.repo / 'setup.py').write_text('# another')
    assert not [call for call in checkout.run()[2] if '--force-reinstall' in call]
    (checkout.repo / 'setup.py').write_text('# and another')
    (checkout.base / 'torch').write_text('2.12.0')
    rebuilt = [call for call in checkout.run()[2] if '--force-reinstall' in call]
    assert len(rebuilt) == 1 and 'mmcv-pin==1' in rebuilt[0]


def test_a_kept_wheel_of_another_torch_is_compiled_again_once(checkout):
    (checkout.base / 'cured_by_rebuild').write_text('')
    code, lines, calls = checkout.run()
    rebuilt = [call for call in calls if '--force-reinstall --no-cache-dir' in call]
    assert code == 0 and len(rebuilt) == 1 and 'mmcv-pin==1' in rebuilt[0]


@pytest.mark.parametrize('word, output, said', [
    ('torch-pin', 'NewConnectionError: Temporary failure in name resolution', 'network'),
    ('mmcv-pin', 'error: something else', "The step 'mmcv, compiled against this torch' failed"),
    ('setup_checks.py cv2', 'OpenCV needs a system library.', 'OpenCV needs a system library.'),
    ('-m venv', 'No space left on device', 'disk is full'),
])
def test_a_failed_step_ends_in_its_sentence_and_is_done_again(checkout, word, output, said):
    checkout.fail_on(word, output)
    code, lines, _ = checkout.run()
    assert code == 1 and said in lines[-1]
    assert checkout.run()[0] == 1
    (checkout.base / 'fail_on').unlink()
    code, lines, calls = checkout.run()
    assert code == 0 and installed(calls) == MAIN


def test_the_last_lines_of_the_output_stand_before_the_sentence(checkout):
    checkout.fail_on('packages-pin', '\n'.join(f'line {i}' for i in range(50)))
    lines = checkout.run()[1]
    assert lines[-2] == 'line 49' and 'line 10' not in lines


def test_an_environment_in_which_pip_was_cut_off_is_made_afresh(checkout):
    checkout.run()
    (checkout.repo / '.venv' / 'setup.busy').write_text('')
    (checkout.repo / '.venv' / 'half').write_text('')
    assert installed(checkout.run()[2]) == MAIN
    assert not (checkout.repo / '.venv' / 'half').exists()


def test_a_set_up_that_is_ended_takes_pip_along_and_is_made_afresh(checkout):
    (checkout.base / 'slow').write_text('')
    process = checkout.start()
    lines = iter(process.stdout.readline, '')
    assert any('0 min 00 s' in line for line in lines)  # the sign of life, in the middle of mmcv
    process.send_signal(signal.SIGTERM)
    assert 'ended from outside' in process.communicate(timeout=10)[0]
    assert process.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((checkout.base / 'slow').read_text()), 0)
    (checkout.base / 'slow').unlink()
    code, _, calls = checkout.run()
    assert code == 0 and any(call.startswith('-m venv') for call in calls)


def test_two_set_ups_of_one_checkout_wait_for_each_other(checkout):
    with open(checkout.repo / '.venv.lock', 'w') as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        process = checkout.start()
        assert 'waiting' in process.stdout.readline()
        assert not (checkout.repo / '.venv').exists()
    assert process.communicate(timeout=30)[0].endswith('.venv is ready.\n')


def test_a_moved_checkout_is_set_up_afresh(checkout):
    checkout.run()
    stamp = checkout.repo / '.venv' / 'setup.stamp'
    stamp.write_text(json.dumps(dict(json.loads(stamp.read_text()), path='/elsewhere/.venv')))
    assert any(call.startswith('-m venv') for call in checkout.run()[2])


def test_an_environment_made_by_hand_is_left_alone(checkout):
    (checkout.repo / '.venv').mkdir()
    (checkout.repo / '.venv' / 'mine').write_text('')
    code, lines, calls = checkout.run()
    assert code == 1 and 'move it away' in lines[-1] and not calls
    assert (checkout.repo / '.venv' / 'mine').exists()


def test_no_compiler_stops_before_anything_is_made(checkout):
    for name in ('c++', 'g++'):
        checkout.program(name, '#!/bin/sh\nexit 1\n')
    code, lines, calls = checkout.run()
    assert code == 1 and 'C++ compiler' in lines[-1]
    assert not calls and not (checkout.repo / '.venv').exists()
