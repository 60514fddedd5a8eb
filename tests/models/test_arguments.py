"""What the backbone accepts, what it refuses and in which words, and what it says about itself."""
import pytest
import torch
from mmengine.config import ConfigDict

from swinv2_mm import ARCHS, SwinTransformerV2, SwinTransformerV2Video

TWO_STAGES = dict(embed_dims=8, depths=(1, 1), num_heads=(1, 2))

# Settings, the error, and words of its sentence: the rule, what came, and what to do.
REFUSED = {
    'an unknown arch': (
        dict(arch='enormous'), KeyError, ['must be one of nano, tiny,', "'enormous'"]),
    'no arch': (dict(arch=None), KeyError, ['embed_dims, depths and num_heads', 'None']),
    'an arch without heads': (
        dict(arch=dict(embed_dims=8, depths=(1,))), KeyError, ['must have', "'depths': (1,)"]),
    'an arch with a word too much': (
        dict(arch=TWO_STAGES | dict(mlp_ratio=4)), KeyError, ['may have', 'mlp_ratio']),
    'fewer heads than depths': (
        dict(arch=TWO_STAGES | dict(num_heads=(1,))), ValueError,
        ['as many num_heads as depths', 'num_heads=(1,)']),
    'an arch of no stages': (
        dict(arch=dict(embed_dims=8, depths=(), num_heads=())), ValueError, ['depths=()']),
    'a depth that is no list': (
        dict(arch=TWO_STAGES | dict(depths=2)), ValueError, ['depths', '2']),
    'a depth of zero': (
        dict(arch=TWO_STAGES | dict(depths=(0, 1))), ValueError, ['depths', 'at least 1', '0']),
    'channels that are no number': (
        dict(arch=TWO_STAGES | dict(embed_dims='8')), ValueError, ['embed_dims', "'8'"]),
    'heads that do not divide the channels': (
        dict(arch=TWO_STAGES | dict(num_heads=(3, 2))), ValueError,
        ['divide the channels', '3 heads', '8 channels in stage 0']),
    'a list of the wrong length for windows': (
        dict(window_size=[8, 8]), ValueError,
        ['window_size', 'one entry for each of the 4 stages', 'got 2: [8, 8]', 'tuple']),
    'a window of too many sides': (
        dict(window_size=(2, 8, 8)), ValueError,
        ['window_size', '2 sides (h, w)', '(2, 8, 8)', 'list']),
    'a window of one side': (
        dict(window_size=(8,)), ValueError, ['window_size', '2 sides (h, w)', '(8,)']),
    'a window of too many sides in a list': (
        dict(window_size=[8, (8, 8), (8, 8, 8), 8]), ValueError,
        ['window_size[2]', '2 sides (h, w)', '(8, 8, 8)']),
    'an empty window': (dict(window_size=0), ValueError, ['window_size', 'at least 1', 'got 0']),
    'a window with an empty side': (
        dict(window_size=(8, 0)), ValueError, ['side of window_size', 'at least 1', 'got 0']),
    'an infinite window': (
        dict(window_size=float('inf')), ValueError, ['window_size', 'integer', 'inf']),
    'a window that is not a number': (
        dict(window_size=float('nan')), ValueError, ['window_size', 'integer', 'nan']),
    'a window of half a token': (
        dict(window_size=(8, 7.5)), ValueError, ['window_size', 'integer', '7.5']),
    'a window written as text': (dict(window_size='8'), ValueError, ['window_size', "'8'"]),
    'a window that is a switch': (dict(window_size=True), ValueError, ['window_size', 'True']),
    'a list of the wrong length for pretrained windows': (
        dict(pretrained_window_sizes=[12, 12, 12]), ValueError,
        ['pretrained_window_sizes', 'each of the 4 stages', 'got 3']),
    'a negative pretrained window': (
        dict(pretrained_window_sizes=[12, 12, 12, -6]), ValueError,
        ['pretrained_window_sizes[3]', 'at least 0', '-6']),
    'a pretrained window of too many sides': (
        dict(pretrained_window_sizes=(12,) * 4), ValueError,
        ['pretrained_window_sizes', '2 sides', '(12, 12, 12, 12)', 'list']),
    'an empty patch': (dict(patch_size=0), ValueError, ['patch_size', 'at least 1', 'got 0']),
    'a patch of too many sides': (
        dict(patch_size=(2, 4, 4)), ValueError, ['patch_size', '2 sides', '(2, 4, 4)']),
    'no channels': (dict(in_channels=0), ValueError, ['in_channels', 'at least 1', 'got 0']),
    'an out index that is no stage': (
        dict(out_indices=(0, 4)), ValueError, ['out_indices', 'from 0 to 3', 'got 4']),
    'a negative out index': (
        dict(out_indices=(-1,)), ValueError, ['out_indices', 'from 0 to 3', 'got -1']),
    'an out index beyond a short arch': (
        dict(arch=TWO_STAGES, out_indices=(2,)), ValueError,
        ['out_indices', 'from 0 to 1', 'got 2']),
    'no out index': (dict(out_indices=()), ValueError, ['out_indices', 'one or more', '()']),
    'an out index twice': (
        dict(out_indices=(1, 1)), ValueError, ['out_indices', 'each once', '(1, 1)']),
    'out indices that fall': (
        dict(out_indices=(3, 0)), ValueError, ['out_indices', 'rising order', '(3, 0)']),
    'too many frozen stages': (
        dict(frozen_stages=5), ValueError, ['frozen_stages', 'from -1 to 4', 'got 5']),
    'too few frozen stages': (
        dict(frozen_stages=-2), ValueError, ['frozen_stages', 'from -1 to 4', 'got -2']),
    'a drop path that drops all': (
        dict(drop_path_rate=1.0), ValueError, ['drop_path_rate', '[0, 1)', '1.0']),
    'a negative drop path': (
        dict(drop_path_rate=-0.1), ValueError, ['drop_path_rate', '[0, 1)', '-0.1']),
    'a drop path that is not a number': (
        dict(drop_path_rate=float('nan')), ValueError, ['drop_path_rate', 'nan']),
    'a drop path written as text': (
        dict(drop_path_rate='0.2'), ValueError, ['drop_path_rate', "'0.2'"]),
    'switches of the wrong length': (
        dict(with_cp=[True]), ValueError, ['with_cp', 'each of the 4 stages', '[True]']),
    'a switch that is a number': (dict(with_cp=1), ValueError, ['with_cp', 'bool', 'got 1']),
}


