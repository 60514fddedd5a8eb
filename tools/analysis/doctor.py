"""What is installed, what is wrong with it, what to do: python tools/analysis/doctor.py."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('doctor')
