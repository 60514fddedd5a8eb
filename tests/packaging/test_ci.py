""".ci/run on machines with and without a browser, or with no way to one."""
import os
import shutil
import subprocess

import pytest
from helpers import ROOT

NEEDS = 'bash', 'dirname', 'timeout', 'env', 'cat', 'sh'


class CI:
    """.ci/run on a machine that has nothing but stubs; each writes down its call."""

    def __init__(self, folder):
        self.folder, self.calls = folder, folder / 'calls'
        (folder / 'bin').mkdir()
        for name in NEEDS:
            (folder / 'bin' / name).symlink_to(shutil.which(name))
        self.stub('sleep')
        self.stub('make', 'echo "browser: $SWINV2_MM_NEED_BROWSER" >> CALLS')

    def stub(self, name, more='', code=0):
        body = f'echo "{name} $*" >> CALLS\n{more}\nexit {code}\n'
        path = self.folder / 'bin' / name
        path.write_text('#!/bin/sh\n' + body.replace('CALLS', str(self.calls)))
        path.chmod(0o755)

    def run(self):
        """(exit code, what is said, calls)"""
        env = {name: value for name, value in os.environ.items() if name[:7] != 'SWINV2_'}
        done = subprocess.run([ROOT / '.ci' / 'run'], env=env | dict(PATH=str(self.folder / 'bin')),
                              cwd=self.folder, capture_output=True, text=True)
        return done.returncode, done.stderr, self.calls.read_text().splitlines()


@pytest.fixture
def ci(tmp_path):
    return CI(tmp_path)


TARGETS = ['check', 'test', 'test-processors', 'test-upstream']
MAKES = [f'make {target}' for target in TARGETS]


@pytest.mark.parametrize('failing', [*TARGETS, 'nothing'])
def test_ci_runs_check_and_tests_and_fails_with_them(ci, failing):
    ci.stub('make', f'[ "$1" != {failing} ] || exit 1')
    code, _, calls = ci.run()
    assert (code == 0) == (failing == 'nothing')
    ran = MAKES if code == 0 else MAKES[:TARGETS.index(failing) + 1]
    assert [call for call in calls if call.startswith('make')] == ran


def test_ci_installs_a_browser_where_there_is_none_and_lets_no_test_skip_it(ci):
    ci.stub('apt-get')
    ci.stub('chromium')  # without its driver
    code, _, calls = ci.run()
    with_browser = [line for make in MAKES for line in (make, 'browser: 1')]
    assert code == 0 and calls == [
        'apt-get update -qq', 'apt-get install -qq -y --no-install-recommends chromium '
        'chromium-driver', *with_browser]
    ci.stub('chromedriver')
    ci.calls.write_text('')
    assert ci.run()[2] == with_browser


def test_ci_says_that_it_got_no_browser_and_goes_on(ci):
    ci.stub('apt-get', code=1)
    code, said, calls = ci.run()
    assert code == 0 and 'could not be installed' in said and said.count('\n') == 1
    assert calls.count('apt-get update -qq') == 3 and calls.count('browser: ') == len(MAKES)
