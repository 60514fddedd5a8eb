"""Make COCO json or maps of what labelling tools write: python tools/dataset/labels.py FOLDER."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('labels')
