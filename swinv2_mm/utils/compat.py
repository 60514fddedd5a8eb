"""Makes mmaction2 importable. Importing this module does it; configs name it in `custom_imports`.

mmaction2 1.2.0, its last release, does not import beside today's packages. Its faults, and what is
done about each while it is imported, no longer:

- it refuses mmcv from 2.2 on: it is shown a version that it takes;
- its wheel lacks the package `mmaction.models.localizers.drn`, which `mmaction.models` imports: an
  empty DRN stands in;
- its language models, and those of mmpretrain, which it imports, take names from transformers that
  newer versions lack: both get what they do without transformers, a placeholder for each of these
  models that asks for the package.

For good: its modules that use names which numpy has dropped find them, and the probabilities of a
model that was trained with BCELossWithLogits are sigmoids. Nothing else stays changed, and nothing
is changed that imports as it is.
"""
import ast
import contextlib
import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy

INSTALL = 'pip install mmaction2==1.2.0'
DRN = 'mmaction.models.localizers.drn'
# Module of mmaction2 -> what it takes from numpy, which no longer has it -> what it is called now.
NUMPY = {
    'mmaction.datasets.transforms.pose_transforms': {'Inf': 'inf'},
    'mmaction.utils.misc': {'Inf': 'inf'},
    'mmaction.evaluation.functional.accuracy': {'trapz': 'trapezoid'},
    'mmaction.evaluation.metrics.multimodal_metric': {'in1d': 'isin'},
}


def _load() -> None:
    """Import mmaction2 with its models; RuntimeError, in one sentence, where it cannot be.

    Not an ImportError: mmengine would replace its sentence by advice on PYTHONPATH.
    """
    if importlib.util.find_spec('mmaction') is None:
        raise RuntimeError(f'Video needs mmaction2, which is not installed here: run `{INSTALL}`.')
    try:
        _import_package()
        with _placeholders('mmpretrain'), _placeholders('mmaction'), _drn():
            importlib.import_module('mmaction.models')
        _keep_numpy_names()
        _take_sigmoids()
    except (ImportError, AssertionError) as error:
        raise RuntimeError('mmaction2 does not import beside the other packages here, it says '
                           f'"{" ".join(str(error).split())}": install the versions that '
                           'pyproject.toml names.') from error


def _import_package() -> None:
    """`import mmaction`, past its upper limit for mmcv."""
    import mmcv
    from mmengine.utils import digit_version

    try:
        importlib.import_module('mmaction')
    except AssertionError as error:
        limits = re.search(r'mmcv>=(\S+), <(\S+?)\.?(\s|$)', str(error))
        if not limits or digit_version(mmcv.__version__) < digit_version(limits[2]):
            raise  # not the upper limit
        with _replaced(mmcv, '__version__', limits[1]):
            importlib.import_module('mmaction')
        sys.modules['mmaction'].mmcv_version = digit_version(mmcv.__version__)


@contextlib.contextmanager
def _replaced(owner, name: str, value) -> Iterator[None]:
    """Let `owner.name` be `value` for a while."""
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


@contextlib.contextmanager
def _placeholders(package: str) -> Iterator[None]:
    """For a while, `package` believes itself without transformers if that lacks what it takes."""
    spec = importlib.util.find_spec(package)
    folder = spec and Path(spec.submodule_search_locations[0]) / 'models' / 'multimodal'
    if not spec or f'{package}.models' in sys.modules or not _lacks_names(folder):
        yield
        return
    with _replaced(importlib.import_module(f'{package}.utils.dependency'), 'WITH_MULTIMODAL',
                   False):
        yield


def _lacks_names(folder: Path) -> bool:
    """Whether the files in `folder` take names from transformers, if installed, that it lacks."""
    if importlib.util.find_spec('transformers') is None:
        return False  # the libraries themselves do without it
    trees = (ast.parse(path.read_text(encoding='utf-8')) for path in sorted(folder.rglob('*.py')))
    taken = {(node.module, alias.name) for tree in trees for node in ast.walk(tree)
             if isinstance(node, ast.ImportFrom) and not node.level
             and node.module.split('.')[0] == 'transformers' for alias in node.names}
    # Most of what is missing is missing in modeling_utils: looked at first, for speed.
    for module, name in sorted(taken, key=lambda pair: (not pair[0].endswith('modeling_utils'),
                                                        pair)):
        try:
            getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            return True
    return False


class MissingDRN:
    """Stands where mmaction2's wheel should hold DRN; it cannot be built."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError('DRN must come from a checkout of mmaction2, its wheel lacks the files: '
                           'run `pip install -e` on one to use it.')


class _DrnFinder:
    """Finds the missing package, once every other finder has been asked in vain."""

    def __init__(self):
        self.made = []

    def find_spec(self, name, path=None, target=None):
        if name in (DRN, f'{DRN}.drn'):
            return ModuleSpec(name, self, is_package=name == DRN)
        return None

    def create_module(self, spec):
        return None  # the ordinary kind

    def exec_module(self, module):
        self.made.append(module.__name__)
        module.DRN = MissingDRN


@contextlib.contextmanager
def _drn() -> Iterator[None]:
    """For a while, `mmaction.models.localizers.drn` can be imported wherever it is missing."""
    finder = _DrnFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            parent, _, child = name.rpartition('.')
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)
            del sys.modules[name]


def _keep_numpy_names() -> None:
    """Give modules of mmaction2 a numpy with the names they use, where numpy dropped them."""
    for place, names in NUMPY.items():
        gone = {old: new for old, new in names.items() if not hasattr(numpy, old)}
        if not gone:
            continue
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith('mmaction'):
                raise
            continue  # a version that keeps its code elsewhere
        if vars(module).get('np') is numpy:
            module.np = _Numpy(gone)


def _take_sigmoids() -> None:
    """Let `average_clips='prob'` average the probabilities that the loss of a head trains.

    mmaction2 takes a softmax whatever the loss: a film with two labels that are both certain gets
    0.5 and 0.5, and mean average precision compares films by numbers that depend on the other
    labels. A loss of one yes or no for each class trains sigmoids.
    """
    try:
        from mmaction.models.heads.base import BaseHead
        from mmaction.models.losses import BCELossWithLogits, HVULoss
    except ModuleNotFoundError as error:
        if not str(error.name).startswith('mmaction'):
            raise
        return  # a version that keeps its code elsewhere
    plain, losses = BaseHead.average_clip, (BCELossWithLogits, HVULoss)

    def average_clip(self, cls_scores, num_segs=1):
        if self.average_clips != 'prob' or not isinstance(self.loss_cls, losses):
            return plain(self, cls_scores, num_segs=num_segs)
        return cls_scores.unflatten(0, (-1, num_segs)).sigmoid().mean(dim=1)

    BaseHead.average_clip = average_clip


class _Numpy(types.ModuleType):
    """numpy, and some names it had."""

    def __init__(self, gone: dict[str, str]):
        super().__init__('numpy')
        vars(self).update({old: getattr(numpy, new) for old, new in gone.items()})

    def __getattr__(self, name: str):
        return getattr(numpy, name)


_load()
