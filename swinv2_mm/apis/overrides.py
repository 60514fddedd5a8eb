"""--cfg-options: read, merged into a config, and refused or told where nothing would read them.

A config file is code: what its names stand for is worked out when it is read. So `data_root=mine/`
on the command line changes a name that nothing looks at any more.
"""
from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator

from mmengine.config import Config, DictAction

from swinv2_mm.datasets.checks.unread import BEFORE, READ, TESTING, TRAINING
from swinv2_mm.utils.errors import UserError

SHOWN = 6  # places that hold a value


class Options(DictAction):
    """mmengine's KEY=VALUE arguments, with a sentence for one that is not."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE, got {value!r}: put = between the '
                             'name of a setting and its value, without spaces.')
        super().__call__(parser, namespace, values, option_string)


def override(cfg: Config, options: dict, testing: bool | None = None,
             rules: dict[str, str] | None = None) -> None:
    """Merge settings KEY: VALUE into a config, in place.

    A name that is not there is a new setting, but one that a name beside it resembles closely is
    taken for a slip, which mmengine would add without a word and nothing would ever read. Where
    there is a `type`, its constructor knows better, and says so itself. Options that nothing reads
    are refused or told; `testing` says for which tool, `rules` what its other arguments overrule.
    """
    for key in options:
        beside, names = cfg._cfg_dict, key.split('.')
        for depth, name in enumerate(names):
            if isinstance(beside, (list, tuple)):
                if not name.isdigit():
                    here = '.'.join(names[:depth])
                    raise UserError(f'--cfg-options {key}: {here} is a list of {len(beside)}: give '
                                    f'the number of one, such as {here}.0.'
                                    f'{".".join(names[depth:])}.')
                if int(name) >= len(beside):
                    break  # mmengine has a sentence for it
                beside = beside[int(name)]
            elif not isinstance(beside, dict):
                break  # so it has for a setting below a number or None
            elif name in beside:
                beside = beside[name]
            elif 'type' not in beside and (meant := _slip_of(name, beside)):
                there = '.'.join([*names[:depth], meant])
                raise UserError(
                    f'--cfg-options {key}: the config has {there!r} and nothing of the name '
                    f'{name!r}: mend it, or put a new setting so named into a config file.')
            else:
                break
    refuse_unread(cfg, options)
    before = snapshot(cfg) if options else cfg
    cfg.merge_from_dict(options)
    if testing is not None and options:
        tell_unread(before, cfg, options, testing, rules or {})


def _slip_of(name: str, names) -> str | None:
    """The one of `names` that `name` seems to be a slip of; layer1 is none of layer2."""
    near = difflib.get_close_matches(name, map(str, names), n=1, cutoff=0.88)
    return near[0] if near and re.sub(r'\d', '', near[0]) != re.sub(r'\d', '', name) else None


def refuse_unread(cfg: Config, options: dict) -> None:
    """Raise UserError for an option that would change a name and nothing that runs.

    `cfg` is the config before the options are merged into it.
    """
    for key, value in options.items():
        name, _, rest = key.partition('.')
        if name == 'data_preprocessor' and 'data_preprocessor' in (cfg.get('model') or {}):
            raise UserError(f'--cfg-options {key}: model.data_preprocessor is used, not the name '
                            f'data_preprocessor of the config: set model.{key}={_shown(value)}.')
        if name in READ or name not in cfg:
            continue
        places = list(_places(cfg, cfg[name], rest, value))
        advice = ('set what it stands for: ' + ' '.join(places[:SHOWN])
                  + (' ...' if len(places) > SHOWN else '') if places else
                  'set what it stands for, or change the file')
        raise UserError(f'--cfg-options {key}: {name!r} is a name inside the config file, and what '
                        f'runs was made of it when the file was read: {advice}.')


def _places(cfg: Config, old, rest: str, value) -> Iterator[str]:
    """KEY=VALUE for each setting that was made of a name's old value."""
    for top in READ:
        if top in cfg:
            yield from _inside(cfg[top], top, old, rest, value)


