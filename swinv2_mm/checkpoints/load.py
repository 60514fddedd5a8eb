"""The one door for weights: `load_backbone(model, path)`, and the same as an `init_cfg`."""
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from .layouts import to_native
from .transfer import pretrained_windows


class LoadReport(NamedTuple):
    """What loading did: names loaded, and names left out on either side."""

    loaded: list[str]
    dropped: list[str]  # in the file, with no place in a backbone
    fresh: list[str]  # in the model, not in the file: output norms of earlier stages

    def __str__(self) -> str:
        return (f'{len(self.loaded)} tensors loaded; {len(self.dropped)} of the file left out '
                f'{self.dropped[:6]}; {len(self.fresh)} of the model initialised {self.fresh[:6]}')


def read_checkpoint(source: str | Path) -> dict[str, Tensor]:
    """The state dict in a file or at a URL, without running code from it.

    Raises FileNotFoundError for a missing file, ValueError for one that holds more than tensors
    and plain values or no state dict.
    """
    source = str(source)
    if '://' in source:
        content = torch.hub.load_state_dict_from_url(source, map_location='cpu', weights_only=True)
    elif not Path(source).is_file():
        raise FileNotFoundError(f'There is no checkpoint at {source!r}: give the path of a file '
                                'or a URL.')
    else:
        try:
            content = torch.load(source, map_location='cpu', weights_only=True)
        except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError and more
            raise ValueError(f'{source} must be a torch file of tensors and plain values, and '
                             f'could not be read safely ({type(error).__name__}: '
                             f'{str(error).splitlines()[0]}): save its state dict alone.') from error
    for wrapper in ('state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f'{source} must hold a state dict of tensors, got '
                         f'{type(content).__name__}: save model.state_dict() alone.')
    return {key.removeprefix('module.'): value for key, value in content.items()}


def load_backbone(model: nn.Module, source: str | Path | dict[str, Tensor]) -> LoadReport:
    """Load SwinV2 weights into a backbone of this package.

    Args:
        model: a SwinTransformerV2 or SwinTransformerV2Video.
        source: path, URL or state dict, in the official layout or this package's own.

    Raises:
        FileNotFoundError, ValueError: unreadable file, unknown layout, tensors that do not fit,
            or a model that would normalise relative positions otherwise than the file did.
    """
    state = source if isinstance(source, dict) else read_checkpoint(source)
    native, dropped = to_native(state)
    _check_windows(model, pretrained_windows(state))
    own = model.state_dict()
    dropped += [key for key in native if key not in own]
    fresh = [key for key in own if key not in native]
    wrong = [f'{key} {tuple(native[key].shape)} in the file, {tuple(own[key].shape)} in the model'
             for key in own if key in native and native[key].shape != own[key].shape]
    missing = [key for key in fresh if not key.startswith('norm')]
    if wrong or missing:
        raise ValueError(f'The checkpoint does not fit the model: {len(missing)} tensors missing '
                         f'{missing[:3]}, {len(wrong)} of another shape {wrong[:3]}; '
                         'set arch, patch_size and in_channels to those of the file.')
    loaded = [key for key in own if key in native]
    model.load_state_dict({key: native.get(key, value) for key, value in own.items()})
    return LoadReport(loaded, dropped, fresh)


def _check_windows(model: nn.Module, trained: list | None) -> None:
    if trained is None:
        print_log('The checkpoint holds no position tables, so pretrained_window_sizes could not '
                  f'be checked; the model uses {model.pretrained_window_sizes}.', 'current')
        return
    for i, (own, pretrained) in enumerate(zip(model.window_sizes, model.pretrained_window_sizes)):
        normaliser = tuple(p or w for p, w in zip(pretrained, own))
        if i < len(trained) and normaliser != trained[i][1]:
            wanted = [sides[0] if len(set(sides)) == 1 else sides for _, sides in trained]
            raise ValueError(
                f'The model must normalise relative positions as its weights were trained, by '
                f'{trained[i][1]} in stage {i}, and would do so by {normaliser}: set '
                f'pretrained_window_sizes={wanted}.')


@WEIGHT_INITIALIZERS.register_module()
class PretrainedSwinV2:
    """`load_backbone` as an init_cfg: dict(type='swinv2_mm.PretrainedSwinV2', checkpoint=...)."""

    def __init__(self, checkpoint: str):
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        report = load_backbone(module, self.checkpoint)
        print_log(f'{self.checkpoint}: {report}', 'current')
