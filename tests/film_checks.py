"""Films whose frames tell which they are, in what people have: made by ffmpeg, once in a session.

FILMS: name -> what makes it of a folder. The truth is what ffmpeg, as a player, shows of the file.
"""
import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SIDES = 64, 48  # width, height
COUNT = 40
KEPT = tempfile.TemporaryDirectory()  # of films, until the tests end
FILMS = {}
X264 = ('-c:v', 'libx264', '-pix_fmt', 'yuv420p', '-crf', '15', '-g', '12')
X265 = ('-c:v', 'libx265', '-pix_fmt', 'yuv420p', '-crf', '15')
OPEN = ('-x264-params', 'open-gop=1:bframes=3')


def ffmpeg(*words, data=None):
    """Run ffmpeg; returns what it writes to its output."""
    import imageio_ffmpeg
    words = [imageio_ffmpeg.get_ffmpeg_exe(), '-y', '-loglevel', 'error', *map(str, words)]
    return subprocess.run(words, input=data, capture_output=True, check=True).stdout


def frame(number):
    """(48, 64, 3) uint8: bit i of a number is the brightness of block i of 4 x 2."""
    bits = number >> np.arange(8).reshape(2, 4) & 1
    grey = np.kron(bits, np.ones((SIDES[1] // 2, SIDES[0] // 4)))
    return (20 + grey[..., None] * (215, 180, 150)).astype(np.uint8)


def encode(path, *words, numbers=range(COUNT), fps=25):
    """Encode numbered frames as the output options say."""
    ffmpeg('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', '{}x{}'.format(*SIDES), '-r', fps, '-i',
           '-', *words, path, data=b''.join(frame(number).tobytes() for number in numbers))
    return path


@functools.cache
def made(name):
    """A film of FILMS in its place, made on first use."""
    path = Path(KEPT.name) / name
    FILMS[name](path)
    return path


@functools.cache
def shown(path):
    """What a player shows of a film: (N, H, W, 3) uint8, each frame once."""
    small = ffmpeg('-i', path, '-frames:v', 1, '-f', 'image2pipe', '-c:v', 'ppm', '-')
    width, height = map(int, small.split(b'\n', 2)[1].split())
    raw = ffmpeg('-i', path, '-fps_mode', 'passthrough', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-')
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def same(found, wanted):
    """Whether pictures are those that are wanted, but for rounding of colours at edges."""
    return len(found) == len(wanted) and all(
        one.shape == other.shape and np.abs(one.astype(int) - other).mean() < 6
        for one, other in zip(found, wanted))


def coded(name, *words, **settings):
    FILMS[name] = lambda path: encode(path, *words, **settings)


def derived(name, source, *words, before=()):
    FILMS[name] = lambda path: ffmpeg(*before, '-i', made(source), *words, path)


coded('closed.mp4', *X264)
coded('open.mp4', *X264, *OPEN)
coded('open.ts', *X264, *OPEN)
coded('one_keyframe.mp4', *X264[:-2])
coded('only_keyframes.mp4', *X264[:-1], '1')
coded('refresh.mp4', *X264[:-2], '-x264-params', 'intra-refresh=1:keyint=12:bframes=0')
coded('hevc.mp4', *X265, '-x265-params', 'keyint=12:log-level=none')
coded('hevc_open.ts', *X265, '-x265-params', 'keyint=12:open-gop=1:bframes=4:log-level=none')
coded('hevc_10_bit.mkv', '-c:v', 'libx265', '-pix_fmt', 'yuv420p10le', '-x265-params',
      'keyint=12:log-level=none')
coded('h264_10_bit.mp4', '-c:v', 'libx264', '-pix_fmt', 'yuv420p10le', '-g', '12')
coded('b_frames.avi', '-c:v', 'mpeg4', '-q:v', '3', '-g', '12', '-bf', '2')
coded('mpeg4.avi', '-c:v', 'mpeg4', '-q:v', '3', '-g', '12')
coded('packed.avi', '-c:v', 'libxvid', '-q:v', '3', '-g', '12', '-bf', '2')
coded('mpeg2.mpg', '-c:v', 'mpeg2video', '-q:v', '3', '-g', '12', '-bf', '2')
coded('mpeg2.m2v', '-c:v', 'mpeg2video', '-q:v', '3', '-g', '12', '-bf', '2')
coded('mpeg1.mpg', '-c:v', 'mpeg1video', '-q:v', '3', '-g', '12', '-bf', '2')
coded('wmv2.wmv', '-c:v', 'wmv2', '-q:v', '3', '-g', '12')
coded('mjpeg.avi', '-c:v', 'mjpeg', '-q:v', '2', '-pix_fmt', 'yuvj420p')
coded('prores.mov', '-c:v', 'prores_ks')
coded('vp8.webm', '-c:v', 'libvpx', '-b:v', '1M', '-g', '12')
coded('vp9.webm', '-c:v', 'libvpx-vp9', '-b:v', '1M', '-g', '12', '-deadline', 'realtime')
coded('av1.mp4', '-c:v', 'libsvtav1', '-crf', '20', '-g', '12', '-preset', '12')
coded('flash.flv', '-c:v', 'flv', '-q:v', '3', '-g', '12')
coded('theora.ogv', '-c:v', 'libtheora', '-q:v', '9', '-g', '12')
coded('pictures.gif', '-c:v', 'gif')
coded('one_frame.mp4', *X264, numbers=[5])
coded('odd.mp4', '-c:v', 'libx264', '-pix_fmt', 'yuv444p', '-vf', 'scale=65:49')
coded('odd_subsampled.mkv', '-c:v', 'mjpeg', '-q:v', '2', '-pix_fmt', 'yuvj420p', '-vf',
      'scale=65:49')
coded('interlaced.ts', *X264, '-x264-params', 'tff=1', '-flags', '+ildct+ilme')
derived('closed.mkv', 'closed.mp4', '-c', 'copy')
derived('closed.ts', 'closed.mp4', '-c', 'copy')
derived('closed.h264', 'closed.mp4', '-c', 'copy')
derived('h264.avi', 'closed.mp4', '-c', 'copy')
derived('fragments.mp4', 'closed.mp4', '-c', 'copy', '-movflags', 'frag_keyframe+empty_moov')
derived('late.mp4', 'closed.mp4', '-c', 'copy', before=('-itsoffset', '2'))
derived('early.mp4', 'closed.mp4', '-c', 'copy', before=('-itsoffset', '-0.5'))
for turn in (90, 180, 270):
    derived(f'turned_{turn}.mp4', 'open.mp4', '-c', 'copy', before=('-display_rotation', turn))
derived('turned.mkv', 'closed.mp4', '-c', 'copy', before=('-display_rotation', 90))
derived('mirrored.mp4', 'closed.mp4', '-c', 'copy', before=('-display_hflip',))
derived('turned_and_mirrored.mp4', 'closed.mp4', '-c', 'copy',
        before=('-display_rotation', 90, '-display_vflip'))
derived('turned_30.mp4', 'closed.mp4', '-c', 'copy', before=('-display_rotation', 30))
for source in ('closed.mp4', 'open.mp4', 'open.ts', 'hevc_open.ts'):
    derived(f'cut_{source}', source, '-c', 'copy', before=('-ss', 0.7))
derived('cut_hevc.mkv', 'hevc_open.ts', '-c', 'copy', before=('-ss', 0.7))
derived('cut_end.mp4', 'closed.mp4', '-c', 'copy', '-t', 1, before=('-ss', 0.3))
for ending in ('mp4', 'mkv'):
    derived(f'variable.{ending}', 'closed.mp4', '-vf', "select='not(eq(mod(n,7),3))'", '-fps_mode',
            'vfr', *X264)
derived('pause.mp4', 'closed.mp4', '-vf', "setpts='if(gte(N,20),PTS+2/TB,PTS)'", '-fps_mode', 'vfr',
        *X264)
derived('cover.mp4', 'closed.mp4', '-f', 'lavfi', '-i', 'color=red:s=200x200:r=25:d=0.04',
        '-map', 1, '-map', 0,
        '-c:v:1', 'copy', '-c:v:0', 'mjpeg', '-disposition:v:0', 'attached_pic')


def _joined(path):
    path.write_bytes(made('closed.ts').read_bytes() * 2)


def _from_the_middle(path):
    path.write_bytes(made('open.ts').read_bytes()[188 * 20:])


def _hidden_frames(path):
    """VP8 with frames that only serve to predict others."""
    words = ('-c:v', 'libvpx', '-auto-alt-ref', 1, '-lag-in-frames', 25, '-arnr-maxframes', 7,
             '-b:v', '500k', '-passlogfile', path)
    ffmpeg('-i', made('closed.mp4'), *words, '-pass', 1, '-f', 'null', '-')
    ffmpeg('-i', made('closed.mp4'), *words, '-pass', 2, path)


FILMS |= {'joined.ts': _joined, 'from_the_middle.ts': _from_the_middle,
          'hidden_frames.webm': _hidden_frames}
REFUSED = {'turned_30.mp4'}
READ = sorted(set(FILMS) - REFUSED)
