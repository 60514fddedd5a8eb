"""Rank, input channels and patches: weights brought to another model, and what must stay equal."""
import pytest
import torch
import torch.nn.functional as F
from conftest import awaken
from helpers import paired, weights

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.checkpoints import deflate, inflate, load_backbone, resize_channels, resize_patch

ARCH = dict(embed_dims=8, depths=(2, 2, 2), num_heads=(1, 2, 2))
KERNEL = 'patch_embed.proj.weight'


def image_model(**settings):
    return SwinTransformerV2(**{'arch': ARCH, 'window_size': 8, 'out_indices': (0, 1, 2),
                                **settings})


def video_model(**settings):
    return SwinTransformerV2Video(**{'arch': ARCH, 'window_size': (2, 8, 8),
                                     'out_indices': (0, 1, 2), **settings})


@pytest.fixture(scope='module')
def source():
    return awaken(image_model(), seed=4).double().eval()


def picture(*shape, channels=3):
    return torch.randn(2, channels, *shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('frames, window, patch', [
    (8, (2, 8, 8), (2, 4, 4)),  # windows shift over time
    (6, (4, 8, 8), (1, 4, 4)),  # and are padded there
    (3, (8, 8, 8), (2, 4, 4)),  # more window than frames
    (8, (2, 8, 8), (4, 4, 4)),
])
@torch.no_grad()
def test_a_video_of_equal_frames_gives_the_features_of_the_image(source, frames, window, patch):
    model = video_model(window_size=window, patch_size=patch).double().eval()
    state = {name: value.clone() for name, value in weights(source).items()}
    report = load_backbone(model, state)
    assert f'image weights inflated to videos, patches of {patch[0]} frames' in report.notes
    assert not report.dropped and not report.fresh
    image = picture(90, 70)
    x = image[:, :, None].expand(-1, -1, frames, -1, -1)
    if frames % patch[0]:  # the backbone pads frames of zeros; so it is not of equal frames
        x = x[:, :, :frames - frames % patch[0]]
    for out, wanted in paired(model(x), source(image)):
        assert 0.9 < wanted.std() < 1.3
        wanted = wanted[:, :, None].expand_as(out)
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)


@torch.no_grad()
def test_time_matters_to_an_inflated_model_once_frames_differ(source):
    """So that the test above is known to see time."""
    model = video_model().double().eval()
    load_backbone(model, weights(source))
    image = picture(90, 70)
    x = torch.stack([image, image, image.flip(-1), image], dim=2)
    outs = model(x)
    assert all((out[:, :, 0] - wanted).abs().max() > 1e-3
               for out, wanted in zip(outs, source(image)))


@pytest.mark.parametrize('frames', [1, 2, 4])
def test_deflating_an_inflated_model_gives_it_back(source, frames):
    state = weights(source)
    video = inflate(state, frames)
    assert video[KERNEL].shape == (8, 3, frames, 4, 4)
    column = video['layers.0.blocks.0.attn.cpb_mlp.0.weight']
    assert column.shape == (512, 3) and not column[:, 0].any()  # offsets are (t, h, w)
    back = deflate(video)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    with pytest.raises(ValueError, match='must be of a backbone for images, got .* 4, 4'):
        inflate(video)
    with pytest.raises(ValueError, match='must be of a backbone for videos, got .* 3, 4, 4'):
        deflate(state)


@torch.no_grad()
def test_a_video_file_loads_into_an_image_model_which_says_so(source):
    video = video_model().double()
    load_backbone(video, weights(source))
    model = image_model().double().eval()
    report = load_backbone(model, weights(video))
    assert any('video weights deflated to images' in note for note in report.notes)
    for out, wanted in zip(model(picture(64, 64)), source(picture(64, 64))):
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize('old, new', [(3, 1), (1, 3), (3, 4), (4, 3), (3, 12), (5, 2)])
@torch.no_grad()
def test_an_input_equal_in_all_channels_embeds_as_before(old, new):
    first = awaken(image_model(in_channels=old)).double().eval()
    model = image_model(in_channels=new).double().eval()
    report = load_backbone(model, weights(first))
    assert f'{old} input channels brought to {new}' in report.notes
    grey = picture(64, 64, channels=1)
    for out, wanted in zip(model(grey.expand(-1, new, -1, -1)),
                           first(grey.expand(-1, old, -1, -1))):
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)


def test_channels_are_shared_out_in_turn():
    kernel = torch.arange(1.0, 4).view(1, 3, 1, 1)

    def brought(n):
        return resize_channels({KERNEL: kernel}, n)[KERNEL].flatten().tolist()

    assert brought(1) == [6] and brought(3) == [1, 2, 3]
    assert brought(4) == [0.5, 2, 3, 0.5] and brought(2) == [4, 2]


@torch.no_grad()
def test_a_larger_patch_of_a_resized_image_embeds_as_the_smaller_one(source):
    """The rule of FlexiViT: exact where patches grow, as each is then resized without loss."""
    model = image_model(patch_size=(8, 12)).double().eval()
    report = load_backbone(model, weights(source))
    assert 'patches of 4 resized to (8, 12)' in report.notes
    image = picture(64, 64)
    patches = F.unfold(image, 4, stride=4).transpose(1, 2).reshape(-1, 3, 4, 4)
    larger = F.interpolate(patches, (8, 12), mode='bicubic', antialias=True)
    torch.testing.assert_close(model.patch_embed(larger).flatten(),
                               source.patch_embed(image).flatten(), rtol=0, atol=1e-10)


@pytest.mark.parametrize('sides', [(2, 2), (2, 4), (3, 5)])
def test_a_smaller_patch_is_the_best_in_least_squares(source, sides):
    """The residual of <B x, new> = <x, old> is orthogonal to all that `new` can change."""
    old = weights(source)[KERNEL]
    new = resize_patch(weights(source), sides)[KERNEL]
    assert new.shape == (8, 3, *sides)
    basis = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    resized = F.interpolate(basis, sides, mode='bicubic', antialias=True).flatten(1)  # (16, new)
    residual = new.flatten(2) @ resized.t() - old.flatten(2)
    torch.testing.assert_close(residual @ resized, torch.zeros(8, 3, resized.shape[1]).double(),
                               rtol=0, atol=1e-10)


def test_the_same_patch_is_left_as_it_is(source):
    state = weights(source)
    assert torch.equal(resize_patch(state, (4, 4))[KERNEL], state[KERNEL])


@torch.no_grad()
def test_frames_channels_and_patch_change_in_one_load(source):
    model = video_model(patch_size=(4, 8, 8), in_channels=1).double().eval()
    report = load_backbone(model, weights(source))
    assert len([note for note in report.notes if 'frames' in note or 'channels' in note
                or 'resized' in note]) == 3
    outs = model(picture(8, 64, 64, channels=1))
    assert all(out.isfinite().all() for out in outs)
    back = image_model().double()
    load_backbone(back, weights(model))  # another patch of frames as well
    again = video_model().double()
    load_backbone(again, weights(model))
    assert again.patch_embed.proj.weight.shape == (8, 3, 2, 4, 4)
