"""docs/checkpoints.md: its tables hold, its settings load, its commands run."""
import ast
import math
import re
import shlex

import pytest
import torch
from conftest import awaken
from helpers import ROOT, checked, run_tool, weights
from mmengine.registry import MODELS

from swinv2_mm import ARCHS, SwinTransformerV2
from swinv2_mm.checkpoints import from_native, load_backbone, windows_of_name

TEXT = (ROOT / 'docs' / 'checkpoints.md').read_text()
FENCED = re.compile(r'^```(\w+)\n(.*?)^```', re.DOTALL | re.MULTILINE)


def table(start):
    """Cells of the table whose first heading is `start`, less the two lines of its head."""
    lines = TEXT[TEXT.index(f'| {start} |'):].partition('\n\n')[0].splitlines()
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]]


def block(text):
    """The one code block that holds a text."""
    found = [body for _, body in FENCED.findall(TEXT) if text in body]
    assert len(found) == 1
    return found[0]


def square(sizes, stages=4):
    sizes = sizes if isinstance(sizes, list) else [sizes] * stages
    return [(size, size) for size in sizes]


OFFICIAL = {name.strip('`'): row for name, *row in table('name')}


@pytest.fixture(scope='module')
def native():
    return weights(awaken(SwinTransformerV2('nano', out_indices=(3,))))


def released(native, name):
    """A nano file with the position tables that a released file of this name has."""
    _, _, windows, pretrained, _ = OFFICIAL[name]
    windows, pretrained = ast.literal_eval(f'[{windows}]'), ast.literal_eval(pretrained[1:-1])
    return from_native(native, 'official', list(zip(square(windows), square(pretrained))))


@pytest.mark.parametrize('name', OFFICIAL)
def test_a_row_of_the_table_tells_what_its_name_does_and_loads_at_16_24_and_32(name, native):
    arch, side, windows, pretrained, _ = OFFICIAL[name]
    windows, pretrained = ast.literal_eval(f'[{windows}]'), ast.literal_eval(pretrained[1:-1])
    assert f'_{arch}_' in name and arch in ARCHS
    assert windows == [min(windows[0], int(side) // 4 >> i) for i in range(4)]
    assert windows_of_name(f'{name}.pth') == list(zip(square(windows), square(pretrained)))
    state = released(native, name)
    for window in (16, 24, 32):
        load_backbone(SwinTransformerV2('nano', window_size=window,
                                        pretrained_window_sizes=pretrained), state)
        chosen = SwinTransformerV2('nano', window_size=window,
                                   pretrained_window_sizes='from_checkpoint')
        load_backbone(chosen, state)
        assert chosen.pretrained_window_sizes == square(pretrained)


def test_the_config_loads(native, tmp_path):
    found = {}
    exec(block('init_cfg=dict('), found)
    backbone = found['backbone']
    url = backbone['init_cfg']['checkpoint']
    name = url.rpartition('/')[2]
    assert url.startswith('https://github.com/SwinTransformer/storage/releases/download/v2.0.0/')
    torch.save({'model': released(native, name.removesuffix('.pth'))}, tmp_path / name)
    backbone['init_cfg']['checkpoint'] = str(tmp_path / name)
    model = MODELS.build(backbone | dict(arch='nano'))
    model.init_weights()
    assert torch.equal(model.norm3.weight, native['norm3.weight'])
    assert model.pretrained_window_sizes == square([12, 12, 12, 6])


def test_the_worked_settings_load_their_files(native):
    code = block('tiny_16 =')
    settings = {}
    exec(code, settings)
    named = re.findall(r'`(swinv2_\w+)`', TEXT[TEXT.index(code):].partition('\n\nA window')[0])
    chosen = {name: value for name, value in settings.items() if isinstance(value, dict)
              and 'arch' in value}
    assert len(chosen) == len(named)
    for (label, setting), name in zip(chosen.items(), named):
        assert f'_{setting["arch"]}_' in name and setting['arch'] in label
        largest = max(setting['window_size']) if isinstance(setting['window_size'], list) else \
            setting['window_size']
        assert label.endswith(f'_{largest}')
        load_backbone(SwinTransformerV2(**setting | dict(arch='nano')), released(native, name))
    assert {label.rpartition('_')[2] for label in chosen} == {'16', '24', '32'}


def test_the_largest_inputs_of_the_position_network_are_those_of_the_table():
    windows = [8, 12, 16, 24, 32]
    for row in table('positions counted by'):
        normaliser, *values = map(float, row)
        assert values == [round(math.log2(1 + 8 * (w - 1) / (normaliser - 1)) / 3, 3)
                          for w in windows]


def test_names_of_other_libraries_tell_their_windows():
    for name in re.findall(r'`([^`]*(?:swinv2[-_]|swin_v2_)[^`]*)`', '\n'.join(
            ' '.join(row) for row in table('source'))):
        windows = windows_of_name(name.removesuffix('/resolve/main/model.safetensors'))
        assert windows and windows_of_name(name), name


def test_messages_are_those_of_the_code():
    files = *(ROOT / 'swinv2_mm/checkpoints').glob('*.py'), ROOT / 'swinv2_mm/models/record.py'
    code = '\n'.join(file.read_text() for file in files)
    code = re.sub(r"""['"]\s*\n\s*f?['"]""", '', code)  # one text over several lines
    missing = [message for message, _ in table('message')
               if message.strip('`').removeprefix('is ') not in code]
    assert missing == []


def test_the_program_runs():
    done = checked(run_tool('-c', block('detect_layout(state)')))
    assert done.stdout.startswith('timm\n') and 'inflated to videos' in done.stdout


def test_the_commands_run(native, tmp_path):
    torch.save({'model': released(native, 'swinv2_tiny_patch4_window8_256')},
               tmp_path / 'swinv2_tiny_patch4_window8_256.pth')
    commands = [shlex.split(line) for line in block('convert.py').splitlines()]
    for python, script, *words in commands:
        assert python == 'python'
        done = checked(run_tool(script, *(tmp_path / word if '.' in word else word
                                          for word in words)))
        assert ('verified: features of the timm model' in done.stdout) == ('--verify' in words)
    written = {re.sub('-[0-9a-f]{8}', '-HASH', file.name) for file in tmp_path.iterdir()}
    assert written == {'swinv2_tiny_patch4_window8_256.pth', 'tiny_timm.safetensors',
                       'my_model-HASH.safetensors'}
