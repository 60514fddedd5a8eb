"""tools/analysis/attention.py shows what the attention of the model really does."""

import cv2
import pytest
import torch
import torch.nn.functional as F
from conftest import awaken
from helpers import ROOT, load_tool
from small_models import small

from swinv2_mm import SwinTransformerV2

tool = load_tool('attention')


@pytest.mark.parametrize('block', [0, 1])
@pytest.mark.parametrize('at', [(0, 0), (0.5, 0.4), (0.999, 0.999)])
def test_values_weighted_by_the_shares_are_the_output_of_the_attention(block, at):
    model = awaken(SwinTransformerV2('nano', window_size=4, drop_path_rate=0.0)).eval()
    attention = model.layers[0].blocks[block].attn
    seen = {}
    attention.register_forward_hook(
        lambda module, args, output: seen.update(x=args[0], output=output))
    image = torch.randn(1, 3, 41, 57, generator=torch.Generator().manual_seed(0))  # 11 x 15 tokens
    (y, x), shares = tool.look(model, attention, image, at)
    assert shares.shape[1:] == (11, 15)
    assert (shares.sum((1, 2)) - 1).abs().max() < 1e-5
    with torch.no_grad():
        values = F.linear(seen['x'][0], attention.qkv.weight).chunk(3, dim=-1)[2]
        values = (values + attention.v_bias).unflatten(-1, (attention.num_heads, -1))
        mixed = torch.einsum('hyx,yxhd->hd', shares, values)
        out = attention.proj(mixed.flatten())
    assert (out - seen['output'][0, y, x]).abs().max() < 1e-5


def test_the_picture_and_each_head_are_drawn(tmp_path):
    config, checkpoint, _ = small(tmp_path, 'cls')
    photo = str(ROOT / 'docs/demo_det.jpg')
    tool.main([config, checkpoint, photo, '--size', '64', '96', '--stage', '1', '--at', '9', '200',
               '--out', str(tmp_path / 'a.png')])
    # The picture, the mean and two heads, each with a border of 2 pixels.
    assert cv2.imread(str(tmp_path / 'a.png')).shape == (68, 4 * 100, 3)
    with pytest.raises(tool.UserError, match='--at must be a pixel of the picture, which is'):
        tool.main([config, checkpoint, photo, '--at', '9', '99999', '--out',
                   str(tmp_path / 'b.png')])
