"""The models that the paper compares SwinV2 with: what they are, and that all else is equal."""
import math

import paper_variants as variants
import paper_window_transfer as window_transfer
import pytest
import torch

from swinv2_mm import SwinTransformerV2
from swinv2_mm.models.windows import pairs, plan

WINDOWS = [4, 4, 2]
SMALL = dict(embed_dims=32, depths=(2, 2, 2), num_heads=(1, 2, 4))


def backbone(seed=0):
    torch.manual_seed(seed)
    return SwinTransformerV2(SMALL, window_size=WINDOWS, pretrained_window_sizes=WINDOWS,
                             drop_path_rate=0.0, out_indices=(2,))


def test_linear_offsets_are_evenly_spaced_and_one_at_the_trained_window():
    tokens = variants.in_tokens(variants.log_spaced_offsets((8, 8), (4, 4)), (4, 4))
    expected = torch.arange(-7.0, 8).double()
    torch.testing.assert_close(tokens.view(15, 15, 2)[:, 0, 0], expected)
    model = variants.set_bias(backbone(), 'linear')
    attention = model.layers[0].blocks[0].attn
    seen = []
    attention.cpb_mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    attention.position_bias((4, 4))
    attention.position_bias((8, 8))
    assert [x.max().item() for x in seen] == pytest.approx([1, 7 / 3], rel=1e-6)


@pytest.mark.parametrize('kind', variants.BIASES)
def test_kinds_of_bias_differ_in_nothing_else(kind):
    ours, other = backbone(), variants.set_bias(backbone(), kind)
    assert type(other.layers[0].blocks[0].attn).__name__ == {
        'table': 'TableAttention', 'linear': 'LinearAttention', 'log': 'WindowAttention'}[kind]
    shared = {name: value for name, value in other.state_dict().items() if 'bias_table' not in name}
    for name, value in shared.items():
        assert torch.equal(value, ours.state_dict()[name]), name
    missing = set(ours.state_dict()) - set(shared)
    assert all('cpb_mlp' in name for name in missing) and bool(missing) == (kind == 'table')


def test_a_table_is_interpolated_as_torch_does_and_kept_at_its_own_window():
    model = variants.set_bias(backbone(), 'table')
    table = model.layers[0].blocks[0].attn.relative_position_bias_table
    torch.nn.init.normal_(table)
    assert variants.resize_table(table, (4, 4)) is table
    flat = variants.resize_table(torch.full((2, 7, 7), 3.5), (16, 16))
    torch.testing.assert_close(flat, torch.full((2, 31, 31), 3.5))
    before = model.layers[0].blocks[0].attn.position_bias((8, 8))
    variants.grow(model, [8, 8, 4])
    assert model.layers[0].blocks[0].attn.relative_position_bias_table.shape == (1, 15, 15)
    torch.testing.assert_close(model.layers[0].blocks[0].attn.position_bias((8, 8)), before)


def test_a_grown_model_is_the_package_at_that_window():
    """Windows set from outside are those that the constructor would set."""
    model = window_transfer.build('log', seed=0)
    variants.grow(model.backbone, [16, 8])
    again = SwinTransformerV2(window_transfer.ARCH, window_size=[16, 8], drop_path_rate=0.0,
                              pretrained_window_sizes=[8, 4], out_indices=(1,))
    for parameter in model.backbone.parameters():  # a fresh model is the identity
        torch.nn.init.normal_(parameter, std=0.1)
    again.load_state_dict(model.backbone.state_dict())
    picture = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.backbone(picture), again(picture))


@pytest.mark.parametrize('kind', ['pre', 'post'])
def test_dot_product_blocks_are_the_formulas(kind):
    """One block of one window against softmax(q k / sqrt(d) + B) v, written out."""
    block = variants.set_blocks(backbone(), kind).layers[0].blocks[0]
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(1, 4, 4, 32)
    attn, layout = block.attn, plan((4, 4), (4, 4), (0, 0), x)

    def attend(tokens):
        q, k, v = (tokens @ attn.qkv.weight.t()).split(32, dim=-1)
        q, v = q + attn.q_bias, v + attn.v_bias
        bias = pairs(attn.relative_position_bias_table, (4, 4))[0]
        return attn.proj(((q @ k.t()) / math.sqrt(32) + bias).softmax(-1) @ v)

    tokens = x.view(16, 32)
    if kind == 'pre':
        tokens = tokens + attend(block.norm1(tokens))
        expected = tokens + block.mlp(block.norm2(tokens))
    else:
        tokens = tokens + block.norm1(attend(tokens))
        expected = tokens + block.norm2(block.mlp(tokens))
    for train in (True, False):
        with torch.set_grad_enabled(train):
            found = block.train(train)(x, layout)
        torch.testing.assert_close(found.view(16, 32), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', variants.BLOCKS)
def test_kinds_of_block_start_from_the_same_weights(kind):
    ours, other = (variants.set_blocks(backbone(), kind) for kind in ('post, cosine', kind))
    given, changed = ours.state_dict(), other.state_dict()
    same = [name for name in changed if 'norm' not in name and 'bias_table' not in name]
    assert all(torch.equal(given[name], changed[name]) for name in same)
    scales = {other.get_parameter(f'layers.{i}.blocks.{j}.norm{k}.weight').unique().item()
              for i in range(3) for j in range(2) for k in (1, 2)}
    assert scales == ({1.0} if kind == 'pre' else {0.0})
    assert other.layers[0].downsample.norm.weight.numel() == (128 if kind == 'pre' else 64)


def test_without_its_bias_a_model_sees_cosines_only():
    model = variants.drop_bias(backbone())
    assert torch.equal(model.layers[1].blocks[0].attn.position_bias((3, 5)), torch.zeros(2, 15, 15))
    torch.nn.init.normal_(model.layers[0].blocks[0].norm1.weight)
    assert model.eval()(torch.rand(1, 3, 64, 64))[0].shape == (1, 128, 4, 4)
