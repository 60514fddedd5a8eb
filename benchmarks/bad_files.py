"""Bad and unusual files, each with the kind of fault that must be found in it and what is said.

MAKERS: name of a file -> (check, kind, a pattern of the text, what makes it). Of errors, the last
gives the bytes; a maker that gives None has written what it has to by itself.
"""
import io
import struct
import wave
import zlib

import cv2
import numpy as np
from PIL import Image

SIDES = 48, 40  # width, height of every sound picture here
MAKERS = {}
FPS, FRAMES = 8, 20


def picture(mode='RGB') -> Image.Image:
    """Noise that does not compress to nothing, the same each time."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (10, 12, 3), np.uint8)
    return Image.fromarray(cv2.resize(small, SIDES, interpolation=cv2.INTER_CUBIC)).convert(mode)


def encoded(kind='JPEG', mode='RGB', **settings) -> bytes:
    """A sound picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture(mode).save(buffer, kind, **settings)
    return buffer.getvalue()


# OpenCV does from 4.11 on.
READS_GIF = cv2.imdecode(np.frombuffer(encoded('GIF'), np.uint8), cv2.IMREAD_COLOR) is not None


def contents():
    """Sound COCO annotations of two images."""
    size = dict(width=48, height=40)
    return dict(
        images=[dict(id=1, file_name='a.jpg', **size), dict(id=2, file_name='b.jpg', **size)],
        categories=[dict(id=3, name='disc'), dict(id=7, name='square')],
        annotations=[dict(id=i or 9, image_id=1 + i % 2, category_id=3 + 4 * (i % 2), iscrowd=0,
                          bbox=[4, 5, 20, 10], area=200,
                          segmentation=[[4, 5, 24, 5, 24, 15, 4, 15]]) for i in range(4)])


def case(name, kind, says, check='image'):
    def keep(make):
        MAKERS[name] = check, kind, says, make
        return make
    return keep


def plain(name, kind, says, content, check='image'):
    MAKERS[name] = check, kind, says, lambda folder: content


def write(name, folder):
    """Make one file; returns its path."""
    path = folder / name
    content = MAKERS[name][3](folder)
    if content is not None:
        path.write_bytes(content)
    return path


# No images -------------------------------------------------------------------------------------
plain('empty.jpg', 'empty', 'is empty', b'')
plain('zeros.jpg', 'zeros', 'holds 4096 zero bytes', bytes(4096))
plain('text.jpg', 'wrong type', "is no image of a known format, it starts with b'hello", b'hello\n')
plain('page.jpg', 'wrong type', 'is a web page', b'<!DOCTYPE html><html>404</html>')
plain('pointer.png', 'wrong type', 'is a Git LFS pointer', b'version https://git-lfs.github.com/')
plain('paper.jpg', 'wrong type', 'is a PDF', b'%PDF-1.7\n' + bytes(100))
plain('archive.png', 'wrong type', 'is a zip archive', b'PK\x03\x04' + bytes(100))
plain('array.png', 'wrong type', 'is a numpy array', b'\x93NUMPY' + bytes(100))
plain('packed.png', 'wrong type', 'is gzip', b'\x1f\x8b' + bytes(100))
plain('drawing.png', 'wrong type', 'is an SVG', b'<svg xmlns="http://www.w3.org/2000/svg"/>')
plain('film.jpg', 'wrong type', 'is a video', b'\x00\x00\x00\x18ftypmp42' + bytes(100))
plain('print.jpg', 'wrong type', 'is PostScript', b'%!PS-Adobe-3.0\n')
plain('start_only.jpg', 'broken header', 'starts as an image', b'\xff\xd8\xff')


@case('folder.jpg', 'missing', 'is a folder')
def _(folder):
    (folder / 'folder.jpg').mkdir()


@case('dangling.jpg', 'missing', 'cannot be read .No such file')
def _(folder):
    (folder / 'dangling.jpg').symlink_to('nowhere.jpg')


