"""Configs of the demos with smaller models, and awake checkpoints of them, as files."""
import torch
from conftest import awaken
from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

ARCH = dict(embed_dims=16, depths=[2, 1, 1, 1], num_heads=[1, 2, 4, 8])
CHANNELS = [16, 32, 64, 128]


def small(folder, name, change=None):
    """Paths of a config and a checkpoint in `folder`: configs/demo/NAME_nano.py, but smaller.

    `change` is called with the config before the model is built.
    """
    cfg = Config.fromfile(ROOT / f'configs/demo/{name}_nano.py')
    cfg.model.backbone.update(arch=ARCH, window_size=4, drop_path_rate=0.0)
    if name == 'cls':
        cfg.model.head.in_channels = CHANNELS[-1]
    elif name == 'seg':
        cfg.model.decode_head.update(in_channels=CHANNELS, channels=32)
        cfg.model.auxiliary_head = None
    else:
        cfg.model.neck.in_channels = CHANNELS
    if change:
        change(cfg)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
    awaken(model.backbone)
    config, checkpoint = folder / f'{name}.py', folder / f'{name}.pth'
    cfg.dump(config)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return str(config), str(checkpoint), model
