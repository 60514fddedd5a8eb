"""Draw where a token looks: python tools/analysis/attention.py CONFIG CHECKPOINT IMAGE."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('attention')
