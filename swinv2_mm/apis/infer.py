"""Look at pictures and videos: python tools/infer.py CONFIG CHECKPOINT INPUT... [options].

Each input gets a drawn picture or video and a json in the output folder. The task is that of the
config: boxes and masks, segments, or the likeliest classes.
"""
import argparse
import itertools
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from swinv2_mm.apis import overrides
from swinv2_mm.apis.inference import models, sources
from swinv2_mm.apis.inference.inputs import shown
from swinv2_mm.apis.inference.results import Film, Folder, Full
from swinv2_mm.apis.inference.sources import Refused, Source
from swinv2_mm.apis.inference.tiles import Tiled
from swinv2_mm.apis.inference.windows import set_window
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError
from swinv2_mm.utils.faults import MAX_PIXELS

SCORE = 0.3


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of a checkpoint')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='picture, video, folder, '
                        'pattern in quotes, or number of a camera')
    parser.add_argument('--out-dir', help='folder for the results '
                        '(default: work_dirs/NAME_OF_THE_CONFIG/infer)')
    parser.add_argument('--score-thr', type=float, metavar='SHARE', help='detection: leave out '
                        f'what scores less ({SCORE}); 0 keeps all that a test counts')
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='pictures of one '
                        'size, frames or tiles that go through the model at a time (1)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: what there is)')
    parser.add_argument('--json', action='store_true', help='write no pictures, json files only')
    parser.add_argument('--window', type=int, nargs='+', metavar='N', help='another window: one '
                        'side for all stages, or one for each')
    parser.add_argument('--slice', type=int, metavar='PIXELS', help='look at large pictures '
                        'through square tiles of this side, and put the results together')
    parser.add_argument('--slice-overlap', type=float, default=0.25, metavar='SHARE',
                        help='share of a tile that the next one also sees (0.25)')
    parser.add_argument('--max-frames', type=int, metavar='N', help='stop a video or a camera '
                        'after this many frames; a camera runs until Ctrl-C without it')
    parser.add_argument('--max-pixels', type=int, default=MAX_PIXELS, metavar='N', help='leave out '
                        f'pictures and videos of more, width times height ({MAX_PIXELS:,})')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args()


class Run:
    """One call of the tool: what is done with each input, and what came of it."""

    def __init__(self, predictor, folder: Folder, args):
        self.predictor, self.folder, self.args = predictor, folder, args
        self.score_thr = SCORE if args.score_thr is None else args.score_thr
        self.done, self.refused = 0, []
        self.bar = Progress(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
                            TimeRemainingColumn(), console=Console(stderr=True))

    def refuse(self, place: str, reason: str) -> None:
        """Name an input that gives no result, and go on."""
        self.refused.append(Refused(place, reason))
        self.bar.console.print(f'skipped {place}: {reason}', markup=False, highlight=False,
                               soft_wrap=True)

    def __call__(self, found: list[Source]) -> None:
        before = len(self.refused)
        with self.bar:
            task = self.bar.add_task(self.predictor.task, total=len(found))
            batch = []
            for source in found:
                if source.kind not in self.predictor.kinds + ('camera',):
                    self.refuse(source.place, 'it is no video, and a model of actions needs one')
                elif self.predictor.task == 'video':
                    self._attempt([(source, source.place)])
                elif source.kind == 'picture':
                    batch = self._gather(batch, source)
                else:
                    self._attempt(batch)
                    batch = []
                    self._film(source)
                self.bar.update(task, completed=self.done + len(self.refused) - before)
            self._attempt(batch)
            self.bar.update(task, completed=len(found))

    def _gather(self, batch: list, source: Source) -> list:
        """The pictures still to be looked at, once this one has come to them.

        A batch has pictures of one size, since the padding of others would change results.
        """
        try:
            picture = self.predictor.read(source.place, self.args.max_pixels)
        except ValueError as error:
            self._fail(source, error)
            return batch
        if batch and batch[0][1].shape != picture.shape:
            self._attempt(batch)
            batch = []
        batch = [*batch, (source, picture)]
        if len(batch) < self.args.batch_size:
            return batch
        self._attempt(batch)
        return []

    def _fail(self, source: Source, error: Exception) -> None:
        """Name an input that an error keeps from its result; where nothing can be written, end."""
        if isinstance(error, Full):
            raise error
        if not isinstance(error, (ValueError, RuntimeError, OSError)):
            traceback.print_exc()  # a fault of the code rather than of a file
        reason = reason_of(error)
        if 'max_pixels=' in reason:
            reason = f'{reason}; --max-pixels takes another number'
        self.refuse(source.place, reason)

    def _attempt(self, batch: list) -> None:
        """Look at a batch; one that fails is taken apart, to name the input that is at fault."""
        try:
            samples = self.predictor.predict([picture for _, picture in batch]) if batch else []
        except Exception as error:  # noqa: BLE001 - decoders and pipelines raise what they like
            if len(batch) == 1:
                return self._fail(batch[0][0], error)
            for pair in batch:
                self._attempt([pair])
            return None
        for (source, picture), sample in zip(batch, samples):
            try:
                self._write(source, picture, sample)
                self.done += 1
            except Exception as error:  # noqa: BLE001
                self._fail(source, error)
        return None

    def _write(self, source: Source, picture, sample) -> None:
        """The results of one input. The json comes last: where it is, all is."""
        sample = self.predictor.keep(sample, self.score_thr)
        record = dict(input=source.place, task=self.predictor.task)
        if isinstance(picture, np.ndarray):
            record |= dict(height=picture.shape[0], width=picture.shape[1])
        record |= self.predictor.record(sample)
        if self.predictor.task == 'seg':
            record['map'] = f'{source.name}_map.png'
            self.folder.write_picture(record['map'], self.predictor.labels(sample))
        if not self.args.json:
            picture = shown(picture) if isinstance(picture, np.ndarray) else picture
            self.folder.write_picture(f'{source.name}.jpg', self.predictor.draw(picture, sample))
        self.folder.write_json(f'{source.name}.json', record)

    def _film(self, source: Source) -> None:
        """A video or camera, frame by frame: a drawn video and a json of its frames."""
        camera = source.kind == 'camera'
        try:
            reader = sources.Camera(int(source.place)) if camera else sources.open_film(
                source.place, self.args.max_pixels)
        except ValueError as error:
            return self._fail(source, error)
        try:
            self._draw_film(source, reader, camera)
            self.done += 1
        except Exception as error:  # noqa: BLE001 - decoders and pipelines raise what they like
            self._fail(source, error)
        finally:
            reader.close()
        return None

    def _draw_film(self, source: Source, reader, camera: bool) -> None:
        head = dict(input=source.place, task=self.predictor.task, fps=reader.fps)
        total = self.args.max_frames or (None if camera else len(reader))
        film = Film(self.folder, source.name, head, None if self.args.json else reader.fps)
        task = self.bar.add_task(f'  {source.name}', total=total)
        try:
            self._frames(sources.frames(reader, self.args.max_frames), film, task)
        except KeyboardInterrupt:
            if not camera:
                film.drop()
                raise
        except BaseException:
            film.drop()
            raise
        finally:
            self.bar.remove_task(task)
        if not film.count:
            film.drop()
            raise ValueError('it has no frames that can be read')
        film.close()

    def _frames(self, frames: Iterator[tuple], film: Film, task) -> None:
        """All frames of a video, a batch at a time."""
        while batch := list(itertools.islice(frames, self.args.batch_size)):
            samples = self.predictor.predict(
                [self.predictor.read.frame(frame) for _, frame in batch])
            for (time, frame), sample in zip(batch, samples):
                sample = self.predictor.keep(sample, self.score_thr)
                drawn = None if self.args.json else self.predictor.draw(frame, sample)
                film.add(self.predictor.record(sample), drawn, time)
            self.bar.advance(task, len(batch))


