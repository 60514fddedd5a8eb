"""What tools/web_demo.py shows, without the page: an uploaded file and settings -> what was seen.

Nothing here trusts its input: a file is opened only after its size is known, and an error is a
sentence for whoever uploaded it.
"""
from __future__ import annotations

import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swinv2_mm.utils.faults import open_image

from . import models, sources
from .drawn import Drawing
from .windows import set_window

PIXELS = 40_000_000  # of a picture at most; a small file can hold very many
SIDE = 1920  # of a frame of a video at most, in pixels


class Refusal(ValueError):
    """An upload that cannot be shown; its message is one sentence for the page."""


class Seen(NamedTuple):
    """What the page shows."""

    picture: np.ndarray | None = None  # (H, W, 3) uint8 RGB
    video: str | None = None  # path
    top: dict[str, float] | None = None  # likeliest classes
    record: dict | None = None


class Shown:
    """One model of the page.

    Attributes:
        name: what the page calls it.
        predictor: the model.
        window: the side of its window, in its first stage.
    """

    def __init__(self, config: str, checkpoint: str, device: str | None = None):
        self.predictor = models.load(config, checkpoint, device)
        self.name = f'{self.predictor.task}: {Path(config).stem}, {Path(checkpoint).name}'
        self.built = list(self.predictor.model.backbone.window_sizes)
        self.window = self.built[0][-1]
        self.lock = threading.Lock()  # a window belongs to one question at a time

    def look(self, path: str, score_thr: float, window: int, max_frames: int) -> Seen:
        """What the model sees in a file. Refusal where that is nothing that can be shown.

        Args:
            path: of the uploaded file.
            score_thr: what scores less is left out; detection only.
            window: side of the window; that of `self.window` stands for the windows of the config.
            max_frames: of a video that are looked at, by models of pictures.
        """
        kind = sources.kind_of(Path(path))
        if kind not in self.predictor.kinds:
            raise Refusal(f'{self.predictor.task} takes a {" or a ".join(self.predictor.kinds)}, '
                          f'got {Path(path).name!r}: upload another file.')
        with self.lock:
            self._set_window(window)
            try:
                if self.predictor.task == 'video':
                    return self._actions(path)
                return self._video(path, score_thr, max_frames) if kind == 'video' else \
                    self._picture(path, score_thr)
            except Refusal:
                raise
            except Exception as error:
                traceback.print_exc()
                raise Refusal('The model cannot look at this file: it is damaged, or of a kind '
                              'that it does not take; upload another one.') from error

    def _set_window(self, window: int) -> None:
        """The same side in space in all stages; windows over time stay."""
        sizes = self.built if window == self.window else [
            (*sides[:-2], window, window) for sides in self.built]
        set_window(self.predictor.model.backbone, sizes)

    def _see(self, frame: np.ndarray, score_thr: float) -> tuple[np.ndarray, dict]:
        """A drawn frame, BGR, and its record."""
        return self._drawn(frame, self.predictor.read.frame(frame), score_thr)

    def _drawn(self, frame: np.ndarray, picture: np.ndarray, score_thr: float) -> tuple:
        (sample,) = self.predictor.predict([picture])
        sample = self.predictor.keep(sample, score_thr)
        return self.predictor.draw(frame, sample), self.predictor.record(sample)

    def _picture(self, path: str, score_thr: float) -> Seen:
        frame = read_picture(path)
        try:
            picture = self.predictor.read(path)
        except ValueError as error:
            raise Refusal('This model cannot read such a picture: upload one of the kind that it '
                          'was trained on.') from error
        drawn, record = self._drawn(frame, picture, score_thr)
        return Seen(drawn[..., ::-1], None, _shares(record), _short(record))

    def _actions(self, path: str) -> Seen:
        open_film(path).close()
        (sample,) = self.predictor.predict([path])
        drawn, record = self.predictor.draw(path, sample), self.predictor.record(sample)
        return Seen(drawn[..., ::-1], None, _shares(record), record)

    def _video(self, path: str, score_thr: float, max_frames: int) -> Seen:
        """A drawn video that browsers play, of the first frames."""
        with tempfile.NamedTemporaryFile(suffix='.webm', delete=False) as file:
            drawn_path = file.name
        writer, records = None, []
        try:
            with open_film(path) as film:
                for time, frame in frames(film, max_frames):
                    drawn, record = self._see(frame, score_thr)
                    writer = writer or Drawing(Path(drawn_path), drawn.shape[1::-1], film.fps)
                    writer.add(drawn, time)
                    records.append(dict(time=round(time, 6)) | _short(record))
        finally:
            if writer:
                writer.close()
        return Seen(None, drawn_path, None, dict(fps=film.fps, frames=records))


def read_picture(path: str) -> np.ndarray:
    """(H, W, 3) uint8 BGR. Refusal where it is too large, damaged, or cannot be read."""
    head = open_image(Path(path).read_bytes())
    width, height = getattr(head, 'size', (0, 0))  # a fault has none
    if width * height > PIXELS:
        raise Refusal(f'A picture must have {PIXELS:,} pixels at most, this one is {width} x '
                      f'{height}: upload a smaller one.')
    try:
        return sources.read_picture(path, PIXELS)
    except ValueError as error:
        raise Refusal(f'This file cannot be read as a picture ({error}): upload another one.'
                      ) from error


def open_film(path: str):
    """A film whose frames are numbered. Refusal where it cannot be read, or is too large."""
    try:
        film = sources.open_film(path)
        len(film)
    except ValueError as error:
        raise Refusal(f'This file cannot be read as a video ({error}): upload another one.'
                      ) from error
    width, height = film.reader.size
    if max(width, height) > SIDE:
        film.close()
        raise Refusal(f'A video must be {SIDE} pixels wide and high at most, this one is '
                      f'{width} x {height}: upload a smaller one.')
    return film


def frames(film, limit: int) -> Iterator[tuple]:
    """(seconds, frame) of the first frames of a film. Refusal where it breaks off."""
    try:
        yield from sources.frames(film, limit)
    except ValueError as error:
        raise Refusal(f'This file cannot be read as a video ({error}): upload another one.'
                      ) from error


def _shares(record: dict) -> dict[str, float] | None:
    """The likeliest classes of a record by name, numbered where two have one name."""
    rows = record.get('top')
    return rows and {row['name'] if [other['name'] for other in rows].count(row['name']) == 1 else
                     f'{row["name"]} ({row["label"]})': row['score'] for row in rows}


def _short(record: dict) -> dict:
    """A record without masks, which no one reads."""
    return {key: [{name: value for name, value in row.items() if name != 'mask'} for row in rows]
            for key, rows in record.items()}
