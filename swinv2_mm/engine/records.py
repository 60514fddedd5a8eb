"""What a run writes beside its checkpoints: measures and pictures, on a disk that may be full.

They are worth less than the run: what cannot be written is said once and counted, training goes on,
and once there is room again so does the record. (A checkpoint that cannot be written ends the run.)
"""
import errno
import logging
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend as _LocalVisBackend

from ..registry import VISBACKENDS
from .files import write_whole


class Lost:
    """Counts what could not be written, and says so once, and once more when it can be again."""

    def __init__(self):
        self.count = 0

    def failed(self, path, error: OSError) -> None:
        self.count += 1
        if self.count == 1:
            say(f'{path} cannot be written ({error.strerror or error}): the run goes on, records '
                'and pictures are lost until there is room.')

    def worked(self) -> None:
        if self.count:
            say(f'{self.count} records or pictures were lost; they can be written again.')
        self.count = 0


def say(text: str) -> None:
    print_log(text, 'current', logging.WARNING)


def quiet_log_files(logger: logging.Logger) -> None:
    """A log file that cannot be written shall be said once, not by a traceback for each line."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _Once(handler)


class _Once:
    def __init__(self, handler: logging.FileHandler):
        self.handler, self.told, self.default = handler, False, handler.handleError

    def __call__(self, record) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.default(record)
        elif not self.told:
            self.told = True
            print(f'{self.handler.baseFilename} cannot be written ({error.strerror}): the run goes '
                  'on, lines are lost until there is room.', file=sys.stderr)


@VISBACKENDS.register_module()
class LocalVisBackend(_LocalVisBackend):
    """mmengine's LocalVisBackend, for disks that may be full; arguments are the same.

    A record is one line that is there or not, a picture appears whole.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lost = Lost()

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        _ = self.experiment  # makes the folder
        _, content = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        path = Path(self._img_save_dir) / f'{name}_{step}.png'
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content.tobytes())
        except OSError as error:
            self.lost.failed(path, error)
        else:
            self.lost.worked()

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        line = dump(value_dict, file_format=file_format).encode() + b'\n'
        try:
            _append(file_path, line)
        except OSError as error:
            self.lost.failed(file_path, error)
        else:
            self.lost.worked()


def _append(path: str, line: bytes) -> None:
    """Add a whole line to a file, or none of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