def reason_of(error: Exception) -> str:
    """What an error says, in one line."""
    text = ' '.join(str(error).split())[:300]
    return text if isinstance(error, ValueError) and text else f'{type(error).__name__}: {text}'


def check(args, predictor, folder: Folder, found: list[Source]) -> None:
    """What arguments ask for must be possible. UserError where it is not."""
    if min(args.batch_size, args.max_pixels, 1 if args.max_frames is None else
           args.max_frames) < 1:
        raise UserError('--batch-size, --max-frames and --max-pixels must be at least 1, got '
                        f'{args.batch_size}, {args.max_frames} and {args.max_pixels}.')
    if args.score_thr is not None and predictor.task != 'det':
        raise UserError(f'--score-thr is for detection, the config is of {predictor.task}: '
                        'leave it out.')
    for source in found:
        if source.kind == 'camera' and predictor.task == 'video':
            raise UserError('A camera never ends, and a model of actions looks at a whole video: '
                            'record one, and give its file.')
        if source.kind != 'camera' and Path(source.place).resolve().parent == \
                folder.path.resolve():
            raise UserError(f'--out-dir must not be a folder of inputs, {source.place} is in it '
                            'and could be overwritten: give another one.')


def main():
    args = parse_args()
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, args.max_pixels)  # Pillow's own bound
    folder = Folder(args.out_dir or str(Path('work_dirs') / Path(args.config).stem / 'infer'))
    predictor = models.load(args.config, args.checkpoint, args.device, args.cfg_options)
    if args.window:
        set_window(predictor.model.backbone,
                   args.window[0] if len(args.window) == 1 else args.window)
    if args.slice:
        predictor = Tiled(predictor, args.slice, args.slice_overlap, args.batch_size)
    found, refused = sources.find(args.inputs, predictor.kinds)
    check(args, predictor, folder, found)
    run = Run(predictor, folder, args)
    for place, reason in refused:
        run.refuse(place, reason)
    try:
        run(found)
    finally:
        print(f'{run.done} of {run.done + len(run.refused)} inputs done, results in '
              f'{folder.path}', flush=True)
    if run.refused:
        raise UserError(f'{len(run.refused)} of {run.done + len(run.refused)} inputs gave no '
                        f'result: {"; ".join(f"{p} ({r})" for p, r in run.refused[:5])}'
                        + ('; ...' if len(run.refused) > 5 else '') + '.')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