# Damaged ---------------------------------------------------------------------------------------
for ending, form in (('jpg', 'JPEG'), ('png', 'PNG'), ('bmp', 'BMP'), ('gif', 'GIF'),
                     ('webp', 'WEBP')):
    whole = encoded(form)
    plain(f'cut.{ending}', 'truncated', f'is cut off: {len(whole) // 2} bytes of {form}',
          whole[:len(whole) // 2])
plain('cut_progressive.jpg', 'truncated', 'is cut off', encoded(progressive=True)[:-40])
plain('cut_by_a_byte.png', 'truncated', 'is cut off', encoded('PNG')[:-1])
plain('cut.tif', 'broken header', 'starts as an image and goes on as none',
      encoded('TIFF', compression='tiff_lzw')[:-300])


@case('cut_behind_its_preview.jpg', 'truncated', 'is cut off')
def _(folder):
    """The end of the small picture in its head is not the end of the picture."""
    preview = b'Exif\0\0' + encoded()
    whole = encoded()
    head = whole[:2] + b'\xff\xe1' + struct.pack('>H', len(preview) + 2) + preview
    return head + whole[2:-300]


def png(width, height, data=b'', bits=8, colour=2):
    """A PNG with these numbers in its header, and right check sums."""
    def chunk(name, content):
        return (struct.pack('>I', len(content)) + name + content
                + struct.pack('>I', zlib.crc32(name + content)))
    head = struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(data))
            + chunk(b'IEND', b''))


plain('huge.png', 'huge', 'has .*pixels', png(60_000, 60_000))
plain('huge_in_one_side.png', 'huge', 'has .* pixels', png(1 << 30, 1))
plain('just_too_large.png', 'huge', 'has 10001 x 10000 pixels, more than', png(10_001, 10_000))
plain('no_width.png', 'broken header|undecodable|wrong type|huge', '.', png(0, 10))
plain('no_pixels.png', 'undecodable', 'cannot be decoded', png(40, 40))
plain('wrong_sums.png', 'undecodable|broken header', '.',
      encoded('PNG').replace(b'IDAT', b'IDAT\0', 1)[:-13] + encoded('PNG')[-12:])


@case('huge.jpg', 'huge', 'has .* pixels')
def _(folder):
    data = bytearray(encoded())
    place = data.find(b'\xff\xc0')
    data[place + 5:place + 9] = b'\xff\xff\xff\xff'  # height, width
    return bytes(data)


@case('huge.bmp', 'huge|truncated', 'has .*pixels|cut off')
def _(folder):
    data = bytearray(encoded('BMP'))
    data[18:26] = struct.pack('<ii', 50_000, 50_000)
    return bytes(data)


@case('scrambled.jpg', 'undecodable|broken header|truncated|wrong type', '.')
def _(folder):
    data = bytearray(encoded())
    data[20:400] = bytes(380)
    return bytes(data)


# Unusual ---------------------------------------------------------------------------------------
plain('cmyk.jpg', 'cmyk', 'colours of print', encoded(mode='CMYK'))
plain('alpha.png', 'alpha', 'transparent part .mode RGBA', encoded('PNG', 'RGBA'))
plain('alpha_in_its_table.png', 'alpha', 'mode P', encoded('PNG', 'P', transparency=3))
plain('deep.png', 'deep', 'more than 8 bits', cv2.imencode(
    '.png', np.arange(1920, dtype=np.uint16).reshape(40, 48) * 34)[1].tobytes())
plain('deep_in_colour.png', 'deep', 'more than 8 bits', cv2.imencode(
    '.png', np.arange(5760, dtype=np.uint16).reshape(40, 48, 3) * 11)[1].tobytes())
plain('floats.tif', 'undecodable', 'cannot be decoded', encoded('TIFF', 'F'))
plain('deep.tif', 'deep', 'mode I;16', encoded('TIFF', 'I;16'))
if READS_GIF:
    plain('animated.gif', 'animated', 'holds 3 pictures', encoded(
        'GIF', save_all=True, append_images=[picture('L'), picture().rotate(90)]))
