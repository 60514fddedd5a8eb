"""Conversion to and from transformers' layout, verified with its own model."""
import torch
from conftest import awaken
from helpers import checked, run_tool, weights

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import from_native, read_checkpoint, to_native

CONVERT = 'tools/model_converters/convert.py'
WINDOWS = [((16, 16), (12, 12))] * 3 + [((8, 8), (6, 6))]


def test_a_conversion_there_and_back_is_verified_with_both_libraries(tmp_path):
    model = awaken(SwinTransformerV2('nano', out_indices=(3,)))
    native = weights(model) | {'head.weight': torch.randn(10, 256) / 16,
                                   'head.bias': torch.randn(10)}
    torch.save({'model': from_native(native, 'official', WINDOWS)}, tmp_path / 'in.pth')
    out, back = tmp_path / 'out.safetensors', tmp_path / 'back.pth'
    done = checked(run_tool(CONVERT, tmp_path / 'in.pth', out, '--to', 'transformers', '--verify'))
    assert '8  joined or split  layers.0.blocks.0.attn.qkv.weight' in done.stdout
    assert 'verified: features of the transformers model at 256 x 256' in done.stdout
    done = checked(run_tool(CONVERT, out, back, '--to', 'timm', '--verify'))
    for library in ('transformers', 'timm'):
        assert f'verified: features of the {library} model at 256 x 256' in done.stdout
    found = to_native(read_checkpoint(back))
    assert found.keys() == native.keys()
    assert all(torch.equal(found[name], value) for name, value in native.items())
