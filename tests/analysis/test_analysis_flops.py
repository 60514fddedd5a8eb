"""tools/analysis/flops.py: what it counts equals what is published."""
import json

import pytest
import torch
from config_checks import load
from helpers import checked, last_line, run_tool
from mmengine.registry import DefaultScope
from torch import nn

from swinv2_mm import ARCHS
from swinv2_mm.analysis import flops

# The official zoo: millions of parameters and 1e9 FLOPs as its table has them.
ZOO = {
    'swinv2_t_w8_256': (28, 5.9), 'swinv2_s_w8_256': (50, 11.5), 'swinv2_b_w8_256': (88, 20.3),
    'swinv2_t_w16_256': (28, 6.6), 'swinv2_s_w16_256': (50, 12.6), 'swinv2_b_w16_256': (88, 21.8),
    'swinv2_b_w16_256_ft': (88, 21.8), 'swinv2_b_w24_384_ft': (88, 54.7),
    'swinv2_l_w16_256_ft': (197, 47.5), 'swinv2_l_w24_384_ft': (197, 115.4),
}
# Its own formula at the sizes for which the table is silent, and parameters with 21,841 classes.
ZOO_22K = {'swinv2_b_22k_192': (109.3, 11.76), 'swinv2_l_22k_192': (228.8, 25.96)}


def count(name, size=None):
    cfg = load(f'configs/{name}.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return flops.count(cfg, size)


def by_formula(arch, window, side, classes):
    """The official count (its flops() methods), at sides that windows divide: 1e9 FLOPs."""
    dim, depths, total, size = arch.embed_dims, arch.depths, 0, side // 4
    total += size ** 2 * dim * (3 * 16 + 1)
    for i, depth in enumerate(depths):
        tokens, inside = size ** 2, min(window, size) ** 2
        block = 12 * tokens * dim ** 2 + 2 * tokens * inside * dim + 2 * tokens * dim
        total += depth * block
        if i < len(depths) - 1:
            total += tokens // 4 * 8 * dim ** 2 + tokens * dim // 2
            dim, size = 2 * dim, size // 2
    return (total + size ** 2 * dim + dim * classes) / 1e9


@pytest.mark.parametrize('name', [*ZOO, *ZOO_22K])
def test_the_count_is_that_of_the_official_zoo_within_1_percent(name):
    result = count(f'cls/{name}')
    millions, billions = (ZOO | ZOO_22K)[name]
    assert result['multiply_adds'] / 1e9 == pytest.approx(billions, rel=0.01)
    # Rounded as the table is.
    assert abs(result['parameters'] / 1e6 - millions) <= (0.5 if name in ZOO else 0.05)
    cfg = load(f'configs/cls/{name}.py')
    # Of the official formula, norms are missing here: a thousandth of all.
    backbone = cfg.model.backbone
    exact = by_formula(ARCHS[backbone.arch], backbone.window_size, result['size'][0],
                       cfg.model.head.num_classes)
    assert result['multiply_adds'] / 1e9 == pytest.approx(exact, rel=0.003)


@pytest.mark.parametrize('name, published', [
    # Video Swin at 32 x 224 x 224, whose blocks cost what ours do.
    ('video/swinv2_t_k400', 87.9), ('video/swinv2_b_k400', 281.6),
    # Swin V1 at 800 x 1280 and window 7; window 16 adds 10.
    ('det/swinv2_t_cascade', 745 + 10), ('det/swinv2_t_maskrcnn', 267 + 10)])
def test_the_count_with_heads_is_near_that_of_swin_v1(name, published):
    assert count(name)['multiply_adds'] / 1e9 == pytest.approx(published, rel=0.01)


def test_attention_outside_of_modules_is_counted_for_each_of_them():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(8, 4, device='meta') for _ in range(2)])

        def forward(self, x):
            mixed = nn.functional.scaled_dot_product_attention(x, x, x)  # (2, 5, 8)
            return [part(mixed) for part in self.parts]

    model = Twice()
    found = flops.multiply_adds(model, lambda: model(torch.empty(2, 5, 8, device='meta')))
    assert found == {'': 2 * (2 * 5 * 5 * 8) + 2 * 10 * 32, 'parts': 2 * 10 * 32,
                     'parts.0': 320, 'parts.1': 320}


def test_the_command_prints_tables_and_json_and_names_its_counter():
    name = 'configs/demo/cls_nano.py'
    cost = count('demo/cls_nano', (64, 64))
    told = checked(run_tool('tools/analysis/flops.py', name, '--size', 64, 64)).stdout
    assert 'torch.utils.flop_counter' in told
    assert f'{cost["parameters"]:,}' in told and f'{cost["multiply_adds"] / 1e9:.3f}' in told
    done = checked(run_tool('tools/analysis/flops.py', name, '--json', '--size', 64, 64))
    (row,) = json.loads(done.stdout)
    assert row['multiply_adds'] == cost['multiply_adds'] and row['size'] == [64, 64]


def test_a_size_of_another_rank_or_none_ends_in_a_sentence():
    done = run_tool('tools/analysis/flops.py', 'configs/demo/video_nano.py', '--size', 64, 64)
    assert last_line(done).startswith('Error: --size must be T H W')
    done = run_tool('tools/analysis/flops.py', 'configs/demo/det_nano.py')
    assert last_line(done).startswith('Error: The size of the input must be in the test pipeline')
