"""What a layout must pass with the peer's own model, here and in `with_transformers`."""
import peers
import torch
import torch.nn.functional as F
from helpers import weights

from swinv2_mm import ARCHS, SwinTransformerV2
from swinv2_mm.checkpoints import from_native, load_backbone, read_checkpoint, to_native

BUFFERS = ('relative_coords_table', 'relative_position_index')
EARLY_NORMS = [f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')]
WINDOWS = [((8, 8), (8, 8))] * 4


def equal(state, other):
    """Same names, and equal tensors."""
    return state.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in state.items())


def loads_with_equal_features(peer, file, layout, blocks, logits):
    """A file that the peer saved, through `load_backbone`: features of T, and logits."""
    model = SwinTransformerV2('tiny', window_size=8)
    report = load_backbone(model, file)
    assert report.layout == layout and report.fresh == EARLY_NORMS
    assert sorted(report.dropped) == ['head.bias', 'head.weight']
    peers.check(model, peer, peers.hooked(peer, blocks), 256)
    classify(model, peer, to_native(read_checkpoint(file)), logits)


def takes_ours_strictly(model, peer, layout, blocks, logits, prefix=None):
    """Our weights with a head, given to the peer by its own strict loader: the same outputs."""
    head = {'head.weight': torch.randn(10, model.out_channels[-1]) / 5,
            'head.bias': torch.randn(10)}
    native = weights(model) | head
    peer.load_state_dict(from_native(native, layout, WINDOWS, prefix), strict=True)
    peers.check(model, peer, peers.hooked(peer, blocks), 256)
    classify(model, peer, native, logits)


@torch.no_grad()
def classify(model, peer, native, logits):
    """In float64, as `peers.check` leaves both models."""
    x = torch.randn(1, 3, 256, 256, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(2))
    pooled = model(x)[-1].mean((2, 3))
    ours = F.linear(pooled, native['head.weight'].double(), native['head.bias'].double())
    torch.testing.assert_close(ours, logits(x), rtol=0, atol=1e-10)


def fits_by_shape(build, layout, arch):
    """On the meta device: every tensor finds its place, there and back."""
    with torch.device('meta'):
        peer = build(arch)
        model = SwinTransformerV2(arch, window_size=8)
    state = peer.state_dict()
    report = load_backbone(model, state)
    assert report.layout == layout and report.fresh == EARLY_NORMS
    assert sorted(report.dropped) == ['head.bias', 'head.weight']
    back = from_native(to_native(state), layout)
    kept = {name: value.shape for name, value in state.items() if not name.endswith(BUFFERS)}
    assert {name: value.shape for name, value in back.items()} == kept
    arch = ARCHS[arch]
    channels = arch.embed_dims * 8
    assert model.layers[3].blocks[1].attn.qkv.weight.shape == (3 * channels, channels)
