"""Curves of several runs, one over the other: python tools/analysis/plot_log.py RUN... --out x.png."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('plot-log')
