"""swinv2_mm.utils.versions: one place knows what differs between versions of torch."""
import ast
import subprocess
import sys

import pytest
import torch
from helpers import ROOT

from swinv2_mm.utils import versions
from swinv2_mm.utils.errors import UserError

# What came to torch after 2.0, or is not to be had in all versions.
NEWER = {'torch.compiler.is_compiling', 'torch.get_autocast_dtype', 'torch.is_autocast_enabled',
         'torch.serialization.safe_globals', 'torch.__version__.split', 'torch.load',
         'torch.cpu._is_amx_tile_supported', 'F.scaled_dot_product_attention'}


def test_nothing_else_asks_for_what_came_after_torch_2_0():
    found = set()
    for file in (ROOT / 'swinv2_mm').rglob('*.py'):
        if file.name != 'versions.py':
            tree = ast.parse(file.read_text())
            found |= {(file.name, name) for node in ast.walk(tree)
                      if isinstance(node, ast.Attribute) and (name := ast.unparse(node)) in NEWER}
    assert found == set()


def test_what_this_torch_cannot_do_is_refused_with_the_version_that_can(monkeypatch):
    for what in versions.SINCE:
        monkeypatch.setattr(versions, 'TORCH', versions.SINCE[what])
        versions.require(what, 'unused')
        monkeypatch.setattr(versions, 'TORCH', (2, 0))
        major, minor = versions.SINCE[what]
        with pytest.raises(UserError, match=rf'needs torch {major}\.{minor} or newer, .*: do this'):
            versions.require(what, 'do this')


def test_the_page_of_environments_says_what_needs_which_torch():
    page = (ROOT / 'docs' / 'environments.md').read_text()
    rows = {row[1].strip(): row[2].strip() for line in page.splitlines()
            if len(row := line.split('|')) == 4}
    said = {what: since for cell, since in rows.items() for what in cell.split(', ')}
    assert {what: '.'.join(map(str, since)) for what, since in versions.SINCE.items()}.items() \
        <= said.items()


@pytest.mark.parametrize('kind', ['cpu', 'cuda'])
def test_autocast_is_known_with_its_dtype(kind):
    assert versions.autocast_dtype(kind) is None
    if kind == 'cpu':
        with torch.autocast(kind, torch.bfloat16):
            assert versions.autocast_dtype(kind) == torch.bfloat16
            assert versions.autocast_dtype('cuda') is None


def test_attention_without_a_scale_is_attention_with_that_of_1(monkeypatch):
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64)
    logits = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    expected = (q @ k.transpose(2, 3) + logits).softmax(-1) @ v
    for torch_version in (versions.TORCH, (2, 0)):
        monkeypatch.setattr(versions, 'TORCH', torch_version)
        torch.testing.assert_close(versions.attend(q, k, v, logits), expected)


def test_older_ways_of_reading_take_the_same_names_and_no_others(tmp_path, monkeypatch):
    from swinv2_mm.checkpoints.torch_files import STAND_INS
    path = tmp_path / 'a.pth'
    torch.save({'x': torch.ones(3), 'half': torch.ones(2).bfloat16()}, path)
    torch.save({'x': pytest.param}, tmp_path / 'code.pth')
    monkeypatch.setattr(versions, 'TORCH', min(versions.TORCH, (2, 1)))
    assert versions.load(path, STAND_INS)['half'].dtype == torch.bfloat16
    with pytest.raises(Exception, match='asks for _pytest'):
        versions.load(tmp_path / 'code.pth', STAND_INS)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'program.pth'))
    with pytest.raises(Exception, match='TorchScript'):
        versions.load(tmp_path / 'program.pth', STAND_INS)


@pytest.mark.parametrize('fault, said', [
    ("AttributeError('module torch.cpu has no _is_amx')", 'no _is_amx'),
    ("ModuleNotFoundError('No module named mmengine', name='mmengine')", 'pip install mmengine')])
def test_an_import_that_fails_shows_its_true_cause(fault, said):
    code = f"""
import importlib.abc, sys
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == 'swinv2_mm.models':
            raise {fault}
sys.meta_path.insert(0, Broken())
from swinv2_mm import SwinTransformerV2
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert said in last and 'cannot import name' not in last
