"""The pages that explain: what they say of the code is so, and their code does what it says."""
import ast
import re

import pytest
import torch
from conftest import awaken
from docs_blocks import block, commands, page, tables
from helpers import ROOT, checked, run_tool
from mmengine.config import Config
from mmengine.registry import DefaultScope

from swinv2_mm import SwinTransformerV2
from swinv2_mm.analysis import flops
from swinv2_mm.models.attention import log_spaced_offsets

PAGES = ('start', 'configs', 'windows', 'migrating', 'faq', 'model')
PACKAGE = sorted((ROOT / 'swinv2_mm').rglob('*.py')) + sorted((ROOT / 'tools').rglob('*.py'))


def printed(text, capsys):
    exec(text, {})
    return capsys.readouterr().out


@pytest.mark.parametrize(('label', 'expected'), [
    ('identity', 'True\n'), ('cosine', 'True\n'), ('offsets', '8 1.057\n16 1.394\n32 1.729\n')])
def test_the_programs_of_the_model_print_what_the_page_says(label, expected, capsys):
    text = block('model', label)
    assert printed(text, capsys) == expected
    if label == 'offsets':
        assert 'prints 1.057, 1.394 and 1.729' in page('model')
        assert round(1.729 / 1.057, 1) == 1.6  # as it goes on


def test_what_the_model_page_names_is_in_the_code():
    code = '\n'.join(path.read_text() for path in (ROOT / 'swinv2_mm' / 'models').glob('*.py'))
    for _, _, _, where in tables('model', 'paper')[0]:
        for name in re.findall(r'`([\w.]+)`', where):
            assert re.search(rf'(def|class) {name.split(".")[0]}\b', code), name
            assert name.split('.')[-1] in code, name


def test_positions_leave_their_old_range_by_what_the_page_of_windows_says():
    """From window 8 to 16, in the paper's formula: linear offsets, and their logarithms."""
    assert 'by 1.14 times that range' in page('windows')
    assert 'by 0.33 times' in page('windows')
    assert (15 - 7) / 7 == pytest.approx(1.14, abs=0.005)
    old, new = (torch.log1p(torch.tensor(float(side - 1))) for side in (8, 16))
    assert (new - old) / old == pytest.approx(0.33, abs=0.005)
    grown = log_spaced_offsets((16, 1), (8, 1)).max() / log_spaced_offsets((8, 1), (8, 1)).max()
    assert grown < 1.33  # the official form, which also divides, stays below


def test_multiply_adds_at_each_window_are_those_of_the_table():
    cfg = Config.fromfile(ROOT / 'configs/cls/swinv2_t_w8_256.py')
    for window, shown in tables('windows', 'window')[0]:
        cfg.model.backbone.window_size = int(window)
        cfg.model.backbone.pretrained_window_sizes = 8
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            total = flops.count(cfg, (1024, 1024))['multiply_adds']
        assert f'{total / 1e9:.1f} G' == shown


def test_the_window_can_be_changed_as_the_page_says(capsys):
    text = re.search(r'```python\n(.*?)```', page('windows'), re.DOTALL)[1]
    lines = [line for line in printed(text, capsys).splitlines() if 'INFO' not in line]
    assert len(lines) == 4
    assert all(line.endswith('[(26, 42), (13, 21), (7, 11), (4, 6)]') for line in lines)


def test_the_picture_of_the_bias_is_drawn_by_its_command(tmp_path):
    model = awaken(SwinTransformerV2('nano', window_size=8, out_indices=(3,)))
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    cfg = Config.fromfile(ROOT / 'configs/demo/cls_nano.py')
    state |= {'head.fc.weight': torch.zeros(6, 256), 'head.fc.bias': torch.zeros(6)}
    assert cfg.model.head.num_classes == 6
    torch.save(dict(state_dict=state), tmp_path / 'iter_1200.pth')
    words = next(line for line in commands(page('windows')) if 'position_bias' in line[1])
    done = checked(run_tool(*(tmp_path / word.rpartition('/')[2] if word.endswith(('.pth', '.png'))
                              else word for word in words[1:])))
    assert 'window 16 x 16' in done.stdout and 'normalised by 8 x 8' in done.stdout
    assert (tmp_path / 'position_bias.png').stat().st_size > 5000


