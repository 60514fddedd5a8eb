"""What differs between versions of torch, from 2.0 on; nothing else in this package asks for one.

What an old torch cannot do is refused in one sentence that says which version can: `require`.
"""
from __future__ import annotations

import math
import pickle
import re
import types
import zipfile
from codecs import encode
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError

# What needs a newer torch than 2.0 -> the first version that does it.
SINCE = {
    'torch.compile of this backbone': (2, 6),
    'a fused optimizer on a CPU': (2, 4),
    'loading into a model without memory (device meta)': (2, 1),
    'counting of multiply-adds': (2, 1),
    'float16 on a CPU': (2, 3),
    'a GradScaler on a CPU': (2, 3),
    'export': (2, 6),
    'attention in one kernel on a GPU': (2, 4),  # torch.library.custom_op
    'full sharding': (2, 6),  # torch.distributed.fsdp.fully_shard
    'a sharded checkpoint': (2, 6),
}
TORCH = tuple(int(part) for part in torch.__version__.split('+')[0].split('.')[:2])

# torch's own function and not one of ours around it: torch.compile knows it by its identity.
is_compiling = getattr(getattr(torch, 'compiler', None), 'is_compiling', torch._utils.is_compiling)


def can(what: str) -> bool:
    """Whether this torch does `what`, a key of `SINCE`."""
    return TORCH >= SINCE[what]


def require(what: str, instead: str) -> None:
    """Raise UserError where this torch does not do `what`; `instead` is what to do then."""
    if not can(what):
        major, minor = SINCE[what]
        raise UserError(f'{what[0].upper()}{what[1:]} needs torch {major}.{minor} or newer, this '
                        f'is torch {torch.__version__}: {instead}.')


def autocast_dtype(kind: str) -> torch.dtype | None:
    """What autocast computes in on devices of this kind ('cpu', 'cuda', ...); None where it is off.
    """
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    if kind == 'cpu':  # one function for each kind, before torch 2.4
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    if kind == 'cuda':
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    return None


def attend(q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
    """softmax(q k^T + logits) v for q, k, v (n, h, N, d) and logits (n or 1, h, N, N)."""
    if TORCH >= (2, 1):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=logits, scale=1.0)
    # torch 2.0 divides by the root of d, come what may
    return F.scaled_dot_product_attention(q * math.sqrt(q.shape[-1]), k, v, attn_mask=logits)


def nbytes(tensor: Tensor) -> int:
    """`tensor.nbytes`, which came with torch 2.1."""
    return tensor.numel() * tensor.element_size()


def flop_counter(model: torch.nn.Module):
    """torch's counter of products, for each module below `model`; a context manager."""
    require('counting of multiply-adds', 'count them in an environment with a newer one')
    from torch.utils.flop_counter import FlopCounterMode  # not wanted by who trains

    if TORCH >= (2, 4):
        return FlopCounterMode(display=False)

    class Counter(FlopCounterMode):
        """Older ones follow the modules that they are given, and take a module's only input apart
        where it is a tuple; here inputs are left alone, as no backward pass is counted."""

        def _enter_module(self, name):
            return lambda module, inputs: self.parents.append(name)

        def _exit_module(self, name):
            def leave(module, inputs, outputs):
                self.parents.pop()
            return leave

    return Counter(model, display=False)


def cpu_capability() -> str:
    """The vector instructions of the processor that torch uses: 'AVX512', 'AVX2', 'DEFAULT'."""
    return re.search(r'CPU capability usage: ([^\s,]+)', torch.__config__.show())[1]


def cpu_has_tiles() -> bool:
    """Whether the processor multiplies matrices in half precision by tiles (AMX)."""
    ask = getattr(torch.cpu, '_is_amx_tile_supported', None)
    if ask is not None:
        return ask()
    try:
        return ' amx_tile ' in Path('/proc/cpuinfo').read_text()
    except OSError:  # no Linux: no such processor either
        return False


def load(path: Path | BinaryIO, known: Mapping[str, object], map_location='cpu',
         mapped: bool = False):
    """What `torch.load` gives of a file, with tensors, plain values and `known` names alone.

    path: or, from torch 2.6 on, an open file.
    known: name as it stands in the file, 'module.name' -> what it shall mean.
    With `mapped`, tensors are not read but mapped from the file, where this torch can.
    Raises whatever torch does for a damaged file, and pickle.UnpicklingError for any other name.
    """
    if TORCH >= (2, 6):
        with torch.serialization.safe_globals([(what, name) for name, what in known.items()]):
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mapped)
    # weights_only=True of older versions can be told of no names (before 2.4), only under their own
    # (before 2.6), and ran code from tar files (CVE-2025-32434). So the same rule, by Python's
    # own unpickler: a name that is not on the list is not looked up.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # which these versions would load as a program
            if any(name.partition('/')[2] == 'constants.pkl' for name in archive.namelist()):
                raise pickle.UnpicklingError('TorchScript')
    options = dict(mmap=mapped) if TORCH >= (2, 1) else {}
    return torch.load(str(path), map_location=map_location,
                      pickle_module=restricted_pickle(known), **options)


# What weights_only=True of today's torch takes besides, and that of torch 2.0 does not.
LATER = {'torch.bfloat16': torch.bfloat16, 'torch.uint8': torch.uint8, 'torch.bool': torch.bool,
         'torch.device': torch.device, 'collections.Counter': Counter, '_codecs.encode': encode}


def restricted_pickle(known: Mapping[str, object]) -> types.ModuleType:
    """A module `pickle`, also for torch.load, that looks up tensors and `known` names alone."""
    allowed = {**torch._weights_only_unpickler._get_allowed_globals(), **LATER, **known}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            full = f'{module}.{name}'.replace('__builtin__.', 'builtins.', 1)
            if full not in allowed:
                raise pickle.UnpicklingError(f'asks for {full}')
            return allowed[full]

    module = types.ModuleType('pickle')
    module.Unpickler = Unpickler
    module.load = lambda file, **options: Unpickler(file, **options).load()
    return module
