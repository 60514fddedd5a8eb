"""Which packets of a film hold the frames that are shown, and in which order.

Looked up without decoding where time stamps tell it, by decoding the film once where not.
"""
from __future__ import annotations

import os
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

KEPT = 64 << 20  # bytes of indexes that one process keeps
UNEVEN = 0.5  # by how much of the usual distance two frames may lie closer or further


class Index(NamedTuple):
    """The packets of a film, in their order in the file; P packets, N frames, K keyframes."""

    seeks: np.ndarray  # (P,) int64, time stamps to seek to; empty where a seek cannot be checked
    places: np.ndarray  # (P,) int64, byte of the file that tells a packet from the others; or empty
    ranks: np.ndarray  # (P,) int32, number of its frame, -1 where none is shown or it is not known
    keys: np.ndarray  # (K,) int32, packets to start at, the first packet among them
    starts: np.ndarray  # (K,) int32, the first frame that each of those leads to
    times: np.ndarray  # (N,) float64, seconds from the first frame

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return sum(part.nbytes for part in self)


def stamped(reader) -> Index | None:
    """The index by time stamps; None where they do not tell the order of the frames.

    Raises:
        ValueError: the film (`films.Reader`) breaks off.
    """
    rows, corrupt = [], False
    for packet in reader.from_start():
        shown = not packet.is_discard and _is_shown(packet, reader.codec)
        corrupt = packet.is_corrupt
        rows.append((packet.pts, packet.dts, packet.pos, packet.is_keyframe, shown))
    if corrupt and reader.kind != 'mpegts':  # there, it is a packet that was not received
        raise ValueError(f'it breaks off after {len(rows) - 1} frames')
    if not _is_ordered(rows, reader.stream.codec_context.has_b_frames, reader.kind):
        return None
    pts, _, _, keys, shown = (np.array(column) for column in zip(*rows))
    keys = np.flatnonzero(keys)
    if not len(keys):
        return None
    first = pts[keys[0]]
    if keys[0] or (pts < first).any():  # what is shown before a keyframe is not always decoded
        shown &= (pts >= first) | np.isin(np.arange(len(pts)), _head(reader, pts, first))
    order = np.flatnonzero(shown)[np.argsort(pts[shown], kind='stable')]
    starts = np.searchsorted(pts[order], pts[keys])
    if keys[0]:
        keys, starts = np.append(0, keys), np.append(0, starts)
    starts[0] = 0
    return _index(rows, order, keys, starts, (pts[order] - pts[order][:1]) * reader.tick,
                  reader.kind)


def _is_shown(packet, codec: str) -> bool:
    """VP8 stores frames that only serve to predict others as packets of their own."""
    return codec != 'vp8' or bool(memoryview(packet)[0] & 0x10)


def _is_ordered(rows: list[tuple], delayed: bool, kind: str) -> bool:
    """Whether time stamps of packets tell the order of their frames.

    AVI stores none, so they are made up; another container that has made them up lets them rise
    from packet to packet although the decoder has to reorder. Joined recordings start anew.
    """
    stamps = [pts for pts, *_, shown in rows if shown]
    if not stamps or None in stamps or len(set(stamps)) < len(stamps):
        return False
    decoding = [dts for _, dts, *_ in rows if dts is not None]
    if any(later < earlier for earlier, later in zip(decoding, decoding[1:])):
        return False
    return all(row[0] is not None for row in rows) and (
        not delayed or kind != 'avi' and stamps != sorted(stamps))


def _head(reader, pts: np.ndarray, first: int) -> list[int]:
    """The packets whose frames come out of the decoder before that of a time stamp."""
    found = []
    for place, _ in reader.decoded(enumerate(reader.from_start())):
        if place is None or pts[place] >= first:
            break
        found.append(place)
    return found


def counted(reader, only_first: bool = False) -> Index:
    """The index by decoding all of a film (`films.Reader`); `only_first`: leave out keyframes."""
    rows = []

    def noted():
        for place, packet in enumerate(reader.from_start()):
            rows.append((packet.pts, packet.dts, packet.pos, packet.is_keyframe))
            yield place, packet

    order = [place for place, _ in reader.decoded(noted())]
    known = None not in order and len(set(order)) == len(order)
    stamps = [rows[place][0] for place in order] if known else [None]
    if None in stamps or (np.diff(stamps) <= 0).any():
        times = np.arange(len(order)) / reader.rate
    else:
        times = (np.array(stamps) - stamps[0]) * reader.tick if stamps else np.zeros(0)
    ranks = {place: rank for rank, place in enumerate(order)} if known else {}
    keys = [place for place, row in enumerate(rows)
            if place and row[3] and place in ranks and not only_first]
    return _index(rows, np.array(order if known else [], np.int64), [0, *keys],
                  [0, *(ranks[place] for place in keys)], times, reader.kind)


def _index(rows, order, keys, starts, times, kind: str) -> Index:
    """An index of packets `rows`, of which `order` are shown."""
    # These two look for a time by the order of decoding, the others by that of showing.
    first, second = (1, 0) if 'mov' in kind or kind == 'avi' else (0, 1)
    seeks = [row[second] if row[first] is None else row[first] for row in rows]
    places = [-1 if row[2] is None else row[2] for row in rows]
    known = None not in seeks and -1 not in places and len(set(places)) == len(places)
    ranks = np.full(len(rows), -1, np.int32)
    ranks[order] = np.arange(len(order))
    return Index(np.array(seeks if known else [], np.int64),
                 np.array(places if known else [], np.int64), ranks,
                 np.array(keys, np.int32), np.array(starts, np.int32), np.array(times, float))


def gaps_of(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds between frames at these times, and which of them are unlike the rest."""
    gaps = np.diff(times)
    usual = np.median(gaps) if len(gaps) else 0
    return gaps, np.abs(gaps - usual) > UNEVEN * usual + 1e-3


class Store:
    """Indexes of files, each as long as its file is the same, the last used ones up to a size."""

    def __init__(self, room: int = KEPT):
        self.room, self.used, self.indexes = room, 0, OrderedDict()

    @staticmethod
    def _key(path: str) -> tuple:
        state = os.stat(path)
        return os.path.abspath(path), state.st_mtime_ns, state.st_size, state.st_ino

    def get(self, path: str) -> Index | None:
        """The index of a file as it is now; None where there is none."""
        key = self._key(path)
        if key in self.indexes:
            self.indexes.move_to_end(key)
        return self.indexes.get(key)

    def put(self, path: str, index: Index) -> None:
        """Keep an index, in the place of an older one."""
        key = self._key(path)
        if key in self.indexes:
            self.used -= self.indexes.pop(key).bytes
        self.indexes[key] = index
        self.used += index.bytes
        while self.used > self.room and len(self.indexes) > 1:
            self.used -= self.indexes.popitem(last=False)[1].bytes
