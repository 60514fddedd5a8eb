"""All configs: two deep, described, and complete in themselves."""
import ast
import re

import pytest
from config_checks import BASES, FILES, LEAVES, build, docstring, load
from helpers import ROOT, checked, load_tool, run_tool
from mmengine.config import Config

from swinv2_mm.models import arguments

TASKS = {name.split('/')[1]: name for name in LEAVES}  # the last config of each


@pytest.mark.parametrize('name', FILES)
def test_inheritance_is_two_deep_and_nothing_is_deleted(name):
    tree = ast.parse(FILES[name].read_text())
    words = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)} | {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert '_delete_' not in words
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))
    inherited = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                 and any(getattr(target, 'id', '') == '_base_' for target in node.targets)]
    if name in BASES:
        assert inherited == []
    else:
        assert len(inherited) == 1 and inherited[0]
        for base in inherited[0]:
            path = (FILES[name].parent / base).resolve()
            assert str(path.relative_to(ROOT)) in BASES


@pytest.mark.parametrize('name', FILES)
def test_every_config_opens_with_what_it_is(name):
    assert docstring(name)


@pytest.mark.parametrize('name', LEAVES)
def test_a_leaf_names_its_reference_and_the_command_that_runs_it(name):
    text = docstring(name)
    assert 'Reference: ' in text
    named = set(re.findall(r'configs/\S+\.py', text))
    if demo := re.search(r'^ *make demo(?: TASK=(\w+))?', text, re.MULTILINE):
        assert 'the data are ours' in text
        named.add(load_tool('demo').TASKS[demo[1] or 'det'].config)
    else:
        assert re.search(rf'tools/(dist_)?train\.\w+ {re.escape(name)}', text)
        assert re.search(r'Not trained here\.|Trained here, see docs/', text)
    assert named == {name}  # the commonest fault of a copied config


@pytest.mark.parametrize('name', TASKS.values(), ids=TASKS)
def test_a_dumped_config_gives_the_same_windows(name, tmp_path):
    """One window for all stages, and one for each, as an int and as its sides."""
    cfg = load(name)
    sides = (4, 8, 16) if 'Video' in cfg.model.backbone.type else (8, 16)  # first the one in time
    for window in (16, sides, [16, 16, sides, 8]):
        cfg.merge_from_dict({'model.backbone.window_size': window})
        cfg.dump(tmp_path / 'dumped.py')
        again = Config.fromfile(tmp_path / 'dumped.py')
        assert again.to_dict() == cfg.to_dict()
    model = cfg.model | dict(backbone=again.model.backbone | dict(arch='nano'))
    backbone = build(Config(dict(model=model, default_scope=cfg.default_scope)), 'meta').backbone
    assert backbone.window_sizes == [(16,) * len(sides), (16,) * len(sides), sides,
                                     (8,) * len(sides)]
    given = load(name).model.backbone.get('pretrained_window_sizes', 0)
    assert backbone.pretrained_window_sizes == arguments.per_stage(
        'pretrained_window_sizes', given, 4, len(sides), 0)


RESOLVE = """
import sys
from importlib.util import find_spec
import torch
from mmengine.config import Config
from mmengine.registry import *
from mmengine.registry import init_default_scope
from mmengine.optim import build_optim_wrapper

assert not any(name in sys.modules for name in (
    'mmdet', 'mmseg', 'mmpretrain', 'mmaction', 'swinv2_mm'))
for path in sys.argv[1:]:
    cfg = Config.fromfile(path)
    # Faults of the libraries are mended by these; nothing else may be asked for.
    assert {*cfg.get('custom_imports', {}).get('imports', [])} <= {
        'swinv2_mm.utils.compat', 'swinv2_mm.utils.mmseg_loss'}
    init_default_scope(cfg.default_scope)
    init = cfg.model.backbone.pop('init_cfg', None)
    cfg.model.backbone.arch = 'nano'  # the types are those of any size
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__module__.startswith('swinv2_mm.models.')
    if init:
        assert WEIGHT_INITIALIZERS.build(init).checkpoint == init.checkpoint
    build_optim_wrapper(model, cfg.optim_wrapper)
    if cfg.default_scope == 'mmdet':
        from swinv2_mm.datasets import repairs
        repairs.install()  # as the tools do
    for split in ('train', 'val', 'test'):
        if cfg.get(f'{split}_dataloader'):  # pre-training has no validation
            dataset = cfg[f'{split}_dataloader'].dataset
            if 'dataset' in dataset:  # what wraps another reads all of it as it is built
                assert DATASETS.get(dataset.type)
                dataset = dataset.dataset
            for step in dataset.pipeline:
                if step.type == 'RandomApply' and not find_spec('instaboostfast'):
                    step.transforms = [t for t in step.transforms if t.type != 'InstaBoost']
            if dataset.type.startswith('PascalContext'):  # looks for its pictures when it is built
                with DATASETS.switch_scope_and_registry(None) as datasets:
                    assert datasets.get(dataset.type)
            else:
                DATASETS.build(dataset | dict(lazy_init=True))
    for transform in cfg.get('tta_pipeline', []):
        TRANSFORMS.build(transform)
    if 'tta_model' in cfg:
        MODELS.build(cfg.tta_model | dict(module=model))
    VISUALIZERS.build(cfg.visualizer)
    for hook in cfg.default_hooks.values():
        HOOKS.build(hook)
    evaluators = cfg.get('val_evaluator') or []
    with METRICS.switch_scope_and_registry(None) as metrics:  # one is built with its data only
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            assert metrics.get(evaluator['type'])
    print(path, 'resolves')
"""


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmaction'])
def test_every_type_resolves_in_a_fresh_process(scope):
    names = [name for name in LEAVES if load(name).default_scope == scope]
    done = checked(run_tool('-c', RESOLVE, *names))
    assert done.stdout.count('resolves') == len(names) > 0
