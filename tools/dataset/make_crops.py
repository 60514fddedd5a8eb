"""Write a toy data set of single shapes over clutter: one folder a kind, and a map a picture."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('make-crops')
