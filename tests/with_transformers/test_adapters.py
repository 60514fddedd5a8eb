"""LoRA by peft: adapters on any linear layer count, whatever path a block takes."""
import pytest
import torch
from conftest import awaken
from docs_blocks import block
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from swinv2_mm import SwinTransformerV2

DENSE = r'layers\..*\.(qkv|proj|fc1|fc2|reduction)'


@pytest.mark.parametrize('targets', [DENSE, r'.*\.(qkv|cpb_mlp\.[02])'])
@pytest.mark.parametrize('training', [False, True])
def test_an_adapted_backbone_is_the_plain_one_with_the_sums_of_weights(targets, training):
    torch.manual_seed(0)
    arch = dict(embed_dims=16, depths=(2, 2), num_heads=(1, 2))
    model = awaken(SwinTransformerV2(arch, window_size=4, drop_path_rate=0, out_indices=(0, 1)))
    plain = SwinTransformerV2(arch, window_size=4, drop_path_rate=0, out_indices=(0, 1))
    plain.load_state_dict(model.state_dict())
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules=targets), model)
    for module in (model, plain):
        module.train(training)
    x = torch.randn(2, 3, 40, 36)
    for found, expected in zip(model(x), plain(x)):  # adapters begin as nothing
        torch.testing.assert_close(found, expected)
    adapted = {name: layer for name, layer in model.named_modules() if hasattr(layer, 'lora_A')}
    with torch.no_grad():
        for name, layer in adapted.items():
            nn.init.normal_(layer.lora_B['default'].weight, std=0.1)
            plain.get_submodule(name).weight += layer.get_delta_weight('default')
    with torch.set_grad_enabled(training):
        found, expected = model(x), plain(x)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    if training:
        sum(out.square().mean() for out in found).backward()
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert learning == {f'{name}.lora_{side}.default.weight'
                            for name in adapted for side in 'AB'}
        for name, p in model.named_parameters():
            assert (p.grad is not None and bool(p.grad.any())) == (name in learning), name


def test_the_program_of_the_questions_lets_adapters_alone_learn():
    program = {}
    exec(block('faq', 'lora'), program)
    backbone = program['backbone']
    learning = [name for name, p in backbone.named_parameters() if p.requires_grad]
    blocks = sum(len(stage.blocks) for stage in backbone.layers)
    assert len(learning) == 2 * (4 * blocks + len(backbone.layers) - 1)
    assert all('.lora_' in name for name in learning)