def _inside(node, place: str, old, rest: str, value) -> Iterator[str]:
    if node == old and type(node) is type(old):
        yield f'{place}.{rest}={_shown(value)}' if rest else f'{place}={_shown(value)}'
    elif isinstance(old, str) and isinstance(node, str) and old and node.startswith(old):
        yield f'{place}={_shown(str(value) + node[len(old):])}'
    elif isinstance(node, dict):
        for key, part in node.items():
            yield from _inside(part, f'{place}.{key}', old, rest, value)
    elif isinstance(node, (list, tuple)):
        for i, part in enumerate(node):
            yield from _inside(part, f'{place}.{i}', old, rest, value)


def _shown(value) -> str:
    """A value as it is written on the command line."""
    text = str(value).replace(' ', '')
    return f'"{text}"' if isinstance(value, (list, tuple, dict)) else str(value)


def overruled(arguments: dict) -> dict[str, str]:
    """{start of a setting's name: why it is not read}, by the other arguments of a tool."""
    testing = 'checkpoint' in arguments
    rules = {
        'work_dir': arguments.get('work_dir') and '--work-dir is given',
        'load_from': (testing and 'the checkpoint of the command line is'
                      or arguments.get('resume') and '--resume is given'),
        'randomness': (arguments.get('seed') is not None or arguments.get('deterministic'))
        and '--seed and --deterministic are',
        'val_': arguments.get('no_validate') and '--no-validate is given',
        'tta_': testing and not arguments.get('tta') and '--tta is not given',
        'test_dataloader.dataset.pipeline': arguments.get('tta') and '--tta takes tta_pipeline',
        'auto_scale_lr.base_batch_size': arguments.get('auto_scale_lr') is False
        and '--auto-scale-lr is not given'}
    return {start: why for start, why in rules.items() if why}


def tell_unread(before: Config, cfg: Config, options: dict, testing: bool,
                rules: dict[str, str]) -> None:
    """Print the options that this tool does not read, and those that change nothing.

    `rules` are those of `overruled`.
    """
    for key in options:
        for start, why in rules.items():
            if key.startswith(start) and not (start.startswith('auto') and (
                    cfg.get('auto_scale_lr') or {}).get('enable')):
                print(f'Of --cfg-options, {key} is not read, as {why}.', flush=True)
        if beside := _beside(before, key):
            print(f'Of --cfg-options, {key} is a new name beside {", ".join(beside)}: where '
                  'nothing reads it, nothing changes.', flush=True)
    foreign = TRAINING if testing else TESTING
    tool = 'tools/train.py' if testing else 'tools/test.py'
    other = [key for key in options if key.partition('.')[0] in foreign]
    if other:
        print(f'Of --cfg-options, this tool does not read {", ".join(other)}, which {tool} does.',
              flush=True)
    unknown = [key for key in options if key.partition('.')[0] not in (*READ, *before)]
    unknown += [key for key in options if key.startswith('auto_scale_lr.')
                and key.partition('.')[2] not in ('enable', 'base_batch_size')]
    if unknown:
        now = {BEFORE[name] for key in unknown if (name := key.partition('.')[0]) in BEFORE}
        print(f'Of --cfg-options, {", ".join(unknown)} is a new name, which mmengine does not '
              'read' + ''.join(f': set {place}' for place in sorted(now)) + '.', flush=True)
    same = [key for key in options if key not in other and _at(before, key) == (True, _at(
        cfg, key)[1])]
    if same:
        print(f'Of --cfg-options, {", ".join(same)} is so in the config already.', flush=True)


def _beside(before: Config, key: str) -> list[str]:
    """The names beside a new one, inside a dict whose reader takes any name and looks up its own.

    Where there is a `type`, and for loaders and loops, an unknown name is an error by itself.
    """
    node, names = before, key.split('.')
    for depth, name in enumerate(names):
        if isinstance(node, (list, tuple)) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, (dict, Config)) and name in node:
            node = node[name]
        else:
            any_name = depth > 1 and isinstance(node, dict) and 'type' not in node
            return sorted(map(str, node)) if any_name else []
    return []


def _at(cfg, key: str) -> tuple[bool, object]:
    """Whether there is a setting of this name, and its value."""
    node = cfg
    for name in key.split('.'):
        if isinstance(node, (list, tuple)) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, dict) and name in node or isinstance(node, Config) and name in node:
            node = node[name]
        else:
            return False, None
    return True, node


def snapshot(cfg: Config) -> Config:
    """A copy of a config, to compare with after a change."""
    return Config(copy.deepcopy(cfg._cfg_dict))
