"""Build mmcv's operators for the torch in this environment and install them, in minutes.

    .venv/bin/python tools/build_mmcv.py onedl-mmcv [--needs]     or mmcv; the machine only

Nearly all the time goes to torch's headers, once for each of mmcv's 78 files: so the same sources,
with the same settings, are compiled as six files that include the others. Operators for a GPU are
built the plain way. The wheel stays in ~/.cache/swinv2_mm. Standard library only.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.parse
import urllib.request
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / 'uv.lock'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'swinv2_mm')
# What the packages around it take on a disk, measured, and half a GB to build in.
DISK_GB = {'onedl-mmcv': 8, 'mmcv': 6}
# Their names or macros meet those of others.
APART = {'bezier_align', 'roi_align_rotated', 'psamask', 'rotated_feature_align'}
BUILD = 'from setuptools.build_meta import __legacy__ as b; import sys; b.build_wheel(sys.argv[1])'
ASK_TORCH = ('import torch, torch.utils.cpp_extension as c;'
             'print(torch.cuda.is_available(), torch.version.cuda, c.CUDA_HOME)')
CHECK = """
import sys, torch, torchvision.ops as theirs, mmcv.ops as ours
torch.manual_seed(0)
corner, scores, maps = torch.rand(200, 2) * 40, torch.rand(200), torch.rand(1, 3, 64, 64)
boxes = torch.cat([corner, corner + torch.rand(200, 2) * 20 + 1], 1)
for device in ['cpu', 'cuda'][:1 + (sys.argv[1] == 'cuda' and torch.cuda.is_available())]:
    b, s, m = boxes.to(device), scores.to(device), maps.to(device)
    rois = torch.cat([torch.zeros_like(s[:, None]), b], 1)
    torch.testing.assert_close(ours.roi_align(m, rois, (7, 7), 1.0, 2, 'avg', True),
                               theirs.roi_align(m, rois, (7, 7), 1.0, 2, True), rtol=0, atol=1e-5)
    if not torch.equal(ours.nms(b, s, 0.5)[1], theirs.nms(b, s, 0.5)):
        sys.exit('NMS of mmcv and of torchvision keep different boxes')
"""


def run(*command, **settings):
    """(status, output) of a command; 127 where there is no such program."""
    try:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, **settings)
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout


def check_machine(name):
    """A compiler, Python's headers and room: said before anything is downloaded."""
    compilers = os.environ.get('CXX', '').split()[:1] or ['c++', 'g++']
    missing = [name for name in compilers if run(name, '--version')[0]]
    python = 'python{}.{}'.format(*sys.version_info)
    free = shutil.disk_usage(LOCK.parent).free / 1e9
    if missing:
        sys.exit(f'mmcv is compiled and needs a C++ compiler, and {" and ".join(missing)} cannot '
                 'be run: `sudo apt install g++` or `sudo dnf install gcc-c++` brings it.')
    if not Path(sysconfig.get_paths()['include'], 'Python.h').exists():
        sys.exit(f'mmcv is compiled and needs the C headers of Python, and {python} has none: '
                 f'`sudo apt install {python}-dev` or `sudo dnf install {python}-devel`.')
    if free < DISK_GB[name]:
        sys.exit(f'The set-up needs {DISK_GB[name]} GB of free disk, and {LOCK.parent} has '
                 f'{free:.1f}: free some, or put the checkout on another disk.')


def plan(env):
    """Whether operators for a GPU are built; env is made so that mmcv's setup.py agrees."""
    memory_gb = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    jobs = min(len(os.sched_getaffinity(0)), int(memory_gb / 2))  # mmcv would start four or more
    env.setdefault('MAX_JOBS', str(max(1, jobs)))
    env.setdefault('CFLAGS', '-O3 -DNDEBUG -fwrapv -w')
    gpu, cuda, home = run(sys.executable, '-c', ASK_TORCH)[1].split()[-3:]
    if gpu != 'True' or env.get('FORCE_CUDA') == '1':
        return env.get('FORCE_CUDA') == '1'
    nvcc = re.search(r'release (\d+)\.', run(f'{home}/bin/nvcc', '--version')[1])
    if nvcc and nvcc.group(1) == cuda.split('.')[0]:
        return True
    env['CUDA_VISIBLE_DEVICES'] = ''  # mmcv asks torch for a GPU, and would then call nvcc
    print(f'    A GPU is here but no nvcc of CUDA {cuda}: the operators of mmcv are built for the '
          'CPU only; for those on the GPU install that toolkit, then '
          f'`rm -r {CACHE}; make clean setup`.')
    return False


