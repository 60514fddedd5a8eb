"""Names of a config that nothing reads: those of older configs, and those whose place is elsewhere.

A config file is code. A leaf that sets `data_root` anew, or `optimizer` as configs had it before
mmengine, gives a name a value, and what runs was made of another when its base was read.
"""
from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from .configured import Run
from .findings import Finding

# Of a config, mmengine's Runner and the tools read these and nothing else.
TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr',
            'val_dataloader', 'val_cfg', 'val_evaluator', 'resume')
TESTING = ('test_dataloader', 'test_cfg', 'test_evaluator', 'tta_model', 'tta_pipeline')
BOTH = ('model', 'work_dir', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from',
        'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope',
        'randomness', 'experiment_name', 'runner_type', 'strategy', 'custom_imports', 'compile',
        'activation_checkpointing', 'efficient_conv_bn_eval', 'model_wrapper_cfg', 'sync_bn',
        'find_unused_parameters')
READ = (*BOTH, *TRAINING, *TESTING)
# What configs before mmengine had -> where it is now.
BEFORE = {
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'optimizer': 'optim_wrapper.optimizer', 'optimizer_config': 'optim_wrapper.clip_grad',
    'lr_config': 'param_scheduler', 'runner': 'train_cfg', 'total_epochs': 'train_cfg.max_epochs',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'default_hooks.checkpoint', 'log_config': 'default_hooks.logger',
    'resume_from': '--resume PATH', 'fp16': '--amp', 'dist_params': 'env_cfg.dist_cfg'}
# What a base gives a name, of which settings are made.
MADE = {'data_root': '{}_dataloader.dataset.data_root',
        'train_pipeline': 'train_dataloader.dataset.pipeline',
        'val_pipeline': 'val_dataloader.dataset.pipeline',
        'test_pipeline': '{}_dataloader.dataset.pipeline',
        'metainfo': '{}_dataloader.dataset.metainfo',
        'classes': '{}_dataloader.dataset.metainfo.classes',
        'img_scale': 'the scale of the steps in {}_dataloader.dataset.pipeline',
        'crop_size': 'the sizes of the steps in {}_dataloader.dataset.pipeline',
        'num_classes': 'num_classes of the heads', 'batch_size': 'train_dataloader.batch_size',
        'max_epochs': 'train_cfg.max_epochs', 'max_iters': 'train_cfg.max_iters'}


def unread(run: Run) -> Iterator[Finding]:
    """Names that this file sets, and whose values are in nothing that runs."""
    own, read = _own_names(run.cfg), [run.cfg.get(name) for name in READ]
    for name in sorted(own):
        near = difflib.get_close_matches(name, READ, n=1, cutoff=0.88)
        if near and name not in (*READ, *BEFORE, *MADE) and run.cfg.get(name) and not any(
                _holds(part, run.cfg[name], whole=True) for part in read):
            yield Finding('unread', 'config', f'sets {name}, which is in nothing that runs',
                          f'did you mean {near[0]!r}')
    for name, place in {**BEFORE, **MADE}.items():
        value = run.cfg.get(name)
        if not value or name not in own or any(_holds(part, value) for part in read):
            continue
        if name in BEFORE and (not isinstance(value, (dict, int)) or name == 'data' and not any(
                key.endswith('_per_gpu') for key in value)):
            continue  # a name of one's own, of which something may be made
        if name == 'num_classes' and 'num_things_classes' in str(run.model):
            continue  # the sum of two
        split = 'test' if name == 'test_pipeline' else 'train'
        yield Finding('unread', 'config', f'sets {name}, which is in nothing that runs',
                      f'set {place.format(split)}' + (' and the like' if '{' in place else ''))


def _own_names(cfg) -> set[str]:
    """The names that the file of a config gives values; those of its bases may be left over."""
    path = getattr(cfg, 'filename', None)
    if not path or not os.path.isfile(path) or not path.endswith('.py'):
        return set(cfg)
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    return {target.id for node in tree.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)}


def _holds(node, value, whole: bool = False) -> bool:
    """Whether a value is in a config: in full, or inside a dict or at the start of a path too."""
    if not whole and isinstance(node, dict) and isinstance(value, dict) and all(
            key in node and node[key] == part for key, part in value.items()):
        return True
    if node == value or isinstance(node, str) and isinstance(value, str) and node.startswith(value):
        return True
    parts = node.values() if isinstance(node, dict) else node if isinstance(
        node, (list, tuple)) else ()
    return any(_holds(part, value, whole) for part in parts)


CHECKS = (unread,)
