"""The kernels give what the definition in float64 gives, and the same bits twice.

They run in Triton's interpreter, in one process of its own: kernel_cases.py says why.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swinv2_mm.models import fused
from swinv2_mm.utils import versions

pytestmark = pytest.mark.skipif(not versions.can(fused.KERNEL) or not fused.HAS_TRITON,
                                reason='kernels need torch 2.4 and triton')
SCRIPT = Path(__file__).with_name('kernel_cases.py')
# Of results of the size of 1. In half precision q, k, v are exact, and what is rounded is the
# softmax, its gradient, and the results: a few half units of the last place each.
BOUND = {'float32': 2e-5, 'float16': 4 * 2 ** -10, 'bfloat16': 4 * 2 ** -7}
CASES = ['whole', 'padded and shifted', 'oblong', 'shrunk', 'one token', 'narrow head', 'wide head',
         'tiles', 'wide tiles', 'large logits', 'video', 'bfloat16', 'float16']


@pytest.fixture(scope='module')
def results():
    root = SCRIPT.parents[2]
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, timeout=500, cwd=root,
        env=os.environ | dict(TRITON_INTERPRET='1', PYTHONPATH=str(root), OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert sorted(found['cases']) == sorted(CASES)
    return found


@pytest.mark.parametrize('name', CASES)
def test_kernels_equal_the_definition_in_float64(results, name):
    bound = BOUND['bfloat16' if name == 'wide tiles' else name if name in BOUND else 'float32']
    off = dict(zip(('out', 'qkv', 'scale', 'bias'), results['cases'][name][0]))
    assert max(off.values()) < bound, off


@pytest.mark.parametrize('name', CASES)
def test_two_runs_of_the_kernels_are_equal_to_the_bit(results, name):
    assert results['cases'][name][1]


def test_a_layer_takes_the_kernels_and_equals_the_definition(results):
    assert 0 < max(results['layer']) < 2e-5


@pytest.mark.parametrize('name, why', [
    ('no seam', 'their output is off by'), ('base e', 'their output is off by'),
    ('no length', 'their gradient of q, k, v is off by'), ('no such name', 'TypeError')])
def test_the_check_before_first_use_finds_a_broken_kernel(results, name, why):
    assert results['checks']['sound'] == [True, []]
    verdict, said = results['checks'][name]
    assert not verdict and len(said) == 1 and why in said[0]
