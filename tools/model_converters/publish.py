"""Make a trained checkpoint fit for release: weights alone, safe to load, and named by its hash."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('publish')
