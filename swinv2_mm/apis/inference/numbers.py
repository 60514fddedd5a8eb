"""The numbers that classes have in the user's own data, which are not always those of the model.

mmseg renumbers maps as it reads them (`reduce_zero_label`, a choice of a data set's classes), and
mmdet numbers the categories of a json from 0. Results are written in the numbers of the data.
"""
from __future__ import annotations

import inspect
import json
import os

from mmengine.config import Config

from swinv2_mm.datasets.checks import datasets_in
from swinv2_mm.evaluation.maps import map_numbers


def of_maps(cfg: Config, classes: list[str]) -> list[int]:
    """The number of each class in the maps of mmseg's test data."""
    from mmseg.registry import DATASETS

    dataset = next(datasets_in(cfg.test_dataloader.dataset))
    kind = DATASETS.get(dataset.type)
    meta = dict(reduce_zero_label=bool(_setting(kind, dataset, 'reduce_zero_label')),
                label_map=kind.get_label_map(tuple(classes)))
    return map_numbers(meta, len(classes))


def suffixes_of(cfg: Config) -> list[str]:
    """How the names of pictures and of their maps end in mmseg's test data."""
    from mmseg.registry import DATASETS

    dataset = next(datasets_in(cfg.test_dataloader.dataset))
    kind = DATASETS.get(dataset.type)
    return [_setting(kind, dataset, name) for name in ('img_suffix', 'seg_map_suffix')]


def _setting(kind: type, dataset: dict, name: str):
    """A setting of a data set; its class has a default, such as ADE20K's to reduce labels."""
    if name in dataset:
        return dataset[name]
    for parent in kind.__mro__:
        setting = inspect.signature(parent.__init__).parameters.get(name)
        if setting is not None:
            return setting.default
    return None


def of_categories(cfg: Config, classes: list[str]) -> list[int] | None:
    """The id of each class in the COCO json of test, validation or training.

    None where none of them is there, or none has these classes.
    """
    for split in ('test', 'val', 'train'):
        loader = cfg.get(f'{split}_dataloader') or {}
        for dataset in datasets_in(loader.get('dataset')):
            path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
            if path.endswith('.json') and os.path.isfile(path):
                found = _ids(path, classes)
                if found:
                    return found
    return None


def _ids(path: str, classes: list[str]) -> list[int] | None:
    try:
        with open(path, encoding='utf-8-sig') as file:
            categories = json.load(file)['categories']
        # As mmdet numbers them: in the order of the file.
        pairs = [(row['name'], row['id']) for row in categories if row['name'] in classes]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not for inference to mend
    return [number for _, number in pairs] if [name for name, _ in pairs] == classes else None
