"""What is installed, what is wrong with it, what to do: python tools/analysis/doctor.py.

Exits with status 1 where something is broken. What is merely not installed is no fault.
"""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from swinv2_mm.utils import versions as torch_versions

# Import name -> what needs it, the line that brings it.
LIBRARIES = {
    'mmengine': ('everything', "pip install 'onedl-mmengine>=0.10.12,<0.11'"),
    'mmcv': ('everything but the backbone', "pip install 'onedl-mmcv>=2.3.6,<2.4'"),
    'mmdet': ('detection, Mask2Former', "pip install 'onedl-mmdetection>=3.5.1,<3.6'"),
    'mmseg': ('segmentation', "pip install 'onedl-mmsegmentation>=1.4.2,<1.5'"),
    'mmpretrain': ('classification, SimMIM', "pip install 'onedl-mmpretrain>=1.3.6,<1.4'"),
    'mmaction': ('video', "pip install 'mmaction2>=1.2.0,<1.3'"),
}
# The same from those whom OpenMMLab's own pages name, for torch up to 2.1.
UPSTREAM = {
    'mmengine': 'pip install mmengine==0.10.7', 'mmcv': 'pip install mmcv==2.1.0',
    'mmdet': 'pip install mmdet==3.3.0', 'mmseg': 'pip install mmsegmentation==1.2.2 ftfy regex',
    'mmpretrain': 'pip install mmpretrain==1.2.0',
    'mmaction': 'pip install --no-deps mmaction2==1.2.0 && pip install av decord einops scipy'}
# What can be done -> import names that it needs.
TASKS = {
    'the backbone, loading, transfer': ('mmengine',),
    'detection': ('mmengine', 'mmcv', 'mmdet'),
    'segmentation': ('mmengine', 'mmcv', 'mmseg'),
    'Mask2Former for segmentation': ('mmengine', 'mmcv', 'mmseg', 'mmdet'),
    'classification and SimMIM': ('mmengine', 'mmcv', 'mmpretrain'),
    'video': ('mmengine', 'mmcv', 'mmaction', 'av'),
    'export to ONNX': ('onnx', 'onnxscript', 'onnxruntime'),
    'pictures and videos through a model': ('mmengine', 'mmcv', 'rich', 'av'),
    'the web page': ('gradio',)}
OTHERS = ('torch', 'torchvision', 'numpy', 'opencv-python', 'opencv-python-headless', 'timm',
          'transformers', 'decord', 'av', 'safetensors')
# One build of OpenCV is as good as another; the wheel of decord names a Python of its own inside.
HARMLESS = re.compile(r'^decord .* is not supported on this platform$|^No broken requirements|'
                      r' requires opencv-(contrib-)?python(-headless)?, which is not installed')
SHARED = 1 << 30  # bytes of /dev/shm under which data loader workers are known to die


class Finding(NamedTuple):
    """`level` is 'ok', 'missing' (no fault) or 'wrong'; `fix` says what to do."""

    level: str
    what: str
    fix: str = ''


def find_owners() -> dict[str, dict[str, str]]:
    """Import name -> {distribution: version}."""
    found = {}
    for dist in metadata.distributions():
        names = (dist.read_text('top_level.txt') or '').split()
        if not names:  # not every build writes that file
            names = {file.parts[0] for file in dist.files or ()
                     if len(file.parts) == 2 and file.name == '__init__.py'}
        for name in names:
            found.setdefault(name, {})[dist.metadata['Name']] = dist.version
    return found


def pip_line(name: str) -> str:
    """What installs a library for the torch that is here."""
    return LIBRARIES[name][1] if torch_versions.TORCH >= (2, 2) else UPSTREAM[name]


