"""The kernels' machine code for cards that are not here; benchmarks/kernels.py reads it."""
from collections import Counter

import pytest
import torch

from swinv2_mm.models import fused
from swinv2_mm.utils import versions

if not versions.can(fused.KERNEL) or not fused.HAS_TRITON:
    pytest.skip('kernels need torch 2.4 and triton', allow_module_level=True)
import kernels

pytestmark = pytest.mark.slow
SMALL, LARGE = (8, 8), (16, 16)
NAMES = {SMALL: ['forward_kernel', 'whole_kernel'],
         LARGE: ['forward_kernel', 'rows_kernel', 'columns_kernel', 'bias_kernel']}


# Of a loop's instructions; for these no tile was found that holds all it needs: docs/speed.md.
SPILLS = {('columns_kernel', 32, 90): 0.023, ('columns_kernel', 128, 90): 0.061}


def by_depth(loops):
    counts = Counter()
    for path, number in loops.items():
        counts[len(path)] += number
    return counts


def compiled(window, width, dtype, arch, seams):
    """All kernels of a window, compiled.

    What is used over and over stays in registers, but for one instruction in a hundred: ptxas fills
    all 255 where a tile of 128 tokens meets a seam. What is needed behind a loop alone may be put
    away before it. SPILLS holds what is above that.
    """
    found = kernels.starts(window, width, dtype, arch, seams)
    for start in found:
        code = kernels.read(kernels.compiled(start, arch))
        where = f'{start.kernel} {window} {width} {dtype} sm_{arch}: {code}'
        share = SPILLS.get((start.kernel, width, arch), 0.01)
        assert all(number <= share * by_depth(code.loops)[depth]
                   for depth, number in by_depth(code.spills).items() if depth), where
        assert code.residents(kernels.CARDS[arch]) >= 2, where
        assert code.products, where
        yield start, code


@pytest.mark.parametrize('arch', kernels.CARDS)
@pytest.mark.parametrize('window', [SMALL, LARGE])
def test_kernels_fit_every_generation_of_cards(window, arch):
    found = list(compiled(window, 32, torch.bfloat16, arch, seams=True))
    assert [start.kernel for start, _ in found] == NAMES[window]


@pytest.mark.parametrize('width', [64, 128])
def test_kernels_of_wide_heads_fit(width):
    list(compiled(LARGE, width, torch.bfloat16, 90, seams=False))


def test_float32_is_multiplied_as_exactly_as_torch_is_asked_to():
    products = {}
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ('highest', 'high'):
            torch.set_float32_matmul_precision(precision)
            products[precision] = [code.products.total() for _, code in compiled(
                LARGE, 32, torch.float32, 90, seams=False)]
    finally:
        torch.set_float32_matmul_precision(before)
    assert products['highest'] == [3 * n for n in products['high']]


# What is reached where the aim, 1.3, is not; docs/speed.md says where the rest goes.
REACHED = {(16, 'forward, large logits'): 1.55, (16, 'backward'): 2.55}


@pytest.mark.parametrize('side', [8, 16])
def test_instructions_take_no_longer_than_they_did(side):
    for row in kernels.budget(side):
        assert float(row[-1]) <= REACHED.get((side, row[1]), 1.3), row
