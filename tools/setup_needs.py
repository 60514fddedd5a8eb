"""What a set-up needs from the machine, and the sentence for each thing that is missing.

Used by setup_env.py, so it keeps to the standard library and to what Python 3.6 understands.
"""
import json
import os
import platform
import re
import shutil
import subprocess

VERSIONS = ((3, 10), (3, 11), (3, 12))
CANDIDATES = ('python3.11', 'python3.12', 'python3.10', 'python3')
DISK_GB = 12  # 6 GB of installed packages, 3 GB in pip's cache, the rest while wheels are unpacked
OPS_DO_NOT_LOAD = 3  # exit code of setup_checks.py that a rebuild of mmcv can cure

PROBE = """
import json, os, sys
missing = []
if sys.version_info >= (3, 6):
    import importlib.util, sysconfig
    missing = [m for m in ('venv', 'ensurepip') if importlib.util.find_spec(m) is None]
    if not os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')):
        missing.append('Python.h')
print(json.dumps({'exe': sys.executable, 'version': list(sys.version_info[:2]),
                  'missing': missing}))
"""
ASK_TORCH = ('import torch, torch.utils.cpp_extension as c;'
             'print(torch.cuda.is_available(), torch.version.cuda, c.CUDA_HOME)')


class SetupError(Exception):
    """One sentence: the rule, what came, what to do."""


def runs(command, env=None):
    """Output of a command; None if it is missing, fails or hangs: a name alone proves nothing."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=30, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode('utf-8', 'replace') if done.returncode == 0 else None


def check_platform(system=None, machine=None):
    system, machine = system or platform.system(), machine or platform.machine()
    if (system, machine) != ('Linux', 'x86_64'):
        raise SetupError(
            f'requirements.lock is for Linux on x86_64, and this is {system} on {machine}: '
            'install torch and the OpenMMLab packages by hand, then `pip install -e .`.')


def check_compiler(env):
    """Both halves of the build (torch's ninja file, setuptools' link) call $CXX, or c++ and g++."""
    names = [env['CXX'].split()[0]] if env.get('CXX', '').strip() else ['c++', 'g++']
    broken = [name for name in names if runs([name, '--version'], env) is None]
    if broken:
        raise SetupError(
            f'mmcv is compiled here and needs a C++ compiler, and {" and ".join(broken)} cannot be '
            'run: `sudo apt install g++` (Debian, Ubuntu) or `sudo dnf install gcc-c++` (Fedora) '
            'brings it.')


def check_disk(path, free_gb=None):
    free = shutil.disk_usage(path).free / 1e9 if free_gb is None else free_gb
    if free < DISK_GB:
        raise SetupError(f'The set-up needs about {DISK_GB} GB of free disk, and {path} has '
                         f'{free:.1f} GB: free some, or put the checkout on another disk.')


def probe(name):
    """What an interpreter is: dict(exe, version, missing), or None when it does not run."""
    try:
        return json.loads(runs([name, '-c', PROBE]))
    except (TypeError, ValueError):
        return None


def choose_python(wanted=None):
    """The first interpreter that runs, has a right version, venv and the C headers."""
    seen = []
    for name in [wanted] if wanted else CANDIDATES:
        found = probe(name)
        if found is None:
            if wanted or shutil.which(name):  # a name that is nowhere explains nothing
                seen.append((name, None, 'does not run'))
        elif tuple(found['version']) not in VERSIONS:
            seen.append((name, None, 'is Python {}.{}'.format(*found['version'])))
        elif found['missing']:
            seen.append((name, found, 'has no ' + ' and no '.join(found['missing'])))
        else:
            return found
    raise SetupError(no_python(seen))


def no_python(seen):
    incomplete = [found for _, found, _ in seen if found]
    if incomplete:  # the right version is there, parts of it are in packages of their own
        name = 'python{}.{}'.format(*incomplete[0]['version'])
        apt, dnf = f'{name}-venv {name}-dev', f'{name}-devel'
    else:
        name = 'python3.11'
        apt, dnf = f'{name} {name}-venv {name}-dev', f'{name} {name}-devel'
    came = ', '.join(f'{name} {why}' for name, _, why in seen) or 'there is none'
    return (f'The set-up needs Python 3.10, 3.11 or 3.12 with venv and the C headers, and {came}: '
            f'`sudo apt install {apt}` (Debian, Ubuntu) or `sudo dnf install {dnf}` (Fedora) '
            'brings it, and `make setup PYTHON=/path/to/python` names another.')


def mmcv_build(python, env):
    """(variables for the build of mmcv, note or None): GPU operators where they can be built."""
    extra = {}
    if 'MAX_JOBS' not in env:  # mmcv starts four compilers at least; each takes up to 1 GB
        memory_gb = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
        jobs = min(len(os.sched_getaffinity(0)), int(memory_gb / 1.5))
        extra['MAX_JOBS'] = str(max(1, jobs))
    asked = runs([python, '-c', ASK_TORCH], env) or 'False None None'
    gpu, cuda, home = asked.strip().split(None, 2)
    if gpu != 'True' or env.get('FORCE_CUDA') == '1':
        return extra, None
    said = runs([os.path.join(home, 'bin', 'nvcc'), '--version'], env)
    nvcc = re.search(r'release (\d+)\.', said or '')
    if nvcc and nvcc.group(1) == cuda.split('.')[0]:
        return extra, None
    extra['CUDA_VISIBLE_DEVICES'] = ''  # mmcv asks torch for a GPU, and would then call nvcc
    return extra, (
        f'a GPU is here but no nvcc of CUDA {cuda}: the operators of mmcv are built for the CPU '
        'only; for those on the GPU install that toolkit, then run `.venv/bin/python -m pip cache '
        'remove onedl_mmcv` and `make clean setup`')


# What the end of a failed step's output means; the first that matches speaks.
DIAGNOSES = (
    (r'No space left on device|Disk quota exceeded',
     f'The set-up needs about {DISK_GB} GB of free disk, and the disk is full: free some and run '
     'it again.'),
    (r'Killed signal terminated|internal compiler error: Killed|Cannot allocate memory',
     'The compiler needs about 1 GB of memory a job, and ran out of it: run it again with one job '
     'at a time, `MAX_JOBS=1 make setup`.'),
    (r'CUDA version .* mismatches|CUDA_HOME environment variable is not set',
     'The nvcc of this machine does not fit this torch: run it again without the GPU, '
     '`CUDA_VISIBLE_DEVICES= make setup`.'),
    (r'NewConnectionError|Failed to establish a new connection|Network is unreachable|'
     r'Temporary failure in name resolution|Name or service not known|NameResolutionError|'
     r'Connect(ion)?TimeoutError|Connection ?refused|Connection ?reset|Read timed out|ProxyError|'
     r'Could not fetch URL|\(from versions: none\)',
     'The set-up downloads its packages, and the package index could not be reached: connect to '
     'the network (or set https_proxy, or point pip at a mirror) and run it again.'),
)


def diagnose(output, title, log):
    """The sentence for a failed step, from what pip or the compiler printed."""
    for pattern, sentence in DIAGNOSES:
        if re.search(pattern, output):
            return sentence
    return (f"The step '{title.split(' (')[0]}' failed, and its last lines above say why: put that "
            f'right and run it again (all of it is in {log}).')
