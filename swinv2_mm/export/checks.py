"""Whether an exported file answers as PyTorch does, and how fast it is beside it."""
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch._inductor
from torch import nn

from swinv2_mm.apis.inference.sources import find, read_picture
from swinv2_mm.utils.errors import UserError
from swinv2_mm.utils.faults import one_line

from . import detections, queries, steps
from .graphs import PIP, Pixels, maps_of, padded
from .runner import ENGINES

TOLERANCE = 1e-4
SHARE = 1e-3  # of labels: two classes may be equal but for rounding
Run = Callable[[np.ndarray], list[np.ndarray]]


def runner(path: Path, kind: str, threads: int, engine: str = 'onnxruntime') -> Run:
    """Pictures (B, 3, H, W) 0 to 255 -> what the file at `path` answers; `kind` is its suffix.

    `engine`: of ENGINES; of a compiled .pt2, which does not say what it takes, 'aot' and that.
    """
    if engine in ('aot uint8', 'aot float32'):
        compiled, dtype = torch._inductor.aoti_load_package(str(path)), getattr(torch, engine[4:])
        return lambda images: [out.numpy() for out in compiled(torch.from_numpy(images).to(dtype))]
    if kind == '.pt2':
        program = torch.export.load(path)
        module, dtype = program.module(), program.example_inputs[0][0].dtype
        return lambda images: [out.detach().numpy()
                               for out in module(torch.from_numpy(images).to(dtype))]
    try:
        return ENGINES[engine](path, threads)
    except ImportError as error:
        raise UserError(f'The check runs the file in {engine}, which is not installed: {PIP} '
                        f'{engine}, or add --no-check.') from error


@torch.no_grad()
def answers(model: nn.Module, images: np.ndarray) -> list[np.ndarray]:
    """What the model in PyTorch answers."""
    return [out.numpy() for out in model(torch.from_numpy(images))]


def pictures(words: list[str], size: tuple[int, ...], channels: int,
             views: tuple[int, ...] = ()) -> Iterator[np.ndarray]:
    """Pictures (1, 3, h, w) uint8, stretched to `size`; two of noise where no words are given.

    Films are of noise, with `views` before their channels.
    """
    if not words:
        noise = np.random.default_rng(0)
        yield from noise.integers(0, 256, (2, 1, *views, channels, *size), dtype=np.uint8)
    found, refused = find(words, ('picture',))
    if refused:
        raise UserError(f'--images must be pictures, {refused[0].place} is not: '
                        f'{refused[0].reason}.')
    for source in found:
        try:
            picture = cv2.resize(read_picture(source.place), size[::-1])
        except ValueError as error:
            raise UserError(f'--images must be pictures, {source.place} cannot be read as one: '
                            'take it out.') from error
        yield np.ascontiguousarray(picture.transpose(2, 0, 1)[None])


def library(model: Pixels) -> Run:
    """What the library itself predicts, by its own `test_step`; nothing of `Pixels` is in it."""
    inner = model.model

    @torch.no_grad()
    def ask(images: np.ndarray) -> list[np.ndarray]:
        pixels = torch.from_numpy(images)
        if model.step != 'backbone':
            found = steps.predicted(inner, model.step, pixels)
        else:
            given = inner.data_preprocessor(dict(inputs=list(pixels), data_samples=None))
            # Detectors pad; a backbone may be exported for sizes that they would pad.
            same = given['inputs'].shape == pixels.shape
            found = maps_of(inner.backbone(given['inputs'])) if same else model(pixels)
        return [out.numpy() for out in found]
    return ask


def read_as(model: Pixels, run: Run) -> Run:
    """The answers of a file with logits of one class as the probabilities that mmseg gives."""
    if model.step != 'threshold':
        return run

    def ask(images: np.ndarray) -> list[np.ndarray]:
        logits, labels = run(images)
        return [torch.from_numpy(logits).sigmoid().numpy(), labels]
    return ask


def known(model: Pixels, images) -> None:
    """UserError, before anything is traced, where the last step taken here is not the library's."""
    ask, head = library(model), steps.head_of(model.model)
    try:
        first, again = (ask(images[0]) for _ in range(2))
    except Exception as error:  # libraries raise what they like
        raise steps.refusal(head, f'its library fails with it ({type(error).__name__}: '
                            f'{one_line(error)})') from error
    if any((one != other).any() for one, other in zip(first, again)):
        raise steps.refusal(head, 'it answers otherwise each time')
    try:
        differences(model, lambda pixels: answers(model, pixels), images)
    except UserError as error:
        raise steps.refusal(head, 'its numbers are none that a step known here gives') from error


def differences(model: Pixels, run: Run, images, strict: bool = True) -> dict[str, float]:
    """How far what `run` answers is from what the library predicts; UserError where too far.

    `strict`: False for files of fewer digits, of which NaN alone is too far.
    """
    if model.step == 'boxes':
        facts = dict(model.finder.settings, padded=padded(model.model, images[0].shape[2:]))
        ties = dict(orders=queries.orders) if isinstance(model.finder, queries.Dino) else {}
        return detections.compare(run, library(model), facts, images, strict, **ties)
    return compare(read_as(model, run), library(model), model.outputs, images, strict)


def compare(run: Run, ask: Run, names: list[str], images, strict: bool = True) -> dict[str, float]:
    """The largest difference of each output over pictures; of labels, the share that differs.

    Raises UserError where it is above `TOLERANCE`, or `SHARE` of labels.
    """
    largest = dict.fromkeys(names, 0.0)
    for image in images:
        for name, ours, theirs in zip(names, ask(image), run(image)):
            if ours.shape != theirs.shape:
                raise UserError(f'The file must answer as PyTorch does, {name} has the shape '
                                f'{theirs.shape} instead of {ours.shape}: this is a defect.')
            whole = ours.dtype.kind == 'i'
            distance = (ours != theirs).mean() if whole else np.abs(ours - theirs).max()
            largest[name] = max(largest[name], float(distance))
            limit = (SHARE if whole else TOLERANCE) if strict else np.inf
            if not distance <= limit:  # NaN is refused, too
                raise UserError(f'The file must answer as PyTorch does within {TOLERANCE}, {name} '
                                f'differs by {distance:.2g}: this is a defect.')
    return largest


def times(run: Run, model: nn.Module, image: np.ndarray, rounds: int) -> tuple[float, float, float]:
    """Medians of seconds of PyTorch and of the file, turn by turn, and of their ratio."""
    found = []
    for _ in range(rounds + 1):
        row = []
        for call in (lambda: answers(model, image), lambda: run(image)):
            start = time.perf_counter()
            call()
            row.append(time.perf_counter() - start)
        found.append((*row, row[1] / row[0]))
    return tuple(np.median(found[1:], axis=0))  # the first round warms up
