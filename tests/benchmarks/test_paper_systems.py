"""The paper's claims on memory, SimMIM and Swin V1: equals are compared, and the page is filled."""
import csv
import re

import paper
import paper_savings as savings
import paper_simmim_small as simmim_small
import paper_swin_v1 as swin_v1
import paper_training as training
import pytest
import torch
from config_checks import build
from helpers import ROOT, checked, run_tool


def quick(script, folder, *words):
    """Rows and page of a quick form."""
    folder.mkdir()
    page, out = folder / 'page.md', folder / 'rows.csv'
    page.write_text(f'<!-- claim: {script} begin -->\nold\n<!-- claim: {script} end -->\n')
    checked(run_tool(f'benchmarks/paper_{script}.py', '--quick', '--seeds', 0, '--out', out,
                     '--page', page, *words))
    assert (folder / f'paper_{script}.png').stat().st_size < 60_000
    with out.open() as file:
        return list(csv.DictReader(file)), page.read_text()


def numbers(rows, *keys):
    return [[row[key] for key in keys] for row in rows]


@pytest.mark.slow
def test_savings_are_measured_for_each_combination(tmp_path):
    rows, page = quick('savings', tmp_path / 'a')
    assert [row['rung'] for row in rows] == [*savings.RUNGS, 'ZeRO 1']
    for row in rows[:-1]:
        assert float(row['peak_mb']) > 0
        assert float(row['min_ms']) <= float(row['median_ms']) <= float(row['max_ms'])
    # Tiny has 27,578,154 weights: theirs, their gradients' and an eighth of two moments' bytes.
    assert float(rows[-1]['peak_mb']) == pytest.approx(27.578154 * 4 * (2 + 2 / 8), abs=1)
    assert 'makes the step' in page and 'old' not in page


@pytest.mark.slow
def test_simmim_gives_the_same_numbers_again(tmp_path):
    (rows, page), (again, _) = (quick('simmim_small', tmp_path / name) for name in 'ab')
    keys = 'labels', 'start', 'accuracy', 'loss', 'first_l1', 'last_l1'
    assert numbers(rows, *keys) == numbers(again, *keys)
    assert [(row['labels'], row['start']) for row in rows] == [
        ('1', 'scratch'), ('1', 'SimMIM'), ('2', 'scratch'), ('2', 'SimMIM')]
    assert rows[0]['loss'] != rows[1]['loss']  # the start differs
    assert 'After SimMIM it is better with 1 of each class in' in page


@pytest.mark.slow
def test_both_generations_run_every_recipe(tmp_path):
    rows, page = quick('swin_v1', tmp_path / 'a')
    assert {(row['task'], row['backbone']) for row in rows} == {
        (task, kind) for task in swin_v1.TASKS for kind in swin_v1.NAMES}
    assert 'Detection: V2 has the higher box AP50 with' in page and 'old' not in page


@pytest.mark.parametrize('module', [savings, simmim_small, swin_v1])
def test_what_the_page_says_is_what_its_file_says(module):
    claim = module.CLAIM
    inside = paper.PAGE.read_text().partition(f'<!-- claim: {claim.name} begin -->\n')[2]
    inside = inside.partition(f'<!-- claim: {claim.name} end -->')[0]
    files = [ROOT / name for name in re.findall(r'`(benchmarks/results/[\w.-]+csv)`', inside)]
    if not inside:
        pytest.skip(f'the full form of {claim.name} has not been run')
    assert inside.startswith(claim.text(paper.timing.read(files, claim.keys)))


def shared(tmp_path, task):
    """Configs of both backbones, whose data need not be there."""
    (tmp_path / 'shapes').mkdir()
    (tmp_path / 'shapes/val.json').write_text('{"images": [], "annotations": []}')
    return [swin_v1.configure(task, kind, 3, 10, tmp_path, tmp_path) for kind in swin_v1.NAMES]


@pytest.mark.parametrize('task', swin_v1.TASKS)
def test_the_recipes_differ_in_the_backbone_alone(tmp_path, task):
    ours, theirs = shared(tmp_path, task)
    rule = theirs.optim_wrapper.pop('paramwise_cfg').custom_keys
    assert rule == {'relative_position_bias_table': dict(decay_mult=0.0)}
    assert ours.model.backbone.type != theirs.model.backbone.type
    assert ours.model.backbone.window_size == theirs.model.backbone.window_size
    for cfg in (ours, theirs):
        cfg.model.pop('backbone')
        for key in ('work_dir', 'experiment_name', 'visualizer'):
            cfg.pop(key)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.randomness.seed == 3 and ours.train_cfg.max_iters == 10


