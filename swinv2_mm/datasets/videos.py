"""Reading clips of video files, by decord or PyAV, with a name for every file that gives trouble.

The work is mmaction2's; what it leaves open is which file it was, and what to do then. One kind of
crop that it lacks is here too.
"""
from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

from mmengine import registry as mmengine
from mmengine.logging import print_log

from swinv2_mm.registry import TRANSFORMS
from swinv2_mm.utils.faults import Tally, one_line

# Decoder -> the transforms of mmaction2 that open and decode, its package, the line that brings it.
DECODERS = {
    'decord': ('mmaction.DecordInit', 'mmaction.DecordDecode', 'decord', 'pip install decord'),
    'pyav': ('mmaction.PyAVInit', 'mmaction.PyAVDecode', 'av', 'pip install av'),
}
NAMED = 10  # short videos that are named one by one


@TRANSFORMS.register_module()
class ReadVideo:
    """Open a video, choose frames, decode them: adds `imgs` to a sample that has a `filename`.

    A file that cannot be opened, has no frames or breaks off is an error that names it; with
    `bad='skip'`, a warning that names and counts it, and mmengine's data set draws another sample
    in its place, as it does in training only, up to a limit. A video with fewer frames than a clip
    spans is used, as in Kinetics, with its frames repeated, and named and counted in a warning;
    that count is of one process: of each worker of a data loader.

    Args:
        sample: config of mmaction2's transform that chooses the frames, such as
            dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1).
        decoder: 'decord' or 'pyav'.
        bad: 'raise' or 'skip'.
        limit: with 'skip', how many files may be bad; the next is an error. Each counts once, over
            all workers of one process.
        settings: for mmaction2's DecordInit or PyAVInit, such as io_backend.

    Raises:
        ValueError, KeyError: where an argument breaks one of these rules, or the decoder's package
            is not installed; from a call, where a file is bad with `bad='raise'`, or one too many
            with 'skip'.
    """

    def __init__(self, sample: dict, decoder: str = 'decord', bad: str = 'raise',
                 limit: int = 100, **settings):
        if decoder not in DECODERS:
            raise KeyError(f'decoder must be one of {", ".join(DECODERS)}, got {decoder!r}.')
        if bad not in ('raise', 'skip'):
            raise KeyError(f"bad must be 'raise' or 'skip', got {bad!r}.")
        start, decode, package, install = DECODERS[decoder]
        if importlib.util.find_spec(package) is None:
            raise ValueError(f'decoder={decoder!r} needs the package {package}, which is not '
                             f'installed here: run `{install}`, or choose another decoder.')
        self.decoder, self.bad = decoder, bad
        self.start = _build(dict(type=start, **settings))
        self.sample, self.decode = _build(sample), _build(dict(type=decode))
        self.tally = Tally(limit, 'swinv2_mm.ReadVideo')
        self.short: set[str] = set()

    def __call__(self, results: dict) -> dict | None:
        """The sample with its clips; None for a bad file with `bad='skip'`."""
        name = results['filename']
        try:
            results = self._open(results)
        except Exception as error:  # noqa: BLE001
            return self._refuse(name, error)
        results = self.sample(results)
        self._note_short(name, results)
        try:
            return self.decode(results)
        except Exception as error:  # noqa: BLE001
            return self._refuse(name, error)

    def _refuse(self, name: str, error: Exception) -> None:
        reason = one_line(error)
        if self.bad == 'raise':
            raise ValueError(f'A video must be readable, {name} is not ({self.decoder} says: '
                             f'{reason}): replace it or take its line out of the annotation '
                             'file.') from error
        self.tally.add(name, f'cannot be read ({self.decoder} says: {reason})')

    def _open(self, results: dict) -> dict:
        """The sample with a reader and its `total_frames`, at least one."""
        results = self.start(results)
        if self.decoder == 'pyav' and not results['total_frames']:  # not in the head of every file
            container = results['video_reader']
            results['total_frames'] = sum(packet.size > 0 for packet in container.demux(video=0))
            container.seek(0)
        if results['total_frames'] < 1:
            raise ValueError('it has no frames')
        return results

    def _note_short(self, name: str, results: dict) -> None:
        if 'clip_len' not in results:
            return  # a sampler that has no clips
        span = (results['clip_len'] - 1) * (results.get('frame_interval') or 1) + 1
        if results['total_frames'] >= span or name in self.short:
            return
        self.short.add(name)
        count = len(self.short)
        if count <= NAMED or count & (count - 1) == 0:  # then at each doubling
            _warn(f'{name} has {results["total_frames"]} frames, fewer than the {span} that a clip '
                  f'spans, so they are repeated; short videos so far: {count}')

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(sample={self.sample}, decoder={self.decoder!r}, '
                f'bad={self.bad!r})')


@TRANSFORMS.register_module()
class EvenCrops:
    """Cut squares out of all frames, evenly spread along the longer side.

    As mmaction2's ThreeCrop for any number of views: it has none for the five of "4 x 5".

    Args:
        crop_size: side of a square in pixels, which is also the shorter side of the frames.
        count: how many, at least 2.
    """

    def __init__(self, crop_size: int, count: int = 3):
        if count < 2:
            raise ValueError(f'count must be at least 2, got {count}: use CenterCrop for one.')
        self.crop_size, self.count = crop_size, count

    def __call__(self, results: dict) -> dict:
        """The sample with `count` times as many `imgs`: all frames of a crop, then of the next."""
        side, frames = self.crop_size, results['imgs']
        height, width = frames[0].shape[:2]
        if min(height, width) != side:
            raise ValueError(f'crop_size must be the shorter side of the frames, got {side} for '
                             f'{width} x {height}: put dict(type="Resize", scale=(-1, {side})) '
                             'before it.')
        shares = [i / (self.count - 1) for i in range(self.count)]
        starts = [(round(share * (height - side)), round(share * (width - side)))
                  for share in shares]
        results['imgs'] = [frame[y:y + side, x:x + side] for y, x in starts for frame in frames]
        results['img_shape'] = (side, side)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(crop_size={self.crop_size}, count={self.count})'


def _build(cfg: dict) -> Callable[[dict], dict]:
    return mmengine.TRANSFORMS.build(cfg)


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
