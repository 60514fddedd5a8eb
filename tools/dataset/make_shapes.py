"""Write a toy detection and segmentation data set: textured shapes over clutter."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('make-shapes')
