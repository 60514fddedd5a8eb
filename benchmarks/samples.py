"""Batches as the data loaders of the libraries give them, for tests and benchmarks alike."""
import numpy as np
import torch


def detection(height=96, width=128, *, masks=True, label=1):
    """One image with two objects, as mmdet's data loaders give it."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    boxes = torch.tensor([[10.0, 10, 60, 70], [50, 20, 120, 90]])
    instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, label]))
    if masks:
        maps = np.zeros((2, height, width), np.uint8)
        for map_, (x1, y1, x2, y2) in zip(maps, boxes.int().tolist()):
            map_[y1:y2, x1:x2] = 1
        instances.masks = BitmapMasks(maps, height, width)
    size = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    data = DetDataSample(metainfo=size | dict(img_id=1))
    data.gt_instances = instances
    image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8,
                          generator=torch.Generator().manual_seed(0))
    return dict(inputs=[image], data_samples=[data])


def segmentation(classes, height=96, width=128):
    """Two images whose maps hold three classes and what is left out, as mmseg's loaders give it."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for _ in range(2):
        images.append(torch.randint(0, 255, (3, height, width), dtype=torch.uint8,
                                    generator=generator))
        map_ = torch.zeros(1, height, width, dtype=torch.int64)
        map_[:, 20:60, 10:70], map_[:, 50:, 60:], map_[:, :5] = 1, classes - 1, 255
        size = dict(img_shape=(height, width), ori_shape=(height, width))
        data = SegDataSample(metainfo=size)
        data.gt_sem_seg = PixelData(data=map_)
        samples.append(data)
    return dict(inputs=images, data_samples=samples)


def video(views, frames=8, side=64, label=1):
    """One video as mmaction2's data loaders give it."""
    from mmaction.structures import ActionDataSample

    shape = (views, 3, frames, side, side)
    video = torch.randint(0, 255, shape, dtype=torch.uint8,
                          generator=torch.Generator().manual_seed(0))
    return dict(inputs=[video], data_samples=[ActionDataSample().set_gt_label(label)])
