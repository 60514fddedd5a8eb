"""The kernels of triton_attention.py in Triton's interpreter, against the definition in float64.

A script, `TRITON_INTERPRET=1 python tests/models/kernel_cases.py`: Triton reads that variable
when it is imported, so no other test may share the process. Prints a JSON object: case -> largest
error of the output and of each gradient over the largest value, and whether two runs are bit-equal.
"""
import json
import math

import numpy as np
import torch
from triton.runtime import interpreter

from swinv2_mm.models import launch
from swinv2_mm.models.attention import _attend
from swinv2_mm.models.windows import fit_window, plan

# name: (batch and map), window, shift, heads, channels of a head, dtype
CASES = {
    'whole': ((2, 8, 8), (4, 4), (0, 0), 2, 16, 'float32'),
    'padded and shifted': ((2, 13, 10), (4, 4), (2, 2), 2, 16, 'float32'),
    'oblong': ((1, 9, 17), (3, 5), (1, 2), 1, 32, 'float32'),
    'shrunk': ((1, 5, 14), (7, 7), (3, 3), 1, 32, 'float32'),
    'one token': ((1, 3, 2), (1, 1), (0, 0), 1, 16, 'float32'),
    'narrow head': ((1, 6, 6), (4, 4), (2, 2), 1, 24, 'float32'),
    'wide head': ((1, 6, 6), (4, 4), (2, 2), 1, 128, 'float32'),
    'tiles': ((1, 13, 20), (10, 10), (5, 5), 1, 32, 'float32'),
    'video': ((1, 3, 5, 6), (2, 3, 4), (1, 1, 2), 1, 16, 'float32'),
    'bfloat16': ((1, 9, 10), (4, 4), (2, 2), 2, 32, 'bfloat16'),
    'float16': ((1, 9, 10), (4, 4), (2, 2), 2, 32, 'float16'),
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


def errors(shape, window, shift, heads, width, dtype):
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, dtype)
    window, shift = fit_window(shape[1:], window, shift)
    area, channels = math.prod(window), heads * width
    qkv = torch.randn(*shape, 3 * channels, generator=generator).to(dtype)
    grad = torch.randn(*shape, channels, generator=generator).to(dtype)
    scale = 10 * torch.rand(heads, 1, 1, generator=generator) + 5
    bias = 16 * torch.rand(heads, area, area, generator=generator)

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


if __name__ == '__main__':
    torch.set_num_threads(1)
    mend_products_of_bfloat16()
    print(json.dumps({name: errors(*case) for name, case in CASES.items()}))
