"""The chain of starts: a later stage really begins with the weights of the one before."""
import csv
import sys

import chain
import pytest
import torch
from helpers import checked, run_tool

ROW = dict(seed=0, task='cls', start='scratch', iterations=9, metric='top-1', value=0.5)


def test_the_table_gives_means_and_deviations():
    rows = [ROW, ROW | dict(seed=1, value=0.7), ROW | dict(start='SimMIM', value=0.9)]
    assert chain.table(rows).splitlines()[2:] == [
        '| cls | top-1 | 9 | 0.600 ± 0.141 | 0.900 |']


@pytest.mark.slow
def test_each_stage_starts_from_the_one_before_and_is_not_run_twice(tmp_path, monkeypatch, capsys):
    def command(*words, log):
        log.write_text(checked(run_tool(*words)).stdout)

    checked(run_tool('tools/dataset/make_crops.py', '--out', tmp_path / 'data/shapes_crops',
                     '--train', 12, '--val', 6))
    words = ['chain.py', '--tasks', 'mim', 'cls', '--seeds', 0, '--iterations', 2,
             '--data', tmp_path / 'data', '--work-dir', tmp_path / 'runs',
             '--out', tmp_path / 'out.csv']
    monkeypatch.setattr(sys, 'argv', [str(word) for word in words])
    monkeypatch.setattr(chain, 'command', command)  # in less time than a process from nothing
    chain.main()
    rows = list(csv.DictReader((tmp_path / 'out.csv').open()))
    assert [(row['task'], row['start']) for row in rows] == [
        ('mim', 'scratch'), ('cls', 'scratch'), ('cls', 'SimMIM')]
    states = {name: torch.load(tmp_path / f'runs/seed0/{name}/iter_2.pth',
                               weights_only=False)['state_dict']
              for name in ('mim_scratch', 'cls_scratch', 'cls_SimMIM')}
    key = 'backbone.layers.1.blocks.0.mlp.fc1.weight'
    # Two steps at no more than 2e-3 move nothing by more.
    moved = {name: (states[name][key] - states['mim_scratch'][key]).abs().max()
             for name in ('cls_SimMIM', 'cls_scratch')}
    assert moved['cls_SimMIM'] < 5e-3 < moved['cls_scratch']
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob('runs/*/*/*.pth')}
    capsys.readouterr()
    chain.main()
    assert capsys.readouterr().out.count('seed 0') == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob('runs/*/*/*.pth')} == stamps
