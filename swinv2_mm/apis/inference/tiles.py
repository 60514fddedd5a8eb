"""Large pictures in parts: overlapping tiles, and the results of all of them put together."""
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from swinv2_mm.utils.errors import UserError

EDGE = 2  # pixels from the edge of a tile within which an object counts as cut by it
SAME = 0.5  # two boxes that share more than this part of the smaller one are one object


class Tiled:
    """A predictor that sees a picture through tiles, as if it were one.

    Args:
        predictor: of detection or segmentation.
        side: of a tile, in pixels.
        overlap: share of a tile's side that it has in common with the next one, in [0, 1).
        batch_size: tiles that go through the model at a time.
    """

    def __init__(self, predictor, side: int, overlap: float = 0.25, batch_size: int = 1):
        if predictor.task not in ('det', 'seg'):
            raise UserError('--slice is for detection and segmentation, the config is of '
                            f'{predictor.task}: leave it out.')
        if side < 32 or not 0 <= overlap < 1:
            raise UserError('--slice must be at least 32 pixels and --slice-overlap in [0, 1), '
                            f'got {side} and {overlap}.')
        self.predictor, self.side, self.overlap = predictor, side, overlap
        self.batch_size = batch_size

    def __getattr__(self, name: str):
        return getattr(self.predictor, name)

    def predict(self, pictures: list[np.ndarray]) -> list:
        """As `Predictor.predict`, picture by picture."""
        merge = {'det': self._boxes, 'seg': self._map}[self.task]
        return [merge(picture) for picture in pictures]

    def _tiles(self, picture: np.ndarray) -> Iterator[tuple[int, int, object]]:
        """(y, x, sample) of every tile, row by row; a tile never hangs over the picture."""
        height, width = picture.shape[:2]
        places = [(y, x) for y in starts(height, self.side, self.overlap)
                  for x in starts(width, self.side, self.overlap)]
        for i in range(0, len(places), self.batch_size):
            chunk = places[i:i + self.batch_size]
            samples = self.predictor.predict([
                np.ascontiguousarray(picture[y:y + self.side, x:x + self.side])
                for y, x in chunk])
            yield from ((y, x, sample) for (y, x), sample in zip(chunk, samples))

    def _boxes(self, picture: np.ndarray):
        """The objects of all tiles, each once; a whole box goes before one that a tile cut."""
        size, found = picture.shape[:2], []
        for y, x, sample in self._tiles(picture):
            part = sample.pred_instances.cpu()
            box = part.bboxes
            part.cut = _cut(box, (y, x), self.side, size)
            part.tile = torch.full((len(part),), len(found))
            part.bboxes = box + box.new_tensor([x, y, x, y])
            if 'masks' in part:
                part.masks = [_Mask(mask, y, x) for mask in torch.as_tensor(part.masks)]
            found.append(part)
        merged = InstanceData.cat(found)
        merged = merged[_chosen(merged)]
        if 'masks' in merged:
            merged.masks = torch.stack([mask.paste(size) for mask in merged.masks]) if len(
                merged) else torch.zeros(0, *size, dtype=torch.bool)
        for key in ('cut', 'tile'):
            delattr(merged, key)
        whole = sample.new()
        whole.pred_instances = merged
        return whole

    def _map(self, picture: np.ndarray):
        """The class of the mean logits at each pixel.

        Only the rows that the next tiles still reach are held, since logits of a large picture and
        many classes would not fit into memory.
        """
        height, width = picture.shape[:2]
        labels = torch.empty(1, height, width, dtype=torch.int64)
        band = count = None
        top = 0
        for y, x, sample in self._tiles(picture):
            logits = sample.seg_logits.data.float().cpu()  # (classes, h, w)
            if band is None:
                band = logits.new_zeros(len(logits), min(self.side, height), width)
                count = logits.new_zeros(1, *band.shape[1:])
            if y > top:
                labels[:, top:y] = self._classes(band, count)[:, :y - top]
                for rows in (band, count):
                    kept = rows[:, y - top:].clone()
                    rows.zero_()
                    rows[:, :kept.shape[1]] = kept
                top = y
            place = (slice(None), slice(logits.shape[1]), slice(x, x + logits.shape[2]))
            band[place] += logits
            count[place] += 1
        labels[:, top:] = self._classes(band, count)[:, :height - top]
        whole = sample.new()
        whole.pred_sem_seg = PixelData(data=labels)
        return whole

    def _classes(self, band: Tensor, count: Tensor) -> Tensor:
        """(1, h, w) from sums of logits and the number of tiles in them."""
        if len(band) > 1:
            return band.argmax(0, keepdim=True)
        # One class: mmseg gives probabilities and compares them with a threshold.
        return (band / count.clamp(min=1) > self.model.decode_head.threshold).long()


def starts(length: int, side: int, overlap: float) -> list[int]:
    """First pixels of tiles along a side of a picture: evenly spread, none hangs over."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / max(side * (1 - overlap), 1))) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()


class _Mask:
    """A mask of a tile, which is put into the whole picture once it is known to stay."""

    def __init__(self, mask: Tensor, y: int, x: int):
        self.mask, self.y, self.x = mask, y, x

    def paste(self, size: tuple[int, int]) -> Tensor:
        whole = torch.zeros(size, dtype=torch.bool)
        height, width = self.mask.shape
        whole[self.y:self.y + height, self.x:self.x + width] = self.mask
        return whole


def _cut(boxes: Tensor, place: tuple[int, int], side: int, size: tuple[int, int]) -> Tensor:
    """Which boxes (n, 4) of a tile end at an edge of it that is not one of the picture: (n,)."""
    (y, x), (height, width) = place, size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return ((x1 < EDGE) & (x > 0) | (y1 < EDGE) & (y > 0)
            | (x2 > side - EDGE) & (x + side < width) | (y2 > side - EDGE) & (y + side < height))


def _chosen(found: InstanceData) -> Tensor:
    """Numbers of the objects to keep: of those that tiles share, one; best score first."""
    order = sorted(range(len(found)), key=lambda i: (bool(found.cut[i]), -float(found.scores[i])))
    boxes = found.bboxes
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    gone = torch.zeros(len(found), dtype=torch.bool)
    kept = []
    for i in order:
        if gone[i]:
            continue
        kept.append(i)
        shared = (torch.minimum(boxes[i, 2:], boxes[:, 2:])
                  - torch.maximum(boxes[i, :2], boxes[:, :2])).clamp(min=0).prod(-1)
        # What one tile told apart is two objects, however much they cover each other.
        gone |= ((shared > SAME * torch.minimum(areas[i], areas))
                 & (found.tile != found.tile[i]) & (found.labels == found.labels[i]))
    kept.sort(key=lambda i: -float(found.scores[i]))
    return torch.tensor(kept, dtype=torch.int64)
