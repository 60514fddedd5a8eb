"""The attention of attention.py by torch's FlexAttention, compiled."""
import attention
import timing
import torch
from torch import Tensor


class Flex(attention.Simple):
    """The same weights; the bias and the seam are a function of the places of query and key."""

    def __init__(self, layer: torch.nn.Module, size: tuple, window: tuple, device: torch.device):
        super().__init__(layer, size, window, fused=True)
        from torch.nn.attention.flex_attention import flex_attention

        self.flex = flex_attention if device.type == 'cpu' else torch.compile(flex_attention)
        self.shifted = any(self.shifts[1])
        if self.shifted:
            seams = (self.mask1[0, :, 0] != 0).float()  # (W, N, N): regions are rows that are equal
            regions = torch.stack([seam.unique(dim=0, return_inverse=True)[1] for seam in seams])
            self.register_buffer('regions', regions, persistent=False)

    def core(self, q: Tensor, k: Tensor, v: Tensor, i: int) -> Tensor:
        bias, count = self.attention.position_bias(self.window), q.shape[1]

        def score(s, b, h, query, key):
            s = s + bias[h, query, key]
            if i == 0 or not self.shifted:
                return s
            other = self.regions[b % count, query] != self.regions[b % count, key]
            return torch.where(other, s - 100.0, s)

        out = self.flex(*(part.flatten(0, 1) for part in (q, k, v)), score_mod=score, scale=1.0)
        return out.unflatten(0, v.shape[:2])


def fault(model: Flex, x: Tensor, training: bool, dtype: torch.dtype) -> str:
    """Why this does not run, in a few words, or nothing where it does."""
    try:
        attention.step(model.train(training), x, training, dtype)()
        timing.synchronise(x.device)
    except Exception as error:  # noqa: BLE001 - torch's compiler raises what it likes
        return f'does not run: {type(error).__name__}: {str(error).strip()[:120]!r}'
    return ''
