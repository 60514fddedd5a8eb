"""Windows that a checkpoint was trained with, recovered from its buffers."""
import re

from torch import Tensor

TABLE = re.compile(r'layers\.(\d+)\.blocks\.0\.attn\.relative_coords_table$')

Sides = tuple[int, ...]


def pretrained_windows(state: dict[str, Tensor]) -> list[tuple[Sides, Sides]] | None:
    """(window, normaliser) of each stage, as sides; None where the file holds no tables.

    An official `relative_coords_table` is (1, 2 h - 1, 2 w - 1, 2) for a window of h x w, and its
    largest entry per side is log2(1 + 8 (w - 1) / (n - 1)) / 3 for a normaliser n.
    """
    found = {}
    for key, table in state.items():
        if match := TABLE.search(key):
            window = tuple((side + 1) // 2 for side in table.shape[1:-1])
            largest = table.double().flatten(0, -2).amax(0).tolist()
            found[int(match[1])] = window, tuple(map(_normaliser, window, largest))
    return [found[i] for i in sorted(found)] or None


def _normaliser(window: int, largest: float) -> int:
    return window if largest == 0 else round(8 * (window - 1) / (2 ** (3 * largest) - 1)) + 1
