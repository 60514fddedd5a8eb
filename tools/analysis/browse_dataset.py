"""Draw what a model is really fed: python tools/analysis/browse_dataset.py CONFIG --out-dir x."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('browse')
