"""Make COCO json of boxes in the format of Pascal VOC: python tools/dataset/voc_to_coco.py ROOT."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('voc-to-coco')
