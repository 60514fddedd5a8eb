"""Packages that a data set or its pipeline needs and that no extra of setup.py brings."""
from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from swinv2_mm.utils.errors import UserError

from . import kind

NEEDED = {  # type of a data set -> package, what installs it
    'LVISV05Dataset': ('lvis', 'pip install lvis'),
    'LVISV1Dataset': ('lvis', 'pip install lvis')}


def check(dataset: dict, where: str) -> None:
    """Raise UserError for a missing package, and for an InstaBoost that fails with this numpy."""
    name = kind(dataset)
    package, install = NEEDED.get(name, (None, None))
    if package and find_spec(package) is None:
        raise UserError(f'{name} at {where}.dataset needs the package {package}, which is not '
                        f'installed: {install}.')
    for place in _places('InstaBoost', dataset.get('pipeline') or [], f'{where}.dataset.pipeline'):
        group, _, _ = place.rpartition('.')
        without = (f'do without by --cfg-options {group}="[]"' if group.endswith('.transforms')
                   else 'take it out of the config')
        if find_spec('instaboostfast') is None:
            raise UserError(f'InstaBoost at {place} needs the package instaboostfast, which is not '
                            f'installed: pip install instaboostfast, or {without}.')
        if fault := _fault_of_instaboost():
            raise UserError(f'InstaBoost at {place} needs an instaboostfast that takes objects in '
                            f'several pieces, and the installed one raises {fault}: in its '
                            'pycococreater.py write [c - 1 for c in contours] for '
                            f'np.subtract(contours, 1), or {without}.')


def _fault_of_instaboost() -> str:
    """What its release 0.1.2 ends in with numpy 1.24 or newer, as soon as such an object comes."""
    import matplotlib
    import numpy as np
    backend = matplotlib.get_backend()
    from instaboostfast.pycococreater import binary_mask_to_polygon
    matplotlib.use(backend)  # the import changes it
    pieces = np.zeros((9, 9), np.uint8)
    pieces[1:3, 1:3] = pieces[5:8, 5:8] = 1
    try:
        binary_mask_to_polygon(pieces)
    except ValueError as error:
        return f'{type(error).__name__} with numpy {np.__version__}'
    return ''


def _places(name: str, node: list | dict, place: str) -> Iterator[str]:
    """Where in a pipeline a transform is, also inside others."""
    if isinstance(node, list):
        for i, transform in enumerate(node):
            yield from _places(name, transform, f'{place}.{i}')
    elif isinstance(node, dict):
        if kind(node) == name:
            yield place
        yield from _places(name, node.get('transforms') or [], f'{place}.transforms')
