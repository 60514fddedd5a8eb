"""What a living backbone can be asked: other windows, and the features inside, as timm has them."""
from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import arguments, record


class Living:
    """Part of the backbones; documented where it is used."""

    def set_window_sizes(self, window_size) -> None:
        """Change the windows of this model from now on; parameters and optimizer stay as they are.

        Positions stay normalised as before: a side of 0 in `pretrained_window_sizes`, by which the
        window in use normalises, becomes that of the window until now. (Where maps were smaller
        than their window, name in `pretrained_window_sizes` what they shrank it to: [12, 12, 12, 6]
        at 192.)

        Args:
            window_size: as in the constructor: an int, a tuple of sides, or a list, one per stage.

        Raises:
            ValueError: where it is none of these.
        """
        sizes = arguments.per_stage(
            'window_size', window_size, len(self.arch.depths), self.ndim, 1)
        normalisers = self.pretrained_window_sizes
        if normalisers is not None:
            normalisers = list(map(record.used, self.window_sizes, normalisers))
        self.window_sizes = sizes
        for stage, window in zip(self.layers, sizes):
            stage.window = window
            for block in stage.blocks:
                block.attn.train(block.attn.training)  # drops the bias of the old window
        if normalisers is not None:
            self.pretrained_window_sizes = normalisers  # also records the new windows

    @property
    def feature_info(self) -> list[dict]:
        """For each stage dict(num_chs, reduction, module), as timm's models tell it."""
        return [dict(num_chs=self.arch.embed_dims << i, reduction=self._stride(i),
                     module=f'layers.{i}') for i in range(len(self.layers))]

    def forward_intermediates(
            self, x: Tensor, indices: int | Sequence[int] | None = None, norm: bool = False,
            stop_early: bool = False, output_fmt: str = 'NCHW', intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Features after stages, with timm's arguments.

        Args:
            x: (B, C, *S).
            indices: stages, negative ones from the end; an int n: the last n; None: all.
            norm: put each through its output norm, as `forward` does.
            stop_early: run no stage after the last of `indices`.
            output_fmt: 'NCHW' channels first, 'NHWC' channels last, in any rank.
            intermediates_only: leave out the first of the two results.

        Returns:
            the features after the last stage that ran, channels last and normalised where that
            stage has a norm; and the list of intermediate ones, in the order of stages.

        Raises:
            ValueError: for an index without a stage, or without a norm where `norm` asks for it.
        """
        if output_fmt not in ('NCHW', 'NHWC'):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NHWC', got {output_fmt!r}: take one.")
        count = len(self.layers)
        if indices is None:
            indices = count
        wanted = range(count - indices, count) if isinstance(indices, int) else indices
        wanted = sorted({i + count if i < 0 else i for i in wanted})
        if not wanted or wanted[0] < 0 or wanted[-1] >= count:
            raise ValueError(f'indices must be stages from 0 to {count - 1}, got {indices}: stages '
                             'after the last of out_indices are not built.')
        if norm and (bare := [i for i in wanted if not hasattr(self, f'norm{i}')]):
            raise ValueError(f'norm=True needs an output norm in each of indices, got none in '
                             f'stages {bare}: put them into out_indices, or leave norm out.')
        x, found = self._tokens(x), []
        for i, stage in enumerate(self.layers[:wanted[-1] + 1] if stop_early else self.layers):
            if i:
                x = self.layers[i - 1].downsample(x)
            x = stage(x)
            if i in wanted:
                out = getattr(self, f'norm{i}')(x) if norm else x
                found.append(out.movedim(-1, 1).contiguous() if output_fmt == 'NCHW' else out)
        if intermediates_only:
            return found
        return (getattr(self, f'norm{i}')(x) if hasattr(self, f'norm{i}') else x), found
