"""Convert a SwinV2 checkpoint between the layouts of the libraries that have SwinV2."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('convert')
