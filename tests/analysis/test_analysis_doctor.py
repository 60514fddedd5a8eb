"""tools/analysis/doctor.py: each fault of an environment is found and comes with what to do."""
import json
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from helpers import run_tool

from swinv2_mm.analysis import doctor

GOOD = {name: {f'onedl-{name}': '1.0'} for name in doctor.LIBRARIES}


def wrong(findings):
    return [finding for finding in findings if finding.level == 'wrong']


def test_this_environment_is_sound_as_the_set_up_says():
    done = run_tool('tools/analysis/doctor.py', '--json')
    report = json.loads(done.stdout)
    # A small /dev/shm is the machine's fault, and not the environment's.
    faults = [finding for finding in report['findings']
              if finding['level'] == 'wrong' and '/dev/shm' not in finding['what']]
    assert faults == [] and report['versions']['torch']
    assert any(finding['what'].startswith('swinv2_mm ') for finding in report['findings'])


def test_two_distributions_of_one_library_are_wrong_and_both_are_named():
    (found,) = wrong(doctor.check_distributions(GOOD | {
        'mmdet': {'mmdet': '3.3.0', 'onedl-mmdetection': '3.5.1'}}))
    assert 'mmdet 3.3.0 and onedl-mmdetection 3.5.1' in found.what
    assert found.fix.startswith('pip uninstall -y mmdet onedl-mmdetection && pip install')


def test_a_library_that_is_not_there_is_no_fault(monkeypatch):
    monkeypatch.setattr(doctor.torch_versions, 'TORCH', (2, 11))
    few = {name: dists for name, dists in GOOD.items() if name != 'mmseg'}
    found = doctor.check_distributions(few)
    assert wrong(found) == []
    (missing,) = [finding for finding in found if finding.level == 'missing']
    assert 'segmentation' in missing.what and 'onedl-mmsegmentation' in missing.fix


def test_builds_of_opencv_of_several_versions_are_wrong():
    (found,) = wrong(doctor.check_distributions(GOOD | {
        'cv2': {'opencv-python': '4.12', 'opencv-python-headless': '4.10'}}))
    assert 'opencv-python 4.12 and opencv-python-headless 4.10' in found.what


@pytest.mark.parametrize('module, error, fix', [
    ('mmcv.ops', ImportError('undefined symbol: _ZN2at'), 'pip cache remove onedl_mmcv'),
    ('cv2', ImportError('libGL.so.1: cannot open'), 'libgl1'),
    ('swinv2_mm.utils.compat', RuntimeError('mmaction2 does not import'), 'pyproject.toml')])
def test_what_does_not_import_is_wrong_with_its_own_words(module, error, fix):
    def load(name):
        if name == module:
            raise error

    (found,) = wrong(doctor.check_imports(GOOD | {'cv2': {'opencv-python': '4.12'}}, load))
    assert str(error) in found.what and fix in found.fix


def test_mmcv_without_operators_by_choice_is_not_wrong():
    asked = []
    found = doctor.check_imports({'mmcv': {'mmcv-lite': '2.1.0'}}, asked.append)
    assert wrong(found) == [] and asked == ['mmcv']


def test_a_gpu_that_torch_does_not_see_is_wrong(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: '/bin/echo')  # prints -L
    (found,) = wrong(doctor.check_torch())
    assert 'nvidia-smi sees a GPU and torch does not' in found.what
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: None)
    assert wrong(doctor.check_torch()) == []


@pytest.mark.parametrize('built, count', [(['sm_80', 'sm_90'], 0), (['sm_70', 'sm_75'], 1)])
def test_a_gpu_that_torch_was_not_built_for_is_wrong(built, count):
    about = SimpleNamespace(name='A', total_memory=2 ** 34, major=8, minor=6)
    fake = SimpleNamespace(cuda=SimpleNamespace(get_device_properties=lambda index: about,
                                                get_arch_list=lambda: built))
    assert len(wrong([doctor._gpu(fake, 0)])) == count


def test_requirements_that_are_not_met_are_wrong():
    (found,) = wrong(doctor.check_packages('mmdet 3.3 requires mmcv<2.2, but you have mmcv 2.3.'))
    assert found.what == 'pip check: mmdet 3.3 requires mmcv<2.2, but you have mmcv 2.3.'
    for fine in ('No broken requirements found.',
                 'onedl-mmcv 2.3.6 requires opencv-python, which is not installed.',
                 'decord 0.6.0 is not supported on this platform'):
        assert wrong(doctor.check_packages(fine)) == []


def test_each_task_says_what_it_lacks_and_what_brings_it(monkeypatch):
    monkeypatch.setattr(doctor.torch_versions, 'TORCH', (2, 11))
    found = {finding.what.partition(':')[0]: finding
             for finding in doctor.check_tasks(GOOD, lambda name: True)}
    assert found['detection'].level == 'ok' and found['video'].level == 'missing'
    assert 'lacks av' in found['video'].what and found['video'].fix == 'pip install av'
    monkeypatch.setattr(doctor.torch_versions, 'TORCH', (2, 1))
    few = {name: dists for name, dists in GOOD.items() if name != 'mmseg'}
    found = {finding.what.partition(':')[0]: finding
             for finding in doctor.check_tasks(few, lambda name: None)}
    assert found['segmentation'].fix == 'pip install mmsegmentation==1.2.2 ftfy regex'
    assert 'without its operators' in found['detection'].what  # mmcv-lite


def test_what_this_torch_cannot_do_is_said_with_the_version_that_can(monkeypatch):
    monkeypatch.setattr(doctor.torch_versions, 'TORCH', (2, 1))
    said = [finding.what for finding in doctor.check_limits()]
    assert 'float16 on a CPU needs torch 2.3, the rest works without' in said
    monkeypatch.setattr(doctor.torch_versions, 'TORCH', (2, 11))
    assert doctor.check_limits() == []


def test_little_shared_memory_is_wrong(monkeypatch, tmp_path):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: usage(64 << 20, 0, 64 << 20))
    (found,) = wrong(doctor.check_machine(tmp_path))
    assert '64 MB' in found.what and '--shm-size' in found.fix
