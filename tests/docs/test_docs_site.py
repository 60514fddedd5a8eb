"""The site: it builds without a warning, and every page and link of it leads somewhere."""
import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers import ROOT, checked

NEEDED = [name for name in ('sphinx', 'myst_parser', 'furo')
          if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(NEEDED), reason=f'not installed here: {", ".join(NEEDED)}')]


class Page(HTMLParser):
    """What an HTML page points to, and the places in it that can be pointed to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.places = [], {''}
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ('href', 'src') and value:
                self.targets.append(value)
            elif key in ('id', 'name') and value:
                self.places.add(value)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """Folder of the site: {path: Page}."""
    out = tmp_path_factory.mktemp('site')
    checked(subprocess.run(
        [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-d', out / 'doctrees', '-b',
         'html', ROOT / 'docs', out / 'html'], text=True, capture_output=True, timeout=600))
    return {path: Page(path) for path in sorted((out / 'html').rglob('*.html'))
            if '_downloads' not in path.parts}  # what is to take along is no page


def links(path, page):
    """(file, place) of all that a page points to inside of the site."""
    for target in page.targets:
        parts = urlsplit(target)
        if not parts.scheme and not parts.netloc:
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            yield file, unquote(parts.fragment)


def test_every_link_leads_to_a_file_and_a_place_that_are_there(site):
    broken = []
    for path, page in site.items():
        for file, place in links(path, page):
            if not file.is_file() or file in site and place not in site[file].places:
                broken.append(f'{path.name} -> {file.name}#{place}')
    assert broken == []


def test_every_page_can_be_reached_from_the_first_one(site):
    first = next(path for path in site if path.name == 'index.html')
    seen, waiting = set(), [first]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += [file for file, _ in links(path, site[path]) if file in site]
    assert {path.stem for path in site} - {path.stem for path in seen} == set()
    pages = {page.stem for kind in ('md', 'rst') for page in (ROOT / 'docs').glob(f'*.{kind}')}
    assert pages <= {path.stem for path in seen}


def test_the_site_asks_no_other_machine_for_anything(site):
    """Fonts, scripts and styles are its own: it can be read offline."""
    tags = {target for page in site.values() for target in page.targets
            if urlsplit(target).path.endswith(('.js', '.css', '.woff', '.woff2', '.png', '.jpg'))}
    assert [target for target in tags if urlsplit(target).netloc] == []


def test_all_public_names_are_on_the_page_of_the_api(site):
    import swinv2_mm.checkpoints
    import swinv2_mm.engine
    import swinv2_mm.models
    api = next(page for path, page in site.items() if path.name == 'api.html')
    missing = [f'{module.__name__}.{name}' for module in (
        swinv2_mm, swinv2_mm.checkpoints, swinv2_mm.engine) for name in module.__all__
        if name != '__version__' and f'{module.__name__}.{name}' not in api.places]
    missing += [name for name in swinv2_mm.models.__all__
                if not any(place.endswith(f'.{name}') for place in api.places)]
    assert missing == []


def test_a_warning_fails_the_build(tmp_path):
    """What the others rest on: a link to no page, and a page that nothing names."""
    conf = (ROOT / 'docs' / 'conf.py').read_text().replace(
        'Path(__file__).resolve().parents[1]', f'Path({str(ROOT)!r})')
    (tmp_path / 'conf.py').write_text(conf)
    (tmp_path / 'index.md').write_text('# One\n\n[two](two.md)\n')
    (tmp_path / 'three.md').write_text('# Three\n')
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html',
                           tmp_path, Path(tmp_path, 'out')], text=True, capture_output=True,
                          timeout=600)
    assert done.returncode != 0
    assert 'two.md' in done.stderr and 'toctree' in done.stderr