def check_tasks(owners: dict, found=importlib.util.find_spec) -> list[Finding]:
    """What can be done here, and what is missing for the rest."""
    findings = []
    for task, needs in TASKS.items():
        missing = [name for name in needs if name not in owners]
        if not missing and 'mmdet' in needs and not found('mmcv._ext'):
            findings.append(Finding('missing', f'{task}: mmcv is here without its operators',
                                    pip_line('mmcv')))
        elif missing:
            lines = [pip_line(name) if name in LIBRARIES else f'pip install {name}'
                     for name in missing]
            findings.append(Finding('missing', f'{task}: lacks {", ".join(missing)}',
                                    ' && '.join(lines)))
        else:
            findings.append(Finding('ok', f'{task}: all that it needs is here'))
    return findings


def check_limits() -> list[Finding]:
    """What this torch cannot do."""
    return [Finding('missing', f'{what} needs torch {since[0]}.{since[1]}, the rest works without')
            for what, since in torch_versions.SINCE.items() if not torch_versions.can(what)]


def check_distributions(owners: dict) -> list[Finding]:
    """One distribution for each library; `owners` is that of find_owners."""
    findings = []
    for name, (purpose, _) in LIBRARIES.items():
        line = pip_line(name)
        found = owners.get(name, {})
        shown = ' and '.join(f'{dist} {version}' for dist, version in sorted(found.items()))
        if len(found) > 1:
            findings.append(Finding(
                'wrong', f'{name}: {shown} overwrite each other',
                f'pip uninstall -y {" ".join(sorted(found))} && {line}'))
        else:
            findings.append(Finding('ok', f'{name}: {shown}') if found else Finding(
                'missing', f'{name} is not installed; it is for {purpose}', line))
    builds = owners.get('cv2', {})
    if len(set(builds.values())) > 1:
        shown = ' and '.join(f'{dist} {version}' for dist, version in sorted(builds.items()))
        findings.append(Finding(
            'wrong', f'cv2: {shown} share one folder and are of different versions',
            f'pip uninstall -y {" ".join(sorted(builds))} && pip install {max(builds)}'))
    return findings


def check_imports(owners: dict, load=importlib.import_module) -> list[Finding]:
    """Whatever is installed can be imported; compiled operators and mmaction2 by their own way."""
    findings = []
    for name in ('cv2', *LIBRARIES):
        if name not in owners:
            continue
        # mmaction2 needs help: swinv2_mm.utils.compat, which says itself what is wrong.
        module = {'mmcv': 'mmcv.ops', 'mmaction': 'swinv2_mm.utils.compat'}.get(name, name)
        if any(dist.endswith('-lite') for dist in owners[name]):  # without operators, by choice
            module = name
        try:
            load(module)
        except (ImportError, OSError, RuntimeError, AssertionError, AttributeError) as error:
            findings.append(Finding('wrong', f'import {module} says: {_one_line(error)}',
                                    _import_fix(name, str(error))))
        else:
            findings.append(Finding('ok', f'import {module}'))
    return findings


def _import_fix(name: str, said: str) -> str:
    if name == 'mmcv':
        return ('the operators were compiled for another torch: in a checkout `make setup`, else '
                'pip cache remove onedl_mmcv && pip install --no-build-isolation --force-reinstall '
                '--no-deps onedl-mmcv')
    if name == 'cv2' and '.so' in said:
        return 'sudo apt install libgl1 libglib2.0-0 (Fedora: dnf install mesa-libGL glib2)'
    return 'install the versions that pyproject.toml names'


