"""Make the environments of this checkout: `python3 tools/setup_env.py [--peers]`.

`.venv` holds all that requirements.lock pins but its last section. `--peers` adds `.venv-peers`,
which sees `.venv` and holds transformers besides: mmpretrain and mmaction2 fail next to it.
Standard library only, and it starts under any Python from 3.6 on, to say that one is wrong.
What must be right before anything is installed is in setup_needs.py, after it in setup_checks.py.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import setup_needs
from setup_needs import SetupError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INPUTS = ('requirements.lock', 'setup.py', 'tools/setup_env.py', 'tools/setup_needs.py',
          'tools/setup_checks.py')
SIGN_OF_LIFE = 20  # seconds between two lines while a step runs
# --no-deps: the lock is complete; --no-build-isolation: source packages build against the torch
# that is installed, not against the newest one
PIP_INSTALL = ['-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '--no-input',
               '--disable-pip-version-check', '--progress-bar', 'off']
# would send what pip installs elsewhere than into the environment, or let Python look elsewhere
NOT_PASSED_ON = ('PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX',
                 'PIP_CONSTRAINT', 'VIRTUAL_ENV')


def say(text):
    print(text, flush=True)


def read_lock(text):
    """Section name -> list of pins, in the order of the file."""
    sections, pins = {}, None
    for line in text.replace('\\\n', ' ').splitlines():  # a pin and its hashes, one a line
        title = re.match(r'# \[([\w-]+)\]$', line)
        if title:
            pins = sections.setdefault(title.group(1), [])
        elif line.strip() and not line.startswith('#'):
            if pins is None or '==' not in line:
                raise SetupError("requirements.lock holds pins 'name==version' below a "
                                 f"'# [section]' line, and got '{line}': put it right.")
            pins.append(' '.join(line.split()))
    return sections


def fingerprint(root, names=INPUTS):
    """One hash over the files that decide what is installed."""
    digest = hashlib.sha256()
    for name in names:
        with open(os.path.join(root, name), 'rb') as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


class Env:
    """A virtual environment with a stamp, written last, and a mark that stands while pip works."""

    def __init__(self, path):
        self.path = path
        self.python = os.path.join(path, 'bin', 'python')
        self.log = os.path.join(path, 'setup.log')
        self.stamp = os.path.join(path, 'setup.stamp')
        self.busy = os.path.join(path, 'setup.busy')

    def state(self, wanted):
        """'ready', 'update' when it is whole but not as wanted, 'fresh' when it is not whole."""
        if not os.path.exists(self.path) or os.path.exists(self.busy):
            return 'fresh'
        if not os.path.exists(self.log):
            raise SetupError(f'{os.path.basename(self.path)} must be made by this set-up, and the '
                             'one here was not: move it away and run it again.')
        stamp = self.read_stamp()
        moved = stamp.get('path', self.path) != self.path  # a venv holds its own path
        if moved or not os.path.exists(self.python):
            return 'fresh'
        return 'ready' if stamp.get('inputs') == wanted else 'update'

    def read_stamp(self):
        try:
            with open(self.stamp) as file:
                return json.load(file)
        except (OSError, ValueError):
            return {}

    def write_stamp(self, wanted):
        with open(self.stamp + '.new', 'w') as file:
            json.dump({'inputs': wanted, 'path': self.path, 'made': time.time()}, file)
        os.replace(self.stamp + '.new', self.stamp)

    def drop_stamp(self):
        if os.path.exists(self.stamp):
            os.remove(self.stamp)

    def make(self, python, *flags):
        """An empty environment in the place of whatever was there."""
        if os.path.exists(self.path):
            shutil.rmtree(self.path)
        os.mkdir(self.path)
        self.run('an empty environment (about 5 s)', [python, '-m', 'venv', *flags, self.path])

    def pip(self, title, pins, *flags, **variables):
        """Install pins of the lock, each by its hash where it has one; pip refuses other files."""
        if any('--hash' in pin for pin in pins):  # pip takes hashes from a file only
            listed = os.path.join(self.path, 'pins.txt')
            with open(listed, 'w') as file:
                file.write('\n'.join(pins) + '\n')
            pins = ['--require-hashes', '-r', listed]
        self.run(title, [self.python, *PIP_INSTALL, *flags, *pins], **variables)

    def run(self, title, command, **variables):
        """Run one step; what ends it early leaves the mark, and the next set-up starts afresh."""
        say('- ' + title)
        with open(self.busy, 'w'):
            pass
        code, output = run_logged(command, self.log, dict(environ(), **variables))
        if code:
            say('\n'.join(output.splitlines()[-20:]))
            raise SetupError(setup_needs.diagnose(output, title, os.path.relpath(self.log, ROOT)))
        os.remove(self.busy)

    def site(self):
        """Its site-packages, relative to it: lib/python3.X/site-packages."""
        return os.path.join('lib', os.listdir(os.path.join(self.path, 'lib'))[0], 'site-packages')

    def version_of(self, name):
        """The installed version of a distribution, or None."""
        for entry in os.listdir(os.path.join(self.path, self.site())):
            found = re.match(re.escape(name) + r'-(\d.*)\.dist-info$', entry)
            if found:
                return found.group(1)
        return None


def environ():
    return {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}


def run_logged(command, log, env):
    """Run a command, its output in the log, a sign of life on the screen: (exit code, output)."""
    with open(log, 'ab') as file:
        start = file.tell()
        file.write(f'\n$ {" ".join(command)}\n'.encode())
        file.flush()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   env=env, cwd=ROOT)
        began, code = time.time(), None
        try:
            while code is None:
                try:
                    code = process.wait(timeout=SIGN_OF_LIFE)
                except subprocess.TimeoutExpired:
                    say('    ' + progress(time.time() - began, read_from(log, start)))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return code, read_from(log, start)


def read_from(log, start):
    with open(log, 'rb') as file:
        file.seek(start)
        return file.read().decode('utf-8', 'replace')


def progress(seconds, output):
    """'1 min 40 s, 31 of 78 files': elapsed time, and ninja's counter when there is one."""
    text = '{} min {:02d} s'.format(*divmod(int(seconds), 60))
    counts = re.findall(r'^\s*\[(\d+)/(\d+)\]', output, re.MULTILINE)
    return text + (', {} of {} files'.format(*counts[-1]) if counts else '')


