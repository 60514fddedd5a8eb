"""Patterns of parameter names that are read in both directions, `stages.{i+1}.blocks.{j}`."""
from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

FIELD = re.compile(r'\{(\d*)([a-z])(?:\+(\d+))?\}')  # {i}, {i+1}, {2i+1}


class Row(NamedTuple):
    """Names of a module or tensor here and there, and what happens to the values between.

    `{i}` and `{j}` stand for numbers, `{i+1}` and `{2i+1}` for numbers worked out from them, and
    `{last}` for the last stage. Several tensors that change together stand with spaces between.
    A leading slash means outside of the part of the file that holds the backbone. `only_read` rows
    are other names that files may have, and that are not written.
    """

    ours: str
    theirs: str
    change: str = 'same'
    only_read: bool = False


class Step(NamedTuple):
    """One line of a conversion: `sources` become `targets` by `change`.

    `change` is a key of `layouts.CHANGES`; or 'buffer', whose one target is its native name, or
    'dropped', both of which give no tensor.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    change: str


def match(pattern: str, name: str) -> tuple[dict[str, int], str] | None:
    """Numbers of the fields, and the rest of the name after a dot; None where it does not fit."""
    expression, fields = _compile(pattern)
    found = expression.fullmatch(name)
    if found is None:
        return None
    numbers = {}
    for (times, letter, plus), text in zip(fields, found.groups()):
        number, remainder = divmod(int(text) - plus, times)
        if remainder or number < 0 or numbers.setdefault(letter, number) != number:
            return None
    return numbers, found['rest']


def fill(pattern: str, numbers: dict[str, int]) -> str:
    """The name that a pattern gives with these numbers."""
    return FIELD.sub(lambda m: str(int(m[1] or 1) * numbers[m[2]] + int(m[3] or 0)), pattern)


@cache  # one entry per pattern of a table
def _compile(pattern: str) -> tuple[re.Pattern, list[tuple[int, str, int]]]:
    parts = FIELD.split(pattern.removeprefix('/'))
    fields = [(int(times or 1), letter, int(plus or 0))
              for times, letter, plus in zip(parts[1::4], parts[2::4], parts[3::4])]
    expression = r'(\d+)'.join(re.escape(literal) for literal in parts[::4])
    # What is outside in one file is inside in another, where there is no prefix at all.
    slash = '/?' if pattern.startswith('/') else ''
    return re.compile(rf'{slash}{expression}(?P<rest>(?:\..+)?)', re.ASCII), fields


def translate(names: Iterable[str], rows: Iterable[Row], back: bool = False) -> list[Step]:
    """Steps from their names to ours, or `back`; the first row that fits a name wins."""
    rows = [row for row in rows if not (back and row.only_read)]
    sides = [(row.theirs.split(), row.ours.split()) for row in rows]
    groups: dict[tuple, dict[int, str]] = {}
    for name in names:
        for number, pair in enumerate(sides):
            hits = [(slot, match(source, name)) for slot, source in enumerate(pair[back])]
            hit = next(((slot, found) for slot, found in hits if found), None)
            if hit:
                slot, (numbers, rest) = hit
                groups.setdefault((number, tuple(numbers.items()), rest), {})[slot] = name
                break
        else:
            groups[name,] = {0: name}
    steps = []
    for (number, *key), members in groups.items():
        if not key or len(members) < len(sides[number][back]):  # no row, or a part is missing
            steps += [Step((name,), (), 'dropped') for name in members.values()]
            continue
        numbers, rest = dict(key[0]), key[1]
        targets = tuple(fill(target, numbers) + rest for target in sides[number][not back])
        sources = tuple(members[slot] for slot in sorted(members))
        steps.append(Step(sources, targets, rows[number].change))
    return steps
