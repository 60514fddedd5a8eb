"""Mistakes of the user: an error whose message is all that needs to be shown."""
from __future__ import annotations

import difflib
import errno
import os
import re


class UserError(ValueError):
    """A mistake in what the user gave; its message is one sentence: rule, what came, what to do."""


def check_file(path: str, what: str, hint: str) -> None:
    """Raise UserError unless `path` is a file or a URL, which is the reader's to check."""
    if '://' not in path and not os.path.isfile(path):
        raise UserError(f'There is no {what} at {path!r}: {hint}.')


def short(names) -> str:
    """A tuple of names as text, cut off after twelve."""
    names = tuple(names)
    return str(names) if len(names) <= 12 else f'{str(names[:12])[:-1]}, ... {len(names)} in all)'


def outside_fault(error: Exception) -> str | None:
    """What a full or read-only disk, or a lost process, has to say; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    where = f' at {error.filename!r}' if number and error.filename else ''
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (f'{error.strerror}{where}: make room, then run the command again (training: with '
                '--resume, all checkpoints are whole).')
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (f'{error.strerror}{where}: change its permissions, or give another folder '
                '(--work-dir, --show-dir, --out).')
    if re.search('Connection (closed|reset) by peer|Broken pipe', str(error)):
        return ('Another process of this training is gone: look for its last words above or in '
                'its own log, then go on with --resume.')
    return None


def did_you_mean(name: str, names) -> str | None:
    """The one of `names` that `name` seems to be a slip of; None where none is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    if near:
        return near[0]
    # Two letters swapped in a short word are far apart for difflib.
    return next((other for other in names if sorted(other.lower()) == sorted(name.lower())), None)
