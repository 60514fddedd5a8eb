"""The kernels of triton_attention.py in Triton's interpreter, against the definition in float64.

A script, `TRITON_INTERPRET=1 python tests/models/kernel_cases.py`: Triton reads that variable
when it is imported, so no other test may share the process. Prints a JSON object: case -> largest
error of the output and of each gradient over the largest value, and whether two runs are bit-equal.
Then what the check before first use says of sound kernels, and of ones that are broken on purpose.
"""
import json
import math

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

from swinv2_mm.models import fused, launch, sequential, triton_attention
from swinv2_mm.models.attention import WindowAttention, _attend
from swinv2_mm.models.windows import fit_window, plan

# name: (batch and map), window, shift, heads, channels of a head, dtype, 1 / tau of the last head
CASES = {
    'whole': ((2, 8, 4), (4, 4), (0, 0), 2, 16, 'float32'),
    'padded and shifted': ((2, 7, 6), (4, 4), (2, 2), 2, 16, 'float32'),
    'oblong': ((1, 9, 17), (3, 5), (1, 2), 1, 32, 'float32'),
    'shrunk': ((1, 5, 14), (7, 7), (3, 3), 1, 32, 'float32'),
    'one token': ((1, 3, 2), (1, 1), (0, 0), 1, 16, 'float32'),
    'narrow head': ((1, 6, 6), (4, 4), (2, 2), 1, 24, 'float32'),
    'wide head': ((1, 6, 6), (4, 4), (2, 2), 1, 128, 'float32'),
    'tiles': ((1, 11, 9), (9, 9), (4, 4), 1, 32, 'float32'),
    'wide tiles': ((1, 13, 10), (10, 10), (5, 5), 3, 32, 'bfloat16'),
    'large logits': ((1, 7, 9), (7, 7), (0, 3), 2, 32, 'float32', 250),
    'video': ((1, 3, 5, 6), (2, 3, 4), (1, 1, 2), 1, 16, 'float32'),
    'bfloat16': ((1, 6, 7), (4, 4), (2, 2), 2, 32, 'bfloat16'),
    'float16': ((1, 6, 7), (4, 4), (2, 2), 2, 32, 'float16'),
}


def mend_products_of_bfloat16():
    """The interpreter keeps bfloat16 as integers of 16 bits, and multiplies these in tl.dot."""
    product = interpreter.InterpreterBuilder.create_dot

    def widened(x):
        if x.dtype.scalar.name != 'bf16':
            return x
        wide = (x.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, interpreter.tl.float32)

    interpreter.InterpreterBuilder.create_dot = lambda self, a, b, *rest: product(
        self, widened(a), widened(b), *rest)


def errors(shape, window, shift, heads, width, dtype, last_scale=None, device='cpu'):
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, dtype)
    window, shift = fit_window(shape[1:], window, shift)
    area, channels = math.prod(window), heads * width
    qkv = torch.randn(*shape, 3 * channels, generator=generator).to(device, dtype)
    grad = torch.randn(*shape, channels, generator=generator).to(device, dtype)
    scale = (10 * torch.rand(heads, 1, 1, generator=generator) + 5).to(device)
    scale[-1] = last_scale or scale[-1]
    bias = (16 * torch.rand(heads, area, area, generator=generator)).to(device)

    def run():
        out, lse = launch.forward(qkv, scale, bias, window, shift)
        return out, *launch.backward(grad, qkv, scale, bias, out, lse, window, shift)

    found, again = run(), run()
    exact = [x.double().requires_grad_() for x in (qkv, scale, bias)]
    out = _attend(exact[0], plan(shape[1:], window, shift, exact[0]), *exact[1:])
    expected = [out, *torch.autograd.grad(out, exact, grad.double())]
    off = [((a - b).abs().max() / b.abs().max().clamp_min(0.1)).item()
           for a, b in zip(found, expected)]
    return off, all(torch.equal(a, b) for a, b in zip(found, again))


# name -> what is replaced in triton_attention.py; None for nothing
BREAKS = {
    'sound': None,
    'no seam': ('SEAM', tl.constexpr(0.0)),
    'base e': ('LOG2E', tl.constexpr(1.0)),
    'no length': ('_along_length', lambda grad, x, inverse: grad * inverse[:, None]),
    'no such name': ('_window', None),
}


def checked(broken):
    """(verdict, what the log was told) of the check before first use."""
    said = []
    fused._verdicts.clear()
    fused._say = said.append
    before = dict(vars(triton_attention))
    if broken:
        setattr(triton_attention, *broken)
    try:
        return fused.trusted(torch.device('cpu'), torch.float32, (3, 4), 16), said
    finally:
        vars(triton_attention).update(before)


def difference_of_a_layer():
    """A layer as the model calls it, by the kernels and by the definition: largest differences."""
    torch.manual_seed(0)
    layer = WindowAttention(2, 32, 2, (4, 4))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(1, 6, 7, 32, requires_grad=True)
    layout, results = plan((6, 7), (4, 4), (2, 2), x), []
    for plain in (False, True):
        with sequential.plain_path() if plain else torch.enable_grad():
            out = layer(x, layout)
            results.append([out, *torch.autograd.grad(
                out.square().sum(), [x, *layer.parameters()])])
    return [((a - b).abs().max() / b.abs().max().clamp_min(0.1)).item() for a, b in zip(*results)]


if __name__ == '__main__':
    torch.set_num_threads(1)
    mend_products_of_bfloat16()
    print(json.dumps(dict(
        cases={name: errors(*case) for name, case in CASES.items()},
        layer=difference_of_a_layer(),
        checks={name: checked(broken) for name, broken in BREAKS.items()})))
