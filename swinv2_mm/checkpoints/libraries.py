"""How each library names and stores a SwinV2: one table each, read in both directions.

Native names, those of this package, are the official ones but for the end: the official `norm` is
the output norm of the last stage, here `norm3`. A classifier stays `head`, the parts of masked
image modelling stay `mask_token` and `decoder.0`. Position tables, indices and masks are buffers:
they follow from the windows (`transfer.pretrained_windows` reads these) and are no weights.

Read from the model code of microsoft/Swin-Transformer f82860b, transformers 5.23, torchvision
0.26, mmpretrain 1.3.6 (OneDL) and timm 1.0.31, and held against all but the first by the tests.
"""
import re
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .names import Row

# What a native name of a weight, and of a buffer, looks like.
WEIGHT = re.compile(
    r'patch_embed\.(proj|norm)\.(weight|bias)|mask_token|absolute_pos_embed'
    r'|layers\.\d+\.blocks\.\d+\.((norm[123]|attn\.proj|attn\.cpb_mlp\.0|mlp\.fc[12])\.(weight|bias)'
    r'|attn\.(logit_scale|q_bias|v_bias|qkv\.weight|cpb_mlp\.2\.weight))'
    r'|layers\.\d+\.downsample\.(reduction\.weight|norm\.weight|norm\.bias)'
    r'|norm\d+\.(weight|bias)|head\.(weight|bias)|decoder\.0\.(weight|bias)')
BUFFER = re.compile(r'layers\.\d+\.blocks\.\d+\.(attn\.(relative_coords_table|'
                    r'relative_position_index|k_bias)|attn_mask)|pretrained_windows')


class Layout(NamedTuple):
    """How one library names and stores a SwinV2.

    marker: a tensor that every such file has; what stands before it is the prefix.
    sign, without: patterns that one of the names must show, and none may show, to tell the layout
        from others with its marker.
    prefix: what `from_native` puts before the names of the backbone.
    rows: the first that fits a name wins, in both directions.
    buffers: kinds of buffers that the library saves.
    """

    title: str
    marker: str
    rows: tuple[Row, ...]
    prefix: str = ''
    sign: str = ''
    without: str = ''
    buffers: tuple[str, ...] = ()


def _split(packed: Tensor) -> list[Tensor]:
    return list(packed.chunk(3))


def _pack_bias(query: Tensor, value: Tensor) -> list[Tensor]:
    return [torch.cat([query, torch.zeros_like(query), value])]


def _unfold(weight: Tensor) -> list[Tensor]:
    """(2C, 4C), four corners (y, x) = 00, 10, 01, 11 of C each -> C times 00, 01, 10, 11."""
    return [weight.unflatten(1, (2, 2, -1)).permute(0, 3, 2, 1).flatten(1)]


def _fold(weight: Tensor) -> list[Tensor]:
    return [weight.unflatten(1, (-1, 2, 2)).permute(0, 3, 2, 1).flatten(1)]


# name: (theirs -> ours, ours -> theirs), each a list of tensors from the tensors of a row.
CHANGES = {
    'same': (lambda value: [value], lambda value: [value]),
    'unfolded': (_fold, _unfold),
    'split': (lambda *parts: [torch.cat(parts)], _split),
    # The key bias of a packed one is no weight: it is zeroed in every forward pass.
    'packed': (lambda packed: _split(packed)[::2], _pack_bias),
}

BLOCK = 'layers.{i}.blocks.{j}'


def _rows(block: str, inside: Iterable[tuple], outside: Iterable[tuple]) -> tuple[Row, ...]:
    """Rows from names relative to a block, then names of the rest."""
    def full(names, start):
        return ' '.join(f'{start}.{name}' for name in names.split())

    inside = [Row(full(ours, BLOCK), full(theirs, block), *change)
              for ours, theirs, *change in inside]
    return (*inside, Row(BLOCK, block), *(Row(*row) for row in outside))


_HEAD_FC = ('head', '/head.fc', 'same', True)
_END = (_HEAD_FC, ('head', '/head'), ('norm{last}', 'norm'))
_SIMMIM = (('mask_token', 'mask_token'), ('decoder', '/decoder'))

