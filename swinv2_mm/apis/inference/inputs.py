"""Pictures as the model's own test pipeline reads them, and as they are shown."""
from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS, DefaultScope

from swinv2_mm.utils.errors import UserError
from swinv2_mm.utils.faults import one_line

from .sources import Load

PLAIN = ('LoadImageFromFile', 'LoadImage')
SETTINGS = ('to_float32', 'color_type', 'imdecode_backend', 'backend_args', 'max_pixels')
MAPS = ('LoadAnnotations', 'LoadMap')  # the truth, which an input has none of


class Reader:
    """Reads pictures by the loading step of a test pipeline.

    Attributes:
        step: its settings.
    """

    def __init__(self, step: dict, scope: str):
        self.step, kind = step, _kind(step)
        if kind in PLAIN:
            load = Load(**{key: step[key] for key in SETTINGS if key in step})
        else:  # of another format, such as .npy or tiles of satellites
            with DefaultScope.overwrite_default_scope(scope):
                load = TRANSFORMS.build(step)
        self.load: Callable[[dict], dict] = load

    def __call__(self, path: str, max_pixels: int | None = None) -> np.ndarray:
        """(H, W) or (H, W, C), as training reads it.

        Args:
            path: of the file.
            max_pixels: at most, width times height; None: as the pipeline says.

        Raises:
            ValueError: it cannot be read; its message is the reason.
        """
        if max_pixels is not None and isinstance(self.load, Load):
            self.load.max_pixels = max_pixels
        try:
            return self.load(dict(img_path=path))['img']
        except ValueError:
            raise
        except Exception as error:  # loaders of others raise what they like
            raise ValueError(f'it cannot be read ({one_line(error)})') from error

    def frame(self, frame: np.ndarray) -> np.ndarray:
        """A frame of a video, (H, W, 3) uint8 BGR, as a picture of it would have been read."""
        if str(self.step.get('color_type', '')).startswith('grayscale'):
            frame = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        return frame.astype(np.float32) if self.step.get('to_float32') else frame


def take_reader(cfg, scope: str) -> Reader:
    """The reader of a config's test pipeline, in whose place the pipeline gets arrays.

    The libraries' Inferencers look for a step of one name and no other; UserError where there is
    nothing that reads pictures.
    """
    pipeline = cfg.test_dataloader.dataset.pipeline
    place = next((i for i, step in enumerate(pipeline)
                  if _kind(step).startswith('Load') and _kind(step) not in MAPS), None)
    if place is None:
        raise UserError('The test pipeline must begin with a step that loads a picture, got '
                        f'{", ".join(map(_kind, pipeline))}: add LoadImageFromFile.')
    reader = Reader(dict(pipeline[place]), scope)
    pipeline[place] = type(cfg.test_dataloader)(type='LoadImageFromFile')
    pipeline[:] = [step for step in pipeline if _kind(step) not in MAPS]
    return reader


def shown(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR of any picture: grey in all channels, or the first three of more.

    What is not of 8 bits is spread over them from its least to its greatest number.
    """
    if picture.ndim == 2:
        picture = picture[..., None]
    picture = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].repeat(3, axis=-1)
    if picture.dtype != np.uint8:
        numbers = np.nan_to_num(picture.astype(np.float64))
        low, high = numbers.min(), numbers.max()
        # A float that holds 0 to 255 was made of bytes.
        if not (picture.dtype.kind == 'f' and 0 <= low and 1 < high <= 255):
            numbers = (numbers - low) * (255 / max(high - low, 1e-12))
        picture = numbers.round().astype(np.uint8)
    return np.ascontiguousarray(picture)


def _kind(step: dict) -> str:
    return str(step.get('type')).rpartition('.')[2]
