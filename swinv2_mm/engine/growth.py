"""Windows and pictures that grow while a model trains, as the paper's do from stage to stage."""
from __future__ import annotations

from collections.abc import Sequence

from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.logging import print_log

from ..registry import HOOKS


@HOOKS.register_module()
class GrowthHook(Hook):
    """Give the backbone other windows, and the training pictures another size, at set times.

    Parameters and optimizer are untouched, positions stay normalised as they were: see
    `SwinTransformerV2.set_window_sizes`. A resumed run goes on with the windows of its time.

        dict(type='swinv2_mm.GrowthHook', stages=[
            dict(begin=0, window_size=12, pipeline={1: dict(scale=192)}),
            dict(begin=60, window_size=16, pipeline={1: dict(scale=256)}),
            dict(begin=90, window_size=24, pipeline={1: dict(scale=384)})])

    Args:
        stages: what begins when, in this order; the first at 0. `window_size` as the backbone takes
            it, and `pipeline`, if sizes grow: number of a step of the training pipeline -> what
            changes in its config.
        by_epoch: whether `begin` counts epochs, or iterations; `pipeline` needs epochs.

    Raises:
        ValueError: where the stages break one of these rules.
    """

    def __init__(self, stages: Sequence[dict], by_epoch: bool = True):
        begins = [stage.get('begin') for stage in stages]
        if not begins or begins[0] != 0 or begins != sorted(set(begins)):
            raise ValueError('stages must begin at 0 and then ever later, got those that begin at '
                             f'{begins}: set begin of each.')
        for stage in stages:
            if not set(stage) <= {'begin', 'window_size', 'pipeline'} or 'window_size' not in stage:
                raise ValueError('Each of stages must hold begin, window_size and, if sizes grow, '
                                 f'pipeline, got {sorted(stage)}: correct its keys.')
        if not by_epoch and any(stage.get('pipeline') for stage in stages):
            raise ValueError('pipeline must change between epochs, got by_epoch=False: count begin '
                             'in epochs, or leave pipeline out.')
        self.stages, self.by_epoch, self._now = list(stages), by_epoch, None

    def before_train_epoch(self, runner) -> None:
        if self.by_epoch:
            self._grow(runner, runner.epoch)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if not self.by_epoch:
            self._grow(runner, runner.iter)

    def _grow(self, runner, time: int) -> None:
        number = max(i for i, stage in enumerate(self.stages) if stage['begin'] <= time)
        if number == self._now:
            return
        self._now, stage = number, self.stages[number]
        backbone = next((module for module in runner.model.modules()
                         if hasattr(module, 'set_window_sizes')), None)
        if backbone is None:
            raise ValueError('GrowthHook needs a SwinV2 backbone, got a model without one: take '
                             'the hook out of custom_hooks.')
        backbone.set_window_sizes(stage['window_size'])
        if stage.get('pipeline'):
            self._resize(runner, stage['pipeline'])
        print_log(f'Windows are {backbone.window_sizes} from '
                  f'{"epoch" if self.by_epoch else "iteration"} {time} on'
                  f'{", with " + str(stage["pipeline"]) if stage.get("pipeline") else ""}.',
                  'current')

    @staticmethod
    def _resize(runner, changes: dict) -> None:
        """Rebuild the training pipeline with changes; workers start anew, so that all have it."""
        config = runner.cfg.train_dataloader.dataset
        loader = runner.train_dataloader
        dataset = loader.dataset
        while 'dataset' in config:  # out of its wrappers
            config, dataset = config.dataset, dataset.dataset
        steps = [dict(step) for step in config.pipeline]
        for number, change in changes.items():
            number = int(number)
            unknown = set(change) - set(steps[number]) if number < len(steps) else set(change)
            if unknown:
                raise ValueError(f'pipeline of stages must change settings that step {number} of '
                                 f'the training pipeline has, got {sorted(unknown)}: correct the '
                                 'number or the name.')
            steps[number].update(change)
        dataset.pipeline = Compose(steps)
        loader._iterator = None  # of persistent workers, which hold the old pipeline
