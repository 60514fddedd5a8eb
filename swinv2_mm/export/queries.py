"""DINO and Mask2Former as plain computations of fixed shapes, built of a model's own parts.

    Dino(model)(maps, size) -> boxes (n, 4), scores (n,), labels (n,), best first
    Masks(model)(maps, size) -> the same and masks (n, H / 4, W / 4), logits of the padded picture

n is `max_per_img` of the config. Deformable attention, an operation of mmcv, is written as samples
of maps of known sizes. One picture at a time, as for every detector here.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .steps import refusal

Size = tuple[int, int]
# Logits of two proposals that are no further apart are equal but for rounding in float32.
TIE = 2e-6


class Deformable(nn.Module):
    """mmcv's `MultiScaleDeformableAttention` for maps whose sizes are numbers and not tensors."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.value, self.proj = attention.value_proj, attention.output_proj
        self.offsets, self.weights = attention.sampling_offsets, attention.attention_weights
        self.shape = attention.num_heads, attention.num_levels, attention.num_points

    def forward(self, query: Tensor, key=None, value: Tensor | None = None,
                identity: Tensor | None = None, query_pos: Tensor | None = None,
                reference_points: Tensor | None = None, spatial_shapes: list[Size] = (),
                **kwargs) -> Tensor:
        """query: (B, Q, C), value: (B, N, C), reference_points: (B, Q, L, 2 or 4) -> (B, Q, C)"""
        heads, levels, points = self.shape
        identity = query if identity is None else identity
        values = self.value(query if value is None else value)
        query = query if query_pos is None else query + query_pos
        batch, count, dim = query.shape
        offsets = self.offsets(query).view(batch, count, heads, levels, points, 2)
        weights = self.weights(query).view(batch, count, heads, -1).softmax(-1)
        middle = reference_points[:, :, None, :, None, :2]
        if reference_points.shape[-1] == 2:
            sides = offsets.new_tensor([size[::-1] for size in spatial_shapes])[:, None]
            places = middle + offsets / sides
        else:
            places = middle + offsets / points * reference_points[:, :, None, :, None, 2:] * 0.5
        grids = (2 * places - 1).transpose(1, 2).flatten(0, 1)  # (B h, Q, L, P, 2)
        parts = values.split([height * width for height, width in spatial_shapes], dim=1)
        found = []
        for level, (part, size) in enumerate(zip(parts, spatial_shapes)):
            map_ = part.transpose(1, 2).reshape(batch * heads, -1, *size)
            found.append(F.grid_sample(map_, grids[:, :, level], align_corners=False))
        weights = weights.transpose(1, 2).reshape(batch * heads, 1, count, levels * points)
        out = (torch.cat(found, dim=-1) * weights).sum(-1).view(batch, dim, count)
        return self.proj(out.transpose(1, 2)) + identity


