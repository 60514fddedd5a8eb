"""A wheel made from a source distribution trains from its own configs, no checkout in sight."""
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from config_checks import FILES, LEAVES
from helpers import ROOT, checked, load_tool

SOURCES = ('swinv2_mm', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'MANIFEST.in',
           'README.md', 'LICENSE', 'CHANGELOG.md', 'uv.lock', 'model-index.yml')
CHECKOUT_ONLY = {'tools/demo.py', 'tools/build_mmcv.py'}


def run(*command, cwd, python=sys.executable):
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    environment |= dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONNOUSERSITE='1')
    return checked(subprocess.run([python, *map(str, command)], cwd=cwd, env=environment, text=True,
                                  capture_output=True, timeout=600))


def files_under(folder):
    """Paths from a folder; without stubs, which gradio writes beside the file that it runs."""
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts and path.suffix != '.pyi'}


pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the source tree."""
    folder = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    """What `python -m build` makes: a source distribution, and from that a wheel."""
    out = tmp_path_factory.mktemp('wheel')
    before = files_under(source)
    run('setup.py', '-q', 'sdist', '--dist-dir', out, cwd=source)
    new = {name for name in files_under(source) - before if '.egg-info/' not in name}
    assert new == set()  # nothing is left in the source tree
    (archive,) = out.glob('*.tar.gz')
    run('-m', 'pip', 'wheel', '-q', '--no-build-isolation', '--no-deps', '--no-index', '-w', out,
        archive, cwd=out)
    (file,) = out.glob('*.whl')
    return file


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """(python, package folder) of a fresh environment: the libraries of this one, and the wheel."""
    folder = tmp_path_factory.mktemp('fresh')
    run('-m', 'venv', '--without-pip', folder, cwd=folder)
    python = folder / 'bin' / 'python'
    site = next(folder.glob('lib/python*/site-packages'))
    # Packages alone: an editable installation of the checkout is a .pth file, which is not read.
    (site / 'libraries.pth').write_text(sysconfig.get_path('purelib') + '\n')
    gone = run('-c', 'from importlib.util import find_spec; print(find_spec("swinv2_mm"))',
               cwd=folder, python=python)
    assert gone.stdout.strip() == 'None'
    run('-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', site, wheel,
        cwd=folder)
    return python, site / 'swinv2_mm'


def test_the_wheel_holds_package_configs_tools_and_index(source, wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
    package = {f'swinv2_mm/{name}' for name in files_under(source / 'swinv2_mm')}
    carried = {f'swinv2_mm/.mim/{path}' for path in
               {'model-index.yml', *FILES, *(f'configs/{name}/metafile.yml' for name in
                                             ('cls', 'demo', 'det', 'mim', 'seg', 'video')),
                *(f'tools/{name}' for name in files_under(source / 'tools'))} - CHECKOUT_ONLY}
    assert names == package | carried


def test_the_shell_scripts_can_still_be_run(wheel):
    modes = {info.filename: info.external_attr >> 16 for info in zipfile.ZipFile(wheel).infolist()}
    assert modes['swinv2_mm/.mim/tools/dist_train.sh'] & 0o111


def test_the_installed_package_trains_its_demo_from_an_empty_folder(installed, tmp_path):
    python, package = installed
    mim = package / '.mim'
    run(mim / 'tools/dataset/make_shapes.py', '--train', 4, '--val', 2, '--size', 64, 96,
        cwd=tmp_path, python=python)
    done = run(mim / 'tools/train.py', mim / 'configs/demo/det_nano.py', '--cfg-options',
               'train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
               'default_hooks.logger.interval=1', cwd=tmp_path, python=python)
    assert 'coco/bbox_mAP:' in done.stdout
    work_dir = tmp_path / 'work_dirs' / 'det_nano'
    losses = [row['loss'] for row in load_tool('demo').scalars(work_dir) if 'loss' in row]
    assert len(losses) == 2 and all(0 < loss < 1e3 for loss in losses)
    assert (work_dir / 'last_checkpoint').is_file()
    told = (done.stdout + done.stderr).replace(sysconfig.get_path('purelib'), '')
    assert str(ROOT) not in told  # the checkout was never looked at


def test_the_installed_tools_list_the_installed_configs(installed, tmp_path):
    python, package = installed
    done = run(package / '.mim/tools/analysis/list.py', '--json', cwd=tmp_path, python=python)
    rows = json.loads(done.stdout)
    assert [row['config'] for row in rows] == LEAVES
    assert all((package / '.mim' / row['config']).is_file() for row in rows)
