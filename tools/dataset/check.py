"""Find and list all files of a data set that training would stumble on, in one pass."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('check')
