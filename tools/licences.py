"""List the licence of every package that requirements.lock pins, as docs/licences.md.

    python tools/licences.py           (check that the page is up to date)
    python tools/licences.py --write

What a package says of itself is taken from its metadata, in the environments that are installed
here: its License-Expression, else its classifiers, else the first line of its License.
"""
import argparse
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import lock_hashes

ROOT = Path(__file__).resolve().parents[1]
NOT_HERE = 'not needed by the Python that this page was written with'
PAGE = ROOT / 'docs/licences.md'
FREE = ('MIT', 'BSD', 'Apache', 'ISC', 'PSF', 'Python Software Foundation', 'HPND', 'Zlib',
        'Unlicense', 'CC0', '0BSD', 'CNRI', '3-Clause', 'FreeBSD')
HEAD = '''# Licences of what is installed

Written by `python tools/licences.py --write` from what each package that `requirements.lock` pins
says of itself. It is no legal advice. This project is Apache-2.0 and ships none of these packages.
The wheels of OpenCV, decord and PyAV hold builds of FFmpeg, which has licences of its own.
Not plainly one of the permissive licences are:

{special}

| package | version | licence |
|---|---|---|
'''


def licence(about: metadata.PackageMetadata) -> str:
    """What a package says of its licence, in a few words."""
    if said := about.get('License-Expression'):
        return said
    named = [line.rpartition(' :: ')[2] for line in about.get_all('Classifier') or ()
             if line.startswith('License ::') and not line.endswith('DFSG approved')]
    if named:
        return ', '.join(named)
    text = (about.get('License') or '').strip()
    first = text.splitlines()[0].strip() if text else ''
    return first[:60] if first and first != 'UNKNOWN' else _by_its_file(about) or 'not stated'


def _by_its_file(about: metadata.PackageMetadata) -> str:
    """The name in the first line of the licence file, for packages that only have that."""
    for file in metadata.files(about['Name']) or ():
        if re.match(r'(LICENSE|LICENCE|COPYING)', file.name, re.IGNORECASE):
            lines = file.locate().read_text(errors='replace').split('\n')
            first = next((line.strip() for line in lines if line.strip()), '')
            return f'{first[:60]} (its file)'
    return ''


def installed(folders: Iterable[Path]) -> dict[str, metadata.PackageMetadata]:
    """Plain name -> metadata, over the environments that are here."""
    path = [str(folder) for folder in folders if folder.is_dir()]
    return {lock_hashes._plain(dist.metadata['Name']): dist.metadata
            for dist in metadata.distributions(path=path)}


def page(lock: str, found: dict) -> tuple[str, list[str]]:
    """The page, and the names of packages that are pinned and not installed here."""
    versions = {}
    for pin in lock_hashes.pins(lock):
        name, _, version = pin.partition(' ;')[0].partition('==')
        versions.setdefault(name, []).append(version)
    rows, special, missing = [], [], []
    for name, all_of_it in sorted(versions.items()):
        about = found.get(lock_hashes._plain(name))
        if about is None:
            missing.append(name)
            rows.append(f'| {name} | {", ".join(all_of_it)} | {NOT_HERE} |')
            continue
        said = licence(about)
        if not said.removeprefix('LicenseRef-').startswith(FREE):
            special.append(f'- {name}: {said}')
        rows.append(f'| {name} | {", ".join(all_of_it)} | {said} |')
    return HEAD.format(special='\n'.join(special)) + '\n'.join(rows) + '\n', missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--write', action='store_true', help='write docs/licences.md')
    args = parser.parse_args()
    sites = [path for name in ('.venv', '.venv-peers')
             for path in (ROOT / name).glob('lib/python3*/site-packages')]
    text, missing = page(lock_hashes.LOCK.read_text(encoding='utf-8'), installed(sites))
    if missing:
        print('Not installed here, and so listed without a licence: ' + ', '.join(missing) + '.')
    if args.write:
        PAGE.write_text(text, encoding='utf-8')
    elif not PAGE.exists() or PAGE.read_text(encoding='utf-8') != text:
        print(f'{PAGE.relative_to(ROOT)} is not what is installed: run `python tools/licences.py '
              '--write`.')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
