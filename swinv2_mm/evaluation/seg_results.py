"""What mmseg lacks for tools/test.py: pictures in a folder, predictions without their scores.

Importing it registers the two under the names that tools/test.py puts into a config.
"""
import os
from collections.abc import Sequence

import mmcv
import torch
from mmengine.evaluator import DumpResults
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS

from .maps import map_numbers


@HOOKS.register_module()
class DrawMaps(Hook):
    """Draw each tested image with its map, left, and the predicted one, right.

    Files go to WORK_DIR/TIMESTAMP/`folder` under the names of the images. mmseg's own hook hands
    its pictures to the log instead, under names with a running number.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()) -> None:
        folder = os.path.join(runner.work_dir, runner.timestamp, self.folder)
        for sample in outputs:
            name = os.path.basename(sample.img_path)
            image = mmcv.imread(sample.img_path, channel_order='rgb')
            runner.visualizer.add_datasample(
                name, image, sample, out_file=os.path.join(folder, name))


@METRICS.register_module()
class DumpMaps(DumpResults):
    """Write predicted maps, (1, H, W) of int16, to a pickle file.

    mmengine's own would hold the score of every class at every pixel until the end: for ADE20K's
    2,000 validation images hundreds of GB. The maps hold places in the list of classes, as mmseg's
    tools take them; `numbers` has those that the classes have in the user's maps.
    """

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        numbers = map_numbers(self.dataset_meta, len(self.dataset_meta['classes']))
        for sample in data_samples:
            found = sample['pred_sem_seg']['data'].to('cpu', torch.int16)
            self.results.append(dict(img_path=sample['img_path'], pred_sem_seg=dict(data=found),
                                     numbers=numbers))
