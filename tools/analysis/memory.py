"""Plan the memory of a training step: where the bytes go, and what makes it fit a card."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('plan')
