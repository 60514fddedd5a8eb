"""Measure how fast a config's model is on this machine."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('throughput')
