"""List configs and public checkpoints: python tools/analysis/list.py [configs | checkpoints].

What is listed is what the metafiles beside the configs say, in a checkout and in an installed
package alike; tests hold them against the configs.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from swinv2_mm.utils.errors import UserError

# Configs and their index: of an installed package below it, of a checkout beside it.
PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE / '.mim' if (PACKAGE / '.mim').is_dir() else PACKAGE.parent


def models(root: Path = ROOT) -> list[dict]:
    """Rows of all metafiles that model-index.yml under a root imports."""
    index = root / 'model-index.yml'
    if not index.is_file():
        raise UserError(f'Configs must lie beside model-index.yml, and {index} is not there: run '
                        'this from a checkout or from the .mim folder of the installed package.')
    files = [root / name for name in yaml.safe_load(index.read_text())['Import']]
    return [row for file in files for row in yaml.safe_load(file.read_text())['Models']]


def config_row(model: dict) -> dict:
    """One line about a config."""
    about = model['Metadata']
    results = [f'{name} {value}' for result in model.get('Results', [])
               for name, value in result['Metrics'].items()]
    sources = {result['Source'] for result in model.get('Results', [])}
    return {
        'config': model['Config'],
        'model': ', '.join(about['Architecture']),
        'data': about['Training Data'],
        'input': about['Input Size'],
        'window': about['Window Size'],
        'params (M)': round(about['Parameters'] / 1e6, 1),
        'FLOPs (G)': round(about['FLOPs'] / 1e9, 2) if 'FLOPs' in about else None,
        'published': f'{", ".join(results)} ({", ".join(sorted(sources))})' if results else None,
        'trained here': 'yes' if about['Trained Here'] else 'no',
    }


def checkpoint_row(model: dict) -> dict:
    """One line about a public file of weights."""
    about = model['Metadata']
    metrics = model['Results'][0]['Metrics'] if model.get('Results') else {}
    return {
        'checkpoint': model['Weights'].rpartition('/')[2].removesuffix('.pth'),
        'arch': about['Architecture'][-1].removeprefix('SwinV2 '),
        'data': about['Training Data'],
        'input': about['Input Size'],
        'top-1': metrics.get('Top 1 Accuracy'),
        'top-5': metrics.get('Top 5 Accuracy'),
        'config': model['Config'],
        'url': model['Weights'],
    }


def text_table(rows: list[dict]) -> str:
    """Aligned columns; what is not known is a dash."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


def markdown_table(rows: list[dict]) -> str:
    """The same in Markdown."""
    lines = [list(rows[0]), ['---'] * len(rows[0]),
             *([_cell(value).replace('|', '\\|') for value in row.values()] for row in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(value) -> str:
    return '-' if value is None else str(value)


def main(argv: list | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', nargs='?', choices=['configs', 'checkpoints'], default='configs')
    parser.add_argument('--match', default='', help='only rows with this text in any cell')
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true', help='print JSON')
    form.add_argument('--md', action='store_true', help='print a Markdown table')
    args = parser.parse_args(argv)
    try:
        found = models()
    except UserError as error:
        sys.exit(f'Error: {error}')
    rows = ([config_row(model) for model in found] if args.what == 'configs' else
            [checkpoint_row(model) for model in found if model.get('Weights')])
    rows = [row for row in rows
            if args.match.lower() in ' '.join(map(str, row.values())).lower()]
    if args.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        print(markdown_table(rows) if args.md else text_table(rows))
    else:
        sys.exit(f'Error: No row has {args.match!r} in it: leave --match out to see all.')


def cli() -> None:
    """The command line of this tool."""
    main()
