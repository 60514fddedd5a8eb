"""A resumed run goes on with the rates of its config, not with those of the run before it.

mmengine's resume puts the state of each schedule and of the optimizer back as a whole: not only how
far they are, but also where they end, and every rate. So a run of 4 epochs that is resumed for 8
stays at the rate that the old cosine ends with, and no setting of the config is looked at.
"""
from __future__ import annotations

import copy
from types import SimpleNamespace

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from ..registry import HOOKS

COUNTS = ('last_step', '_global_step', '_last_value', 'verbose', 'optimizer')


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Where a resumed run's config has another schedule or rate than its checkpoint, take its own.

    The schedules of the config are followed from the start of the run to where the checkpoint is,
    so that the rate is that of a run which had them from the start. What is the same in both is
    left as the checkpoint has it, to the last bit.
    """

    priority = 'VERY_HIGH'
    own = None

    def before_run(self, runner) -> None:
        """Keep what the config says, before a checkpoint is put over it."""
        self.own = None
        _tell_idle(runner)
        schedules = runner.param_schedulers
        if isinstance(runner.optim_wrapper, OptimWrapper) and (
                schedules is None or isinstance(schedules, list)):
            self.own = ([_state(schedule) for schedule in schedules or []],
                        [_values(group) for group in runner.optim_wrapper.param_groups])

    def before_train(self, runner) -> None:
        """Compare, and put the config's own in place where it differs."""
        if not getattr(runner, '_resume', False) or not runner.iter:
            return
        if self.own is None:
            runner.logger.warning('Schedules and rates are those of the checkpoint, whatever the '
                                  'config says: those of several optimizers, or of a strategy, are '
                                  'not compared.')
            return
        states, groups = self.own
        schedules = runner.param_schedulers or []
        changed = _take_rates(runner.optim_wrapper.param_groups, groups, schedules)
        ended = [f'{type(schedule).__name__}.{key}' for schedule, state in zip(schedules, states)
                 for key, value in state.items()
                 if key not in (*COUNTS, 'base_values') and getattr(schedule, key, None) != value]
        behind = _behind(runner)
        late = [type(schedule).__name__ for schedule in schedules
                if schedule._global_step <= 0 < behind[not schedule.by_epoch]]
        if not (changed or ended or late):
            return
        _follow(schedules, states, groups, runner.optim_wrapper.param_groups, behind)
        rates = sorted({group['lr'] for group in runner.optim_wrapper.param_groups})
        runner.logger.warning(
            f'The config has other {", ".join([*changed, *ended, *late])} than the checkpoint: the '
            f'config\'s are taken, and the rate goes on at {rates[-1]:.4g}.')


def _tell_idle(runner) -> None:
    """Warn of custom_keys of mmengine's constructor that are in the name of no parameter."""
    wrapper = runner.cfg.get('optim_wrapper')
    rules = (wrapper.get('paramwise_cfg') or {}) if isinstance(wrapper, dict) else {}
    names = [name for name, _ in runner.model.named_parameters()]
    idle = [key for key in rules.get('custom_keys') or {} if not any(key in n for n in names)]
    if idle:
        runner.logger.warning(f'optim_wrapper.paramwise_cfg.custom_keys has {", ".join(idle)}, '
                              'which is in the name of no parameter and changes nothing.')


def _state(schedule) -> dict:
    return copy.deepcopy({k: v for k, v in vars(schedule).items() if k != 'optimizer'})


def _values(group: dict) -> dict:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != 'params'}


def _take_rates(loaded: list[dict], own: list[dict], schedules: list) -> list[str]:
    """Put the config's rates, decays and the like into groups; returns the names that differed."""
    scheduled = {schedule.param_name for schedule in schedules}
    changed = []
    for group, mine in zip(loaded, own):
        for key, value in mine.items():
            number = isinstance(value, (int, float, tuple)) and not isinstance(value, bool)
            if number and key not in scheduled and group.get(key) != value:
                group[key] = value
                changed.append(key)
    return list(dict.fromkeys(changed))


def _behind(runner) -> tuple[int, int, int]:
    """(epochs, iterations, iterations of an epoch) that the run has behind it."""
    counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return (runner.epoch if counts_epochs else 0, runner.iter, len(runner.train_dataloader))


def _follow(schedules: list, states: list[dict], groups: list[dict], loaded: list[dict],
            behind: tuple[int, int, int]) -> None:
    """Set schedules and groups to where the config's own have come after so many steps."""
    names = sorted({schedule.param_name for schedule in schedules})
    alike: dict = {}  # groups of the same rates go the same way: hundreds come to a handful
    for i, group in enumerate(groups):
        key = tuple(group.get(k) for n in names for k in (n, f'initial_{n}'))
        alike.setdefault(key, []).append(i)
    firsts = [numbers[0] for numbers in alike.values()]
    place = {i: at for at, numbers in enumerate(alike.values()) for i in numbers}

    def counted():
        return None

    counted._with_counter = True
    stub = SimpleNamespace(param_groups=[copy.deepcopy(groups[i]) for i in firsts], step=counted,
                           _global_step=1)
    copies = []
    for schedule, state in zip(schedules, states):
        twin = object.__new__(type(schedule))
        twin.__dict__.update(copy.deepcopy(state), optimizer=stub)
        twin.base_values = [state['base_values'][i] for i in firsts]
        copies.append(twin)
    epochs, iterations, length = behind
    for epoch in range(epochs + 1):
        count = length if epoch < epochs else iterations - epochs * length
        _step([twin for twin in copies if not twin.by_epoch], count)
        if epoch < epochs:
            _step([twin for twin in copies if twin.by_epoch], 1)
    for schedule, twin, state in zip(schedules, copies, states):
        found = {k: v for k, v in vars(twin).items() if k != 'optimizer'}
        last = [twin._last_value[place[i]] for i in range(len(groups))]
        schedule.__dict__.update(found, base_values=state['base_values'], _last_value=last)
    for i, group in enumerate(loaded):
        for name in names:
            group[name] = stub.param_groups[place[i]][name]


def _step(schedules: list, count: int) -> None:
    if not schedules or count < 1:
        return
    for _ in range(count):
        if all(schedule._global_step >= schedule.end for schedule in schedules):
            break  # nothing changes from here
        for schedule in schedules:
            schedule.step()
        count -= 1
    for schedule in schedules:
        schedule._global_step += count
