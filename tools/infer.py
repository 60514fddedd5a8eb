"""Look at pictures and videos: python tools/infer.py CONFIG CHECKPOINT INPUT... [options]."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('infer')
