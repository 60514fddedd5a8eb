"""`make setup`: what it needs is said beforehand, and mmcv is built whole, once, for its torch."""
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import pytest
from helpers import ROOT, script

build_mmcv = script('build_mmcv')
KEY = f'onedl-mmcv-2.3.6-torch{build_mmcv.metadata.version("torch")}'


def refused(action, *args):
    with pytest.raises(SystemExit) as error:
        action(*args)
    return str(error.value)


def test_what_the_machine_lacks_is_said_in_one_sentence(monkeypatch, tmp_path):
    usage = SimpleNamespace(free=7e9)
    monkeypatch.setattr(build_mmcv.shutil, 'disk_usage', lambda path: usage)
    build_mmcv.check_machine('mmcv')
    assert 'needs 8 GB of free disk' in refused(build_mmcv.check_machine, 'onedl-mmcv')
    usage.free = 9e9
    build_mmcv.check_machine('onedl-mmcv')
    with monkeypatch.context() as patch:
        patch.setattr(build_mmcv.sysconfig, 'get_paths', lambda: dict(include=str(tmp_path)))
        said = refused(build_mmcv.check_machine, 'mmcv')
        assert 'C headers' in said and '{}.{}-dev'.format(*sys.version_info) in said
    monkeypatch.setenv('CXX', 'no-such-compiler -O3')
    said = refused(build_mmcv.check_machine, 'mmcv')
    assert 'no-such-compiler cannot be run' in said and 'apt install g++' in said


def test_merged_sources_are_the_same_sources_once_each(tmp_path):
    folder = tmp_path / 'mmcv/ops/csrc/pytorch'
    (folder / 'cpu').mkdir(parents=True)
    for name in ('nms.cpp', 'cpu/nms.cpp', 'cpu/psamask.cpp', 'psamask.cpp', 'roi_align.cpp'):
        (folder / name).write_text(f'// {name}\n')
    build_mmcv.merge(tmp_path)
    compiled = {path.relative_to(folder).as_posix() for path in folder.rglob('*.cpp')}
    assert compiled == {'all.cpp', 'psamask.cpp', 'cpu/all.cpp', 'cpu/psamask.cpp'}
    assert (folder / 'all.cpp').read_text() == '#include "nms.inc"\n#include "roi_align.inc"\n'
    assert (folder / 'cpu/all.cpp').read_text() == '#include "nms.inc"\n'
    assert (folder / 'cpu/nms.inc').read_text() == '// cpu/nms.cpp\n'


@pytest.fixture
def mmcv(monkeypatch, tmp_path):
    """Builds and installations by stubs, which fail as `fails` says; `calls` in their order."""
    state = SimpleNamespace(fails={}, calls=[], gpu=False, cache=tmp_path)

    def do(what, kept):
        state.calls.append(what)
        kept.mkdir(exist_ok=True)
        said = state.fails.get(what) or state.fails.get(kept.name)
        return (1, said) if said else (0, '')

    monkeypatch.setattr(build_mmcv, 'CACHE', tmp_path)
    monkeypatch.setattr(build_mmcv.metadata, 'distributions', lambda name: [])
    monkeypatch.setattr(build_mmcv, 'plan', lambda env: state.gpu)
    monkeypatch.setattr(build_mmcv, 'build', lambda sources, env, merged, kept:
                        do('merged' if merged else 'plain', kept))
    monkeypatch.setattr(build_mmcv, 'install', lambda kept, device: do(device, kept))
    return state


def test_the_wheel_is_built_once_and_kept_for_the_next_environment(mmcv):
    build_mmcv.main('onedl-mmcv')
    assert mmcv.calls == ['merged', 'cpu']
    assert [path.name for path in mmcv.cache.iterdir()] == [f'{KEY}-{sys.implementation.cache_tag}']
    build_mmcv.main('onedl-mmcv')
    assert mmcv.calls == ['merged', 'cpu', 'cpu']


def test_a_build_that_fails_is_followed_by_the_plain_one_with_the_reason(mmcv, capsys):
    mmcv.fails = {'merged': 'all.cpp:\nerror: redefinition of f\n'}
    build_mmcv.main('onedl-mmcv')
    assert mmcv.calls == ['merged', 'plain', 'cpu']
    assert 'build in few files will not do: error: redefinition of f' in capsys.readouterr().out


