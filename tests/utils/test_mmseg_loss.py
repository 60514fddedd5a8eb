"""Classes may be weighted where a map has pixels that do not count."""
import sys
from types import SimpleNamespace

import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from swinv2_mm.datasets.checks import counts


def test_pixels_that_do_not_count_have_no_weight_either():
    import swinv2_mm.utils.mmseg_loss  # noqa: F401
    DefaultScope.get_instance('losses', scope_name='mmseg')
    loss = MODELS.build(dict(type='mmseg.CrossEntropyLoss', class_weight=[0.5, 2.0]))
    scores = torch.tensor([[[[1.0, 3.0, 0.0]], [[2.0, 0.0, 5.0]]]])  # (1, 2, 1, 3)
    maps = torch.tensor([[[0, 1, 255]]])
    logs = scores.log_softmax(dim=1)
    expected = -(0.5 * logs[0, 0, 0, 0] + 2 * logs[0, 1, 0, 1]) / (0.5 + 2)
    torch.testing.assert_close(loss(scores, maps, ignore_index=255), expected)


def test_the_check_asks_for_the_mend_and_takes_it(monkeypatch):
    run = SimpleNamespace(scope='mmseg', model=dict(decode_head=dict(
        type='FCNHead', loss_decode=dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0]))))
    monkeypatch.setattr(counts, '_has_mmseg_1_2', lambda: True)
    monkeypatch.delitem(sys.modules, counts.MENDS, raising=False)
    (found,) = counts._ignored_pixels(run)
    assert f"add custom_imports = dict(imports=['{counts.MENDS}'])" in str(found)
    monkeypatch.setitem(sys.modules, counts.MENDS, None)
    assert list(counts._ignored_pixels(run)) == []