def blocks_apart(window, ndim):
    """Weights of a V2 nano beyond those of a V1, counted from both papers."""
    count = 0
    for stage in range(4):
        heads, channels = 2 ** stage, 32 * 2 ** stage
        network = ndim * 512 + 512 + 512 * heads
        table = heads * torch.tensor([2 * side - 1 for side in window]).prod().item()
        count += 2 * (network + heads - table - channels)  # a temperature a head; keys lose a bias
        if stage < 3:
            count -= 2 * (4 * channels - 2 * channels)  # the norm stands behind the reduction
    return count


@pytest.mark.parametrize('task, window', [('det', (8, 8)), ('seg', (4, 4)), ('video', (2, 4, 4))])
def test_the_generations_are_of_equal_size_but_for_what_v2_changed(tmp_path, task, window):
    models = [build(cfg).backbone for cfg in shared(tmp_path, task)]
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in models)
    assert ours - theirs == blocks_apart(window, len(window))


def test_labelled_pictures_are_even_and_fewer_are_among_more():
    labels = torch.arange(60) % 3
    images = torch.arange(60, dtype=torch.uint8)[:, None, None, None]
    pictures = training.Pictures(images, labels, 3)
    small, large = (simmim_small.few(pictures, count, 0, 8) for count in (2, 5))
    assert small.labels.bincount().tolist() == [4, 4, 4]  # twice, to fill a batch of 8
    assert large.labels.bincount().tolist() == [5, 5, 5]
    assert set(small.images.flatten().tolist()) < set(large.images.flatten().tolist())
    assert (pictures.labels[small.images.flatten().long()] == small.labels).all()


def test_six_tenths_of_the_squares_are_hidden_whole():
    mask = simmim_small.masks(5, torch.Generator().manual_seed(0))
    squares = mask.view(5, 4, 4, 4, 4).transpose(2, 3).flatten(3)
    assert ((squares == squares[..., :1]).all()) and mask.shape == (5, 16, 16)
    assert squares[..., 0].sum((1, 2)).tolist() == [10] * 5


def test_a_step_that_is_slower_than_the_paper_allows_is_called_so():
    def text(ratio):
        rows = [dict(kind='rung', case='T', rung=rung, rounds='5', peak_mb=str(mb), median_ms='10',
                     min_ms='9', max_ms='11', ratio=str(slow), ratio_min='1', ratio_max='2')
                for rung, mb, slow in (('none', 100, 1), ('checkpointing', 25, ratio),
                                       ('sequential attention', 40, 0.9), ('both', 10, 1.2))]
        return savings.text(rows)

    assert '31 % slower (median of 5 rounds), more than the 30 %' in text(1.31)
    assert '29 % slower (median of 5 rounds), within the 30 %' in text(1.29)
    assert 'takes 10 % less time and leaves 40 %; both together leave 10 % at 1.20' in text(1.29)


def test_a_claim_that_is_not_supported_is_called_so():
    def text(scratch, simmim):
        both = dict(scratch=scratch, SimMIM=simmim)
        return simmim_small.text([
            dict(seed=str(seed), labels='5', start=start, accuracy=str(values[seed]), classes='3',
                 tested='9', unlabelled='9', pretraining='1', pretraining_batch='1', first_l1='1',
                 last_l1='0.5', steps='1')
            for start, values in both.items() for seed in range(2)])

    assert 'in 0 of 2 seeds (-5.0 points in the mean)' in text((50, 60), (45, 55))
    assert 'should help most, it does not: the claim is not supported' in text((50, 60), (45, 55))
    assert 'not supported' not in text((45, 55), (50, 60))


def test_a_model_that_has_learnt_nothing_is_called_so():
    def text(values):
        return swin_v1.text([
            dict(task='video', backbone=kind, seed=str(seed), iterations='1', metric='top-1',
                 value=str(value), backbone_parameters='2', step_median_ms='3',
                 backbone_median_ms='2', backbone_saved_mib='1')
            for kind, some in values.items() for seed, value in enumerate(some)])

    found = text(dict(v2=(0.5, 0.6), v1=(0.16, 0.17)))
    assert 'higher top-1 with 2 of 2 seeds (+0.385 in the mean, +0.340 to +0.430)' in found
    assert 'without learning is 0.167: after so few steps Swin V1 is still there' in found
    assert 'without learning' not in text(dict(v2=(0.2, 0.2), v1=(0.5, 0.6)))