def test_operators_that_answer_wrongly_are_not_kept_and_no_success(mmcv, capsys):
    mmcv.fails = {'cpu': 'NMS of mmcv and of torchvision keep different boxes\n'}
    assert 'must be built' in refused(build_mmcv.main, 'onedl-mmcv')
    assert mmcv.calls == ['merged', 'cpu', 'plain', 'cpu'] and not list(mmcv.cache.iterdir())
    for said, cure in (('No space left on device', 'free some'),
                       ('g++: fatal error: Killed signal terminated', 'MAX_JOBS=1')):
        mmcv.fails = {'merged': said, 'plain': said}
        assert cure in refused(build_mmcv.main, 'onedl-mmcv')


def test_operators_for_a_gpu_are_built_the_plain_way(mmcv):
    mmcv.gpu = True
    build_mmcv.main('mmcv')
    assert mmcv.calls == ['plain', 'cuda'] and next(mmcv.cache.iterdir()).name.endswith('-cuda')


def test_what_stands_here_for_this_torch_is_left_alone(mmcv, monkeypatch):
    dist = SimpleNamespace(read_text=lambda name: f'{{"url": "file:///cache/{KEY}-cp/a.whl"}}')
    monkeypatch.setattr(build_mmcv.metadata, 'distributions', lambda name: [dist])
    monkeypatch.setattr(build_mmcv.sys, 'implementation', SimpleNamespace(cache_tag='cp'))
    build_mmcv.main('onedl-mmcv')
    assert mmcv.calls == []


@pytest.mark.parametrize('torch, nvcc, gpu', [
    ('False 13.0 None', '', False), ('True 13.0 /cuda', 'release 13.0, V13', True),
    ('True 13.0 /cuda', 'release 12.4, V12', False), ('True 13.0 None', '', False)])
def test_gpu_operators_need_a_gpu_and_the_toolkit_of_torch(monkeypatch, capsys, torch, nvcc, gpu):
    monkeypatch.setattr(build_mmcv, 'run', lambda program, *args: (
        (0, torch + '\n') if program == sys.executable else (0, nvcc)))
    env = {}
    assert build_mmcv.plan(env) is gpu
    hidden = torch.startswith('True') and not gpu
    assert (env.get('CUDA_VISIBLE_DEVICES') == '') == hidden
    assert ('no nvcc of CUDA 13.0' in capsys.readouterr().out) == hidden
    assert build_mmcv.plan({'FORCE_CUDA': '1'}) and int(env['MAX_JOBS']) >= 1


def test_sources_are_those_of_the_hash_in_the_lock(tmp_path):
    archive, out = tmp_path / 'a.tar.gz', tmp_path / 'out'
    out.mkdir()
    with tarfile.open(archive, 'w:gz') as file:
        member = tarfile.TarInfo('mmcv-1/setup.py')
        member.size = 4
        file.addfile(member, io.BytesIO(b'pass'))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert 'has another' in refused(build_mmcv.fetch, archive.as_uri(), 'a' * 64, out)
    assert (build_mmcv.fetch(archive.as_uri(), digest, out) / 'setup.py').read_text() == 'pass'
    missing = (tmp_path / 'none.tar.gz').as_uri()
    assert 'could not be read' in refused(build_mmcv.fetch, missing, digest, out)


