"""Config and checkpoint -> a `Predictor`, by the Inferencer of the config's library."""
from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import nn

from swinv2_mm.apis import launch
from swinv2_mm.checkpoints.read import read_contents
from swinv2_mm.datasets.checks import class_counts
from swinv2_mm.utils.errors import UserError, check_file

# default_scope -> the module beside this one that knows the library, by its class `Task`.
TASKS = {'mmdet': 'det', 'mmseg': 'seg', 'mmpretrain': 'cls', 'mmaction': 'video'}


class Predictor:
    """A model that is ready: what one asks it, whatever the library.

    Attributes:
        task: 'det', 'seg', 'cls' or 'video'.
        kinds: the kinds of sources it takes.
        classes: names of the classes.
        model: the model, in eval mode.
    """

    task: str
    kinds: tuple[str, ...] = ('picture', 'video')

    def __init__(self, inferencer, classes: list[str], palette, scope: str):
        self.inferencer, self.model = inferencer, inferencer.model
        self.classes, self.palette, self.scope = classes, palette, scope

    @torch.no_grad()
    def predict(self, inputs: list) -> list:
        """Samples of the library for pictures (H, W, 3) uint8 BGR, in one batch."""
        samples = []
        with DefaultScope.overwrite_default_scope(self.scope):
            for data in self.inferencer.preprocess(inputs, batch_size=len(inputs)):
                # mmdet's gives the inputs along.
                data = data if isinstance(data, dict) else data[1]
                samples += self.inferencer.forward(data)
        return samples

    def keep(self, sample, score_thr: float):
        """The sample without what scores below a threshold."""
        return sample

    def record(self, sample) -> dict:
        """What a sample says, for json."""
        raise NotImplementedError

    def draw(self, picture, sample):
        """(H, W, 3) uint8 BGR with what a sample says drawn on it, BGR."""
        raise NotImplementedError


def load(config: str, checkpoint: str, device: str | None = None,
         options: dict | None = None) -> Predictor:
    """A predictor for a config and a checkpoint of it.

    Args:
        config: path of a config of detection, segmentation, classification or video.
        checkpoint: path or URL of weights, read without running code from it.
        device: such as 'cpu' or 'cuda:0'; None takes what there is.
        options: settings of the config to override, by their dotted names.

    Raises:
        UserError: one of them is not there, or they do not belong together.
    """
    if not Path(config).is_file():
        raise UserError(f'There is no config at {config!r}: give the path of a config file, '
                        'such as configs/det/swinv2_t_cascade.py.')
    check_file(checkpoint, 'checkpoint', 'give the path of a .pth file')
    cfg = Config.fromfile(config)
    launch.override(cfg, options or {})
    scope = cfg.get('default_scope')
    if scope not in TASKS or 'test_dataloader' not in cfg:
        raise UserError('A config must have a test_dataloader and a default_scope among '
                        f'{", ".join(TASKS)}, {config} has not: give one of detection, '
                        'segmentation, classification or video.')
    device = _device(device)
    task = importlib.import_module(f'swinv2_mm.apis.inference.{TASKS[scope]}').Task
    cfg.visualizer['vis_backends'] = None  # pictures are written by whoever asked for them
    with DefaultScope.overwrite_default_scope(scope), _quiet():
        inferencer = task.inferencer(cfg, device)
    load_weights(inferencer.model, checkpoint)
    classes, palette = classes_of(cfg, scope)
    return task(inferencer, classes, palette, scope)


def _device(device: str | None) -> str:
    """A device that there is."""
    try:
        torch.empty(0, device=device or 'cpu')
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'--device must be one that torch can use, it says of {device!r} '
                        f'"{str(error).splitlines()[0]}": try --device cpu.') from error
    return device or get_device()


class _quiet:
    """What the libraries say while they build a model whose weights come later."""

    def __enter__(self):
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.simplefilter('ignore')
        logging.disable(logging.WARNING)

    def __exit__(self, *args):
        logging.disable(logging.NOTSET)
        self.warnings.__exit__(*args)


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load a whole model. UserError where the file is not one of this model."""
    state, own = read_contents(checkpoint).state, model.state_dict()
    if missing := [key for key in own if key not in state]:
        parts, others = (', '.join(dict.fromkeys(key.partition('.')[0] for key in keys))
                         for keys in (own, state))
        raise UserError(
            'The checkpoint must be of the model that the config describes, '
            + (f'{parts}; {checkpoint} is of {others}' if parts != others else
               f'{checkpoint} lacks {len(missing)} of its {len(own)} tensors, such as {missing[0]}')
            + ': give the config that it was trained with.')
    if wrong := [key for key in own if own[key].shape != state[key].shape]:
        key = wrong[0]
        heads = not any(key.startswith('backbone.') for key in wrong)
        what = 'have the classes of the config' if heads else 'be as large as the config says'
        raise UserError(
            f'The checkpoint must {what}, {checkpoint} differs in {len(wrong)} tensors: {key} is '
            f'{tuple(state[key].shape)} in the file and {tuple(own[key].shape)} in the model; '
            'give the config that it was trained with.')
    model.load_state_dict({key: state[key] for key in own})


def classes_of(cfg: Config, scope: str) -> tuple[list[str], object]:
    """Names of the classes, numbers where there are none, and their colours or None."""
    datasets = importlib.import_module(f'{scope}.registry').DATASETS
    dataset = cfg.test_dataloader.dataset
    counts = [count for _, count in class_counts(cfg.model)]
    known = getattr(datasets.get(dataset.type), 'METAINFO', {})
    metainfo = {**known, **(dataset.get('metainfo') or {})}
    names = metainfo.get('classes') or [str(label) for label in range(max(counts, default=0))]
    names = [names] if isinstance(names, str) else list(names)
    if counts and any(count != len(names) for count in counts):
        raise UserError(f'metainfo.classes of the test data must be {counts[-1]} names, one for '
                        f'each class of the model, got {len(names)}: give the config that the '
                        'checkpoint was trained with.')
    palette = metainfo.get('palette')
    return names, palette if palette and len(palette) == len(names) else None
