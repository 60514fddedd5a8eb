"""A folder with bad inputs of many kinds: all good ones are done, each bad one has its reason."""
import os
import re

import bad_files
import cv2
import numpy as np
import pytest
from film_checks import ffmpeg, made
from infer_checks import damaged_animation, infer, picture, read

from swinv2_mm.utils.errors import UserError

GOOD = int(os.environ.get('GOOD_INPUTS', 40))
FILMS = 'closed.mp4', 'b_frames.avi', 'vp9.webm', 'open.ts'
# Ending of a name -> what makes two of the kind, and what is said of them.
BAD = {}


def bad(ending, reason):
    def keep(make):
        BAD[ending] = make, reason
        return make
    return keep


@bad('empty.jpg', 'it is empty')
def _(path, number):
    path.touch()


@bad('page.png', "it is a web page, not an image")
def _(path, number):
    path.write_text('<!DOCTYPE html><html>404</html>' * (number + 1))


@bad('cut.jpg', r'it is cut off: \d+ bytes of JPEG without their end')
def _(path, number):
    path.write_bytes(bad_files.encoded()[:-200 - number])


@bad('damaged.png', "it cannot be decoded .part b'")
def _(path, number):
    path.write_bytes(damaged_animation())


@bad('large.png', 'it has 10001 x 1000[01] pixels, more than max_pixels=100,000,000; --max-pixels')
def _(path, number):
    path.write_bytes(bad_files.png(10_001, 10_000 + number))


@bad('wide.png', r'its result \S+wide.jpg cannot be written .6600[01] x \d+ pixels are too many')
def _(path, number):
    cv2.imwrite(str(path), np.zeros((32, 66_000 + number, 3), np.uint8))


@bad('dangling.jpg', 'it cannot be read .*No such file')
def _(path, number):
    path.symlink_to('nowhere.jpg')


@bad('text.mp4', 'it cannot be opened: Invalid data found')
def _(path, number):
    path.write_bytes(b'this is no video at all' * (number + 1))


@bad('cut.mp4', 'it breaks off')
def _(path, number):
    ffmpeg('-i', made('closed.mp4'), '-c', 'copy', '-movflags', '+faststart', path)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) * (7 + number) // 10])


@bad('sound.mp4', 'it has no pictures')
def _(path, number):
    ffmpeg('-f', 'lavfi', '-i', 'sine=d=0.2', path)


@bad('slanted.mp4', 'it is to be turned by 30 degrees when shown, and only quarter turns')
def _(path, number):
    path.write_bytes(made('turned_30.mp4').read_bytes())


@bad('unknown.mov', 'it cannot be opened|does not know its codec|cannot be decoded')
def _(path, number):
    """A film under the name of a codec that there is not."""
    whole = made('closed.mp4').read_bytes()
    path.write_bytes(whole.replace(b'avc1', b'zzz1').replace(b'avcC', b'zzzC'))


def write(folder):
    """Good and bad inputs, mixed; returns the names of the good pictures and films, and the bad."""
    folder.mkdir()
    for number in range(GOOD):
        cv2.imwrite(str(folder / f'{number:04}.{("jpg", "png", "webp")[number % 3]}'),
                    picture(number, 32, 40 + number % 2))
    for number, name in enumerate(FILMS):
        (folder / f'{number}_{name}').write_bytes(made(name).read_bytes())
    named = {}
    for kind, (ending, (make, reason)) in enumerate(BAD.items()):
        for number in range(2):
            path = folder / f'{GOOD * (2 * kind + number) // (2 * len(BAD)):04}_{ending}'
            make(path, number)
            named[path] = reason
    return named


def test_all_good_inputs_are_done_and_each_bad_one_is_listed_with_its_reason(tmp_path, capsys):
    named = write(tmp_path / 'in')
    assert len(named) == 2 * len(BAD) >= 20
    with pytest.raises(UserError) as error:
        infer('cls', [tmp_path / 'in'], tmp_path / 'out', '--batch-size', 8)
    said = capsys.readouterr()
    assert str(error.value).startswith(
        f'{len(named)} of {GOOD + len(FILMS) + len(named)} inputs gave no result: ')
    lines = said.err.splitlines()
    for path, reason in named.items():
        (line,) = [line for line in lines if line.startswith(f'skipped {path}: ')]
        assert re.search(reason, line), line
    out = tmp_path / 'out'
    done = {read(out, file.stem)['input'] for file in out.glob('*.json')}
    assert done == {str(path) for path in (tmp_path / 'in').iterdir()} - set(map(str, named))
    assert not list(out.glob('*.part*')) and 'Traceback' not in said.err
    films = {str(path) for path in (tmp_path / 'in').iterdir()
             if path.name.partition('_')[2] in FILMS}
    for file in out.glob('*.json'):
        record = read(out, file.stem)
        assert ('frames' in record) == (record['input'] in films)
        drawn = out / f'{file.stem}.{"mp4" if "frames" in record else "jpg"}'
        assert drawn.stat().st_size > 100
