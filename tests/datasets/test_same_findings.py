"""tools/train.py says of a config what tools/dataset/check.py says, before a model is built."""
import re
import shutil
import sys
import warnings

import pytest
from helpers import ROOT, run_tool
from test_run_checks import ADVICE
from test_run_data import ADVICE as OF_DATA
from test_run_scored import ADVICE as OF_SCORES

from swinv2_mm.apis import check, launch, train
from swinv2_mm.datasets.checks import FEW, Finding
from swinv2_mm.utils.errors import UserError

ROWS = {kind: make for kind, make, *_ in [*ADVICE, *OF_DATA, *OF_SCORES]}
CASES = ROOT.parent / 'shared' / 'cases'  # public reports, not of this package


class Built(Exception):
    """Training went on to build the model."""


@pytest.fixture
def compare(monkeypatch, capsys):
    """A function that gives one config file to both tools; returns all that was said."""
    def build(cfg):
        raise Built

    monkeypatch.setattr(train.Runner, 'from_cfg', build)
    for name in ('keep_memory', 'read_safely'):  # of the whole process
        monkeypatch.setattr(launch, name, lambda: None)

    def compared(path):
        monkeypatch.setattr(sys, 'argv', ['train.py', str(path)])
        with pytest.raises((Built, UserError)) as ended, warnings.catch_warnings():
            train.main()
        out = capsys.readouterr().out
        errors = set(re.findall('^Also wrong: (.*)$', out, re.M))
        if ended.type is UserError:
            errors.add(str(ended.value))
        args = check.parse_args([str(path), '--splits', 'train', 'val'])
        listed = {item for item in check.gather(args) if isinstance(item, Finding)
                  and item.kind != 'not listed'}
        found = {item.sentence for item in listed if item.level == 'error'}
        assert errors == found if len(found) <= 10 else errors - found <= {
            error for error in errors if 'lists all' in error}
        kinds = [item.kind for item in listed if item.level == 'warning']
        for item in listed:
            if item.level == 'warning' and item.kind != 'no objects':
                assert (f"times '{item.kind}'" if kinds.count(item.kind) > FEW else
                        f'Warning: {item.sentence}') in out
        return listed
    return compared


@pytest.mark.parametrize('kind', ROWS)
def test_both_tools_say_the_same_of_every_kind(kind, tmp_path, compare):
    cfg = ROWS[kind](tmp_path / 'set')
    path = tmp_path / 'config.py'
    path.write_text(''.join(f'{k} = {v!r}\n' for k, v in cfg._cfg_dict.to_dict().items()))
    assert kind in {item.kind for item in compare(path)} or kind in (
        'no field', 'absent class')  # of a test split, or beside another


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason='needs the public reports in ../shared/cases')
@pytest.mark.parametrize('case', sorted(path.parent.name for path in CASES.glob('[0-9]*/make.py')))
def test_both_tools_say_the_same_of_every_public_report(case, tmp_path, compare, monkeypatch):
    for name in (case, 'common'):
        shutil.copytree(CASES / name, tmp_path / name)
    for path in tmp_path.glob('*/*.py'):
        path.write_text(path.read_text().replace('@PROJECT@', str(ROOT)))
    monkeypatch.chdir(tmp_path / case)
    run_tool('make.py', cwd=tmp_path / case)
    for path in (tmp_path / case).glob('*.py'):
        if re.search('^(_base_|default_scope) = ', path.read_text(), re.M):
            compare(path)