else:
    plain('sound_but.gif', 'undecodable', 'cannot be decoded', encoded('GIF'))
plain('animated.png', 'animated', 'holds 2 pictures', encoded(
    'PNG', save_all=True, append_images=[picture().rotate(90)]))
plain('pages.tif', 'animated', 'holds 2 pages', encoded(
    'TIFF', save_all=True, append_images=[picture()]))
plain('misnamed.jpg', 'misnamed', 'is a PNG file', encoded('PNG'))
plain('dot.png', 'tiny', 'has 1 x 1 pixels', png(1, 1, b'\0\1\2\3'))
plain('blank.png', 'blank', 'one colour', png(40, 40, bytes(40 * 121)))


@case('rotated.jpg', 'rotated', 'EXIF orientation 6')
def _(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(exif=exif)


# Videos ----------------------------------------------------------------------------------------
def film(folder, frames=FRAMES, code='mp4v', ending='mp4'):
    """Bytes of a video of grey frames, each 10 levels above the last."""
    path = folder / f'.film.{ending}'
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), FPS,
                             (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 20 + 10 * i, np.uint8))
    writer.release()
    data = path.read_bytes()
    path.unlink()
    return data


plain('empty.mp4', 'empty', 'is empty', b'', 'video')
plain('zeros.mp4', 'zeros', 'zero bytes', bytes(4096), 'video')
plain('text.mp4', 'wrong type', 'is no video', b'this is no video at all', 'video')
plain('page.mp4', 'wrong type', 'is a web page, not a video', b'<html>404</html>', 'video')
plain('photo.mp4', 'wrong type', 'is an image .JPEG., not', encoded(), 'video')


@case('cut.mp4', 'truncated', 'is cut off', 'video')
def _(folder):
    data = film(folder)
    return data[:len(data) // 2]


@case('cut.avi', 'truncated|frame count', 'breaks off|states', 'video')
def _(folder):
    data = film(folder, code='MJPG', ending='avi')
    return data[:int(len(data) * .6)]


@case('sound_only.mp4', 'wrong type', 'has no pictures', 'video')
def _(folder):
    with wave.open(str(folder / 'sound_only.mp4'), 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))


@case('no_frames.mp4', 'wrong type|no frames|undecodable', '.', 'video')
def _(folder):
    return film(folder, frames=0)


@case('wrong_count.avi', 'frame count', 'states 50 frames and has 20', 'video')
def _(folder):
    data = bytearray(film(folder, code='MJPG', ending='avi'))
    stream, head = data.find(b'strh'), data.find(b'avih')
    data[stream + 40:stream + 44] = data[head + 24:head + 28] = struct.pack('<I', 50)
    return bytes(data)


@case('short.mp4', 'short', 'has 5 frames, fewer than the 10', 'video')
def _(folder):
    return film(folder, frames=5)


@case('turned.mp4', 'rotated', 'is to be turned by 90 degrees when shown', 'video')
def _(folder):
    data = bytearray(film(folder))
    place = data.find(b'tkhd') + 4 + 40  # the matrix of version 0
    one = 1 << 16
    data[place:place + 36] = struct.pack('>9i', 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    return bytes(data)


@case('variable.mp4', 'variable rate', 'has frames 0.125 to 0.500 seconds apart', 'video')
def _(folder):
    """The table of durations gets a second entry, and all boxes around it 8 bytes more."""
    data = film(folder)
    place = data.find(b'stts') - 4
    step = struct.unpack_from('>I', data, place + 20)[0]
    table = struct.pack('>I4sIIIIII', 32, b'stts', 0, 2, FRAMES - 5, step, 5, 4 * step)
    data = bytearray(data[:place] + table + data[place + 24:])
    for name in (b'moov', b'trak', b'mdia', b'minf', b'stbl'):
        box = data.find(name) - 4
        data[box:box + 4] = struct.pack('>I', struct.unpack_from('>I', data, box)[0] + 8)
    return bytes(data)
