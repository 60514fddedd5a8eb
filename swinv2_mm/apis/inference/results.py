"""Results on disk: each file is there whole, or not at all."""
from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np

from swinv2_mm.utils.errors import UserError

PROBE = 1 << 16  # bytes


class Full(UserError):
    """A result could not be written; the ones before it are on disk."""


class Folder:
    """The folder that results go to. UserError where nothing can be written into it."""

    def __init__(self, path: str):
        self.path = Path(path)
        probe = self.path / f'.probe-{os.getpid()}'
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(bytes(PROBE))
            probe.unlink()
        except OSError as error:
            probe.unlink(missing_ok=True) if self.path.is_dir() else None
            raise UserError(f'--out-dir must be a folder that can be written to, {path!r} is not '
                            f'({error.strerror}): make room, or give another one.') from error

    def write(self, name: str, content: bytes) -> None:
        """One file, under its name once it is whole. Full where that fails."""
        part = self.path / f'{name}.part'
        try:
            part.write_bytes(content)
            part.replace(self.path / name)
        except OSError as error:
            raise self.full(name, error.strerror) from error

    def full(self, name: str, reason: str) -> Full:
        """The error of a file that could not be written; what there is of it goes."""
        (self.path / f'{name}.part').unlink(missing_ok=True)
        return Full(f'{self.path / name} cannot be written ({reason}): make room, and give what '
                    'is left to do again.')

    def write_json(self, name: str, value: dict) -> None:
        """A dict as one line of json."""
        self.write(name, (json.dumps(value) + '\n').encode())

    def write_picture(self, name: str, picture: np.ndarray) -> None:
        """A picture, BGR or grey, in the format that its name ends in."""
        self.write(name, cv2.imencode(Path(name).suffix, picture)[1].tobytes())


class Film:
    """A drawn video and the json of its frames, written as they come and named at the end."""

    def __init__(self, folder: Folder, name: str, head: dict, fps: float | None):
        """`head`: what is to be said of the whole video; fps None: no drawn video."""
        self.folder, self.name, self.fps = folder, name, fps
        self.count, self.size, self.writer = 0, (0, 0), None
        self.video = folder.path / f'{name}.part.mp4'
        try:
            self.lines = (folder.path / f'{name}.json.part').open('w', encoding='utf-8')
            self.lines.write(json.dumps(head)[:-1] + ', "frames": [')
        except OSError as error:
            raise folder.full(f'{name}.json', error.strerror) from error

    def add(self, record: dict, picture: np.ndarray | None) -> None:
        """One frame: its record, and the drawn frame, BGR."""
        try:
            self.lines.write(',\n'[not self.count:] + json.dumps(dict(frame=self.count) | record))
        except OSError as error:
            raise self._full(f'{self.name}.json', error.strerror) from error
        self.count += 1
        if self.fps is None:
            return
        if self.writer is None:
            self.size = picture.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self.writer = cv2.VideoWriter(str(self.video), code, self.fps, self.size)
            if not self.writer.isOpened():
                raise self._full(f'{self.name}.mp4', 'OpenCV cannot open it')
        self.writer.write(picture)

    def close(self) -> None:
        """Name both files. Full where one of them is not whole."""
        try:
            self.lines.write(']}\n')
            self.lines.close()
            if self.writer:
                self._close_video()
            part = Path(self.lines.name)
            part.replace(part.with_suffix(''))
        except OSError as error:
            raise self._full(f'{self.name}.json', error.strerror) from error

    def _close_video(self) -> None:
        self.writer.release()
        # OpenCV does not tell that a disk is full: the file is short, or has no index.
        reader = cv2.VideoCapture(str(self.video))
        found = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if found != self.count:
            raise self._full(f'{self.name}.mp4', f'{found} of {self.count} frames arrived')
        self.video.replace(self.folder.path / f'{self.name}.mp4')

    def _full(self, name: str, reason: str) -> Full:
        self.drop()
        return self.folder.full(name, reason)

    def drop(self) -> None:
        """Leave nothing of a film that was not finished."""
        if self.writer:
            self.writer.release()
        try:
            self.lines.close()
        except OSError:
            pass  # what it still held does not fit on the disk, and goes anyway
        for path in (Path(self.lines.name), self.video):
            path.unlink(missing_ok=True)
