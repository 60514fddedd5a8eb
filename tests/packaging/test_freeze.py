"""Installing the package changes the version of nothing that is there."""
import re
from importlib import metadata

import pytest
from test_wheel import run, source, wheel  # noqa: F401

# Distributions as OpenMMLab's pages and OneDL's install them, and those of this environment.
THERE = {
    'upstream': {'torch': '2.1.2', 'numpy': '1.26.4', 'mmengine': '0.10.7', 'mmcv': '2.1.0',
                 'mmdet': '3.3.0', 'opencv-python': '4.10.0.84'},
    'onedl': {'torch': '2.11.0', 'numpy': '2.2.6', 'onedl-mmengine': '0.10.12',
              'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1'},
    'here': {dist.name: dist.version for dist in metadata.distributions()
             if dist.name not in ('setuptools', 'swinv2-mm', 'swinv2_mm')}}


def freeze(python, folder):
    done = run('-m', 'pip', '--python', python, 'freeze', '--all', cwd=folder)
    return set(done.stdout.split('\n')) - {''}


@pytest.mark.slow
@pytest.mark.parametrize('line', THERE)
def test_installing_it_changes_no_version(line, source, wheel, tmp_path):  # noqa: F811
    """Where pip sees these distributions, which are names and versions here; all may be taken."""
    run('-m', 'venv', '--without-pip', tmp_path / 'env', cwd=tmp_path)
    python = tmp_path / 'env' / 'bin' / 'python'
    site = next((tmp_path / 'env').glob('lib/python*/site-packages'))
    for name, version in THERE[line].items():
        folder = site / f'{name.replace("-", "_")}-{version}.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\n'
                                         f'Version: {version}\n')
        (folder / 'RECORD').write_text('')
        (folder / 'INSTALLER').write_text('pip\n')
    setuptools = metadata.distribution('setuptools')  # the real one: -e builds with it
    for name in ('setuptools', '_distutils_hack', f'setuptools-{setuptools.version}.dist-info'):
        (site / name).symlink_to(setuptools.locate_file(name))
    before = freeze(python, tmp_path)
    assert len(before) == len(THERE[line]) + 1
    for what in ([wheel], ['--no-build-isolation', '-e', source]):
        run('-m', 'pip', '--python', python, 'install', '-q', '--no-index', *what, cwd=tmp_path)
        after = freeze(python, tmp_path)
        assert before < after
        assert all(re.match('swinv2_mm |# Editable install|-e ', line) for line in after - before)
