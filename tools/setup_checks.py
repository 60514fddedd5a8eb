"""Is what stands in this environment what should? `.venv/bin/python tools/setup_checks.py all`

Prints one sentence and exits non-zero when not. `cv2`: OpenCV loads. `all`: also one distribution
for each import name, nothing missing, compiled operators that load. `peers`: transformers loads.
"""
import importlib
import re
import subprocess
import sys
from importlib import metadata

from setup_needs import OPS_DO_NOT_LOAD, SetupError

ONE_EACH = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'mmaction')
# the wheel of decord names a Python of its own inside: pip's check takes offence, Python does not
HARMLESS = re.compile(r'^decord .* is not supported on this platform$|^No broken requirements')
REDO = '`make clean` and set up again.'


def owners(path=None):
    """Import name -> {distribution: version}, over what lies on path (default: sys.path)."""
    found = {}
    for dist in metadata.distributions(**({} if path is None else {'path': path})):
        names = (dist.read_text('top_level.txt') or '').split()
        if not names:  # not every build writes that file
            names = {file.parts[0] for file in dist.files or ()
                     if len(file.parts) == 2 and file.name == '__init__.py'}
        for name in names:
            found.setdefault(name, {})[dist.metadata['Name']] = dist.version
    return found


def check_owners(found):
    """Exactly one distribution for each OpenMMLab name; several for cv2 only at one version."""
    for name in ONE_EACH:
        dists = sorted(found.get(name, {}))
        if len(dists) != 1:
            came = ' and '.join(dists) + ' overwrite each other' if dists else 'there is none'
            raise SetupError(f'The import name {name} needs exactly one distribution, and {came}: '
                             + REDO)
    versions = found.get('cv2', {})
    if len(set(versions.values())) > 1:
        came = ', '.join(f'{name} {version}' for name, version in sorted(versions.items()))
        raise SetupError('All builds of OpenCV share one folder and must be of one version, and '
                         f'{came} are here: give them one version in requirements.lock.')


def check_cv2(load=importlib.import_module):
    try:
        load('cv2')
    except ImportError as error:
        if re.search(r'\blib[\w.+-]+\.so', str(error)):
            raise SetupError(
                f"OpenCV needs a system library that is not here, `import cv2` says '{error}': "
                '`sudo apt install libgl1 libglib2.0-0` (Debian, Ubuntu) or '
                '`sudo dnf install mesa-libGL glib2` (Fedora) brings it.') from error
        raise SetupError(f"`import cv2` must work, and says '{error}': {REDO}") from error


def check_complete(output=None):
    """Nothing that an installed package asks for is missing or of another version."""
    if output is None:
        output = subprocess.run([sys.executable, '-m', 'pip', 'check'], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True).stdout
    broken = [line for line in output.splitlines() if line.strip() and not HARMLESS.search(line)]
    if broken:
        raise SetupError("requirements.lock must satisfy every package in it, and pip's check says "
                         f"'{'; '.join(broken)}': put the pins right, or take out what was added.")


def check_ops(load=importlib.import_module):
    """False when the compiled operators of mmcv do not load: they were built for another torch."""
    try:
        load('mmcv.ops')
    except (ImportError, OSError) as error:
        print("The compiled operators of mmcv must load, and say "
              f"'{' '.join(str(error).split())}': run `.venv/bin/python -m pip cache remove "
              f'onedl_mmcv`, then {REDO}')
        return False
    return True


def check_transformers(load=importlib.import_module):
    try:
        load('transformers')
    except ImportError as error:
        raise SetupError(f"`import transformers` must work in .venv-peers, and says '{error}': "
                         + REDO) from error


def main(what):
    try:
        check_cv2()
        if what == 'all':
            check_owners(owners())
            check_complete()
            return 0 if check_ops() else OPS_DO_NOT_LOAD
        if what == 'peers':
            check_complete()
            check_transformers()
    except SetupError as error:
        print(error)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else 'all'))
