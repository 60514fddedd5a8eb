"""What the set-up says about the machine and about its result: one sentence, with the fix."""
import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

import setup_checks  # noqa: E402
import setup_env  # noqa: E402
import setup_needs  # noqa: E402
from setup_needs import SetupError  # noqa: E402


def program(folder, name, body):
    """An executable shell script; returns its path."""
    path = folder / name
    path.write_text('#!/bin/sh\n' + body)
    path.chmod(0o755)
    return str(path)


def python_stub(folder, name, version, missing=()):
    answer = json.dumps(dict(exe=str(folder / name), version=version, missing=list(missing)))
    return program(folder, name, f"echo '{answer}'\n")


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A folder that is the whole PATH."""
    monkeypatch.setenv('PATH', str(tmp_path))
    return tmp_path


def sentence(call, *args, **kwargs):
    """The text of the error a call raises: one line, one full stop at its end."""
    with pytest.raises(SetupError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert '\n' not in text and text.endswith('.') and '. ' not in text
    return text


@pytest.mark.parametrize('name', ['setup_env.py', 'setup_needs.py'])
def test_the_script_starts_under_python_3_6(name):
    text = (ROOT / 'tools' / name).read_text()
    ast.parse(text, feature_version=(3, 6))
    assert 'capture_output' not in text and 'text=True' not in text  # of subprocess, from 3.7 on


# ------------------------------------------------------------------ which Python


def test_the_first_right_interpreter_that_runs_is_chosen(only):
    program(only, 'python3.11', 'echo "command not found" >&2; exit 127\n')  # as version shims do
    python_stub(only, 'python3.12', [3, 12], ['venv'])
    python_stub(only, 'python3.10', [3, 10])
    python_stub(only, 'python3', [3, 11])
    assert setup_needs.choose_python()['exe'] == str(only / 'python3.10')


def test_a_named_interpreter_is_taken_or_refused_but_never_replaced(only):
    python_stub(only, 'python3.11', [3, 11])
    other = python_stub(only, 'other', [3, 12])
    assert setup_needs.choose_python(other)['version'] == [3, 12]
    assert 'nowhere does not run' in sentence(setup_needs.choose_python, 'nowhere')


def test_a_wrong_python_is_named_with_its_version(only):
    python_stub(only, 'python3', [3, 9])
    text = sentence(setup_needs.choose_python)
    assert 'python3 is Python 3.9' in text and 'PYTHON=' in text
    assert 'apt install python3.11 python3.11-venv python3.11-dev' in text
    assert 'dnf install python3.11 python3.11-devel' in text


def test_no_python_at_all_is_said(only):
    assert 'there is none' in sentence(setup_needs.choose_python)


@pytest.mark.parametrize('missing', ['venv', 'ensurepip', 'Python.h'])
def test_missing_parts_of_a_right_python_are_named_with_their_packages(only, missing):
    python_stub(only, 'python3.12', [3, 12], [missing])
    text = sentence(setup_needs.choose_python)
    assert f'python3.12 has no {missing}' in text
    assert 'apt install python3.12-venv python3.12-dev`' in text


def test_the_probe_describes_the_running_interpreter():
    found = setup_needs.probe(sys.executable)
    assert found['exe'] == sys.executable and tuple(found['version']) == sys.version_info[:2]


# ------------------------------------------------------------------ compiler, disk, platform


def test_no_compiler_is_said(only):
    text = sentence(setup_needs.check_compiler, dict(os.environ))
    assert 'apt install g++' in text and 'dnf install gcc-c++' in text


def test_a_compiler_that_is_there_but_fails_is_none(only):
    program(only, 'c++', 'exit 1\n')
    program(only, 'g++', 'exit 0\n')
    assert ', and c++ cannot be run' in sentence(setup_needs.check_compiler, dict(os.environ))


@pytest.mark.parametrize('names, variables', [(['c++', 'g++'], {}), (['mine'], {'CXX': 'mine -x'})])
def test_a_compiler_that_runs_is_enough(only, names, variables):
    for name in names:
        program(only, name, 'exit 0\n')
    setup_needs.check_compiler(dict(os.environ, **variables))


def test_too_little_disk_is_said_with_both_figures(tmp_path):
    text = sentence(setup_needs.check_disk, str(tmp_path), free_gb=3.25)
    assert 'about 12 GB' in text and '3.2 GB' in text
    setup_needs.check_disk(str(tmp_path), free_gb=12.5)


def test_another_platform_is_said():
    assert 'Darwin on arm64' in sentence(setup_needs.check_platform, 'Darwin', 'arm64')
    setup_needs.check_platform('Linux', 'x86_64')


# ------------------------------------------------------------------ the build of mmcv


def gpu_machine(folder, nvcc):
    (folder / 'bin').mkdir()
    program(folder / 'bin', 'nvcc', f'echo "release {nvcc}, V{nvcc}.1"\n')
    return program(folder, 'python', f'echo "True 13.0 {folder}"\n')


def test_jobs_are_bounded_unless_given(tmp_path):
    python = program(tmp_path, 'python', 'echo "False None None"\n')
    variables, note = setup_needs.mmcv_build(python, {'PATH': ''})
    assert 1 <= int(variables['MAX_JOBS']) <= os.cpu_count() and note is None
    assert setup_needs.mmcv_build(python, {'MAX_JOBS': '7'}) == ({}, None)


@pytest.mark.parametrize('nvcc, hidden', [('12.8', True), ('13.1', False)])
def test_the_gpu_is_hidden_from_the_build_without_a_fitting_nvcc(tmp_path, nvcc, hidden):
    variables, note = setup_needs.mmcv_build(gpu_machine(tmp_path, nvcc), dict(os.environ))
    assert (variables.get('CUDA_VISIBLE_DEVICES') == '') == hidden
    assert ('CPU only' in (note or '')) == hidden


def test_force_cuda_is_the_users_word(tmp_path):
    python = gpu_machine(tmp_path, '12.8')
    variables, note = setup_needs.mmcv_build(python, dict(os.environ, FORCE_CUDA='1'))
    assert 'CUDA_VISIBLE_DEVICES' not in variables and note is None


# ------------------------------------------------------------------ what a failed step means


@pytest.mark.parametrize('output, words', [
    ('ERROR: Could not install packages: [Errno 28] No space left on device', 'disk is full'),
    ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
    ('NewConnectionError(...): [Errno -3] Temporary failure in name resolution', 'network'),
    ('Could not find a version that satisfies torch==2.11.0 (from versions: none)', 'network'),
    ('The detected CUDA version (12.4) mismatches the version', 'CUDA_VISIBLE_DEVICES='),
    ('something new', "The step 'torch' failed"),
])
def test_the_output_of_a_failed_step_becomes_a_sentence(output, words):
    text = setup_needs.diagnose(output, 'torch (about 80 s)', '.venv/setup.log')
    assert words in text and text.endswith('.') and '\n' not in text


def test_the_sign_of_life_has_the_time_and_the_compilers_counter():
    assert setup_env.progress(100.9, 'Building wheel\n') == '1 min 40 s'
    assert setup_env.progress(605, '  [9/78] c++ a.o\n  [10/78] c++ b.o\n') == (
        '10 min 05 s, 10 of 78 files')


# ------------------------------------------------------------------ the result


def distributions(folder, **names):
    """Installed distributions: name=(version, import name)."""
    for name, (version, imported) in names.items():
        info = folder / f'{name}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Name: {name}\nVersion: {version}\n')
        (info / 'top_level.txt').write_text(imported + '\n')
    return setup_checks.owners([str(folder)])


GOOD = dict(onedl_mmengine=('0.10.12', 'mmengine'), onedl_mmcv=('2.3.6', 'mmcv'),
            onedl_mmdetection=('3.5.1', 'mmdet'), onedl_mmsegmentation=('1.4.2', 'mmseg'),
            onedl_mmpretrain=('1.3.6', 'mmpretrain'), mmaction2=('1.2.0', 'mmaction'),
            opencv_python=('4.12.0.88', 'cv2'), opencv_contrib_python=('4.12.0.88', 'cv2'))


def test_one_distribution_for_each_name_is_right(tmp_path):
    setup_checks.check_owners(distributions(tmp_path, **GOOD))


def test_upstream_beside_onedl_is_said(tmp_path):
    found = distributions(tmp_path, **GOOD, mmcv=('2.1.0', 'mmcv'))
    assert 'mmcv and onedl_mmcv overwrite each other' in sentence(setup_checks.check_owners, found)


def test_a_name_without_a_distribution_is_said(tmp_path):
    found = distributions(tmp_path, **{k: v for k, v in GOOD.items() if k != 'mmaction2'})
    assert 'name mmaction needs exactly one' in sentence(setup_checks.check_owners, found)


def test_opencv_builds_of_two_versions_are_said(tmp_path):
    found = distributions(tmp_path, **GOOD, opencv_python_headless=('4.11.0.86', 'cv2'))
    text = sentence(setup_checks.check_owners, found)
    assert 'opencv_python 4.12.0.88' in text and 'opencv_python_headless 4.11.0.86' in text


def test_a_distribution_without_a_name_list_is_known_by_its_files(tmp_path):
    info = tmp_path / 'mmcv-2.1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Name: mmcv\nVersion: 2.1.0\n')
    files = ('mmcv/__init__.py', 'mmcv/ops/__init__.py', 'README')
    for file in files:  # Python 3.12 and importlib_metadata leave out what is not there
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (info / 'RECORD').write_text(''.join(f'{file},,\n' for file in files))
    assert setup_checks.owners([str(tmp_path)]) == {'mmcv': {'mmcv': '2.1.0'}}


def run_checks(folder, what, **modules):
    """setup_checks.py in a process of its own that finds these modules first: (code, last line)."""
    for name, body in modules.items():
        (folder / f'{name}.py').write_text(body)
    done = subprocess.run([sys.executable, ROOT / 'tools' / 'setup_checks.py', what],
                          capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=folder))
    return done.returncode, done.stdout.strip().splitlines()[-1]


def test_a_missing_libgl_is_said_with_its_packages(tmp_path):
    code, text = run_checks(tmp_path, 'cv2', cv2=(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file')"))
    assert code == 1 and 'libGL.so.1' in text
    assert 'apt install libgl1' in text and 'dnf install mesa-libGL' in text


def test_another_failure_of_cv2_does_not_blame_the_system(tmp_path):
    code, text = run_checks(tmp_path, 'cv2', cv2="raise ImportError('numpy is too new')")
    assert code == 1 and 'numpy is too new' in text and 'apt' not in text


def test_operators_built_for_another_torch_ask_for_a_rebuild(capsys):
    def load(name):
        raise ImportError(f'{name}: undefined symbol: _ZN3c10\n')
    assert not setup_checks.check_ops(load)
    assert 'undefined symbol' in capsys.readouterr().out


def test_a_broken_requirement_is_said_and_a_harmless_remark_is_not():
    setup_checks.check_complete('decord 0.6.0 is not supported on this platform\n')
    setup_checks.check_complete('No broken requirements found.\n')
    text = sentence(setup_checks.check_complete, 'timm 1.0 requires torch, which is not installed')
    assert 'timm 1.0 requires torch' in text


# ------------------------------------------------------------------ the lock


def test_the_lock_pins_every_name_once_for_each_python():
    lock = setup_env.read_lock((ROOT / 'requirements.lock').read_text())
    assert list(lock) == ['tools', 'opencv', 'torch', 'mmcv', 'packages', 'peers']
    pins = [pin.split('==')[0] + marker.partition('--hash')[0].strip() for pins in lock.values()
            for pin in pins for _, semicolon, marker in [pin.partition(';')]]
    assert len(pins) == len(set(pins))
    versions = {pin.split()[0].split('==')[1] for pin in lock['tools'] + lock['opencv']
                if 'opencv' in pin}
    assert len(versions) == 1


def test_a_pin_keeps_its_marker_and_its_hashes():
    text = '# [tools]\none==1 ; python_version < "3.11" \\\n    --hash=sha256:ab \\\n'
    assert setup_env.read_lock(text + '    --hash=sha256:cd\n') == {
        'tools': ['one==1 ; python_version < "3.11" --hash=sha256:ab --hash=sha256:cd']}


def test_a_line_of_the_lock_that_is_no_pin_is_refused():
    assert "got 'torch>=2'" in sentence(setup_env.read_lock, '# [torch]\ntorch>=2\n')