@pytest.mark.parametrize('settings, error, words', REFUSED.values(), ids=REFUSED.keys())
def test_the_constructor_says_the_rule_what_came_and_what_to_do(settings, error, words):
    with pytest.raises((ValueError, KeyError)) as caught:
        SwinTransformerV2(**(dict(arch='nano') | settings))
    assert type(caught.value) is error
    message = caught.value.args[0]
    assert [word for word in words if word not in message] == [], message
    assert message.endswith('.') and '\n' not in message


IMAGE, VIDEO = SwinTransformerV2, SwinTransformerV2Video
REFUSED_INPUTS = {
    'an image without a batch': (
        IMAGE, (3, 32, 32), ['takes (B, C, H, W)', '(3, 32, 32)', 'missing axes']),
    'a clip for the image model': (
        IMAGE, (1, 3, 4, 32, 32), ['takes (B, C, H, W)', '(1, 3, 4, 32, 32)', 'other rank']),
    'an image for the video model': (
        VIDEO, (1, 3, 32, 32), ['takes (B, C, T, H, W)', '(1, 3, 32, 32)', 'other rank']),
    'too few channels': (IMAGE, (1, 1, 32, 32), ['in_channels=3', '(1, 1, 32, 32)', 'set']),
    'channels last': (IMAGE, (1, 32, 32, 3), ['in_channels=3', '(B, C, H, W)', '(1, 32, 32, 3)']),
    'frames before channels': (VIDEO, (1, 8, 3, 32, 32), ['in_channels=3', '(B, C, T, H, W)']),
    'no rows': (IMAGE, (1, 3, 0, 32), ['at least 1', '(1, 3, 0, 32)', 'empty images']),
    'no columns': (IMAGE, (1, 3, 32, 0), ['at least 1', '(1, 3, 32, 0)', 'empty images']),
    'no frames': (VIDEO, (1, 3, 0, 32, 32), ['at least 1', '(1, 3, 0, 32, 32)']),
    'no images': (IMAGE, (0, 3, 32, 32), ['at least 1', '(0, 3, 32, 32)']),
}


@pytest.mark.parametrize('cls, shape, words', REFUSED_INPUTS.values(), ids=REFUSED_INPUTS.keys())
def test_the_forward_pass_says_the_rule_what_came_and_what_to_do(cls, shape, words):
    with pytest.raises(ValueError) as caught:
        cls('nano')(torch.zeros(shape))
    message = caught.value.args[0]
    assert [word for word in words if word not in message] == [], message


