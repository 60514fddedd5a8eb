"""Draw how large activations are behind each block: python tools/analysis/activations.py CONFIG."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('activations')
