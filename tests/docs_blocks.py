"""What tests read out of a page of docs/: its named blocks, its tables, its commands."""
import re
import shlex

from helpers import ROOT

NAMED = re.compile(r'<!-- test: (?P<name>[\w-]+) -->\s*^```\w+\n(?P<text>.*?)^```',
                   re.DOTALL | re.MULTILINE)
SHELL = re.compile(r'^```(?:bash|shell)\n(.*?)^```', re.DOTALL | re.MULTILINE)


def page(name):
    return (ROOT / 'docs' / f'{name}.md').read_text()


def block(name, label):
    """The block of a page that follows the comment `<!-- test: LABEL -->`."""
    found = [match['text'] for match in NAMED.finditer(page(name)) if match['name'] == label]
    assert len(found) == 1, f'docs/{name}.md must hold one block named {label}, has {len(found)}'
    return found[0]


def tables(name, start):
    """Rows of cells of each table of a page whose head begins so, less the head."""
    text, found = page(name), []
    for match in re.finditer(rf'^\| {re.escape(start)} \|.*(?:\n\|.*)*', text, re.MULTILINE):
        found.append([[cell.strip() for cell in line.strip('|').split(' | ')]
                      for line in match[0].splitlines()[2:]])
    assert found, f'docs/{name}.md must hold a table that begins with {start}'
    return found


def commands(text):
    """Words of each command in the shell blocks of a text."""
    lines = '\n'.join(SHELL.findall(text)).replace('\\\n', ' ').splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
