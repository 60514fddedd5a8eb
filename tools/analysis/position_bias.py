"""Draw the learned position bias: python tools/analysis/position_bias.py CONFIG CHECKPOINT."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('position-bias')