@pytest.mark.parametrize('name', PAGES)
def test_messages_that_pages_explain_are_those_of_the_code(name):
    code = '\n'.join(path.read_text() for path in PACKAGE)
    code = re.sub(r"""['"]\s*\n\s*f?['"]""", '', code)  # one text over several lines
    text = page(name)
    if '| message begins with |' not in text:
        return
    for rows in tables(name, 'message begins with'):
        for message in re.findall(r'`([^`]+)`', ' '.join(row[0] for row in rows)):
            pattern = re.escape(message).replace('window_size', r'(\{name\}|window_size)')
            assert re.search(pattern, code), message


def value_at(settings, path):
    for key in path.split('.'):
        settings = settings[int(key)] if isinstance(settings, (list, tuple)) else settings[key]
    return settings


# Names that a config has only once they are given.
NEW = ('model.backbone.with_cp', 'model.backbone.pretrained_window_sizes', 'optim_wrapper.dtype')


@pytest.mark.parametrize('name', PAGES)
def test_options_of_commands_are_settings_that_the_config_has(name):
    """mmengine takes any name; one that means nothing would have no effect."""
    for words in commands(page(name)):
        options = [word for word in words if re.fullmatch(r'[\w.]+\.\w+=.*', word)]
        if options:
            cfg = Config.fromfile(next(ROOT / word for word in words if word.endswith('.py')
                                       and word.startswith('configs/')))
            for option in options:
                key = option.partition('=')[0]
                if key not in NEW:
                    value_at(cfg, key)


def test_the_settings_of_the_table_exist():
    cfg = Config.fromfile(ROOT / 'configs/det/swinv2_t_cascade.py')
    for cell, meaning, _ in tables('configs', 'setting')[0]:
        for name in re.findall(r'`([\w.]+)`', cell):
            if name.startswith('model.backbone.') and name.rpartition('.')[2] != 'type':
                assert f'{name.rpartition(".")[2]}:' in SwinTransformerV2.__doc__
            elif name != 'custom_hooks':
                value = value_at(cfg, name)
                quoted = re.findall(r"'(swinv2_mm\.\w+)'", meaning)
                assert not quoted or value in quoted or value.get('type') in quoted, name


def test_the_parts_of_the_example_are_those_that_it_inherits():
    shown = re.search(r'```text\n(configs/.*?\.py)\n(.*?)```', page('configs'), re.DOTALL)
    bases = ast.literal_eval(re.search(r'_base_ = (\[.*?\])', (ROOT / shown[1]).read_text(),
                                       re.DOTALL)[1])
    assert [line.split()[0] for line in shown[2].splitlines()] == [
        base.removeprefix('../') for base in bases]


def test_the_schedules_are_those_of_the_table():
    for file, batch, rate, length in tables('configs', 'schedule')[0]:
        cfg = Config.fromfile(ROOT / 'configs/_base_/schedules' / file.strip('`'))
        assert cfg.auto_scale_lr.base_batch_size == int(batch)
        assert cfg.optim_wrapper.optimizer.lr == float(rate)
        number, unit = length.replace(',', '').split()
        key = {'epochs': 'max_epochs', 'iterations': 'max_iters'}[unit]
        assert cfg.train_cfg[key] == int(number)


def test_the_config_of_your_own_changes_what_it_says_and_nothing_else(tmp_path):
    text = block('configs', 'mine').replace("'configs/", f"'{ROOT}/configs/")
    (tmp_path / 'mine.py').write_text(text)
    mine = Config.fromfile(tmp_path / 'mine.py')
    base = Config.fromfile(ROOT / 'configs/det/swinv2_t_cascade.py')
    assert mine.param_scheduler[1].end == 12 and mine.param_scheduler[1].milestones == [8, 11]
    for key, value in (('model.backbone.window_size', 8), ('model.backbone.drop_path_rate', 0.1),
                       ('optim_wrapper.optimizer.lr', 5e-5), ('train_cfg.max_epochs', 12)):
        assert value_at(mine, key) == value != value_at(base, key)
        *path, last = key.split('.')
        value_at(base, '.'.join(path))[last] = value
    base.param_scheduler[1].update(end=12, milestones=[8, 11])
    assert mine.to_dict() == base.to_dict()


def test_three_lines_are_the_same_on_the_first_page_as_in_the_readme():
    readme = (ROOT / 'README.md').read_text()
    assert block('start', 'swap') in readme


def test_the_compiled_backbone_of_the_questions_can_be_made():
    program = {}
    exec(block('faq', 'compile'), program)
    assert isinstance(program['backbone'], torch.nn.Module)
