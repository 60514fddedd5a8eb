"""tools/analysis/list.py: configs and public checkpoints as tables."""
import json
from importlib import import_module

import pytest
from config_checks import LEAVES

listing = import_module('swinv2_mm.analysis.list')


def told(capsys, *arguments):
    listing.main([*arguments])
    return capsys.readouterr().out


def test_every_config_is_a_line_with_its_published_result(capsys):
    rows = json.loads(told(capsys, '--json'))
    assert [row['config'] for row in rows] == LEAVES
    row = next(row for row in rows if row['config'] == 'configs/det/swinv2_l_htcpp.py')
    assert row['published'] == 'box AP 58.8, mask AP 51.1 (paper, table 3)'
    assert row['trained here'] == 'no' and row['data'] == 'COCO'
    lines = told(capsys).splitlines()
    assert lines[0].split()[0] == 'config' and len(lines) == len(LEAVES) + 1


def test_every_public_file_is_a_line_of_a_markdown_table(capsys):
    lines = told(capsys, 'checkpoints', '--md').splitlines()
    assert set(lines[1]) <= set('| -') and len(lines) == 2 + 12
    assert len({line.count('|') for line in lines}) == 1
    assert any('swinv2_tiny_patch4_window8_256 | tiny | ImageNet-1K | 256 x 256 | 81.8 | 95.9'
               in line for line in lines)


def test_rows_can_be_chosen_by_a_text_in_them(capsys):
    rows = json.loads(told(capsys, 'checkpoints', '--match', 'LARGE', '--json'))
    assert rows and {row['arch'] for row in rows} == {'large'}
    with pytest.raises(SystemExit) as end:
        listing.main(['--match', 'no such thing'])
    assert end.value.code.startswith("Error: No row has 'no such thing'")


def test_a_place_without_configs_ends_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match='Configs must lie beside model-index.yml'):
        listing.models(tmp_path)
