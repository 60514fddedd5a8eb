"""A detector from the checkpoint of another one: of Objects365, or with fewer branches."""
from __future__ import annotations

import re

from mmengine.logging import print_log
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from .layouts import few
from .load import load_backbone
from .read import read_contents

CLASSES_OBJECTS365 = 365
# For each of COCO's 80 classes its number among the 365 of Objects365 v2, in mmdet's order of both.
# The names are the same but for case in 69; the other 11 are: bird Wild Bird, handbag
# Handbag/Satchel, suitcase Luggage, skis Skiboard, sports ball Other Balls, bowl Bowl/Basin, orange
# Orange/Tangerine, dining table Dinning Table, tv Moniter/TV, teddy bear Stuffed Toy, hair drier
# Hair Dryer.
ROWS_OF_COCO = (
    0, 46, 5, 58, 114, 55, 116, 65, 21, 40, 176, 127, 249, 24, 56, 139, 92, 78, 99, 96, 144,
    295, 178, 180, 38, 39, 13, 43, 120, 219, 119, 173, 156, 154, 137, 113, 145, 146, 204, 8, 35,
    10, 88, 84, 93, 26, 112, 82, 265, 104, 141, 152, 234, 143, 150, 97, 2, 50, 25, 75, 98, 153,
    37, 73, 115, 132, 106, 61, 163, 134, 277, 81, 133, 18, 94, 30, 169, 70, 328, 226)


@WEIGHT_INITIALIZERS.register_module()
class PretrainedDetector:
    """A whole mmdet detector's weights as the init_cfg of another detector.

    The backbone goes through `load_backbone`, which checks its windows. Of the rest, whatever has
    name and shape of the file's comes from there; of a classifier of the 365 classes of Objects365
    the rows of COCO's 80 are taken, and what is left starts as it does without a file. The log
    names all three kinds. `model.init_cfg` is dict(type='swinv2_mm.PretrainedDetector',
    checkpoint=...).

    Raises:
        ValueError: a model without a SwinV2 backbone, a file without a detector, or windows that
            differ, see `load_backbone`.
    """

    def __init__(self, checkpoint: str, ema: bool = False):
        self.checkpoint, self.ema = checkpoint, ema

    def __call__(self, module: nn.Module) -> None:
        backbone = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'window_sizes'):
            raise ValueError('PretrainedDetector must initialise a detector with a SwinV2 backbone,'
                             f" got {type(module).__name__}: set it in the model's init_cfg.")
        file = read_contents(self.checkpoint, self.ema)
        state = file.state
        body = {name: value for name, value in state.items() if name.startswith('backbone.')}
        own = {name: value for name, value in module.state_dict().items()
               if not name.startswith('backbone.')}
        taken, picked = _fit(state, own)
        if not body or not taken:
            raise ValueError(f'{self.checkpoint} must hold a detector, backbone and heads, got '
                             f'tensors such as {few(sorted(state), 3)}: for a backbone alone set '
                             'PretrainedSwinV2 in model.backbone.init_cfg.')
        report = load_backbone(backbone, file._replace(state=body))
        backbone._is_init = True  # mmengine initialises the parts of a model after the model itself
        for part in module.children():
            if hasattr(part, 'init_weights') and not getattr(part, 'is_init', False):
                part.init_weights()
        module.load_state_dict(taken, strict=False)
        fresh = [name for name in own if name not in taken]
        left = [name for name in state if name not in body and name not in taken]
        print_log(
            f'{self.checkpoint}: backbone: {report}; {len(taken) - len(picked)} other tensors '
            f'loaded; rows of COCO picked in {len(picked)} [{few(picked, 6)}]; {len(fresh)} '
            f'initialised [{few(fresh, 6)}]; {len(left)} of the file left out [{few(left, 6)}]',
            'current')


def _fit(state: dict[str, Tensor],
         own: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """What of a file fits a model, by name, and the names of which rows were picked."""
    taken, picked = {}, []
    for name, value in own.items():
        given = state.get(name)
        if given is None:
            continue
        # A softmax over boxes has one class more, the last: none of them.
        sizes = len(ROWS_OF_COCO) + 1, CLASSES_OBJECTS365 + 1
        if re.search(r'fc_cls\.(weight|bias)$', name) and (len(value), len(given)) == sizes:
            given = given[[*ROWS_OF_COCO, CLASSES_OBJECTS365]]
            picked.append(name)
        if given.shape == value.shape:
            taken[name] = given
    return taken, [name for name in picked if name in taken]
