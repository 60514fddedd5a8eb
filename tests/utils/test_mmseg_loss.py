"""Classes may be weighted where a map has pixels that do not count."""
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS


def test_pixels_that_do_not_count_have_no_weight_either():
    import swinv2_mm.utils.mmseg_loss  # noqa: F401
    DefaultScope.get_instance('losses', scope_name='mmseg')
    loss = MODELS.build(dict(type='mmseg.CrossEntropyLoss', class_weight=[0.5, 2.0]))
    scores = torch.tensor([[[[1.0, 3.0, 0.0]], [[2.0, 0.0, 5.0]]]])  # (1, 2, 1, 3)
    maps = torch.tensor([[[0, 1, 255]]])
    logs = scores.log_softmax(dim=1)
    expected = -(0.5 * logs[0, 0, 0, 0] + 2 * logs[0, 1, 0, 1]) / (0.5 + 2)
    torch.testing.assert_close(loss(scores, maps, ignore_index=255), expected)
