"""Weights of a whole model, for inference and tests: every tensor of it, or one sentence."""
from __future__ import annotations

from collections.abc import Iterable

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from swinv2_mm.checkpoints.read import read_contents
from swinv2_mm.checkpoints.transfer import RECORD
from swinv2_mm.utils.errors import UserError


def load_weights(model: nn.Module, checkpoint: str) -> None:
    """Load a whole model. UserError where the file is not one of this model.

    ValueError where the model would normalise positions otherwise than its weights were trained.
    """
    model = _inner(model)
    state, own = read_contents(checkpoint).state, model.state_dict()
    check_whole(state, own, checkpoint)
    records = [key for key in state if _is_record(key)]
    model.load_state_dict({key: state[key] for key in (*own, *records) if key in state},
                          strict=False)


def check_whole(state: dict[str, Tensor], own: dict[str, Tensor], checkpoint: str) -> None:
    """UserError where the tensors of a file are not those of the model `own`."""
    state, own = ({key: value for key, value in tensors.items() if not _is_record(key)}
                  for tensors in (state, own))  # older files lack it
    if missing := [key for key in own if key not in state]:
        parts, others = (_parts(names) for names in (own, state))
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


class Fills(Hook):
    """What `load_from` of a training fills, and what not: mmengine leaves out what does not fit."""

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Raise UserError where it would be nothing; tell where the backbone is not in it."""
        state, model = checkpoint.get('state_dict', checkpoint), _inner(runner.model)
        own = {key: value for key, value in model.state_dict().items() if not _is_record(key)}
        state = {key.removeprefix('module.'): value for key, value in state.items()}
        filled = [key for key in own if getattr(state.get(key), 'shape', None) == own[key].shape]
        place = f'load_from {str(runner._load_from)!r}'
        if not filled:
            raise UserError(
                f'{place} must be of the model that the config describes, {_parts(own)}, and is of '
                f'{_parts(state)}: for the weights of a backbone alone, set '
                "model.backbone.init_cfg=dict(type='swinv2_mm.PretrainedSwinV2', checkpoint=...).")
        runner.logger.info(f'{place} fills {len(filled)} of the {len(own)} tensors of the model.')
        backbone = getattr(model, 'backbone', None)
        if backbone is not None and not getattr(backbone, 'init_cfg', None) and not any(
                key.startswith('backbone.') for key in filled):
            runner.logger.warning(f'{place} fills nothing of the backbone, which starts at random.')


class WholeModel(Hook):
    """`check_whole` for a runner that loads by itself: a strategy may have split the model."""

    def __init__(self, checkpoint: str):
        self.checkpoint = checkpoint

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Raise UserError before any of it is loaded."""
        state = checkpoint.get('state_dict', checkpoint)
        check_whole(state, _inner(runner.model).state_dict(), self.checkpoint)


def _is_record(key: str) -> bool:
    return key.rpartition('.')[2] == RECORD


def _inner(model: nn.Module) -> nn.Module:
    """The model inside what distributes it or augments tests."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _parts(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(name.partition('.')[0] for name in names))
    return ', '.join(found[:6]) + (', ...' if len(found) > 6 else '')
