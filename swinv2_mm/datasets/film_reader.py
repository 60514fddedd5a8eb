"""Packets of a film and what FFmpeg's decoder makes of them, by PyAV."""
from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

try:
    import av
except ImportError as error:
    raise ImportError('Films are read by PyAV, which is not installed here: run `pip install '
                      'av`.') from error

if TYPE_CHECKING:
    from .film_index import Index

VERSION = int(av.__version__.partition('.')[0])
COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC


class Reader:
    """Packets and frames of a film from its start, as often as asked, and from a place in it.

    Args:
        source: path of a file, or its bytes.
        threads: for the decoder.

    Attributes:
        codec, kind: names of its codec and container.
        size: (width, height) as stored, in pixels, before it is turned; 0 where it is not told.
        rate: frames a second, as told.
        tick: seconds of a unit of time stamps.
        seconds: how long the film is, as told; 0 where it is not.

    Raises:
        ValueError: it cannot be opened, or has no pictures.
    """

    def __init__(self, source: str | bytes, threads: int = 1):
        self.source, self.threads = source, threads
        self._open()
        stream, container = self.stream, self.container
        self.codec, self.kind = stream.codec_context.name, container.format.name
        self.size = stream.width, stream.height
        self.rate = float(stream.guessed_rate or stream.average_rate or 25)
        self.tick = float(stream.time_base)
        self.seconds = (container.duration or 0) / av.time_base

    def _open(self) -> None:
        local = isinstance(self.source, str)
        # An absolute path is none of FFmpeg's protocols.
        file = os.path.abspath(self.source) if local else io.BytesIO(self.source)
        # From 19 on, PyAV keeps a title that is not UTF-8 as it is.
        settings = dict(metadata_errors='replace') if VERSION < 19 else {}
        try:
            self.container = av.open(file, **settings)
        except (av.FFmpegError, OSError) as error:
            raise ValueError(f'it cannot be opened: {said(error)}') from error
        videos = list(self.container.streams.video)
        streams = [stream for stream in videos if not int(stream.disposition) & COVER] or videos
        if not streams:
            raise ValueError('it has no pictures')
        if any(stream.codec_context is None for stream in streams):
            raise ValueError(f'PyAV {av.__version__} does not know its codec')
        self.stream = max(streams, key=lambda stream: stream.width * stream.height)
        self.stream.codec_context.thread_count = self.threads
        self.fresh = True

    def packets(self) -> Iterator:
        """The packets from where the reader stands, without empty ones."""
        self.fresh = False
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except (av.FFmpegError, OSError) as error:
            raise ValueError(f'it breaks off ({said(error)})') from error

    def from_start(self) -> Iterator:
        """The packets from the first one on."""
        if not self.fresh:
            self.container.close()
            self._open()
        return self.packets()

    def from_place(self, first: int, index: Index) -> Iterator[tuple]:
        """(place in the file, packet) from a place on."""
        if first and (found := self._sought(first, index)):
            place, packet, packets = found
            if place == first:
                yield place, packet
        else:
            place, packets = -1, self.from_start()
        for number, packet in enumerate(packets, place + 1):
            if number >= first:
                yield number, packet

    def _sought(self, first: int, index: Index) -> tuple | None:
        """Place, packet and those after it, by a seek to `first`; None where that went past it."""
        if not index.places.size:
            return None
        try:
            self.container.seek(int(index.seeks[first]), stream=self.stream)
            packets = self.packets()
            packet = next(packets)
        except (av.FFmpegError, ValueError, StopIteration):
            return None
        place = np.flatnonzero(index.places == packet.pos)
        return (int(place[0]), packet, packets) if len(place) and place[0] <= first else None

    def decoded(self, packets: Iterable[tuple]) -> Iterator[tuple]:
        """(place in the file, frame) of all that comes out of the decoder for (place, packet).

        Before the first frame, packets that cannot be decoded are passed over, as by a player: a
        recording may start anywhere.
        """
        count, passed = 0, None
        for packet in chain(packets, [None]):  # the last lets go of what the decoder still holds
            try:
                frames = self._decode(packet)
            except av.FFmpegError as error:
                if count:
                    raise ValueError(f'it breaks off at frame {count} ({said(error)})') from error
                passed = error
                continue
            for frame in frames:
                count += 1
                yield frame.pts, frame
        if passed and not count:
            raise ValueError(f'it cannot be decoded ({self.codec}: {said(passed)})') from passed

    def _decode(self, packet: tuple | None) -> list:
        if packet is None:
            return self.stream.codec_context.decode(None)
        place, content = packet
        content.pts, content.dts = place, None
        return content.decode()


def said(error: Exception) -> str:
    """What an error of FFmpeg or of the system says."""
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__
