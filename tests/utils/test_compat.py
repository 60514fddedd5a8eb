"""mmaction2 imports beside today's packages, and what is touched for it is put back."""
import os
import subprocess
import sys
import textwrap

import numpy
import pytest
from helpers import ROOT

import swinv2_mm.utils.compat  # noqa: F401 - makes mmaction2 importable in this process too

CONFIG = 'configs/demo/video_nano.py'
# What importing must leave as it was; printed before and after.
STATE = '''
import sys, mmcv, numpy
def state():
    return dict(
        version=mmcv.__version__, numpy=[hasattr(numpy, n) for n in ('Inf', 'trapz', 'in1d')],
        finders=[f for f in sys.meta_path if type(f).__module__.startswith('swinv2_mm')],
        drn=[name for name in sys.modules if 'localizers.drn' in name])
before = state()
'''


def fresh(code, *path):
    """What `code` prints in a process of its own, `path` before all other places of modules."""
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join(map(str, path)), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)], cwd=ROOT,
                          env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_mmaction2_imports_and_everything_touched_is_put_back():
    """From several threads at once, twice, and then its registries build a recognizer."""
    *_, found = fresh(STATE + '''
import importlib, threading
import torch
def load(): importlib.import_module('swinv2_mm.utils.compat')
threads = [threading.Thread(target=load) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
importlib.reload(sys.modules['swinv2_mm.utils.compat'])
assert state() == before, state()

import mmaction, mmaction.apis, mmaction.datasets, mmaction.engine, mmaction.evaluation
import mmaction.utils.dependency as multimodal
from mmengine.utils import digit_version
assert mmaction.mmcv_version == digit_version(mmcv.__version__)
assert not hasattr(mmaction.models.localizers, 'drn')
assert state() == before, state()

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
cfg = Config.fromfile('configs/demo/video_nano.py')
init_default_scope(cfg.default_scope)
model = MODELS.build(cfg.model)
print(type(model).__module__, tuple(model(torch.zeros(2, 1, 3, 4, 32, 32), stage='head').shape))
''')
    assert found == 'mmaction.models.recognizers.recognizer3d (2, 6)'


def test_modules_of_mmaction2_find_what_numpy_dropped():
    from mmaction.datasets.transforms import PoseCompact
    from mmaction.evaluation.functional import accuracy

    sample = dict(img_shape=(100, 200), keypoint=numpy.full((1, 1, 3, 2), 50.0))
    sample['keypoint'][..., 0, :] = 90
    assert PoseCompact(hw_ratio=1.0, padding=0.25)(sample)['img_shape'] == (50, 50)
    assert accuracy.np.trapz([0, 1, 1]) == 1.5


def test_the_missing_localizer_says_so_when_it_is_built():
    from mmaction.models.localizers import DRN

    with pytest.raises(RuntimeError, match='DRN must come from a checkout of mmaction2, its wheel'):
        DRN(vocab_size=1)


def test_importing_the_package_does_not_import_mmaction2():
    assert fresh('''
        import sys, swinv2_mm
        swinv2_mm.SwinTransformerV2Video
        print(any(name in sys.modules for name in ('swinv2_mm.utils.compat', 'mmaction', 'mmcv')))
        ''') == ['False']


def test_without_mmaction2_a_config_ends_in_the_line_that_installs_it():
    assert fresh(f'''
        import sys
        from mmengine.config import Config
        sys.modules['mmaction'] = None  # as if it were not there
        try:
            Config.fromfile({CONFIG!r})
        except RuntimeError as error:
            print(error)
        ''') == ['Video needs mmaction2, which is not installed here: run '
                 '`pip install mmaction2==1.2.0`.']


def package(folder, **files):
    """A made-up mmaction2: dotted names of modules -> their code."""
    for name, code in files.items():
        path = folder.joinpath('mmaction', *name.split('__'))
        path.mkdir(parents=True, exist_ok=True)
        (path / '__init__.py').write_text(textwrap.dedent(code))
    (folder / 'mmaction' / '__init__.py').write_text(
        textwrap.dedent(files.get('init', 'import mmcv; seen = mmcv.__version__')))
    return folder


SOUND = dict(models='from .localizers import DRN', models__localizers='from .drn.drn import DRN',
             models__localizers__drn='', models__localizers__drn__drn='DRN = "its own"',
             models__multimodal='', utils__dependency='WITH_MULTIMODAL = "untouched"', utils='')


def test_a_mmaction2_without_faults_is_left_alone(tmp_path):
    assert fresh(STATE + '''
import swinv2_mm.utils.compat, mmaction
from mmaction.models.localizers.drn.drn import DRN
from mmaction.utils.dependency import WITH_MULTIMODAL
print(mmaction.seen == mmcv.__version__, mmaction.models.DRN, DRN, WITH_MULTIMODAL)
print('mmaction.models.localizers.drn.drn' in sys.modules, hasattr(mmaction, 'mmcv_version'))
''', package(tmp_path, **SOUND))[-2:] == ['True its own its own untouched', 'True False']


@pytest.mark.parametrize('files, sentence', [
    (dict(init='''assert False, ('MMCV==2.3.6 is used but incompatible. '
                                 'Please install mmcv>=9.0, <10.0.')'''),
     'Please install mmcv>=9.0, <10.0.'),  # too old, not too new
    (dict(models='import something_else_that_is_missing', models__multimodal='', utils='',
          utils__dependency=''),
     "No module named 'something_else_that_is_missing'"),
    (dict(models='from .localizers.drn.drn import DRN, Other', models__localizers='',
          models__multimodal='', utils='', utils__dependency=''), "cannot import name 'Other'"),
])
def test_another_fault_is_said_in_one_sentence_and_everything_is_put_back(
        tmp_path, files, sentence):
    lines = fresh(STATE + '''
try:
    import swinv2_mm.utils.compat
except RuntimeError as error:
    print(error)
assert state() == before, state()
''', package(tmp_path, **files))
    assert lines[-1].startswith('mmaction2 does not import beside the other packages here, it says')
    assert sentence in lines[-1] and 'pyproject.toml' in lines[-1]
