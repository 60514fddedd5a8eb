"""Train a model: python tools/train.py CONFIG [options]. mmengine's Runner does the work."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('train')
