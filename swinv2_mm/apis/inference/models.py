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

from swinv2_mm.apis import overrides
from swinv2_mm.datasets.checks import class_counts
from swinv2_mm.utils.errors import UserError, check_file

from .inputs import take_reader
from .weights import load_weights

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

    def __init__(self, inferencer, classes: list[str], palette, scope: str, reader=None):
        self.inferencer, self.model = inferencer, inferencer.model
        self.classes, self.palette, self.scope = classes, palette, scope
        self.read = reader  # of pictures and frames: an `inputs.Reader`; None for films

    @torch.no_grad()
    def predict(self, inputs: list) -> list:
        """Samples of the library for pictures as `read` gives them, in one batch."""
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
        """A picture (H, W, 3) uint8 BGR with what a sample says drawn on it, BGR."""
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
    overrides.override(cfg, options or {})
    scope = cfg.get('default_scope')
    if scope not in TASKS or 'test_dataloader' not in cfg:
        raise UserError('A config must have a test_dataloader and a default_scope among '
                        f'{", ".join(TASKS)}, {config} has not: give one of detection, '
                        'segmentation, classification or video.')
    device = _device(device)
    task = importlib.import_module(f'swinv2_mm.apis.inference.{TASKS[scope]}').Task
    cfg.visualizer['vis_backends'] = None  # pictures are written by whoever asked for them
    reader = take_reader(cfg, scope) if 'picture' in task.kinds else None
    with DefaultScope.overwrite_default_scope(scope), _quiet():
        inferencer = task.inferencer(cfg, device)
    load_weights(inferencer.model, checkpoint)
    classes, palette = classes_of(cfg, scope)
    return task(inferencer, classes, palette, scope, reader)


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
