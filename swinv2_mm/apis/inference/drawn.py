"""Drawn films: pictures, each with the time at which it is shown, as a file that players take."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

# Ending -> codec, parts of a second that its times are counted in, settings of its encoder. MPEG-4
# holds no finer parts than 1/65535.
KINDS = {'.mp4': ('mpeg4', 60000, {'qmin': '2', 'qmax': '4'}),
         # Threads of its own, on cores that are busy, make it 20 times slower for small frames.
         '.webm': ('libvpx', 1000, {'crf': '8', 'b': '4M', 'deadline': 'realtime', 'cpu-used': '8',
                                    'threads': '1'})}


class Drawing:
    """A film that is written picture by picture.

    Args:
        path: of the file, .mp4 or .webm.
        size: (width, height) of the pictures.
        fps: pictures a second, as players show that of the film.

    Raises:
        OSError: it cannot be written, also from the methods.
        ValueError: its format does not hold such pictures.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        from swinv2_mm.datasets.film_reader import av, said  # PyAV is needed for films only

        codec, self.parts, settings = KINDS[path.suffix]
        self.container = av.open(str(path), 'w')
        self.last = -1
        try:
            self.stream = self.container.add_stream(
                codec, Fraction(min(max(fps, 0.01), 1000)).limit_denominator(1001), settings)
            self.stream.width, self.stream.height = size
            self.stream.pix_fmt = 'yuv420p'
            self.stream.codec_context.time_base = Fraction(1, self.parts)
            self.stream.codec_context.open()
        except av.FFmpegError as error:
            self.container.close()
            raise ValueError('a drawn film of {} x {} pixels cannot be written as {} ({})'.format(
                *size, codec, said(error))) from error
        self.frame = av.VideoFrame.from_ndarray

    def add(self, picture: np.ndarray, time: float) -> None:
        """One picture (H, W, 3) uint8 BGR, shown from `time` on, in seconds, after the last."""
        frame = self.frame(picture, format='bgr24')
        self.last = frame.pts = max(round(time * self.parts), self.last + 1)
        frame.time_base = self.stream.codec_context.time_base
        self._write(frame)

    def _write(self, frame) -> None:
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def close(self) -> None:
        """Write its end."""
        try:
            self._write(None)
        finally:
            self.container.close()