def check(env, what):
    """Run setup_checks.py inside the environment: None, or a sentence that a new mmcv cures."""
    process = subprocess.Popen([env.python, os.path.join('tools', 'setup_checks.py'), what],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ(),
                               cwd=ROOT, universal_newlines=True)
    lines = process.communicate()[0].strip().splitlines() or ['tools/setup_checks.py said nothing.']
    if process.returncode not in (0, setup_needs.OPS_DO_NOT_LOAD):
        raise SetupError(lines[-1])
    return lines[-1] if process.returncode else None


def install_mmcv(env, pins, *flags):
    variables, note = setup_needs.mmcv_build(env.python, environ())
    if note:
        say('    ' + note)
    env.pip('mmcv, compiled against this torch (about 16 min on 2 cores the first time; pip keeps '
            'the wheel)', pins, '-v', *flags, **variables)


def install(env, lock):
    """All sections but the last, then the package, then the checks."""
    env.pip('build tools, numpy and OpenCV (about 20 s)', lock['tools'])
    env.pip('OpenCV without a display (about 5 s)', lock['opencv'])
    check(env, 'cv2')  # before the long build: a missing system library is told now
    before = env.version_of('torch')
    env.pip('torch and torchvision (about 80 s and 2 GB to download)', lock['torch'])
    # a wheel kept or installed earlier was compiled for the torch of then
    rebuild = '--force-reinstall', '--no-cache-dir'
    install_mmcv(env, lock['mmcv'], *(rebuild if before not in (None, env.version_of('torch'))
                                      else ()))
    env.pip('OpenMMLab and the tools of this repository (about 60 s)', lock['packages'])
    env.pip('swinv2_mm itself, editable (about 5 s)', ['-e', ROOT])
    say('- checking the result (about 10 s)')
    if check(env, 'all'):
        say('    the mmcv that pip had kept was compiled for another torch: compiling it again')
        install_mmcv(env, lock['mmcv'], *rebuild)
        failure = check(env, 'all')
        if failure:
            raise SetupError(failure)


def set_up_main(env, wanted, lock):
    state = env.state(wanted)
    if state == 'ready':
        return
    setup_needs.check_compiler(environ())
    if state == 'fresh':
        python = setup_needs.choose_python(os.environ.get('PYTHON'))
        setup_needs.check_disk(ROOT)
        say('Making .venv with Python {}.{}; details go to .venv/setup.log.'
            .format(*python['version']))
        env.make(python['exe'])
    else:
        say('Bringing .venv up to date with requirements.lock; details go to .venv/setup.log.')
        env.drop_stamp()
    install(env, lock)
    env.write_stamp(wanted)
    say('.venv is ready.')


def set_up_peers(env, main_env, wanted, lock):
    """A venv without pip of its own: it sees the main one through a .pth file, and adds to it."""
    if env.state(wanted) == 'ready':
        return
    say('Making .venv-peers; details go to .venv-peers/setup.log.')
    env.make(main_env.python, '--without-pip')
    # addsitedir, not a bare path: the .pth files over there (the editable install) count too
    with open(os.path.join(env.path, env.site(), 'main.pth'), 'w') as file:
        file.write('import site; site.addsitedir({!r})\n'
                   .format(os.path.join(main_env.path, main_env.site())))
    env.pip('transformers (about 20 s)', lock['peers'])
    check(env, 'peers')
    env.write_stamp(wanted)
    say('.venv-peers is ready.')


def main(arguments):
    setup_needs.check_platform()
    import fcntl  # not everywhere, hence after the check of the platform
    with open(os.path.join(ROOT, 'requirements.lock')) as file:
        lock = read_lock(file.read())
    env, peers = Env(os.path.join(ROOT, '.venv')), Env(os.path.join(ROOT, '.venv-peers'))
    wanted = fingerprint(ROOT)
    with open(os.path.join(ROOT, '.venv.lock'), 'w') as door:
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say('Another set-up of this checkout is running: waiting for it.')
            fcntl.flock(door, fcntl.LOCK_EX)
        set_up_main(env, wanted, lock)
        if '--peers' in arguments:
            # remade after every change of .venv, which may have another Python by then
            made = env.read_stamp().get('made')
            set_up_peers(peers, env, f'{wanted} {made}', lock)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(
        'The set-up was ended from outside: run it again, it starts afresh.'))
    try:
        main(sys.argv[1:])
    except SetupError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say('The set-up was interrupted: run it again, it starts afresh.')
        sys.exit(130)
