"""Count multiply-adds and parameters of a config's model: python tools/analysis/flops.py CONFIG."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('flops')