LAYOUTS = {
    'transformers': Layout(
        'transformers (Hugging Face), all Swinv2 classes',
        'embeddings.patch_embeddings.projection.weight', prefix='swinv2.',
        rows=_rows('encoder.layers.{i}.blocks.{j}', (
            ('norm1', 'layernorm_before'), ('norm2', 'layernorm_after'),
            ('attn.cpb_mlp', 'attention.self.continuous_position_bias_mlp'),
            ('attn.qkv.weight', 'attention.self.query.weight attention.self.key.weight '
             'attention.self.value.weight', 'split'),
            ('attn.q_bias', 'attention.self.query.bias'),
            ('attn.v_bias', 'attention.self.value.bias'),
            ('attn.proj', 'attention.output.dense'), ('attn', 'attention.self'),
            ('mlp.fc1', 'intermediate.dense'), ('mlp.fc2', 'output.dense')), (
            ('layers.{i}.downsample', 'encoder.layers.{i}.downsample'),
            ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
            ('patch_embed.norm', 'embeddings.norm'), ('mask_token', 'embeddings.mask_token'),
            ('norm{last}', 'layernorm'), ('head', '/classifier'), ('decoder', '/decoder')))),
    'torchvision': Layout(
        'torchvision', 'features.0.0.weight',
        buffers=('relative_coords_table', 'relative_position_index'),
        rows=_rows('features.{2i+1}.{j}', (
            ('attn.q_bias attn.v_bias', 'attn.qkv.bias', 'packed'),
            ('mlp.fc1', 'mlp.0'), ('mlp.fc2', 'mlp.3')), (
            ('layers.{i}.downsample', 'features.{2i+2}'),
            ('patch_embed.proj', 'features.0.0'), ('patch_embed.norm', 'features.0.2'),
            ('norm{last}', 'norm'), ('head', 'head')))),
    'mmpretrain': Layout(
        'mmpretrain', 'patch_embed.projection.weight', prefix='backbone.',
        buffers=('relative_coords_table', 'relative_position_index'),
        rows=_rows('stages.{i}.blocks.{j}', (
            ('attn', 'attn.w_msa'), ('mlp.fc1', 'ffn.layers.0.0'), ('mlp.fc2', 'ffn.layers.1')), (
            ('layers.{i}.downsample.reduction.weight',
             'stages.{i+1}.downsample.reduction.weight', 'unfolded'),
            ('layers.{i}.downsample', 'stages.{i+1}.downsample'),
            ('patch_embed.proj', 'patch_embed.projection'),
            ('patch_embed.norm', 'patch_embed.norm'),
            ('norm{i}', 'norm{i}'), ('head', '/head.fc')))),
    'native': Layout(
        'this package', 'patch_embed.proj.weight', sign=r'^norm\d',
        rows=tuple(Row(*row) for row in (
            _HEAD_FC, ('head', '/cls_head.fc_cls', 'same', True), ('head', '/head'),
            ('layers', 'layers'), ('patch_embed', 'patch_embed'), ('norm{i}', 'norm{i}'),
            ('pretrained_windows', 'pretrained_windows'), *_SIMMIM))),
    'simmim': Layout(
        'the official masked image modelling (SimMIM)', 'patch_embed.proj.weight',
        prefix='encoder.', sign=r'rpe_mlp|^mask_token|^/decoder',
        buffers=('relative_coords_table', 'relative_position_index'),
        rows=_rows(BLOCK, (('attn.cpb_mlp', 'attn.rpe_mlp'),), (
            ('layers', 'layers'), ('patch_embed', 'patch_embed'), *_SIMMIM, *_END))),
    'timm': Layout(
        'timm from 0.9 on', 'patch_embed.proj.weight',
        sign=r'^layers[._][1-9]\d*\.downsample', without=r'^layers[._]0\.downsample',
        rows=_rows(BLOCK, (), (
            ('layers.{i}.downsample', 'layers.{i+1}.downsample'),
            ('layers.{i}.downsample', 'layers_{i+1}.downsample', 'same', True),  # features_only
            ('layers.{i}', 'layers_{i}', 'same', True), ('patch_embed', 'patch_embed'),
            ('norm{last}', 'norm'), ('head', '/head.fc')))),
    'official': Layout(
        'the official code; timm before 0.9', 'patch_embed.proj.weight',
        buffers=('relative_coords_table', 'relative_position_index'),
        rows=tuple(Row(*row) for row in (
            ('layers', 'layers'), ('patch_embed', 'patch_embed'),
            ('absolute_pos_embed', 'absolute_pos_embed'), *_END))),
}

# Not SwinV2, or not this one: a name that shows it, and what the file is.
OTHERS = (
    (r'relative_position_bias_table$', 'of Swin V1 (it has relative_position_bias_table), whose '
     'weights do not fit V2: use a SwinV2 file'),
    (r'\.meta_mlp\.', "of timm's swinv2_cr, another model than SwinV2 (it has meta_mlp): use a "
     'file of its swinv2_* models'),
)
