"""A web page that shows what models see: python tools/web_demo.py --model CONFIG CHECKPOINT."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('web')
