"""Write the hashes of all pinned packages into the lock file, or check that they are there.

    python tools/lock_hashes.py           (check: every pin has one, and nothing else is there)
    python tools/lock_hashes.py --write   (ask the package index, and write requirements.lock anew)

pip itself is asked, for each Python that the lock is for, which file it would install and what its
hash is (`pip install --dry-run --report`); the answer is the index's, and nothing is installed.
With hashes, pip refuses a file that is not the one that was pinned. Packages without a wheel are
pinned by the hash of their source.
"""
from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from setup_needs import VERSIONS

from swinv2_mm.utils.errors import UserError

LOCK = Path(__file__).resolve().parents[1] / 'requirements.lock'
HASH = re.compile(r'--hash=sha256:([0-9a-f]{64})')
Pin = str  # 'name==version' or 'name==version ; marker', as in the file
# What a machine with glibc 2.36 (Debian 12) takes, best first, as pip there would order it.
PLATFORMS = (*(f'manylinux_2_{minor}_x86_64' for minor in range(36, 4, -1)),
             'manylinux2014_x86_64', 'manylinux2010_x86_64', 'manylinux1_x86_64', 'linux_x86_64')
AT_ONCE = 16  # pins in one call of pip, which may have to fetch their files, and again if one fails


def parse(text: str) -> list[tuple[str, set[str]]]:
    """Lines of a lock file, backslashes joined: (pin or comment or '', its hashes)."""
    lines = text.replace('\\\n', ' ').splitlines()
    return [(HASH.sub('', line).strip(), set(HASH.findall(line))) for line in lines]


def pins(text: str) -> dict[Pin, set[str]]:
    """Each pin of a lock file and its hashes."""
    return {line: hashes for line, hashes in parse(text) if line and not line.startswith('#')}


def render(text: str, hashes: dict[Pin, set[str]]) -> str:
    """The lock file with these hashes, one a line below each pin."""
    out = []
    for line, _ in parse(text):
        found = sorted(hashes.get(line, ()))
        out.append(' \\\n    '.join([line, *(f'--hash=sha256:{value}' for value in found)]))
    return '\n'.join(out) + '\n'


def faults(text: str) -> list[str]:
    """What keeps a lock file from being whole, a sentence for each."""
    found = [f'{pin} has no hash' for pin, hashes in pins(text).items() if not hashes]
    found += [f'{pin} is not NAME==VERSION' for pin in pins(text)
              if not re.match(r'[\w.-]+==[\w.!+-]+( ;|$)', pin)]
    loose = [line for line, hashes in parse(text) if hashes and (not line or line[0] == '#')]
    loose += [line for line, _ in parse(text) if '--hash' in line]
    return found + [f'a hash that is no sha256, or belongs to no pin, is at {line!r}'
                    for line in loose]


def applies(pin: Pin, version: tuple[int, int]) -> bool:
    """Whether a pin is for a Python on Linux x86-64."""
    marker = Requirement(pin).marker
    number = '{}.{}'.format(*version)
    return marker is None or marker.evaluate(dict(
        python_version=number, python_full_version=f'{number}.0', sys_platform='linux',
        platform_machine='x86_64', platform_system='Linux', implementation_name='cpython'))


def ask(wanted: list[Pin], version: tuple[int, int], sources: dict) -> dict[Pin, set[str]]:
    """The hashes of the files that pip would install for one Python.

    Pins without a wheel join `sources`, by the hash of their source; those in it are not asked for.
    """
    wanted, hashes = [pin for pin in wanted if pin not in sources], {}
    while wanted:
        some = wanted[:AT_ONCE]
        found, said = _report(some, version)
        lost = [pin for pin in some if f'distribution found for {pin.split(" ;")[0]}' in said]
        if said:
            found, again = _report(lost, None) if lost else ({}, said)
            if again:
                raise UserError('The package index must have a wheel or a source of each pin for '
                                f'Python {version[0]}.{version[1]}.0, and pip says "{said}": '
                                'correct the pin, or connect to the network.')
        (sources if said else hashes).update(found)
        wanted = [pin for pin in wanted if pin not in found]
    return hashes


def _report(wanted: list[Pin], version: tuple[int, int] | None) -> tuple[dict[Pin, set[str]], str]:
    """Pin -> hashes by one call of pip, and what it says where it fails; of sources for None."""
    names = {_plain(Requirement(pin).name): pin for pin in wanted}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / 'report.json'
        kind = ['--no-binary=:all:', '--no-build-isolation'] if version is None else [
            '--only-binary=:all:', '--python-version={}.{}'.format(*version),
            '--target', folder, *(f'--platform={name}' for name in PLATFORMS)]
        done = subprocess.run(
            [sys.executable, '-m', 'pip', 'install', '--dry-run', '--ignore-installed', '--no-deps',
             '--quiet', '--no-input', '--report', str(report), *kind,
             *(pin.split(' ;')[0] for pin in wanted)], capture_output=True, text=True)
        if done.returncode or not report.exists():
            return {}, ' '.join(done.stderr.split())[-600:] or 'nothing'
        content = json.loads(report.read_text())
    found = {}
    for item in content['install']:
        sums = item['download_info']['archive_info']['hashes']
        found[names[_plain(item['metadata']['name'])]] = {sums['sha256']}
    missing = [pin for pin in wanted if pin not in found]
    return found, f'nothing of {missing}' if missing else ''


def _plain(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def gather(text: str) -> dict[Pin, set[str]]:
    """The hashes of every pin, over all Pythons that it is for."""
    hashes, sources = {pin: set() for pin in pins(text)}, {}
    for version in VERSIONS:
        wanted = [pin for pin in hashes if applies(pin, version)]
        for pin, values in ask(wanted, version, sources).items():
            hashes[pin] |= values
        print('Python {}.{}: {} pins'.format(*version, len(wanted)), flush=True)
    return {pin: values | sources.get(pin, set()) for pin, values in hashes.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--write', action='store_true', help='ask the package index for all hashes')
    parser.add_argument('--lock', type=Path, default=LOCK, help='(requirements.lock)')
    args = parser.parse_args()
    text = args.lock.read_text(encoding='utf-8')
    if args.write:
        text = render(text, gather(text))
        args.lock.write_text(text, encoding='utf-8')
    found = faults(text)
    for fault in found[:20]:
        print(f'{args.lock.name}: {fault}')
    print(f'{args.lock.name}: {len(pins(text))} pins, {len(found)} faults'
          + (': `python tools/lock_hashes.py --write` asks the index.' if found else '.'))
    return 1 if found else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f'Error: {error}')
