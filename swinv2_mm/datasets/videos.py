"""Reading clips of films, with a name for every file that gives trouble.

mmaction2's samplers choose the frames, `films` decodes them. One kind of crop that mmaction2 lacks
is here too.
"""
from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

import numpy as np
from mmengine import fileio
from mmengine import registry as mmengine
from mmengine.logging import print_log

from swinv2_mm.registry import TRANSFORMS
from swinv2_mm.utils.faults import Tally, one_line

NAMED = 10  # short videos that are named one by one


@TRANSFORMS.register_module()
class ReadVideo:
    """Open a video, choose frames, decode them: adds `imgs` to a sample that has a `filename`.

    The frames are those of the film as a player shows it, see `films`. A clip that goes on past the
    end goes on as its sampler says, SampleFrames by default at the first frame, and at the first
    frame where the sampler says nothing. With `target_fps`, frames of a film of variable rate are
    chosen by the time at which they are shown.

    A file that cannot be opened, has no frames or breaks off is an error that names it; with
    `bad='skip'`, a warning that names and counts it, and mmengine's data set draws another sample
    in its place, as it does in training only, up to a limit. A video with fewer frames than a clip
    spans is used, as in Kinetics, with its frames repeated, and named and counted in a warning;
    that count is of one process: of each worker of a data loader.

    Args:
        sample: config of mmaction2's transform that chooses the frames, such as
            dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1).
        decoder: 'pyav'. 'decord' is taken as the name of old configs and read by PyAV, since
            decord gives other frames than asked for.
        bad: 'raise' or 'skip'.
        limit: with 'skip', how many files may be bad; the next is an error. Each counts once, over
            all workers of one process.
        num_threads: of the decoder.
        io_backend, settings: where the files are, and the arguments of that backend of mmengine.

    Raises:
        ValueError, KeyError: where an argument breaks one of these rules, or PyAV is not installed;
            from a call, where a file is bad with `bad='raise'`, or one too many with 'skip'.
    """

    def __init__(self, sample: dict, decoder: str = 'pyav', bad: str = 'raise', limit: int = 100,
                 num_threads: int = 1, io_backend: str = 'disk', **settings):
        if decoder not in ('pyav', 'decord'):
            raise KeyError(f"decoder must be 'pyav', got {decoder!r}: leave it out.")
        if bad not in ('raise', 'skip'):
            raise KeyError(f"bad must be 'raise' or 'skip', got {bad!r}.")
        if importlib.util.find_spec('av') is None:
            raise ValueError('Videos are read by PyAV, the package av, which is not installed '
                             'here: run `pip install av`.')
        if decoder == 'decord':
            _warn("decoder='decord' is read by PyAV: decord gives other frames than asked for in "
                  'many films; leave decoder out')
        self.bad, self.num_threads = bad, num_threads
        backend = 'local' if io_backend == 'disk' else io_backend
        self.backend_args = dict(backend=backend, **settings)
        self.sample = _build(sample)
        self.tally = Tally(limit, 'swinv2_mm.ReadVideo')
        self.short: set[str] = set()

    def __call__(self, results: dict) -> dict | None:
        """The sample with its clips; None for a bad file with `bad='skip'`."""
        name = results['filename']
        try:
            film = self._open(name)
        except (ValueError, OSError) as error:
            return self._refuse(name, error)
        with film:
            for again in (True, False):
                chosen = self._choose(name, film, dict(results))
                try:
                    frames = film.read(chosen['frame_inds'])
                    break
                except (ValueError, IndexError) as error:
                    if isinstance(error, ValueError) or not again:
                        return self._refuse(name, error)
        size = frames[0].shape[:2]
        return chosen | dict(imgs=frames, original_shape=size, img_shape=size)

    def _open(self, name: str):
        """The film, its frames numbered."""
        from .films import Film  # PyAV is needed for videos only

        local = self.backend_args == dict(backend='local') and '://' not in str(name)
        film = Film(str(name) if local else fileio.get(
            name, None if '://' in str(name) else self.backend_args), threads=self.num_threads)
        try:
            len(film)
        except ValueError:
            film.close()
            raise
        return film

    def _choose(self, name: str, film, results: dict) -> dict:
        """The sample with the numbers of its frames, `frame_inds`, each one that there is."""
        results = self.sample(results | dict(total_frames=len(film), avg_fps=film.fps))
        self._note_short(name, results)
        numbers = np.ravel(results['frame_inds']) % len(film)
        if getattr(self.sample, 'target_fps', None):
            numbers = film.at(numbers)
        return results | dict(frame_inds=numbers)

    def _refuse(self, name: str, error: Exception) -> None:
        reason = one_line(error)
        if self.bad == 'raise':
            raise ValueError(f'A video must be readable, {name} is not ({reason}): replace it or '
                             'take its line out of the annotation file.') from error
        self.tally.add(name, f'cannot be read ({reason})')

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
        return f'{type(self).__name__}(sample={self.sample}, bad={self.bad!r})'


@TRANSFORMS.register_module()
class EvenCrops:
    """Cut squares out of all frames, evenly spread along the longer side.

    As mmaction2's ThreeCrop for any number of views: it has none for the five of "4 x 5". One is in
    the middle, as CenterCrop.

    Args:
        crop_size: side of a square in pixels, which is also the shorter side of the frames.
        count: how many, at least 1.
    """

    def __init__(self, crop_size: int, count: int = 3):
        if count < 1:
            raise ValueError(f'count must be at least 1, got {count}: take 3 for three crops.')
        self.crop_size, self.count = crop_size, count

    def __call__(self, results: dict) -> dict:
        """The sample with `count` times as many `imgs`: all frames of a crop, then of the next."""
        side, frames = self.crop_size, results['imgs']
        height, width = frames[0].shape[:2]
        if min(height, width) != side:
            raise ValueError(f'crop_size must be the shorter side of the frames, got {side} for '
                             f'{width} x {height}: put dict(type="Resize", scale=(-1, {side})) '
                             'before it.')
        shares = [i / (self.count - 1) for i in range(self.count)] if self.count > 1 else [0.5]
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
