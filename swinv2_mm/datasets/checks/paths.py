"""Names in annotations against the folder of the data: none may lead out of it.

Annotations come from strangers; the folders in a config do not. So a name is refused that would
read a file beyond the data root and the folder of the images; links inside them are the user's own.
"""
import os
from collections.abc import Iterable

from swinv2_mm.utils.errors import UserError


def leads_out(name: str, folder: str, root: str) -> bool:
    """Whether `name`, taken from `folder`, lies neither below it nor below `root`."""
    if '\0' in name:
        return True
    if '..' not in name and not name.startswith(('/', '~')):
        return False
    path = os.path.abspath(os.path.join(folder, name))
    homes = [os.path.abspath(home or '.') for home in (folder, root)]
    return not any(path.startswith(home.rstrip('/') + '/') for home in homes)


def check_plain(path: str) -> None:
    """Raise UserError for a text file with a byte order mark, which joins the first name in it."""
    if '://' in path:
        return
    with open(path, 'rb') as file:
        start = file.read(3)
    if start == b'\xef\xbb\xbf' or start[:2] in (b'\xff\xfe', b'\xfe\xff'):
        came = 'utf-8-sig' if start[0] == 0xef else 'utf-16'
        raise UserError(f'{path} must be plain UTF-8 to be read, and starts with a byte order '
                        f'mark: save it without (in Python: read it as {came}, write it as utf-8).')


def check_names(names: Iterable[str], folder: str, root: str, listed_in: str, where: str) -> None:
    """Raise UserError for the first name that leads out of `folder` and `root`."""
    for name in names:
        if leads_out(name, folder, root):
            raise UserError(
                f'Names in {listed_in} must stay inside the data, {os.path.join(root or ".", "")}, '
                f'got {name!r}: correct it, or set data_root of {where}.dataset to a folder that '
                'holds it.')
