"""Random numbers that a resumed run draws as the uninterrupted one would have.

Those of the model and the optimizer are kept in checkpoints (`states`, `restore`). Those of
augmentation are not kept but made again: each sample is loaded under a seed that follows from the
run's seed and the sample's place in the training, so that it is the same in any worker of any
process that loads it, and whatever was drawn before.
"""
from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader


def states() -> dict[str, torch.Tensor]:
    """Where the generators of python, numpy, torch and the current CUDA device are, as tensors."""
    _, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    found = dict(
        python=torch.tensor(words), python_gauss=torch.tensor([] if gauss is None else [gauss],
                                                              dtype=torch.float64),
        numpy=torch.from_numpy(keys.astype(np.int64)),
        numpy_rest=torch.tensor(rest, dtype=torch.float64), torch=torch.get_rng_state())
    if torch.cuda.is_available():
        found['cuda'] = torch.cuda.get_rng_state()
    return found


def restore(found: dict[str, torch.Tensor]) -> None:
    """Put the generators where `states` found them."""
    found = {key: value.cpu() for key, value in found.items()}
    gauss = found['python_gauss'].tolist()
    random.setstate((3, tuple(found['python'].tolist()), gauss[0] if gauss else None))
    place, has_gauss, gauss = found['numpy_rest'].tolist()
    np.random.set_state(('MT19937', found['numpy'].numpy().astype(np.uint32), int(place),
                         int(has_gauss), gauss))
    torch.set_rng_state(found['torch'])
    if 'cuda' in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found['cuda'])


class Batch(list):
    """Indices of the samples of a batch; `place` is (epoch, number of the batch)."""

    place: tuple[int, int]


class NumberedBatches:
    """A batch sampler whose batches know their place, and that can begin with any of them.

    Args:
        batch_sampler: torch's, or any other; its attributes are this one's too.
    """

    def __init__(self, batch_sampler):
        self.batch_sampler = batch_sampler
        self.recent: deque[Batch] = deque(maxlen=512)  # those that workers hold are among them
        self._skipped = 0
        self._batches = None

    def __getattr__(self, name):
        if name == 'batch_sampler':  # not there yet, while it is copied
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.batch_sampler) if self._batches is None else self._batches
        first, self._batches, self._skipped = self._skipped, None, 0
        for number, indices in enumerate(batches, first):
            batch = Batch(indices)
            batch.place = getattr(self.batch_sampler.sampler, 'epoch', 0), number
            self.recent.append(batch)
            yield batch

    def skip(self, count: int) -> int:
        """Let the next pass begin after `count` batches; returns the passes that they filled.

        Nothing is loaded. A sampler that ends goes on with its next epoch.
        """
        passes, self._batches, self._skipped = 0, iter(self.batch_sampler), 0
        for _ in range(count):
            if next(self._batches, None) is None:
                passes += 1
                self.batch_sampler.sampler.set_epoch(passes)
                self._batches, self._skipped = iter(self.batch_sampler), 0
                next(self._batches)
            self._skipped += 1
        return passes

    def indices(self, place: tuple[int, int]) -> list[int] | None:
        """Indices of the samples of a batch that was drawn not long ago."""
        return next((list(batch) for batch in reversed(self.recent) if batch.place == place), None)


class SeededLoading:
    """Loads the samples of a `Batch`, each under its own seed; the generators stay as they were.

    torch's loader calls it where a data set has it as `__getitems__`.
    """

    def __init__(self, dataset, seed: int, rank: int):
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __call__(self, batch: list[int]) -> list:
        place = getattr(batch, 'place', None)
        if place is None:  # drawn by someone else's sampler
            return [self.dataset[index] for index in batch]
        # torch's own generator only: seeding through torch.manual_seed would seed GPUs as well.
        kept = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
        try:
            samples = []
            for i, index in enumerate(batch):
                words = np.random.SeedSequence([self.seed, self.rank, *place, i]).generate_state(6)
                random.seed(int(words[4]))
                np.random.seed(words[:4])
                torch.default_generator.manual_seed(int(words[5]))
                samples.append(self.dataset[index])
            return samples
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.default_generator.set_state(kept[2])


def number_batches(loader: DataLoader, seed: int, rank: int) -> NumberedBatches:
    """Make a loader of training data, not yet iterated over, load each sample under its seed."""
    batches = loader.batch_sampler
    if not isinstance(batches, NumberedBatches):
        batches = NumberedBatches(batches)
        # The loader refuses this for fear of iterators in use, of which there is none yet.
        object.__setattr__(loader, 'batch_sampler', batches)
    loader.dataset.__getitems__ = SeededLoading(loader.dataset, seed, rank)
    return batches
