"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('test')
