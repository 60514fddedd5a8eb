"""Train, test and draw a small model on rendered data: python tools/demo.py [TASK | all]."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('demo')
