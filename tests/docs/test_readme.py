"""README and docs: the code in them runs, and what their commands name is there."""
import ast
import functools
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from conftest import awaken
from helpers import (
    ROOT,
    checked,
    make_shapes,
    predict,
    run_tool,
    sample,
    shrink,
    train_step,
)
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('**/*.md'))]
FENCED = re.compile(r'(?:<!-- test: (?P<name>[\w-]+) -->\s*)?^```(?P<kind>\w*)\n(?P<text>.*?)^```',
                    re.DOTALL | re.MULTILINE)


def blocks(kind, text=None):
    """Name (or None) and text of each fenced block of a kind, in one text or in all pages."""
    pages = [text] if text is not None else [page.read_text() for page in PAGES]
    return [(match['name'], match['text']) for page in pages for match in FENCED.finditer(page)
            if match['kind'] == kind]


def block(name):
    """The block that follows the comment `<!-- test: NAME -->` of the README."""
    found = [text for other, text in blocks('python', (ROOT / 'README.md').read_text())
             if other == name]
    assert len(found) == 1, f'README must hold one python block named {name}, has {len(found)}'
    return found[0]


def code_lines(text):
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith('#')]


def commands():
    """The command lines of all shell blocks, as lists of words."""
    text = '\n'.join(text for kind in ('bash', 'sh', 'console') for _, text in blocks(kind))
    lines = text.replace('\\\n', ' ').splitlines()
    words = [shlex.split(line.removeprefix('$ '), comments=True) for line in lines]
    return [line for line in words if line]


def test_blocks_are_found_by_their_name():
    text = ('<!-- test: one -->\n```python\na = 1\n```\n\n```bash\nmake\n```\n\n'
            '```python\nb = 2\n```\n<!-- test: two -->\n\n```python\nc = 3\n```\n')
    assert blocks('python', text) == [('one', 'a = 1\n'), (None, 'b = 2\n'), ('two', 'c = 3\n')]
    assert blocks('bash', text) == [(None, 'make\n')]


def test_three_settings_turn_a_config_that_mmdet_ships_into_a_swinv2_one(tmp_path):
    text = block('swap')
    changed = [line for line in code_lines(text) if not line.startswith('_base_')]
    assert len(changed) <= 6  # three settings: backbone, neck, optimizer
    assert "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'" in text
    (tmp_path / 'swapped.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'swapped.py')
    assert cfg.model.backbone.get('init_cfg') is None  # that of the ResNet is gone as well
    assert 'custom_imports' not in cfg
    shrink(cfg.model)
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    assert type(model.backbone).__name__ == 'SwinTransformerV2'
    assert model.backbone.arch.depths == (2, 2, 6, 2)
    awaken(model.backbone)
    losses = train_step(model, sample())
    assert all(torch.as_tensor(value).isfinite().all() for values in losses.values()
               for value in (values if isinstance(values, list) else [values]))
    assert all(p.grad is not None for p in model.backbone.parameters() if p.requires_grad)
    found = predict(model, sample())
    assert len(found) and found.masks.shape == (len(found), 96, 128)


@pytest.mark.slow
def test_the_three_settings_train(tmp_path):
    """From scratch, at the size `nano`, on four pictures: mmdet's own SGD goes to NaN here."""
    text = block('swap').replace("arch='tiny', window_size=16", "arch='nano', window_size=8")
    (tmp_path / 'swapped.py').write_text(text.replace('[96, 192, 384, 768]', '[32, 64, 128, 256]'))
    cfg = Config.fromfile(tmp_path / 'swapped.py')
    for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        head.num_classes = 2
    shrink(cfg.model)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    pictures, losses = [sample(), sample(label=0)], []
    batch = {key: [value for one in pictures for value in one[key]] for key in pictures[0]}
    for _ in range(12):
        found = model(**model.data_preprocessor(batch, True), mode='loss')
        loss, _ = model.parse_losses(found)
        wrapper.update_params(loss)
        losses.append(float(loss))
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3]), losses


def two_kinds(folder, dataset):
    """Tiny COCO files where a data set's settings expect them, with its classes; returns a root."""
    source = Path(make_shapes(folder / 'shapes', train=2, val=2))
    root = folder / 'data'
    for split in ('train', 'val'):
        settings = dataset(split)
        classes = settings.metainfo.classes
        content = json.loads((source / f'{split}.json').read_text())
        content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
        for annotation in content['annotations']:
            annotation['category_id'] = 1 + annotation['category_id'] % len(classes)
        (root / settings.ann_file).parent.mkdir(parents=True, exist_ok=True)
        (root / settings.ann_file).write_text(json.dumps(content))
        images = root / settings.data_prefix.img
        images.mkdir(parents=True, exist_ok=True)
        for image in content['images']:  # the splits may share a folder
            (source / split / image['file_name']).rename(images / image['file_name'])
    return f'{root}/'


def resized(pipeline):
    """Settings that make the steps of a pipeline give small pictures."""
    for i, step in enumerate(pipeline):
        if 'scales' in step:
            yield f'dataset.pipeline.{i}.scales=[(128,96)]'
        elif 'scale' in step:
            yield f'dataset.pipeline.{i}.scale=(128,96)'


