"""Which picture goes to which split: by what the labels say, or by a seed, groups kept together."""
from __future__ import annotations

import hashlib
import re
from collections import defaultdict

from swinv2_mm.utils.errors import UserError

from .pictures import Picture


def group_of(picture: Picture, pattern: str | None) -> str:
    """What must not be torn apart: what the pattern, or its first group, finds in a path.

    The word `folder` stands for its folder; without a pattern, each picture is a group.
    """
    if pattern is None or pattern == 'folder':
        return picture.source.rpartition('/')[0] if pattern else picture.source
    match = re.search(pattern, picture.source)
    if match is None:
        raise UserError(f'--group must match the path of every picture, {pattern!r} is not in '
                        f'{picture.source!r}: correct the pattern.')
    return match[1] if match.re.groups else match[0]


def assign(pictures: list[Picture], val: float, test: float, seed: int,
           pattern: str | None = None, anew: bool = False) -> None:
    """Set `split` of every picture.

    Splits of the labels stay, unless `anew`; of their training pictures, the share `val` becomes a
    validation split where they have none. Groups follow each other as the hashes of seed and name:
    further pictures move few of those there.
    """
    splits = {'' if anew else picture.split for picture in pictures}
    if '' in splits and len(splits) > 1:
        raise UserError('Each picture must have its split, or none, and some have one: split all '
                        'anew by --resplit.')
    shares = (dict(val=val, test=test) if splits == {''} else {} if 'val' in splits
              else dict(val=val))
    groups = defaultdict(list)
    for picture in pictures:
        if shares and (anew or picture.split in ('', 'train')):
            groups[group_of(picture, pattern)].append(picture)
    names = sorted(groups, key=lambda name: hashlib.sha256(f'{seed}/{name}'.encode()).digest())
    total = sum(map(len, groups.values()))
    for split, share in [*shares.items(), ('train', 1)]:
        wanted, count = share * total, 0
        for name in list(names):
            more = count + len(groups[name])
            if split == 'train' or wanted and (
                    not count or abs(wanted - more) < abs(wanted - count)):
                names.remove(name)
                count = more
                for picture in groups[name]:
                    picture.split = split
    if not any(picture.split == 'train' for picture in pictures):
        raise UserError(f'Pictures must be left to train on, of {total} in {len(groups)} groups '
                        f'--val {val} and --test {test} leave none: give smaller shares, or a '
                        '--group that tells more of them apart.')
