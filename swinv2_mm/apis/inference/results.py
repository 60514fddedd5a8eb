"""Results on disk: each file is there whole, or not at all."""
from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import cv2
import numpy as np

from swinv2_mm.utils.errors import UserError

from .drawn import Drawing

PROBE = 1 << 16  # bytes
NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


class Full(UserError):
    """No result can be written any more; the ones before it are on disk."""


class Folder:
    """The folder that results go to. UserError where nothing can be written into it."""

    def __init__(self, path: str):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._probe()
        except OSError as error:
            raise UserError(f'--out-dir must be a folder that can be written to, {path!r} is not '
                            f'({error.strerror}): make room, or give another one.') from error

    def _probe(self) -> None:
        """OSError where nothing can be written."""
        probe = self.path / f'.probe-{os.getpid()}'
        try:
            probe.write_bytes(bytes(PROBE))
        finally:
            probe.unlink(missing_ok=True) if self.path.is_dir() else None

    def write(self, name: str, content: bytes) -> None:
        """One file, under its name once it is whole. Full or ValueError where that fails."""
        part = self.path / f'{name}.part'
        try:
            part.write_bytes(content)
            part.replace(self.path / name)
        except OSError as error:
            raise self.failure(name, error, part) from error

    def failure(self, name: str, error: OSError, *parts: Path) -> ValueError:
        """The error of a file that could not be written; `parts` of it go.

        Full where the next one could not be written either, else a ValueError of this one.
        """
        for part in parts:
            try:
                part.unlink(missing_ok=True)
            except OSError:
                pass  # its name is too long, say
        why = error.strerror or str(error)
        if error.errno in NO_ROOM:
            return Full(f'{self.path / name} cannot be written ({why}): make room, and give what '
                        'is left to do again.')
        try:
            self._probe()
        except OSError as other:
            return Full(f'{self.path} cannot be written to any more ({other.strerror}): mend that, '
                        'and give what is left to do again.')
        return ValueError(f'its result {name} cannot be written ({why})')

    def write_json(self, name: str, value: dict) -> None:
        """A dict as one line of json."""
        self.write(name, (json.dumps(value) + '\n').encode())

    def write_picture(self, name: str, picture: np.ndarray) -> None:
        """A picture, BGR or grey, in the format that its name ends in. ValueError as `write`."""
        try:
            done, content = cv2.imencode(Path(name).suffix, picture)
        except cv2.error:
            done = False
        if not done:
            height, width = picture.shape[:2]
            raise ValueError(f'its result {name} cannot be written ({width} x {height} pixels are '
                             'too many for the format)')
        self.write(name, content.tobytes())


class Film:
    """A drawn video and the json of its frames, written as they come and named at the end."""

    def __init__(self, folder: Folder, name: str, head: dict, fps: float | None):
        """`head`: what is to be said of the whole video; fps None: no drawn video."""
        self.folder, self.name, self.fps = folder, name, fps
        self.count, self.writer = 0, None
        self.video = folder.path / f'{name}.part.mp4'
        self.json = folder.path / f'{name}.json.part'
        try:
            self.lines = self.json.open('w', encoding='utf-8')
            self.lines.write(json.dumps(head)[:-1] + ', "frames": [')
        except OSError as error:
            raise folder.failure(f'{name}.json', error, self.json) from error

    def add(self, record: dict, picture: np.ndarray | None, time: float) -> None:
        """One frame: its record, the drawn frame, BGR, and when it is shown, in seconds."""
        head = dict(frame=self.count, time=round(time, 6))
        try:
            self.lines.write(',\n'[not self.count:] + json.dumps(head | record))
        except OSError as error:
            raise self._failure(f'{self.name}.json', error) from error
        self.count += 1
        if self.fps is None:
            return
        try:
            if self.writer is None:
                self.writer = Drawing(self.video, picture.shape[1::-1], self.fps)
            self.writer.add(picture, time)
        except OSError as error:
            raise self._failure(f'{self.name}.mp4', error) from error

    def close(self) -> None:
        """Name both files. Full or ValueError where one of them is not whole."""
        try:
            if self.writer:
                self.writer.close()
                self.video.replace(self.folder.path / f'{self.name}.mp4')
        except OSError as error:
            raise self._failure(f'{self.name}.mp4', error) from error
        try:
            self.lines.write(']}\n')
            self.lines.close()
            self.json.replace(self.json.with_suffix(''))
        except OSError as error:
            raise self._failure(f'{self.name}.json', error) from error

    def _failure(self, name: str, error: OSError) -> ValueError:
        self.drop()
        return self.folder.failure(name, error)

    def drop(self) -> None:
        """Leave nothing of a film that was not finished."""
        for part in (self.writer, self.lines):
            try:
                if part:
                    part.close()
            except OSError:
                pass  # what it still held does not fit on the disk, and goes anyway
        for path in (self.json, self.video):
            path.unlink(missing_ok=True)
