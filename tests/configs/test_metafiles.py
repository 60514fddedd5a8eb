"""model-index.yml and the metafiles say of the configs what the configs say themselves."""
import re

import pytest
import yaml
from config_checks import LEAVES, ZOO, build, docstring, load
from helpers import ROOT
from mmengine.registry import DefaultScope

from swinv2_mm.analysis import flops

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
FILES = {name: yaml.safe_load((ROOT / name).read_text()) for name in INDEX}
ROWS = {row['Config']: row for content in FILES.values() for row in content['Models']}
PUBLIC = {config: row for config, row in ROWS.items() if row.get('Weights')}


def test_every_config_has_one_row_in_the_metafile_of_its_folder():
    listed = [(row['Config'], name) for name, content in FILES.items() for row in content['Models']]
    assert sorted(config for config, _ in listed) == LEAVES
    assert all(config.rpartition('/')[0] == name.rpartition('/')[0] for config, name in listed)
    names = [row['Name'] for row in ROWS.values()]
    assert len(set(names)) == len(names)


def test_every_config_has_a_file_name_of_its_own():  # of work_dirs/NAME, and what mim calls it by
    stems = [config.rpartition('/')[2] for config in LEAVES]
    assert sorted(set(stems)) == sorted(stems)


def test_every_row_belongs_to_a_collection_and_names_a_page():
    collections = {entry['Name'] for content in FILES.values()
                   for entry in content.get('Collections', [])}
    for row in ROWS.values():
        assert row['In Collection'] in collections
        assert (ROOT / row['README']).is_file()


@pytest.mark.parametrize('name', LEAVES)
def test_a_row_states_model_size_and_window_of_its_config(name):
    cfg, about = load(name), ROWS[name]['Metadata']
    backbone = cfg.model.backbone
    assert about['Architecture'] == [cfg.model.type, f'SwinV2 {backbone.arch}']
    assert about['Window Size'] == str(backbone.window_size)
    model = build(cfg, 'meta')
    assert about['Parameters'] == sum(p.numel() for p in model.parameters())


def test_work_is_what_the_counter_says():
    for name in ('configs/cls/swinv2_t_w16_256.py', 'configs/cls/swinv2_l_w24_384_ft.py',
                 'configs/det/swinv2_t_cascade.py', 'configs/video/swinv2_t_k400.py',
                 'configs/mim/swinv2_b_simmim.py', 'configs/seg/swinv2_t_upernet.py'):
        cfg, about = load(name), ROWS[name]['Metadata']
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            result = flops.count(cfg)
        assert ' x '.join(map(str, result['size'])) == about['Input Size'], name
        assert about['FLOPs'] == pytest.approx(result['multiply_adds'], rel=1e-3), name


@pytest.mark.parametrize('name', LEAVES)
def test_results_are_those_of_the_reference_in_the_config(name):
    """And where nothing is published, or nothing of V2, there are none."""
    row, text = ROWS[name], ' '.join(docstring(name).split())
    reference = re.search(r'Reference: (.*?)(?= Not trained here| Trained here| make |$)', text)[1]
    values = {value for result in row.get('Results', []) for value in result['Metrics'].values()}
    published = [float(number) for number in re.findall(r'\d+\.\d+', reference)]
    assert bool(values) == (not reference.startswith('none'))
    assert values <= set(published)
    for result in row.get('Results', []):
        source = {'official zoo': 'official zoo', 'paper': 'paper'}[result['Source'].split(',')[0]]
        assert source in reference or name == 'configs/video/swinv2_g_k400.py'


@pytest.mark.parametrize('name', LEAVES)
def test_a_row_says_whether_it_was_trained_here(name):
    trained = 'Not trained here.' not in docstring(name)
    assert ROWS[name]['Metadata']['Trained Here'] is trained


def test_weights_are_the_official_files_in_the_table_of_checkpoints():
    table = (ROOT / 'docs' / 'checkpoints.md').read_text()
    rows = re.findall(r'^\| `(swinv2_\w+)` \| (\w+) \| (\d+) \|.*\| (\S+) \|$', table, re.MULTILINE)
    listed = {}
    for config, row in PUBLIC.items():
        assert row['Weights'].startswith(ZOO) and row['Weights'].endswith('.pth')
        assert row['Metadata']['Weights Layout'] == 'official'
        stem = row['Weights'].removeprefix(ZOO).removesuffix('.pth')
        about = row['Metadata']
        top = row['Results'][0]['Metrics']['Top 1 Accuracy'] if 'Results' in row else '-'
        listed[stem] = (about['Architecture'][1].removeprefix('SwinV2 '),
                        about['Input Size'].split(' x ')[0], str(top))
        # The name of a file says which windows it was trained with.
        window = load(config).model.backbone.window_size
        assert re.search(r'window(?:\d+to)?(\d+)_', stem)[1] == str(window)
    assert listed == {row[0]: tuple(row[1:]) for row in rows}
    assert len(listed) == 12
