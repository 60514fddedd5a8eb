"""Dense layers in 8 bits by torchao: blocks compute with what is stored, and all else stays."""
import copy

import pytest
import torch
from docs_blocks import block
from torch import nn

from swinv2_mm import SwinTransformerV2

quantization = pytest.importorskip('torchao.quantization')
ISLAND = 'cpb_mlp', 'logit_scale'


def dense(module, name):
    """What may be in 8 bits: all linear layers but those of the position network."""
    return isinstance(module, nn.Linear) and 'cpb_mlp' not in name


@pytest.mark.parametrize('kind', ['Int8WeightOnlyConfig', 'Float8WeightOnlyConfig'])
@pytest.mark.parametrize('grad', [False, True])
def test_a_quantised_backbone_is_the_plain_one_with_the_rounded_weights(awake, kind, grad):
    arch = dict(embed_dims=16, depths=(2, 2), num_heads=(1, 2))
    model = awake(SwinTransformerV2(arch, window_size=4, out_indices=(0, 1))).eval()
    small = copy.deepcopy(model)
    quantization.quantize_(small, getattr(quantization, kind)(), dense)
    plain, kept = copy.deepcopy(model), 0
    with torch.no_grad():
        for (name, value), stored in zip(plain.named_parameters(), small.parameters()):
            if type(stored) is nn.Parameter:
                assert torch.equal(value, stored)
                kept += any(word in name for word in ISLAND)
            else:
                assert not torch.equal(value, stored.dequantize())
                value.copy_(stored.dequantize())
    assert kept == 4 * 4  # of each block: the temperature, two weights and a bias
    x = torch.randn(2, 3, 40, 36)  # with padding and shifts
    with torch.set_grad_enabled(grad):
        for found, expected, before in zip(small(x), plain(x), model(x)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            assert (expected - before).abs().max() > 1e-2


def test_the_program_of_the_questions_leaves_the_position_networks_alone():
    program = {}
    exec(block('faq', 'int8'), program)
    stored = {name: type(value) is nn.Parameter
              for name, value in program['backbone'].named_parameters() if value.ndim == 2}
    assert {name for name, plain in stored.items() if plain} == {
        name for name in stored if 'cpb_mlp' in name}
