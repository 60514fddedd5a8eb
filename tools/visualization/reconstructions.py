"""Draw what a SimMIM model makes of hidden patches, and measure it against a plain guess."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('reconstructions')
