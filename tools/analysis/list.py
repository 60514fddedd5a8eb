"""List configs and public checkpoints: python tools/analysis/list.py [configs | checkpoints]."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('list')
