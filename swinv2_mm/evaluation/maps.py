"""The numbers that classes have in the user's maps, and maps written in them."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def map_numbers(meta: dict, count: int) -> list[int]:
    """The number in the maps of a data set of each of its `count` classes.

    Args:
        meta: mmseg's metainfo of it. Where `reduce_zero_label` is true, mmseg takes one off each
            number first; `label_map` is how it renumbers then.
    """
    numbers = {new: old for old, new in reversed(list((meta.get('label_map') or {}).items()))}
    return [numbers.get(label, label) + bool(meta.get('reduce_zero_label'))
            for label in range(count)]


def renumbered(found: np.ndarray, numbers: list[int]) -> np.ndarray:
    """A map of places in the list of classes as one of their numbers: uint8, or uint16."""
    kind = np.uint8 if max(numbers) <= 255 else np.uint16
    return np.array(numbers, kind)[found.astype(np.int64)]


def write_renumbered(metric) -> None:
    """Let mmseg's IoUMetric write its `output_dir` in the user's numbers, in place.

    It adds the one that `reduce_zero_label` takes off, but forgets the classes' own numbers.
    """
    process, folder = metric.process, metric.output_dir

    def process_and_write(data_batch, data_samples) -> None:
        metric.output_dir = None
        process(data_batch, data_samples)
        metric.output_dir = folder
        numbers = map_numbers(metric.dataset_meta, len(metric.dataset_meta['classes']))
        for sample in data_samples:
            found = sample['pred_sem_seg']['data'][0].cpu().numpy()
            Image.fromarray(renumbered(found, numbers)).save(
                Path(folder, f'{Path(sample["img_path"]).stem}.png'))

    if folder is not None:
        metric.process = process_and_write