class Dino(nn.Module):
    """What mmdet's `DINO` does in a test, on maps of its neck.

    Args:
        model: others than DINO itself are refused by name.
    """

    outputs = ['boxes', 'scores', 'labels']

    def __init__(self, model: nn.Module):
        super().__init__()
        check(model)
        parts = {name: copy.deepcopy(getattr(model, name)) for name in ('encoder', 'decoder')}
        for layer in parts['encoder'].layers:
            layer.self_attn = Deformable(layer.self_attn)
        for layer in parts['decoder'].layers:
            layer.cross_attn = Deformable(layer.cross_attn)
        self.model = copy.copy(model)
        self.model._modules = dict(model._modules, **parts)
        self.count = model.test_cfg.get('max_per_img', model.num_queries)
        self.settings = dict(score_thr=0.0, max_per_img=self.count, mask_thr=0.5)

    def forward(self, maps: tuple[Tensor, ...], size: Size) -> tuple[Tensor, ...]:
        """maps: (1, C, h, w) each; size: (h, w) of the picture in pixels, which has no padding."""
        sizes = [tuple(map_.shape[-2:]) for map_ in maps]
        positions = [self.model.positional_encoding(None, input=map_) + embed[:, None, None]
                     for map_, embed in zip(maps, self.model.level_embed)]
        query, position = (torch.cat([part.flatten(2).transpose(1, 2) for part in parts], dim=1)
                           for parts in (maps, positions))
        shared = dict(spatial_shapes=sizes, level_start_index=None,
                      valid_ratios=query.new_ones(1, len(maps), 2))
        memory = self.model.encoder(query=query, query_pos=position, key_padding_mask=None,
                                    **shared)
        inputs, _ = self.model.pre_decoder(memory, None, sizes)
        states = self.model.forward_decoder(memory_mask=None, **inputs, **shared)
        logits, boxes = (out[-1, 0] for out in self.model.bbox_head(**states))
        scores, index = logits.sigmoid().flatten().topk(min(self.count, logits.numel()))
        classes = logits.shape[1]
        middle, sides = boxes[index // classes].chunk(2, dim=-1)
        whole = boxes.new_tensor([size[1], size[0]] * 2)
        corners = torch.cat([middle - sides / 2, middle + sides / 2], dim=-1) * whole
        return corners.clamp(min=0).minimum(whole), scores, index % classes


def orders(ask: Callable, image) -> Iterator:
    """What DINO answers in the other orders that its tied proposals may as well come in.

    A proposal's query is that of its rank, so that two of one score that change places get each
    other's. Of more than three pairs, three are tried.
    """
    topk, pairs = torch.topk, []

    def first(values: Tensor, *args, **settings):
        found = topk(values, *args, **settings)
        near = (found[0][0, :-1] - found[0][0, 1:] <= TIE).nonzero()[:, 0].tolist()
        pairs[:] = [i for i in near if i - 1 not in near][:3]
        return found

    with mock.patch.object(torch, 'topk', first):
        ask(image)
    for chosen in range(1, 2 ** len(pairs)):
        def swapped(*args, chosen=chosen, **settings):
            values, index = topk(*args, **settings)
            index = index.clone()
            for number, i in enumerate(pairs):
                if chosen >> number & 1:
                    index[:, i:i + 2] = index[:, i:i + 2].flip(1)
            return values, index

        with mock.patch.object(torch, 'topk', swapped):
            yield ask(image)


class Pyramid(nn.Module):
    """mmdet's `MSDeformAttnPixelDecoder` for maps whose sizes are numbers: the same in and out."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = copy.copy(decoder)
        self.decoder._modules = dict(decoder._modules, encoder=copy.deepcopy(decoder.encoder))
        for layer in self.decoder.encoder.layers:
            layer.self_attn = Deformable(layer.self_attn)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """maps: (B, C, h, w), finest first -> a map for masks, and maps for queries."""
        ours, count = self.decoder, self.decoder.num_encoder_levels
        low = list(maps[:-count - 1:-1])
        sizes = [tuple(map_.shape[-2:]) for map_ in low]
        rows = [conv(map_) for conv, map_ in zip(ours.input_convs, low)]
        positions = [ours.postional_encoding(None, input=map_) + embed[:, None, None]
                     for map_, embed in zip(low, ours.level_encoding.weight)]
        query, position = (torch.cat([part.flatten(2).transpose(1, 2) for part in parts], dim=1)
                           for parts in (rows, positions))
        points = [ours.point_generator.single_level_grid_priors(
            size, len(maps) - 1 - i, device=query.device) / query.new_tensor(size[::-1])
            / ours.strides[len(maps) - 1 - i] for i, size in enumerate(sizes)]
        points = torch.cat(points)[None, :, None].repeat(query.shape[0], 1, count, 1)
        memory = ours.encoder(
            query=query, query_pos=position, key_padding_mask=None, spatial_shapes=sizes,
            reference_points=points, level_start_index=None, valid_ratios=None)
        outs = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(
            memory.split([height * width for height, width in sizes], dim=1), sizes)]
        for map_, lateral, output in zip(maps[:-count][::-1], ours.lateral_convs[::-1],
                                         ours.output_convs[::-1]):
            map_ = lateral(map_)
            outs.append(output(map_ + F.interpolate(outs[-1], map_.shape[-2:], mode='bilinear')))
        return ours.mask_feature(outs[-1]), outs[:ours.num_outs]


def plain(head: nn.Module) -> nn.Module:
    """A head that looks by `Pyramid` where it looks by mmdet's module; a shallow copy."""
    if type(getattr(head, 'pixel_decoder', None)).__name__ != 'MSDeformAttnPixelDecoder':
        return head
    head = copy.copy(head)
    head._modules = dict(head._modules, pixel_decoder=Pyramid(head.pixel_decoder))
    return head


class Masks(nn.Module):
    """What mmdet's `Mask2Former` does in a test for instances, on maps of its neck.

    Args:
        model: others than Mask2Former itself are refused by name.
    """

    outputs = ['boxes', 'scores', 'labels', 'masks']

    def __init__(self, model: nn.Module):
        super().__init__()
        check_masks(model)
        fusion = model.panoptic_fusion_head
        self.head, self.things = plain(model.panoptic_head), fusion.num_things_classes
        self.classes, self.divisor = fusion.num_classes, model.data_preprocessor.pad_size_divisor
        self.count = min(fusion.test_cfg.get('max_per_image', 100),
                         model.panoptic_head.num_queries * self.classes)
        self.settings = dict(score_thr=0.0, max_per_img=self.count, mask_thr=0.5, masks='picture')

    def forward(self, maps: tuple[Tensor, ...], size: Size) -> tuple[Tensor, ...]:
        """maps: (1, C, h, w) each; size: (h, w) of the picture in pixels, without its padding."""
        logits, masks = (found[-1][0] for found in self.head(list(maps), None))
        scores, index = logits.softmax(-1)[:, :-1].flatten().topk(self.count)
        labels, masks = index % self.classes, masks[index // self.classes]
        padded = [-(-side // self.divisor) * self.divisor for side in size]
        whole = F.interpolate(masks[None], padded, mode='bilinear')[0, :, :size[0], :size[1]]
        there = whole > 0
        share = (whole.sigmoid() * there).sum((1, 2)) / (there.sum((1, 2)) + 1e-6)
        scores = torch.where(labels < self.things, scores * share, 0.0)
        scores, order = scores.topk(self.count)
        there = there[order]
        return _around(there), scores, labels[order], masks[order]


def _around(masks: Tensor) -> Tensor:
    """Boxes (n, 4) around masks (n, h, w), bool; zeros around an empty one."""
    sides = []
    for dim in (1, 2):
        there = masks.any(dim)
        at = torch.arange(there.shape[1], device=masks.device)
        sides.append((torch.where(there, at, there.shape[1]).amin(1),
                      torch.where(there, at + 1, 0).amax(1)))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], dim=1) * masks.any(2).any(1)[:, None].float()


def check_masks(model: nn.Module) -> None:
    """UserError that names the first part or setting that is not known here."""
    from mmdet.models import Mask2Former, Mask2FormerHead, MaskFormerFusionHead

    for part, kind in ((model, Mask2Former), (model.panoptic_head, Mask2FormerHead),
                       (model.panoptic_fusion_head, MaskFormerFusionHead)):
        if type(part) is not kind:
            raise refusal(part, f'in its place {kind.__name__} may stand')
    check_pixels(model.panoptic_head)
    if not model.panoptic_fusion_head.test_cfg.get('instance_on'):
        raise refusal(model.panoptic_fusion_head, 'it joins objects one after the other into a '
                      'panoptic map (--cfg-options model.test_cfg.instance_on=True, where its '
                      'instances will do)')


def check_pixels(head: nn.Module) -> None:
    """UserError where a Mask2Former's head makes its maps by another module than Mask2Former's."""
    from mmdet.models.layers import MSDeformAttnPixelDecoder

    if type(head.pixel_decoder) is not MSDeformAttnPixelDecoder:
        raise refusal(head.pixel_decoder, 'in its place MSDeformAttnPixelDecoder may stand')


def check(model: nn.Module) -> None:
    """UserError that names the first part or setting that is not known here."""
    from mmdet.models import DINO, DINOHead

    for part, kind in ((model, DINO), (model.bbox_head, DINOHead)):
        if type(part) is not kind:
            raise refusal(part, f'of detectors without regions, {kind.__name__} is known')
    if not model.bbox_head.loss_cls.use_sigmoid:
        raise refusal(model.bbox_head, 'its scores are no sigmoids')
