"""SimMIM: what is hidden stays hidden, the loss is the official one, the encoder is a backbone."""
import pytest
import torch
from conftest import awaken
from helpers import checked, run_tool
from mmengine.registry import MODELS, DefaultScope

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import load_backbone
from swinv2_mm.models import MaskedSwinTransformerV2, NormalizedPixelLoss


@pytest.fixture
def masked():
    return awaken(MaskedSwinTransformerV2('nano', window_size=4)).eval()


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blocks(height=16, width=16, hidden=(0, 2)):
    """A mask of (1, H, W) patches that hides squares of 8 x 8 by their number."""
    mask = torch.zeros(1, height // 8, width // 8)
    mask.view(-1)[list(hidden)] = 1
    return mask.repeat_interleave(8, 1).repeat_interleave(8, 2)


def test_without_a_mask_it_is_the_backbone(masked):
    plain = SwinTransformerV2('nano', window_size=4, out_indices=(3,)).eval()
    plain.load_state_dict({k: v for k, v in masked.state_dict().items() if k != 'mask_token'})
    image = some(2, 3, 64, 96)
    assert torch.equal(masked(image)[0], plain(image)[0])


def test_hidden_pixels_change_nothing_and_seen_ones_do(masked):
    image, mask = some(1, 3, 64, 64), blocks()
    hidden = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].bool()
    before = masked(image, mask)[0]
    assert torch.equal(masked(torch.where(hidden, some(1, 3, 64, 64, seed=1), image), mask)[0],
                       before)
    assert not torch.allclose(masked(torch.where(hidden, image, image + 1), mask)[0], before)


def test_the_mask_is_one_image_s_own(masked):
    images, masks = some(2, 3, 64, 64), torch.cat([blocks(), blocks(hidden=(1, 3))])
    images, masked = images.double(), masked.double()
    both = masked(images, masks)[0]
    for i in range(2):
        alone = masked(images[i:i + 1], masks[i:i + 1])[0]
        torch.testing.assert_close(both[i:i + 1], alone, atol=1e-11, rtol=0)


@pytest.mark.parametrize('dtype', [torch.int64, torch.bool, torch.float32])
def test_masks_of_any_type_mean_the_same(masked, dtype):
    image, mask = some(1, 3, 64, 64), blocks()
    assert torch.equal(masked(image, mask.to(dtype))[0], masked(image, mask)[0])


def test_a_mask_of_another_grid_is_refused(masked):
    with pytest.raises(ValueError, match=r'\(1, 16, 16\), got \(1, 8, 8\): set model_patch_size'):
        masked(some(1, 3, 64, 64), torch.zeros(1, 8, 8))


def slow_statistics(image, window):
    """Mean and unbiased deviation around each pixel, one pixel at a time."""
    reach = window // 2
    mean, deviation = torch.empty_like(image), torch.empty_like(image)
    height, width = image.shape[-2:]
    for y in range(height):
        for x in range(width):
            part = image[..., max(y - reach, 0):y + reach + 1, max(x - reach, 0):x + reach + 1]
            mean[..., y, x] = part.mean((-2, -1))
            deviation[..., y, x] = (part.flatten(-2).var(-1, unbiased=True) + 1e-6).sqrt()
    return mean, deviation


@pytest.mark.parametrize('window', [3, 5, 47])
def test_targets_are_normalised_by_the_pixels_around(window):
    image = some(2, 3, 9, 14).double()
    found = NormalizedPixelLoss(window).statistics(image)
    for ours, theirs in zip(found, slow_statistics(image, window)):
        # Two means of `window` float32 numbers, and squares whose difference they are.
        budget = 4 * window * torch.finfo(torch.float32).eps
        torch.testing.assert_close(ours.double(), theirs, atol=budget, rtol=budget)


def test_the_loss_is_the_mean_distance_on_hidden_pixels():
    pred, image = some(2, 3, 16, 16), some(2, 3, 16, 16, seed=1)
    mask = blocks(16, 16, hidden=(1,)).expand(2, -1, -1)[:, None]
    mean, deviation = slow_statistics(image.double(), 5)
    distance = (pred - (image - mean) / deviation).abs()
    expected = distance[mask.expand_as(distance).bool()].mean()
    loss = NormalizedPixelLoss(5)
    torch.testing.assert_close(loss(pred, image, mask).double(), expected, rtol=1e-5, atol=0)
    assert loss(pred, image, torch.zeros_like(mask)) == 0  # nothing hidden: nothing to learn


def test_constant_images_give_finite_losses():
    image = torch.full((1, 3, 64, 64), 2.7)
    loss = NormalizedPixelLoss()(torch.zeros_like(image), image, torch.ones(1, 1, 64, 64))
    assert loss.isfinite() and loss < 2


@pytest.mark.parametrize('window', [0, 2, 46, 4.0, True])
def test_a_window_without_a_middle_is_refused(window):
    with pytest.raises(ValueError, match='^window must be'):
        NormalizedPixelLoss(window)


def simmim():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(
            type='mmpretrain.SimMIM',
            data_preprocessor=dict(type='SelfSupDataPreprocessor'),
            backbone=dict(type='swinv2_mm.MaskedSwinTransformerV2', arch='nano', window_size=4,
                          drop_path_rate=0.0),
            neck=dict(type='SimMIMLinearDecoder', in_channels=256, encoder_stride=32),
            head=dict(type='SimMIMHead', patch_size=4,
                      loss=dict(type='swinv2_mm.NormalizedPixelLoss'))))


def test_a_step_of_mmpretrain_s_algorithm_reaches_every_parameter():
    from mmpretrain.structures import DataSample
    model = simmim()
    model.init_weights()
    assert 0.01 < model.backbone.mask_token.std() < 0.03
    awaken(model.backbone)
    sample = DataSample()
    sample.mask = blocks()[0]
    loss = model(some(1, 3, 64, 64), [sample], mode='loss')['loss']
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()
            ] == []


def test_the_encoder_is_published_as_a_plain_backbone(tmp_path):
    """Training writes `backbone.` and a decoder; what is published loads strictly elsewhere."""
    model = simmim()
    awaken(model.backbone)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'iter_10.pth')
    checked(run_tool('tools/model_converters/publish.py', tmp_path / 'iter_10.pth',
                     tmp_path / 'encoder.safetensors', '--backbone-only',
                     '--config', 'configs/demo/mim_nano.py'))
    file, = tmp_path.glob('encoder-*.safetensors')
    for source in (file, tmp_path / 'iter_10.pth'):
        plain = SwinTransformerV2('nano', window_size=4)
        report = load_backbone(plain, source)
        assert {name.split('.')[0] for name in report.fresh} == {'norm0', 'norm1', 'norm2'}
        image = some(1, 3, 64, 64)
        assert torch.equal(plain.eval()(image)[-1], model.backbone.eval()(image)[0])
