"""tools/analysis/position_bias.py draws the bias that the formula gives."""

import numpy as np
import oracle
import pytest
from conftest import awaken
from helpers import load_tool
from small_models import small

from swinv2_mm import SwinTransformerV2

tool = load_tool('position-bias')


@pytest.mark.parametrize('window', [(4, 4), (3, 6), (7, 1)])
def test_each_pixel_is_the_bias_of_its_offset_by_the_formula(window):
    model = awaken(SwinTransformerV2('nano', window_size=window, pretrained_window_sizes=4)).eval()
    attention = model.layers[1].blocks[0].attn
    tables = tool.by_offset(attention, window)
    state = {f'cpb.{key}': value.double().numpy()
             for key, value in attention.cpb_mlp.state_dict().items()}
    height, width = window
    assert tables.shape == (2, 2 * height - 1, 2 * width - 1)
    for y in range(1 - height, height):
        for x in range(1 - width, width):  # key minus query; the formula has query minus key
            expected = oracle.position_bias(state, 'cpb', (-y, -x), (4, 4))
            assert np.abs(tables[:, y + height - 1, x + width - 1] - expected).max() < 1e-4


def test_a_row_a_window_is_drawn_and_positions_stay_normalised(tmp_path, capsys):
    config, checkpoint, _ = small(tmp_path, 'cls')
    tool.main([config, checkpoint, '--window', '6', '--stage', '1', '--heads', '2',
               '--out', str(tmp_path / 'b.png')])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('window')]
    assert [line.split(':')[0] for line in lines] == ['window 4 x 4', 'window 6 x 6']
    assert all('normalised by 4 x 4' in line for line in lines)
    assert (tmp_path / 'b.png').read_bytes().startswith(b'\x89PNG')


def test_a_block_that_is_not_there_is_refused(tmp_path):
    config, checkpoint, _ = small(tmp_path, 'cls')
    with pytest.raises(tool.UserError, match='--block must be from 0 to 0 in stage 1, got 1'):
        tool.main([config, checkpoint, '--stage', '1', '--block', '1', '--out',
                   str(tmp_path / 'b.png')])