class Checkout:
    """The Makefile and what it reads, on a machine with stubs for python3 and uv."""

    UV = """#!/bin/sh
echo "uv $*" >> {calls}
case $1 in venv) for last; do :; done; mkdir -p $last/bin; cp {python} $last/bin/python;; esac
"""
    PYTHON = """#!/bin/sh
echo "python $*" >> {calls}
case "$*" in *uv*) mkdir -p .uv/bin; cp {uv} .uv/bin/uv;; esac
"""

    def __init__(self, folder):
        self.folder, self.calls = folder, folder.parent / 'calls'
        (folder / 'tools').mkdir(parents=True)
        for name in ('Makefile', 'pyproject.toml', 'uv.lock', 'setup.py', 'tools/build_mmcv.py'):
            shutil.copy(ROOT / name, folder / name)
        self.bin = folder.parent / 'bin'
        self.bin.mkdir()
        for name in ('sh', 'env', 'cat', 'cksum', 'mkdir', 'cp', 'rm', 'tail', 'test'):
            (self.bin / name).symlink_to(shutil.which(name))
        (self.bin.parent / 'uv').write_text(self.UV.format(calls=self.calls,
                                                           python=self.bin / 'python3'))
        (self.bin / 'python3').write_text(self.PYTHON.format(calls=self.calls,
                                                             uv=self.bin.parent / 'uv'))
        for path in (self.bin.parent / 'uv', self.bin / 'python3'):
            path.chmod(0o755)

    def make(self, *words):
        """(exit status, output, calls)"""
        self.calls.write_text('')
        env = {name: value for name, value in os.environ.items() if
               name not in ('UV', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}
        done = subprocess.run([shutil.which('make'), *words], cwd=self.folder, text=True,
                              env=env | dict(PATH=str(self.bin)), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return done.returncode, done.stdout, self.calls.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / 'checkout')


def test_setup_brings_uv_by_pip_and_does_nothing_where_nothing_changed(checkout):
    code, said, calls = checkout.make('setup')
    assert code == 0 and said.endswith('.venv is ready.\n')
    assert [call.split()[:4] for call in calls] == [
        ['python', '-c'], ['python', '-m', 'pip', 'install'], ['uv', 'venv', '-q', '--python'],
        ['python', 'tools/build_mmcv.py', 'onedl-mmcv', '--needs'],
        ['uv', 'sync', '--frozen', '--no-install-package'],
        ['python', 'tools/build_mmcv.py', 'onedl-mmcv']]
    assert checkout.make('setup') == (0, '', [])
    (checkout.folder / 'uv.lock').write_text('another')
    assert [call.split()[1] for call in checkout.make('setup')[2]] == [
        'tools/build_mmcv.py', 'sync', 'tools/build_mmcv.py']


def test_an_environment_that_was_moved_is_made_again(checkout):
    checkout.make('setup')
    (checkout.folder / '.venv' / 'mine').touch()
    checkout.folder = checkout.folder.rename(checkout.folder.parent / 'moved')
    code, _, calls = checkout.make('setup')
    assert code == 0 and calls[0].startswith('uv venv')
    assert not (checkout.folder / '.venv' / 'mine').exists()


def test_a_step_that_fails_ends_the_setup_which_then_goes_on_from_there(checkout):
    python = checkout.bin / 'python3'
    sound = python.read_text()
    python.write_text(sound + 'case "$*" in *onedl*) echo no compiler; exit 1;; esac\n')
    code, said, _ = checkout.make('demo')
    assert code and 'no compiler' in said and 'ready' not in said
    (checkout.folder / '.venv/bin/python').write_text(sound)
    code, said, calls = checkout.make('setup')
    assert code == 0 and 'is ready' in said and not any('venv' in call for call in calls)


def test_where_neither_uv_nor_pip_is_one_sentence_says_so(checkout):
    (checkout.bin / 'python3').write_text(
        '#!/bin/sh\n[ "$1" = -c ] || { echo no module named pip >&2; exit 1; }\n')
    code, said, _ = checkout.make('setup')
    assert code and 'needs uv, and pip could not bring it' in said
    assert 'no module named pip' in said


def test_upstream_and_peers_have_environments_of_their_own(checkout):
    code, _, calls = checkout.make('upstream')
    assert code == 0 and 'uv venv -q --python >=3.10,<3.12 .venv-upstream' in calls
    assert ('uv sync --frozen --no-dev --group upstream --no-install-package mmcv '
            '--compile-bytecode') in calls
    assert calls[-1] == 'python tools/build_mmcv.py mmcv'


@pytest.mark.parametrize('name, python, torch', [
    ('oldest', '3.9', 'torch==2.0.1'), ('newest', '3.12', 'torch==2.13.0')])
def test_the_ends_of_the_range_are_made_anew_and_run_the_tests_of_the_backbone(
        checkout, name, python, torch):
    code, _, calls = checkout.make(f'test-{name}')
    assert code == 0 and calls[-3] == f'uv venv -q --clear --python {python} .venv-{name}'
    assert f'--python .venv-{name}/bin/python {torch} ' in calls[-2]
    assert calls[-1].startswith('python -m pytest @tests/backbone.txt ')


@pytest.mark.parametrize('name', ['upstream', 'backbone', 'numeric'])
def test_lists_of_tests_name_what_is_there(name):
    lines = (ROOT / 'tests' / f'{name}.txt').read_text().split()
    named = [line.partition('=')[2] if line[:2] == '--' else line for line in lines]
    for file, _, test in (line.partition('::') for line in named):
        path = ROOT / file
        assert path.is_dir() or test in path.read_text(), file