# As written, and as attributes: one tuple of sides per stage.
WINDOWS = [
    (IMAGE, 8, [(8, 8)] * 4),
    (IMAGE, (8, 12), [(8, 12)] * 4),
    (IMAGE, [16, 16, 16, 8], [(16, 16)] * 3 + [(8, 8)]),
    (IMAGE, [16, (8, 12), 4, (2, 3)], [(16, 16), (8, 12), (4, 4), (2, 3)]),
    (VIDEO, 8, [(8, 8, 8)] * 4),
    (VIDEO, (8, 7, 6), [(8, 7, 6)] * 4),
    (VIDEO, [8, (4, 7, 7), (4, 7, 7), 2], [(8, 8, 8), (4, 7, 7), (4, 7, 7), (2, 2, 2)]),
]


@pytest.mark.parametrize('cls, written, parsed', WINDOWS)
def test_windows_are_written_as_an_int_a_tuple_of_sides_or_a_list_of_stages(
        cls, written, parsed):
    settings = ConfigDict(window_size=written, pretrained_window_sizes=written)
    for model in (cls('nano', **settings), cls('nano', **dict(settings))):
        assert list(model.window_sizes) == parsed
        assert list(model.pretrained_window_sizes) == parsed


def test_a_pretrained_window_of_zero_is_kept_as_zero_for_each_side():
    model = SwinTransformerV2('nano', pretrained_window_sizes=[0, (0, 6), 12, 0])
    assert list(model.pretrained_window_sizes) == [(0, 0), (0, 6), (12, 12), (0, 0)]


@pytest.mark.parametrize('cls, patch, indices, strides', [
    (IMAGE, 4, (0, 1, 2, 3), [4, 8, 16, 32]),
    (IMAGE, (4, 2), (1, 3), [(8, 4), (32, 16)]),
    (VIDEO, (2, 4, 4), (0, 3), [(2, 4, 4), (2, 32, 32)]),
    (VIDEO, 4, (0, 1), [4, (4, 8, 8)]),
], ids=str)
def test_attributes_say_channels_and_strides_of_each_output(cls, patch, indices, strides):
    model = cls('nano', patch_size=patch, out_indices=indices)
    assert list(model.out_channels) == [32 * 2 ** i for i in indices]
    assert list(model.out_strides) == strides
    size = (3, 32, 64) if cls is IMAGE else (3, 8, 32, 64)
    outs = model(torch.zeros(2, *size))
    assert isinstance(outs, tuple) and len(outs) == len(indices)
    for out, channels, stride in zip(outs, model.out_channels, model.out_strides):
        stride = stride if isinstance(stride, tuple) else (stride,) * model.ndim
        assert out.shape == (2, channels, *(s // k for s, k in zip(size[1:], stride)))
        assert out.is_contiguous()


def test_the_image_model_always_returns_a_tuple_and_the_video_model_a_bare_tensor_for_one():
    image, video = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4, 32, 32)
    assert [f.shape for f in SwinTransformerV2('nano', out_indices=(3,))(image)] == [
        (1, 256, 1, 1)]
    assert SwinTransformerV2Video('nano', out_indices=(3,))(video).shape == (1, 256, 2, 1, 1)
    assert isinstance(SwinTransformerV2Video('nano', out_indices=(2, 3))(video), tuple)


@pytest.mark.parametrize('height, width', [(1, 1), (1, 100), (33, 31), (64, 5)])
def test_any_height_and_width_and_any_batch_will_do(height, width):
    outs = SwinTransformerV2('nano')(torch.zeros(3, 3, height, width))
    sizes = [(3, -(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]
    assert [(f.shape[0], *f.shape[2:]) for f in outs] == sizes


def test_ranks_are_2_and_3_and_the_default_patch_of_a_video_is_two_frames():
    assert (SwinTransformerV2('nano').ndim, SwinTransformerV2Video('nano').ndim) == (2, 3)
    assert SwinTransformerV2Video('nano').patch_size == (2, 4, 4)


@pytest.mark.parametrize('arch', [
    TWO_STAGES, ConfigDict(TWO_STAGES), TWO_STAGES | dict(depths=[1, 1], num_heads=[1, 2])])
def test_an_arch_may_be_a_dict_of_plain_values(arch):
    model = SwinTransformerV2(arch, out_indices=(0, 1))
    assert [len(stage.blocks) for stage in model.layers] == [1, 1]
    assert model.out_channels == [8, 16]


def test_an_arch_from_the_table_may_be_changed_and_passed_on():
    model = SwinTransformerV2(ARCHS['nano']._replace(depths=(1, 1, 1, 1)))
    assert [len(stage.blocks) for stage in model.layers] == [1, 1, 1, 1]
