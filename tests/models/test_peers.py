"""The same features as other implementations give, on random awake weights at unpadded sizes.

`nano` has shifted windows, merging and, in its last stage, the window that shrinks to the map.
"""
import peers
import pytest
import timm
from helpers import weights
from mmpretrain.models import SwinTransformerV2 as MMPretrainSwin
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)

from swinv2_mm import ARCHS, SwinTransformerV2

NANO = ARCHS['nano']._asdict()


@pytest.mark.parametrize('side, window, pretrained', [
    (256, 8, 0), (256, 16, 0), (256, 16, [12, 12, 12, 6]), (384, 24, [12, 12, 12, 6])])
def test_features_equal_timm(awake, side, window, pretrained):
    model = awake(SwinTransformerV2('nano', window_size=window,
                                    pretrained_window_sizes=pretrained))
    peer = timm.create_model(
        'swinv2_tiny_window8_256', img_size=side, window_size=window, num_classes=0,
        embed_dim=NANO['embed_dims'], depths=NANO['depths'], num_heads=NANO['num_heads'],
        pretrained_window_sizes=tuple(pretrained or (0, 0, 0, 0)))
    peers.load(peer, peers.to_timm(weights(model)))

    def trunks(x):
        outs = peer.forward_intermediates(x, intermediates_only=True)
        return [out.permute(0, 2, 3, 1) for out in outs]

    peers.check(model, peer, trunks, side)


@pytest.mark.parametrize('window, stages', [(8, 4), (16, 3)])
def test_features_equal_torchvision(awake, window, stages):
    """It pads a map shorter than the window, so that the last stage of window 16 is left out."""
    arch = dict(embed_dims=32, depths=NANO['depths'][:stages], num_heads=NANO['num_heads'][:stages])
    model = awake(SwinTransformerV2(arch, window_size=window, out_indices=tuple(range(stages))))
    peer = SwinTransformer(
        [4, 4], arch['embed_dims'], arch['depths'], arch['num_heads'], [window, window],
        num_classes=1, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)
    peers.load(peer, peers.to_torchvision(weights(model)))

    def trunks(x):
        outs = []
        for layer in peer.features:
            x = layer(x)
            outs.append(x)
        return outs[1::2]

    peers.check(model, peer, trunks, 256)


@pytest.mark.parametrize('windows, pretrained', [
    ([8, 8, 8, 8], [0, 0, 0, 0]), ([16, 16, 16, 8], [0, 0, 0, 0]),
    ([16, 16, 16, 8], [12, 12, 12, 6])])
def test_features_equal_mmpretrain(awake, windows, pretrained):
    model = awake(SwinTransformerV2('nano', window_size=windows,
                                    pretrained_window_sizes=pretrained))
    arch = dict(NANO)
    arch['extra_norm_every_n_blocks'] = arch.pop('extra_norm_every')
    peer = MMPretrainSwin(arch, window_size=windows, pretrained_window_sizes=pretrained,
                          out_indices=(0, 1, 2, 3), norm_cfg=None)
    peers.load(peer, peers.to_mmpretrain(weights(model)))
    peers.check(model, peer, lambda x: [out.permute(0, 2, 3, 1) for out in peer(x)], 256)


def test_the_extra_trunk_norms_equal_mmpretrain(awake):
    arch = dict(embed_dims=8, depths=(1, 4), num_heads=(1, 2), extra_norm_every=2)
    model = awake(SwinTransformerV2(arch, window_size=8, out_indices=(0, 1)))
    arch['extra_norm_every_n_blocks'] = arch.pop('extra_norm_every')
    peer = MMPretrainSwin(arch, window_size=8, out_indices=(0, 1), norm_cfg=None)
    peers.load(peer, peers.to_mmpretrain(weights(model)))
    peers.check(model, peer, lambda x: [out.permute(0, 2, 3, 1) for out in peer(x)], 64)