def check_torch() -> list[Finding]:
    """torch, and a GPU that it can use, if the machine has one."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Finding('wrong', f'import torch says: {_one_line(error)}',
                        'install torch as pytorch.org says for this machine')]
    findings = [Finding('ok', f'torch {torch.__version__}, {torch.get_num_threads()} threads')]
    if torch.cuda.is_available():
        return findings + [_gpu(torch, index) for index in range(torch.cuda.device_count())]
    driver = shutil.which('nvidia-smi')
    if driver and subprocess.run([driver, '-L'], capture_output=True).stdout.strip():
        why = (f'it was built for CUDA {torch.version.cuda}, which the driver may be too old for'
               if torch.version.cuda else 'this build of it is for CPUs only')
        return [*findings, Finding('wrong', f'nvidia-smi sees a GPU and torch does not: {why}',
                                   'install the torch that pytorch.org names for this driver')]
    return [*findings, Finding('missing', 'no GPU: training runs on the CPU, without --amp')]


def _gpu(torch, index: int) -> Finding:
    about = torch.cuda.get_device_properties(index)
    name = (f'GPU {index}: {about.name}, {about.total_memory / 2 ** 30:.0f} GB, '
            f'sm_{about.major}{about.minor}')
    # Code of a major generation runs on its later members.
    known = {arch.rpartition('_')[2][:-1] for arch in torch.cuda.get_arch_list()}
    if known and str(about.major) not in known:
        return Finding('wrong', f'{name}; torch was built for {torch.cuda.get_arch_list()}',
                       'install a torch whose CUDA knows this GPU, and compile mmcv again')
    return Finding('ok', name)


def check_backbone() -> list[Finding]:
    """The package itself: it imports, and a small model runs."""
    try:
        import torch

        import swinv2_mm
        (out,) = swinv2_mm.SwinTransformerV2('nano', out_indices=(3,))(torch.rand(1, 3, 64, 64))
    except (ImportError, OSError, RuntimeError) as error:
        return [Finding('wrong', f'swinv2_mm does not run, it says: {_one_line(error)}',
                        'pip install the package, or run from the root of a checkout')]
    if not out.isfinite().all():
        return [Finding('wrong', 'the backbone gives values that are not finite',
                        'install another torch')]
    return [Finding('ok', f'swinv2_mm {swinv2_mm.__version__} from '
                          f'{Path(swinv2_mm.__file__).parent}, runs')]


def check_packages(output: str | None = None) -> list[Finding]:
    """pip's own check of requirements."""
    if output is None:
        done = subprocess.run([sys.executable, '-m', 'pip', 'check'], capture_output=True,
                              text=True)
        if 'No module named pip' in done.stderr:
            return [Finding('missing', 'no pip, so what packages ask for is not checked',
                            f'uv pip check --python {sys.executable}')]
        output = done.stdout
    broken = [line for line in output.splitlines() if line.strip() and not HARMLESS.search(line)]
    if broken:
        return [Finding('wrong', f'pip check: {"; ".join(broken)}', 'install what it asks for')]
    return [Finding('ok', 'pip check: nothing missing')]


def check_machine(shared: Path = Path('/dev/shm')) -> list[Finding]:
    """Room for data loader workers and for checkpoints."""
    findings = [Finding('ok', f'{os.cpu_count()} CPUs, '
                              f'{shutil.disk_usage(".").free / 2 ** 30:.0f} GB free here')]
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < SHARED:
        findings.append(Finding(
            'wrong', f'{shared} has {size / 2 ** 20:.0f} MB: workers of data loaders die of it',
            'docker run --shm-size=8g, or --cfg-options train_dataloader.num_workers=0 '
            'train_dataloader.persistent_workers=False'))
    return findings


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def versions() -> dict[str, str]:
    """Versions to put into a report."""
    found = {'python': platform.python_version(), 'platform': platform.platform()}
    for name in OTHERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main(argv: list | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args(argv)
    owners = find_owners()
    findings = [*check_torch(), *check_limits(), *check_distributions(owners),
                *check_imports(owners), *check_tasks(owners), *check_backbone(), *check_packages(),
                *check_machine()]
    if args.json:
        print(json.dumps(dict(versions=versions(),
                              findings=[finding._asdict() for finding in findings]), indent=1))
    else:
        print('\n'.join(f'{name:<24} {version}' for name, version in versions().items()), '\n')
        for level, what, fix in sorted(findings, key=lambda f: ('ok', 'missing', 'wrong').index(
                f.level)):
            print(f'{level:<8} {what}' + (f'\n{"":8}   -> {fix}' if fix else ''))
    wrong = sum(finding.level == 'wrong' for finding in findings)
    sys.exit(f'{wrong} to mend: see "wrong" above.' if wrong else 0)


def cli() -> None:
    """The command line of this tool."""
    main()
