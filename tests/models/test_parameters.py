"""Parameter counts and names, held against the published ones."""
import pytest
import torch
from helpers import weights

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video

# With a classifier of 1,000 classes. The paper rounds them to 28M, 50M, 88M, 197M, 658M and 3.0B.
COUNTS = {
    'tiny': 28_347_154,
    'small': 49_728_418,
    'base': 87_918_816,
    'large': 196_739_932,
    'huge': 658_036_370,
    'giant': 3_001_940_680,
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize('arch', COUNTS)
def test_the_parameters_with_a_classifier_are_as_many_as_published(arch):
    with torch.device('meta'):
        model = SwinTransformerV2(arch)
        # Official models have an output norm on the last stage only; ours on each are extra.
        extra = sum(count(getattr(model, f'norm{i}')) for i in range(3))
        classifier = torch.nn.Linear(model.out_channels[-1], 1000)
        alone = SwinTransformerV2(arch, out_indices=(3,))
    assert count(model) - extra + count(classifier) == COUNTS[arch]
    assert count(alone) + count(classifier) == COUNTS[arch]


@pytest.mark.parametrize('arch, blocks', [
    ('tiny', []), ('large', []), ('huge', [5, 11, 17]),
    ('giant', [5, 11, 17, 23, 29, 35, 41])])
def test_every_sixth_block_of_a_stage_of_huge_and_giant_ends_in_a_trunk_norm(arch, blocks):
    with torch.device('meta'):
        names = weights(SwinTransformerV2(arch))
    norms = {name.rsplit('.', 1)[0] for name in names if '.norm3.' in name}
    assert norms == {f'layers.2.blocks.{j}.norm3' for j in blocks}


def official_names(depths):
    """The keys of an official file less its buffers, head and output norm."""
    names = {f'patch_embed.{part}.{kind}' for part in ('proj', 'norm')
             for kind in ('weight', 'bias')}
    block = {f'{part}.{kind}' for kind in ('weight', 'bias') for part in (
        'norm1', 'norm2', 'attn.proj', 'mlp.fc1', 'mlp.fc2', 'attn.cpb_mlp.0')}
    block |= {'attn.logit_scale', 'attn.cpb_mlp.2.weight', 'attn.qkv.weight', 'attn.q_bias',
              'attn.v_bias'}
    for i, depth in enumerate(depths):
        names |= {f'layers.{i}.blocks.{j}.{name}' for j in range(depth) for name in block}
        if i < len(depths) - 1:
            names |= {f'layers.{i}.downsample.{name}' for name in (
                'reduction.weight', 'norm.weight', 'norm.bias')}
    return names


@pytest.mark.parametrize('cls', [SwinTransformerV2, SwinTransformerV2Video])
def test_parameters_have_the_official_names_and_nothing_else_is_stored(cls):
    model = cls('tiny')
    expected = official_names((2, 2, 6, 2))
    expected |= {f'norm{i}.{kind}' for i in range(4) for kind in ('weight', 'bias')}
    assert {name for name, _ in model.named_parameters()} == expected
    assert set(model.state_dict()) == expected | {'pretrained_windows'}


def test_parameters_have_the_official_shapes():
    state = {name: tuple(value.shape) for name, value in SwinTransformerV2('tiny')
             .state_dict().items()}
    assert state['patch_embed.proj.weight'] == (96, 3, 4, 4)
    assert state['layers.0.downsample.reduction.weight'] == (192, 384)
    assert state['layers.0.downsample.norm.weight'] == (192,)
    block = 'layers.1.blocks.0'
    assert state[f'{block}.attn.logit_scale'] == (6, 1, 1)
    assert state[f'{block}.attn.cpb_mlp.0.weight'] == (512, 2)
    assert state[f'{block}.attn.cpb_mlp.2.weight'] == (6, 512)
    assert state[f'{block}.attn.qkv.weight'] == (576, 192)
    assert state[f'{block}.attn.q_bias'] == state[f'{block}.attn.v_bias'] == (192,)
    assert state[f'{block}.mlp.fc1.weight'] == (768, 192)
    assert state[f'{block}.mlp.fc2.weight'] == (192, 768)


@pytest.mark.parametrize('out_indices', [(0,), (1,), (0, 2), (3,), (1, 2, 3)])
def test_no_parameter_is_built_that_no_output_needs(out_indices):
    last = max(out_indices)
    names = set(weights(SwinTransformerV2('nano', out_indices=out_indices)))
    expected = official_names((2,) * (last + 1))
    expected |= {f'norm{i}.{kind}' for i in out_indices for kind in ('weight', 'bias')}
    assert names == expected
