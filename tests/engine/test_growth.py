"""Windows and pictures that grow in a run: when, by how much, and that the optimizer goes on."""
import copy

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner

from swinv2_mm import SwinTransformerV2
from swinv2_mm.engine import GrowthHook

SEEN = []  # (side of the pictures, window of the first stage) of each iteration


@TRANSFORMS.register_module(force=True)
class Square:
    """A picture of a side."""

    def __init__(self, side):
        self.side = side

    def __call__(self, results):
        return dict(inputs=torch.full((3, self.side, self.side), float(results['sample_idx'])))


@DATASETS.register_module(force=True)
class Squares(BaseDataset):
    def load_data_list(self):
        return [dict() for _ in range(4)]


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = SwinTransformerV2(
            dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]), window_size=4, out_indices=(1,))

    def forward(self, inputs, mode='tensor'):
        SEEN.append((inputs.shape[-1], self.backbone.window_sizes[0][0]))
        return dict(loss=self.backbone(inputs)[0].square().mean())


STAGES = [dict(begin=0, window_size=4, pipeline={0: dict(side=32)}),
          dict(begin=2, window_size=8, pipeline={0: dict(side=64)})]


def run(folder, epochs, workers=0, resume=False, stages=STAGES, **hook):
    torch.manual_seed(0)
    SEEN.clear()
    loader = dict(
        batch_size=2, num_workers=workers, persistent_workers=workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='Squares', pipeline=[dict(type='Square', side=16)]))
    runner = Runner(
        Model(), str(folder), experiment_name=f'{folder.name}_{epochs}_{resume}', resume=resume,
        train_dataloader=loader, cfg=dict(train_dataloader=copy.deepcopy(loader)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        custom_hooks=[dict(type='swinv2_mm.GrowthHook', stages=copy.deepcopy(stages), **hook)])
    runner.train()
    return runner


@pytest.mark.parametrize('workers', [0, 1])
def test_windows_and_pictures_grow_together_and_the_optimizer_goes_on(workers, tmp_path):
    runner = run(tmp_path, 3, workers)
    assert SEEN == [(32, 4)] * 4 + [(64, 8)] * 2
    backbone = runner.model.backbone
    assert backbone.pretrained_window_sizes == [(4, 4)] * 2  # positions as before
    optimizer = runner.optim_wrapper.optimizer
    held = {id(p) for group in optimizer.param_groups for p in group['params']}
    assert held == {id(p) for p in runner.model.parameters()}
    assert {int(state['step']) for state in optimizer.state.values()} == {6}
    if workers:
        runner.train_dataloader._iterator._shutdown_workers()  # garbage collection would wait 5 s


def test_a_resumed_run_goes_on_with_the_windows_of_its_time(tmp_path):
    run(tmp_path, 2)
    run(tmp_path, 3, resume=True)
    assert SEEN == [(64, 8)] * 2


def test_windows_grow_by_iterations_too(tmp_path):
    stages = [dict(begin=0, window_size=4), dict(begin=3, window_size=8)]
    run(tmp_path, 2, stages=stages, by_epoch=False)
    assert SEEN == [(16, 4)] * 3 + [(16, 8)]


@pytest.mark.parametrize('stages, settings, message', [
    ([], {}, 'must begin at 0'), ([dict(begin=1, window_size=4)], {}, 'must begin at 0'),
    ([dict(begin=0, window_size=4), dict(begin=0, window_size=8)], {}, 'ever later'),
    ([dict(begin=0, window=4)], {}, r"got \['begin', 'window'\]"),
    (STAGES, dict(by_epoch=False), 'between epochs')])
def test_stages_that_make_no_sense_are_refused(stages, settings, message):
    with pytest.raises(ValueError, match=message):
        GrowthHook(stages, **settings)


@pytest.mark.parametrize('change', [{0: dict(size=3)}, {4: dict(side=32)}])
def test_a_step_without_that_setting_is_refused(change, tmp_path):
    with pytest.raises(ValueError, match='settings that step . of the training pipeline has'):
        run(tmp_path, 1, stages=[dict(begin=0, window_size=4, pipeline=change)])
