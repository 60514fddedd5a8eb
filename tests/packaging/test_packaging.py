"""Installing swinv2_mm into an existing OpenMMLab environment must leave that environment alone."""
import importlib.util
import re
import subprocess
import sys
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / 'uv.lock').read_text()


@pytest.fixture(scope='module')
def metadata(tmp_path_factory):
    """The metadata an installation would record, without installing."""
    out = tmp_path_factory.mktemp('metadata')
    subprocess.run([sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(out)], cwd=ROOT,
                   check=True, capture_output=True)
    return Parser().parsestr((out / 'swinv2_mm.egg-info' / 'PKG-INFO').read_text())


def requirements(metadata, extra=None):
    """Name -> what follows it, of the requirements of one extra, or of none."""
    found = {}
    for line in metadata.get_all('Requires-Dist', []):
        body, _, marker = line.partition(';')
        asked = re.search(r'extra == "(\w+)"', marker)
        if (asked.group(1) if asked else None) == extra:
            name, others, rest = re.match(r'([\w.-]+)(?:\[(.+)\])?\s*(.*)', body.strip()).groups()
            if others:  # extras of its own
                for other in others.split(','):
                    found |= requirements(metadata, other)
            else:
                found[name] = rest
    return found


def test_the_package_alone_asks_for_torch_at_any_version_and_nothing_else(metadata):
    assert requirements(metadata) == {'torch': ''}


@pytest.mark.parametrize('extra, brings', [
    ('det', 'onedl-mmdetection'), ('seg', 'onedl-mmsegmentation'), ('cls', 'onedl-mmpretrain'),
    ('video', 'mmaction2')])
def test_an_extra_brings_its_framework_of_the_one_line(metadata, extra, brings):
    names = requirements(metadata, extra)
    assert {brings, 'onedl-mmengine', 'onedl-mmcv'} <= set(names)
    upstream = {'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'mmpretrain'}
    assert not upstream & set(names)


def test_all_is_the_sum_of_the_extras(metadata):
    parts = ('det', 'seg', 'cls', 'video', 'web', 'export', 'docs', 'test')
    assert set(requirements(metadata, 'all')) == {
        name for part in parts for name in requirements(metadata, part)}


def locked():
    """Name -> versions in uv.lock; a package has several where environments differ."""
    found = {}
    for name, version in re.findall(r'^name = "(.+)"\nversion = "(.+)"\nsource', LOCK, re.M):
        found.setdefault(name, []).append(version)
    return found


def test_the_extras_accept_what_the_lock_pins(metadata):
    packaging = pytest.importorskip('packaging.specifiers')
    for name, allowed in requirements(metadata, 'all').items():
        specifier = packaging.SpecifierSet(allowed)
        assert any(map(specifier.contains, locked()[name])), name


def test_the_lock_is_of_this_project_file_and_holds_a_hash_of_every_file():
    """What `uv lock --check` asks the network for, as far as it can be told without."""
    pins = re.findall(r'"([\w-]+)==([\w.]+)"', (ROOT / 'pyproject.toml').read_text())
    assert len(pins) > 15
    for name, version in pins:
        assert version in locked()[name], f'{name}: run `uv lock`'
    files = re.findall(r'\{ url = .*\}', LOCK)
    assert len(files) > 500
    assert [file for file in files if not re.search('hash = "sha256:[0-9a-f]{64}"', file)] == []


def test_the_lock_names_public_places_alone():
    assert set(re.findall(r'https?://[^/"]+', LOCK)) == {'https://pypi.org',
                                                        'https://files.pythonhosted.org'}


def test_the_version_is_the_one_in_the_package_and_read_without_importing_it(metadata):
    text = (ROOT / 'swinv2_mm' / '__init__.py').read_text()
    assert f"__version__ = '{metadata['Version']}'" in text
    assert 'import swinv2_mm' not in (ROOT / 'setup.py').read_text()


def test_every_module_is_in_a_package_that_is_installed():
    from setuptools import find_packages
    packages = set(find_packages(str(ROOT), include=['swinv2_mm', 'swinv2_mm.*']))
    folders = {'.'.join(path.parent.relative_to(ROOT).parts)
               for path in (ROOT / 'swinv2_mm').rglob('*.py')}
    assert folders == packages and importlib.util.find_spec('swinv2_mm')
