"""Curves of several runs, one over the other."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('plot-log')
