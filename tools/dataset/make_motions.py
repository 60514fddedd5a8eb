"""Write a toy video data set: one moving shape a film, the class being how it moves."""
from swinv2_mm.cli import run

if __name__ == '__main__':
    run('make-motions')
