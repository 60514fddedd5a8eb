"""The parts of a resolved config that checks ask for, whatever wraps them."""
from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import coco, datasets_in, kind, steps_in
from .teaching import WITH_MASK

METRIC_OF_COCO = ('CocoMetric', 'CocoOccludedSeparatedMetric', 'LVISMetric', 'FasterCocoMetric')


@dataclass
class Run:
    """A config, the splits that will run, and the files that were read for them."""

    cfg: dict
    splits: tuple[str, ...]
    cache: dict = field(default_factory=dict)  # path of json -> its content
    looked_at: set = field(default_factory=set)  # paths of pictures
    counted: dict = field(default_factory=dict)  # place of a loader -> samples of its data sets

    @property
    def scope(self) -> str | None:
        """The library whose registries are asked first."""
        return self.cfg.get('default_scope')

    @property
    def model(self) -> dict:
        """The config of the model, out of the wrapper that augments tests."""
        return self.cfg['model'].get('module') or self.cfg['model']

    def loader(self, split: str) -> dict:
        """The config of a split's loader; empty where it has none."""
        found = self.cfg.get(f'{split}_dataloader')
        return found if isinstance(found, dict) else {}

    def datasets(self, split: str) -> list[dict]:
        """The data sets of a split, out of their wrappers."""
        return list(datasets_in(self.loader(split).get('dataset')))

    def evaluators(self, split: str) -> list[dict]:
        """The metrics of a split."""
        found = self.cfg.get(f'{split}_evaluator') or []
        if isinstance(found, dict):
            found = found.get('metrics') or [found]
        return [metric for metric in ([found] if isinstance(found, dict) else found)
                if isinstance(metric, dict)]

    def one_each(self, split: str) -> bool:
        """Whether each data set of a split has a metric of its own."""
        found = self.cfg.get(f'{split}_evaluator')
        return isinstance(found, dict) and kind(found) == 'MultiDatasetsEvaluator'

    def count(self, where: str, samples: int) -> None:
        """Enter the samples of one data set of a loader."""
        self.counted.setdefault(where, []).append(samples)

    def samples(self, split: str) -> int | None:
        """The samples of a split; None where a wrapper, or no check, tells."""
        dataset = self.loader(split).get('dataset') or {}
        known = self.counted.get(f'{split}_dataloader', [])
        plain = 'dataset' not in dataset and len(known) == len(self.datasets(split))
        return sum(known) if known and plain else None

    @property
    def files(self) -> set[str]:
        """All files that findings on COCO json are of, also those that are not there."""
        found = set(self.looked_at)
        for split in ('train', 'val', 'test'):
            found.update(coco.annotation_file(dataset) for dataset in self.datasets(split)
                         if isinstance(dataset.get('ann_file'), str))
            found.update(metric['ann_file'] for metric in self.evaluators(split)
                         if isinstance(metric.get('ann_file'), str))
        return found

    def tested(self) -> Iterator[str]:
        """The splits to be run that are scored, not trained on."""
        yield from (split for split in self.splits if split != 'train' and self.loader(split))

    def wanted(self, split: str) -> Wanted:
        """What the checks of one data set ask of the rest."""
        return Wanted(self, split)


@dataclass
class Wanted:
    """What the rest of a run wants of the data sets of one split."""

    run: Run
    split: str

    @property
    def cache(self) -> dict:
        """path of json -> its content"""
        return self.run.cache

    @property
    def format_only(self) -> bool:
        """Whether results are written for someone else to score."""
        metrics = self.run.evaluators(self.split)
        return bool(metrics) and all(metric.get('format_only') for metric in metrics)

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""
        return self.run.loader(self.split).get('batch_size', 1)

    def masks(self, where: str) -> str | None:
        """What needs the masks of a split's objects; None where nothing does."""
        for dataset in self.run.datasets(self.split):
            for step in steps_in(dataset.get('pipeline')):
                if kind(step) == 'LoadAnnotations' and step.get('with_mask'):
                    return WITH_MASK
        for metric in self.run.evaluators(self.split) if self.split != 'train' else []:
            asked = metric.get('metric') or []
            if kind(metric) in METRIC_OF_COCO and 'segm' in (
                    [asked] if isinstance(asked, str) else asked) and not metric.get('format_only'):
                return "metric 'segm'"
        return None

    def categories(self, where: str) -> list[tuple[str, ...]]:
        """The categories of the json files of all other splits, in the order of each file."""
        found = []
        for split in ('train', 'val', 'test'):
            for dataset in self.run.datasets(split):
                path = coco.annotation_file(dataset) if coco.is_coco(dataset) else ''
                if split == self.split or not os.path.isfile(path):
                    continue
                try:
                    content = coco.read(path, self.cache, True, dataset)
                except ValueError:
                    continue  # said of that split
                found.append(tuple(category['name'] for category in content['categories']))
        return found
