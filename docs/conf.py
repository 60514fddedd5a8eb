"""Settings of the site: `python -m sphinx -W --keep-going -b html docs build/docs`."""
import re

from swinv2_mm import __version__

project = 'swinv2_mm'
author = 'the contributors of swinv2_mm'
project_copyright = 'the contributors of swinv2_mm, Apache-2.0'
version = release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_theme = 'furo'
html_title = f'swinv2_mm {release}'
html_copy_source = False
html_domain_indices = False

# Pages are read on GitHub as well: plain Markdown, with ::: for what only the site has.
myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 3  # links such as pretraining.md#what-each-start-is-worth

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_inherit_docstrings = False  # mmengine's and torch's are theirs, and not of one format
smartquotes = False  # 'from_checkpoint' is to be copied
napoleon_numpy_docstring = False
default_role = 'code'  # docstrings have `names` in single backticks
STARS = re.compile(r'(`[^`]*`)|\*')


def escape_stars(app, what, name, obj, options, lines):
    """Shapes such as (B, *S, C) are no emphasis."""
    lines[:] = [STARS.sub(lambda found: found[1] or r'\*', line) for line in lines]


def setup(app):
    app.connect('autodoc-process-docstring', escape_stars, priority=100)
    return dict(parallel_read_safe=True)