def fetch(url, digest, folder):
    """Unpack the sources that uv.lock names, if they are of that hash."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data = answer.read()
    except OSError as error:
        sys.exit(f'The sources of mmcv come from {url}, which could not be read ({error}): connect '
                 'to the network (or set https_proxy) and run it again.')
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f'{url} must have the hash that uv.lock names, and has another: do not use it.')
    subprocess.run(['tar', '-xzf', '-', '-C', folder], input=data, check=True)
    return next(Path(folder).iterdir())


def merge(source):
    """Let two files include all others, but those whose names or macros meet."""
    for folder in ('mmcv/ops/csrc/pytorch', 'mmcv/ops/csrc/pytorch/cpu'):
        files = [f for f in sorted(Path(source, folder).glob('*.cpp')) if f.stem not in APART]
        for file in files:
            file.rename(file.with_suffix('.inc'))
        Path(source, folder, 'all.cpp').write_text(
            ''.join(f'#include "{file.stem}.inc"\n' for file in files))


def build(sources, env, merged, kept):
    """Put the wheel into its place in the cache: (status, output)."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = fetch(*sources, folder), Path(folder, 'out')
        if merged:
            merge(source)
        status, said = run(sys.executable, '-c', BUILD, out, cwd=source, env=env)
        if status == 0:
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(out, kept)
    return status, said


def install(kept, device):
    """Install the wheel and compare RoIAlign and NMS with torchvision's: (status, output)."""
    uv = os.environ.get('UV') or shutil.which('uv')
    tool = [uv, 'pip', 'install', '-q', '--python', sys.executable, '--reinstall'] if uv else [
        sys.executable, '-m', 'pip', 'install', '-q', '--force-reinstall']
    status, said = run(*tool, '--no-deps', *kept.glob('*.whl'))
    return (status, said) if status else run(sys.executable, '-c', CHECK, device)


def main(name):
    version, *sources = re.search(
        rf'^name = "{name}"\nversion = "(.+)"\nsource = .*\n(?:.+\n)*?sdist = \{{ url = "(.+?)", '
        r'hash = "sha256:(\w+)"', LOCK.read_text(encoding='utf-8'), re.MULTILINE).groups()
    key = f'{name}-{version}-torch{metadata.version("torch")}-{sys.implementation.cache_tag}'
    for dist in metadata.distributions(name=name):  # installers note where a wheel came from
        if f'/{key}' in urllib.parse.unquote(dist.read_text('direct_url.json') or ''):
            return
    env = dict(os.environ)
    gpu = plan(env)
    kept = CACHE / (key + '-cuda' * gpu)
    ways = {'kept wheel': 0} if kept.is_dir() else {}
    ways.update({'plain build': 15} if gpu else {'build in few files': 2, 'plain build': 15})
    for way, minutes in ways.items():
        print(f'- mmcv {version}, {way}' + f', about {minutes} min on 2 cores' * bool(minutes),
              flush=True)
        status, said = build(sources, env, 'few' in way, kept) if minutes else (0, '')
        status, said = (status, said) if status else install(kept, 'cuda' if gpu else 'cpu')
        if status == 0:
            return
        print(f'    The {way} will not do: {said.strip().splitlines()[-1]}', flush=True)
        shutil.rmtree(kept, ignore_errors=True)
    print(said[-3000:])
    if re.search(r'No space left on device|Disk quota exceeded', said):
        sys.exit(f'The set-up needs {DISK_GB[name]} GB of free disk, and it is full: free some.')
    if re.search(r'Killed signal|compiler error: Killed|Cannot allocate memory', said):
        sys.exit('The compiler needs 2 GB of memory a job, and ran out: `MAX_JOBS=1 make setup`.')
    sys.exit('mmcv must be built, and the lines above say why it was not: mend that and go on.')


if __name__ == '__main__':
    if '--needs' in sys.argv:
        check_machine(sys.argv[1])
    else:
        main(sys.argv[1])
