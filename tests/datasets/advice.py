"""What the tests of checks before a run share: what is said, and doing as it says."""
import contextlib
import io
import json
from pathlib import Path

import small_sets as sets

from swinv2_mm.apis import check
from swinv2_mm.datasets import checks
from swinv2_mm.datasets.checks import findings
from swinv2_mm.datasets.checks.findings import ERRORS
from swinv2_mm.utils.errors import UserError


def found(cfg, *splits, level='error'):
    """{kind: sentence} of what is found; tools/train.py and tools/dataset/check.py say the same."""
    splits = splits or ('train', 'val')
    said = list(dict.fromkeys(findings(cfg, splits)))
    folder = Path(cfg.train_dataloader.dataset.get('data_root') or '/tmp')
    (folder / 'config.py').write_text(''.join(  # as cfg.dump, which formats it at length
        f'{key} = {value!r}\n' for key, value in cfg._cfg_dict.to_dict().items()))
    listed = check.gather(check.parse_args([str(folder / 'config.py'), '--splits', *splits]))
    assert {f for f in listed if isinstance(f, checks.Finding) and f.kind != 'not listed'} == set(
        said)
    errors, out, ended = [f.sentence for f in said if f.level == 'error'], io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            checks.check_data(cfg, *splits)
        except UserError as error:
            ended = str(error)
    assert ended == (errors[0] if errors else None)
    assert all(f'Also wrong: {sentence}' in out.getvalue() for sentence in errors[1:10])
    return {f.kind: f.sentence for f in said if f.level == level}


def loaders(cfg):
    """The data sets of all splits."""
    return [cfg[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')]


def name_all(cfg, classes):
    for dataset in loaders(cfg):
        dataset.metainfo = dict(classes=tuple(classes))


def spoilt(second=None, of='train', metric=('bbox', 'segm'), masks=True, **fields):
    """A maker of a detector's set whose objects have `fields`, the second one more."""
    def make(root):
        content = sets.objects(**fields)
        content['annotations'][1].update(second or {})
        return sets.detection(root, **{of: content}, masks=masks, metric=metric)
    return make


def rewrite(root, change, split='train'):
    """Change the json of a split."""
    content = json.loads((root / f'{split}.json').read_text())
    for entry in content['annotations']:
        change(entry)
    sets.put(root, split, content)


def each(**fields):
    return lambda cfg, said, root: rewrite(root, lambda entry: entry.update(fields))


def changed(make, change):
    """A maker of a set whose config is changed after it."""
    def changed_set(root):
        cfg = make(root)
        change(cfg)
        return cfg
    return changed_set


def seg(change):
    return changed(sets.maps, change)


def cls(change, **settings):
    return changed(lambda root: sets.folders(root, **settings), change)


def film(change):
    return changed(sets.films, change)


def follow(row, root):
    """Make the set of a row, see that its kind is said, do as it says, and see that all is well.

    A row: a kind, a maker of a set that has it, words of what is said, what follows the advice.
    """
    kind, make, says, mend = row
    cfg = make(root)
    level = 'error' if kind in ERRORS else 'warning'
    said = found(cfg, level=level)
    assert set(said) - {'absent class'} == {kind} and says in said[kind], said
    mend(cfg, said[kind], root)
    left = found(cfg, level=level)
    assert set(left) <= {'absent class'}, left


def names(rows):
    """Ids of rows, for pytest."""
    return [f'{kind} {number}' for number, (kind, *_) in enumerate(rows)]
