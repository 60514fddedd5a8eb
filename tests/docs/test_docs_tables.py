"""Each row of the paper's tables has a command, and the command does what the row says."""
import re
import shlex

import pytest
from docs_blocks import page
from mmengine.registry import MODELS

from swinv2_mm.apis import launch

ROW = re.compile(r'^\| (?!row)([^|]+) \| ([^|]+) \| `([^`]+)` \|$', re.MULTILINE)
ROWS = [(int(part[:1]), *row) for part in page('tables').split('## Table ')[1:]
        for row in ROW.findall(part)]
# What the paper prints of SwinV2, table by table; a pair is box and mask.
PRINTED = {
    1: '81.8 82.4 83.2 81.7 83.8 80.4 84.0 79.1 84.2 51.1 51.8 47.0 47.7 47.8',
    2: '87.1 78.08 87.7 78.31 90.17 84.00',
    3: '58.8/51.1 58.9/51.2 60.2/52.1 60.8/52.7 61.7/53.3 61.9/53.4 62.5/53.7 63.1/54.4',
    4: '55.9 59.1 59.3 59.9', 5: '83.2 83.4 86.8', 6: '81.7 83.6 84.1', 7: '83.6 84.1',
    8: '83.7 84.1 84.8 82.9 85.4 84.2 84.5 85.1 83.8 85.6'}


@pytest.mark.parametrize('table', PRINTED)
def test_every_figure_of_swinv2_has_its_row(table):
    shown = [published.replace(' ', '') for number, _, published, _ in ROWS if number == table]
    assert [value for value in shown if value != '-'] == PRINTED[table].split()


def resolved(command):
    """The config as the command leaves it, and whether it is tested on several scales."""
    tool, config, *words = shlex.split(command)
    assert tool in ('tools/dist_train.sh', 'tools/dist_test.sh')
    assert words[0] == ('8' if 'train' in tool else 'CHECKPOINT')
    options = words[words.index('--cfg-options'):] if '--cfg-options' in words else []
    args = launch.parser('').parse_args([config, *options])
    return launch.load_config(args), '--tta' in words


@pytest.mark.parametrize('number, row, command', [
    pytest.param(number, row, command, id=f'{number}: {row}') for number, row, _, command in ROWS])
def test_the_command_gives_size_and_window_of_the_row(number, row, command):
    cfg, several = resolved(command)
    # Windows do not depend on the size, which is compared by its name.
    backbone = MODELS.build(cfg.model.backbone | dict(arch='nano', init_cfg=None))
    if size := re.search(r'Swin(?:V2)?-([TSBLG])\b', row):
        assert cfg.model.backbone.arch[0] == size[1].lower()
    if window := re.search(r'\bW(\d+)|\(w?(\d+)\)', row):
        side = int(window[1] or window[2])
        assert all(sides[-2:] == (side, side) for sides in backbone.window_sizes)
        if side != 8 and number in (1, 8):  # positions stay those of the pre-training
            assert backbone.pretrained_window_sizes == [(8, 8)] * 4
    if side := re.search(r', (?:I)?(\d{3,4})(?!\d)', row):
        side = int(side[1])
        pipeline = cfg.test_dataloader.dataset.pipeline
        if several:
            pipeline = cfg.tta_pipeline[1].transforms[0]
        scales = [step.get('scale', step.get('crop_size')) for step in pipeline]
        assert any(side in (scale if isinstance(scale, (list, tuple)) else [scale])
                   for scale in scales), scales
        if 'train' in command and number in (1, 8):
            assert cfg.train_dataloader.dataset.pipeline[1].scale == side
    assert several == (', ms' in row)
    if several:
        steps = cfg.tta_pipeline[1].transforms[0]
        plain = cfg.test_dataloader.dataset.pipeline[1].scale
        wanted = (3584, 896) if '896' in row else plain
        assert wanted in [step.scale for step in steps]
    if views := re.search(r'(\d) x (\d) views', row):
        steps = cfg.test_dataloader.dataset.pipeline
        assert (steps[0].sample.num_clips, steps[2].count) == (int(views[1]), int(views[2]))