def narrow():
    """Places of the channels of a Cascade Mask R-CNN's neck and heads."""
    yield from ('neck.out_channels', 'rpn_head.in_channels', 'rpn_head.feat_channels')
    for part, keys in (('bbox', ('in', 'conv_out', 'fc_out')), ('mask', ('in', 'conv_out'))):
        yield f'roi_head.{part}_roi_extractor.out_channels'
        yield from (f'roi_head.{part}_head.{i}.{key}_channels' for i in range(3) for key in keys)


def test_the_config_of_your_own_task_trains_and_tests(tmp_path):
    text = block('own-task')
    assert len(code_lines(text)) < 15
    assert "_base_ = 'configs/det/swinv2_t_cascade.py'" in text
    text = text.replace("'configs/", f"'{ROOT}/configs/")  # it stands at the root of a clone
    (tmp_path / 'my_config.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'my_config.py')
    base = Config.fromfile(ROOT / 'configs/det/swinv2_t_cascade.py')
    # What is promised: data set, classes, window and input size are the user's own.
    assert cfg.train_dataloader.dataset.metainfo.classes
    assert cfg.model.backbone.window_size != base.model.backbone.window_size
    assert cfg.train_dataloader.dataset.pipeline != base.train_dataloader.dataset.pipeline
    assert cfg.test_dataloader.dataset.pipeline[1] != base.test_dataloader.dataset.pipeline[1]
    assert cfg.model.backbone.init_cfg == base.model.backbone.init_cfg

    old = cfg.train_dataloader.dataset.data_root
    assert old.startswith('data/') and old.endswith('/')
    root = two_kinds(tmp_path, lambda split: cfg[f'{split}_dataloader'].dataset)
    (tmp_path / 'my_config.py').write_text(text.replace(old, root))
    small = ['model.backbone.arch=nano', 'model.backbone.init_cfg=None',
             'model.neck.in_channels=[32,64,128,256]', 'train_cfg.max_epochs=1',
             'model.train_cfg.rpn_proposal.max_per_img=50', 'model.test_cfg.rpn.max_per_img=20',
             'default_hooks.logger.interval=1',
             *(f'model.train_cfg.rcnn.{i}.sampler.num=32' for i in range(3)),
             *(f'model.{place}=32' for place in narrow()),
             *(f'{split}_dataloader.{key}' for split in ('train', 'val', 'test')
               for key in ('num_workers=0', 'persistent_workers=False',
                           *resized(cfg[f'{split}_dataloader'].dataset.pipeline)))]
    work_dir = ['--work-dir', tmp_path / 'work', '--cfg-options', *small]
    done = checked(run_tool('tools/train.py', tmp_path / 'my_config.py', *work_dir))
    assert 'Epoch(train) [1][1/1]' in done.stdout and 'coco/segm_mAP:' in done.stdout
    done = checked(run_tool('tools/test.py', tmp_path / 'my_config.py',
                            tmp_path / 'work' / 'epoch_1.pth', '--show-dir', 'pictures', *work_dir))
    assert 'coco/bbox_mAP:' in done.stdout
    assert len(list((tmp_path / 'work').glob('*/pictures/*'))) == 2


def test_code_that_imports_the_package_runs(tmp_path):
    """But for blocks with a name: they need a trained model, and have tests of their own."""
    programs = [text for name, text in blocks('python')
                if name is None and re.search('^(from|import) swinv2_mm', text, re.MULTILINE)]
    assert programs
    for text in programs:
        (tmp_path / 'block.py').write_text(text)
        checked(run_tool(tmp_path / 'block.py'))


def test_every_python_block_is_python():
    for _, text in blocks('python'):
        ast.parse(text)


@functools.cache
def help_of(script):
    """What a script answers to --help; a shell script passes its options on."""
    script = script.replace('dist_', '').replace('.sh', '.py')
    return checked(run_tool(script, '--help')).stdout


@pytest.mark.parametrize('words', commands(), ids=' '.join)
def test_commands_name_scripts_options_and_targets_that_exist(words):
    if words[0] == 'make':
        targets = re.search(r'^\.PHONY: (.+)', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        assert {word for word in words[1:] if '=' not in word} <= set(targets[1].split())
        return
    if words[0] in ('pip', 'uv') or words == ['source', '.venv/bin/activate']:
        return
    scripts = [word for word in words[:2] if word.startswith(('tools/', 'benchmarks/'))]
    assert scripts, 'a command of another program: give this test a rule for it'
    text = help_of(scripts[0])
    for word in words:
        if word.startswith('--'):
            assert re.search(rf'(?<![\w-]){word.partition("=")[0]}(?![\w-])', text), word


def expand(path):
    """a{b,c}d -> abd, acd."""
    if match := re.search(r'\{([^{}]*)\}', path):
        return [whole for part in match[1].split(',')
                for whole in expand(path[:match.start()] + part + path[match.end():])]
    return [path]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    folders = 'configs|tools|tests|docs|benchmarks|swinv2_mm'
    named = re.findall(rf'(?<![\w/.])(?:{folders})/[\w./{{}},*-]*\w', text)
    missing = [path for name in named for path in expand(name) if not list(ROOT.glob(path))]
    links = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    missing += [link for link in links if not (page.parent / link).exists()]
    assert missing == []
