"""Write a config for your own data: python tools/new.py TASK DATA."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('new')
