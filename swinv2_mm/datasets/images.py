"""Loading images and their maps, with a name for every file that gives trouble, and a policy.

The work is mmcv's and mmsegmentation's; what they leave open is what becomes of a run that meets a
bad file. Here, in training: it is named, another sample takes its place, and a run that meets too
many of them stops. No sample is ever made up of what could be read of a bad file.
"""
from __future__ import annotations

from mmengine import fileio
from mmengine import registry as mmengine

from swinv2_mm.registry import TRANSFORMS
from swinv2_mm.utils.faults import MAX_PIXELS, Tally, image_fault, map_fault, one_line, still

TIFF = b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'  # first bytes


class _Careful:
    """What both loaders do with a bad file."""

    def __init__(self, bad: str, limit: int):
        if bad not in ('raise', 'skip'):
            raise KeyError(f"bad must be 'raise' or 'skip', got {bad!r}.")
        self.bad = bad
        self.tally = Tally(limit, f'swinv2_mm.{type(self).__name__}')

    def _refuse(self, name: str, reason: str, error: Exception | None = None) -> None:
        if self.bad == 'raise':
            raise ValueError(f'failed to load image {name}: it {reason}, so replace the file or '
                             'take it out of the annotations.') from error
        self.tally.add(name, reason)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(bad={self.bad!r}, limit={self.tally.limit})'


@TRANSFORMS.register_module()
class LoadImage(_Careful):
    """Load an image as mmcv's LoadImageFromFile does, once its bytes are seen to be sound.

    Bad is a file that is missing, empty, no image, cut off, undecodable, of more than `max_pixels`,
    or of another size than the annotations state (its boxes would lie wrongly). Adds `img`,
    `img_shape` and `ori_shape` to a sample that has an `img_path`.

    Args:
        bad: 'raise', or 'skip': a warning names and counts the file, and mmengine's data set draws
            another sample in its place, as it does in training only.
        limit: with 'skip', how many files may be bad; the next is an error. Each counts once, over
            all workers of one process.
        max_pixels: bound of width times height.
        settings: of mmcv's LoadImageFromFile: to_float32, color_type, imdecode_backend,
            backend_args.

    Raises:
        ValueError, KeyError: where an argument breaks one of these rules; from a call, where a file
            is bad with `bad='raise'`, or one too many with 'skip'.
    """

    def __init__(self, bad: str = 'raise', limit: int = 100, max_pixels: int = MAX_PIXELS,
                 **settings):
        super().__init__(bad, limit)
        self.max_pixels = max_pixels
        self.to_float32 = settings.pop('to_float32', False)
        self.backend_args = settings.pop('backend_args', None)
        self.decoding = dict(flag=settings.pop('color_type', 'color'),
                             backend=settings.pop('imdecode_backend', 'cv2'))
        if settings:
            raise ValueError('settings must be of to_float32, color_type, imdecode_backend and '
                             f'backend_args, got {", ".join(settings)}: take it out.')

    def __call__(self, results: dict) -> dict | None:
        """The sample with its image; None for a bad file with `bad='skip'`."""
        import mmcv

        name = results['img_path']
        try:
            content = fileio.get(name, backend_args=self.backend_args)
        except OSError as error:
            return self._refuse(name, f'cannot be read ({one_line(error)})', error)
        # Pillow does not know all that is read as it is from TIFF: more channels, floats.
        plain = self.decoding['flag'] != 'unchanged' and self.decoding['backend'] != 'tifffile'
        if (plain or content[:4] not in TIFF) and (fault := image_fault(content, self.max_pixels)):
            return self._refuse(name, fault.text)
        try:
            image = mmcv.imfrombytes(still(content), **self.decoding)
        except Exception as error:  # noqa: BLE001 - decoders raise what they like
            return self._refuse(name, f'cannot be decoded ({one_line(error)})', error)
        if image is None:
            return self._refuse(name, 'cannot be decoded')
        stated = results.get('height'), results.get('width')
        if None not in stated and stated != image.shape[:2]:
            return self._refuse(name, f'has {image.shape[1]} x {image.shape[0]} pixels where the '
                                f'annotations say {stated[1]} x {stated[0]}')
        results['img'] = image.astype('float32') if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadMap(_Careful):
    """Load the map of an image as mmsegmentation's LoadAnnotations does, with the same policy.

    Bad is a map that cannot be read, holds more than one number a pixel or one that 8 bits cannot
    hold (mmsegmentation cuts it to 8, to the number of another class), or is not of the size of its
    image, if that has not been resized before. Arguments as of `LoadImage`; settings are of
    mmsegmentation's LoadAnnotations, such as reduce_zero_label.
    """

    def __init__(self, bad: str = 'raise', limit: int = 100, max_pixels: int = MAX_PIXELS,
                 **settings):
        super().__init__(bad, limit)
        self.max_pixels, self.backend_args = max_pixels, settings.get('backend_args')
        self.load = mmengine.TRANSFORMS.build(dict(type='mmseg.LoadAnnotations', **settings))

    def __call__(self, results: dict) -> dict | None:
        """The sample with its map; None for a bad file with `bad='skip'`."""
        name = results['seg_map_path']
        try:
            content = fileio.get(name, backend_args=self.backend_args)
            fault = image_fault(content, self.max_pixels) or map_fault(content)
            results = results if fault else self.load(results)
        except Exception as error:  # noqa: BLE001 - decoders raise what they like
            return self._refuse(name, f'cannot be read ({one_line(error)})', error)
        if fault:
            return self._refuse(name, fault.text)
        found, whole = results['gt_seg_map'].shape, tuple(results.get('ori_shape', ())[:2])
        if whole and results['img_shape'][:2] == whole and found != whole:
            return self._refuse(name, f'has {found[1]} x {found[0]} pixels where its image has '
                                f'{whole[1]} x {whole[0]}')
        return results
