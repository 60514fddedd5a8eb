"""Look up known vulnerabilities of the pinned packages: python tools/audit.py

pip-audit does the work (`pip install pip-audit`), and asks a database on the network. Exit status
0: none known; 1: some are, one line each; 3: it could not be asked, which is said and proves
nothing.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile

import lock_hashes

COULD_NOT = 3


def ask(lock: str) -> tuple[list[dict] | None, str]:
    """Packages as pip-audit reports them, or None and the reason."""
    with tempfile.NamedTemporaryFile('w', suffix='.txt') as file:
        file.write('\n'.join(lock_hashes.pins(lock)))
        file.flush()
        try:
            done = subprocess.run(
                [sys.executable, '-m', 'pip_audit', '--no-deps', '--disable-pip', '--format=json',
                 '--progress-spinner=off', '-r', file.name], capture_output=True, text=True,
                timeout=600)
        except subprocess.TimeoutExpired:
            return None, 'it gave no answer in 10 minutes'
    if 'No module named pip_audit' in done.stderr:
        return None, 'it is not installed: run `pip install pip-audit`'
    try:
        return json.loads(done.stdout)['dependencies'], ''
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or ['it said nothing']
        return None, f'it says "{lines[-1][:200]}"'


def findings(packages: list[dict]) -> list[str]:
    """A line for each known vulnerability, and for each package that was passed over."""
    lines = []
    for package in packages:
        if reason := package.get('skip_reason'):
            lines.append(f'{package["name"]} was not looked up: {reason}')
        for found in package.get('vulns') or ():
            mended = ', '.join(found.get('fix_versions') or ()) or 'no version yet'
            lines.append(f'{package["name"]} {package["version"]}: {found["id"]}, mended in '
                         f'{mended}')
    return lines


def main(arguments=None) -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    packages, reason = ask(lock_hashes.LOCK.read_text(encoding='utf-8'))
    if packages is None:
        print('The pins were NOT looked up: pip-audit must run and reach its database, and '
              f'{reason}.')
        return COULD_NOT
    lines = findings(packages)
    print('\n'.join([*lines, f'{len(packages)} packages looked up.']))
    return 1 if lines else 0


if __name__ == '__main__':
    sys.exit(main())
