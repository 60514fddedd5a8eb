"""mmaction2, and mmpretrain which it imports, beside a transformers newer than they know."""
import os
import subprocess
import sys

import pytest
from helpers import ROOT

CODE = '''
import sys, mmcv
version = mmcv.__version__
{first}
import torch, mmaction.models, mmpretrain.models
import mmaction.utils.dependency, mmpretrain.utils.dependency
import transformers
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

assert mmcv.__version__ == version
assert mmaction.utils.dependency.WITH_MULTIMODAL and mmpretrain.utils.dependency.WITH_MULTIMODAL
assert not any(type(f).__module__.startswith('swinv2_mm') for f in sys.meta_path)
assert not any('localizers.drn' in name for name in sys.modules)
assert not hasattr(transformers.modeling_utils, 'apply_chunking_to_forward')
for name, package in (('mmaction.VindLUVQA', 'mmaction2'), ('mmpretrain.BlipVQA', 'mmpretrain')):
    try:
        MODELS.get(name)()
    except ImportError as error:
        print(name, f'{{package}}[multimodal]' in str(error))
cfg = Config.fromfile('configs/demo/video_nano.py')
init_default_scope(cfg.default_scope)
print(tuple(MODELS.build(cfg.model)(torch.zeros(2, 1, 3, 4, 32, 32), stage='head').shape))
'''


@pytest.mark.parametrize('first', ['import swinv2_mm.utils.compat',
                                   'import transformers.modeling_utils, swinv2_mm.utils.compat'])
def test_mmaction2_imports_beside_transformers_in_either_order_and_all_is_put_back(first):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', CODE.format(first=first)],
                          cwd=ROOT, env=os.environ | dict(OMP_NUM_THREADS='1'), text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        'mmaction.VindLUVQA True', 'mmpretrain.BlipVQA True', '(2, 6)']
