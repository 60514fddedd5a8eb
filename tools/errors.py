"""Mistakes of the user: an error whose message is all that needs to be shown."""
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user gave; its message is one sentence: rule, what came, what to do."""


def check_file(path: str, what: str, hint: str) -> None:
    """Raise UserError unless `path` is a file or a URL, which is the reader's to check."""
    if '://' not in path and not Path(path).is_file():
        raise UserError(f'There is no {what} at {path!r}: {hint}.')


def short(names) -> str:
    """A tuple of names as text, cut off after twelve."""
    names = tuple(names)
    return str(names) if len(names) <= 12 else f'{str(names[:12])[:-1]}, ... {len(names)} in all)'
