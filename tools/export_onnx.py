"""Export a model: python tools/export_onnx.py CONFIG CHECKPOINT --size H W --out FILE.onnx."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('export')
