"""Draw predictions on videos as strips of frames: truth and top-1 written over each."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('filmstrips')
