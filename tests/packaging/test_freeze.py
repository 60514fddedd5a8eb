"""Installing the package changes the version of nothing that is there."""
import pytest
from test_wheel import run, source, wheel  # noqa: F401

THERE = {
    'upstream': {'torch': '2.1.2', 'numpy': '1.26.4', 'mmengine': '0.10.7', 'mmcv': '2.1.0',
                 'mmdet': '3.3.0', 'opencv-python': '4.10.0.84'},
    'onedl': {'torch': '2.11.0', 'numpy': '2.2.6', 'onedl-mmengine': '0.10.12',
              'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1'},
}


def freeze(python, folder):
    done = run('-m', 'pip', '--python', python, 'freeze', '--all', cwd=folder)
    return set(done.stdout.split('\n')) - {''}


@pytest.mark.slow
@pytest.mark.parametrize('line', THERE)
def test_installing_it_changes_no_version(line, wheel, tmp_path):  # noqa: F811
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
    before = freeze(python, tmp_path)
    assert len(before) == len(THERE[line])
    run('-m', 'pip', '--python', python, 'install', '-q', '--no-index', wheel, cwd=tmp_path)
    after = freeze(python, tmp_path)
    assert before < after and [name.partition(' ')[0] for name in after - before] == ['swinv2_mm']
