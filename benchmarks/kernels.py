"""Compile the attention kernels for GPUs that are not there, and estimate their speed.

    python benchmarks/kernels.py        (prints a table; --write fills it into docs/speed.md)

Triton compiles for any card; ptxas, cuobjdump and nvdisasm come inside its wheel. What launch.py
would start is taken down from tensors without memory, and compiled as it stands. The machine code
says what the interpreter hides: registers, spills, shared memory, and how many instructions a warp
is to issue, loops counted as often as they turn. A processor issues four a cycle; that is set
against the cycles that the memory, the matrix units and the exponentials need at their best. An
estimate to steer by, and never a result: it knows no latency, and takes all instructions alike.
"""
from __future__ import annotations

import argparse
import collections
import math
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import timing
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from swinv2_mm.models import launch, triton_attention

TOOLS = Path(triton.__file__).parent / 'backends/nvidia/bin'
POINTERS = {torch.float32: '*fp32', torch.bfloat16: '*bf16', torch.float16: '*fp16'}
WINDOWS, WIDTH, HEADS = (8, 16, 24, 32), 32, 4


class Card(NamedTuple):
    """processors; bytes and cycles a second; bytes of shared memory of a processor; products
    (multiply and add) of matrices in half precision a cycle and processor."""

    name: str
    processors: int
    memory: float
    clock: float
    shared: int
    products: int


# By compute capability; from the makers' data sheets, dense, without sparsity.
CARDS = {
    80: Card('A100', 108, 1555e9, 1.41e9, 164 << 10, 1024),
    86: Card('RTX 3090', 82, 936e9, 1.70e9, 100 << 10, 256),
    89: Card('RTX 4090', 128, 1008e9, 2.52e9, 100 << 10, 512),
    90: Card('H100', 132, 3350e9, 1.76e9, 228 << 10, 2048),
    100: Card('B200', 148, 8000e9, 1.97e9, 228 << 10, 4096),
}
EXPONENTIALS = 16  # a cycle and processor, on all of them


class Start(NamedTuple):
    """A kernel as launch.py would start it."""

    kernel: str
    programs: int
    arguments: dict
    options: dict


class Code(NamedTuple):
    """registers of a thread; instructions that spill them; shared bytes and warps of a program;
    instructions by the loops that they are in, outer first, spills likewise; matrix products."""

    registers: int
    shared: int
    warps: int
    loops: collections.Counter
    spills: collections.Counter
    products: collections.Counter

    def residents(self, card: Card) -> int:
        """Programs that a processor holds at once."""
        registers = 8 * math.ceil(self.registers / 8) * 32 * self.warps
        return min(65536 // registers, card.shared // (self.shared + 1024), 48 // self.warps)


def starts(window: tuple[int, ...], width: int, dtype: torch.dtype, arch: int,
           seams: bool = False, batch: int = 64) -> list[Start]:
    """All kernels of a forward and a backward pass on maps of 4 windows a side."""
    found = []

    def record(name, programs, arguments, sizes, **options):
        names = [x for x in getattr(triton_attention, name).arg_names if x not in sizes]
        found.append(Start(name, programs, dict(zip(names, arguments)) | sizes, options))

    qkv = torch.empty(batch, *(4 * w for w in window), 3 * HEADS * width, dtype=dtype,
                      device='meta')
    scale = torch.empty(HEADS, 1, 1, device='meta')
    bias = torch.empty(HEADS, *[math.prod(window)] * 2, device='meta')
    shift = tuple(w // 2 if seams else 0 for w in window)
    with mock.patch.multiple(launch, start=record, generation_of=lambda device: arch // 10):
        out, lse = launch.forward(qkv, scale, bias, window, shift)
        launch.backward(out, qkv, scale, bias, out, lse, window, shift)
    return found


def compiled(start: Start, arch: int):
    """Triton's result for a card of this generation."""
    kernel = getattr(triton_attention, start.kernel)
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = start.arguments[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = 'constexpr', value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            attributes[(i,)] = [['tt.divisibility', 16]]  # as torch's allocator gives them
        else:
            signature[parameter.name] = 'i32'
    return triton.compile(ASTSource(kernel, signature, constants, attributes),
                          target=GPUTarget('cuda', arch, 32), options=start.options)


def read(result) -> Code:
    """What a compiled kernel consists of."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'kernel.cubin'
        file.write_bytes(result.asm['cubin'])
        usage, text = (subprocess.run([TOOLS / tool, flag, file], capture_output=True, text=True,
                                      check=True).stdout
                       for tool, flag in (('cuobjdump', '-res-usage'), ('nvdisasm', '-c')))
    lines = instructions(text)
    return Code(int(re.search(r'REG:(\d+)', usage)[1]),
                result.metadata.shared, result.metadata.num_warps,
                collections.Counter(loops for loops, _ in lines),
                collections.Counter(loops for loops, name in lines
                                    if name.startswith(('STL', 'LDL'))),
                collections.Counter(name for _, name in lines if 'MMA' in name))


def instructions(text: str) -> list[tuple[tuple[int, ...], str]]:
    """(where the loops begin that it is in, name) of each instruction of a disassembly."""
    names, labels, jumps = [], {}, []
    for line in text.splitlines():
        label = re.match(r'\s*(\.L_x_\d+):', line)
        found = re.match(r'\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z][A-Z0-9_.]*)', line)
        if label:
            labels[label[1]] = len(names)
        if found and found[1] != 'NOP':
            target = re.search(r'`\((\.L_x_\d+)\)', line)
            if found[1].startswith('BRA') and target:
                jumps.append((len(names), target[1]))
            names.append(found[1])
    ends: dict[int, int] = {}  # of loops, by their first instruction
    for at, label in jumps:
        if labels[label] < at:  # the end of a program jumps to itself for ever, and is no loop
            ends[labels[label]] = max(at, ends.get(labels[label], 0))
    return [(tuple(sorted(first for first, last in ends.items() if first <= i <= last)), name)
            for i, name in enumerate(names)]


def cycles(start: Start, code: Code, longest: bool = False) -> float:
    """To issue a kernel's instructions, for one window and head.

    The forward kernel has two loops over keys, and runs the longer where logits may be large.
    """
    windows, tokens = start.arguments['count'], start.arguments['N']
    walk, tiles = windows // start.arguments['step'], tokens // start.arguments.get('BLOCK', tokens)
    turns = {'forward_kernel': [1, walk, walk * tiles], 'rows_kernel': [1, tiles],
             'columns_kernel': [1, tiles]}.get(start.kernel, [1, walk])
    loops = dict(code.loops)
    if start.kernel == 'forward_kernel':
        over_keys = sorted((path for path in loops if len(path) == 2), key=loops.get)
        for path in over_keys[:-1] if longest else over_keys[1:]:
            del loops[path]
    # deeper ones wait for something, once
    whole = sum(number * turns[min(len(path), len(turns) - 1)] for path, number in loops.items())
    return whole * start.programs * code.warps / 4 / (windows * HEADS)


def budget(side: int, arch: int = 90, dtype: torch.dtype = torch.bfloat16) -> list[list]:
    """Rows of the table: forward, then backward, for one window and head."""
    card, tokens = CARDS[arch], side * side
    found = [(start, read(compiled(start, arch)))
             for start in starts((side, side), WIDTH, dtype, arch)]
    moved = tokens * WIDTH * torch.finfo(dtype).bits / 8 / (
        card.memory / card.processors / card.clock)
    rows = []
    # forward q, k, v and the output; backward these gradients besides, 5 products of matrices
    passes = [('forward', found[:1], 4, 2, False), ('forward, large logits', found[:1], 4, 2, True),
              ('backward', found[1:], 8, 5, False)]
    if found[0][0].arguments['ALWAYS']:
        del passes[1]  # there is one loop
    for name, some, tensors, products, longest in passes:
        issue = sum(cycles(*pair, longest=longest) for pair in some)
        memory, matrices = tensors * moved, products * tokens ** 2 * WIDTH / card.products
        rows.append([
            f'{side} x {side}', name, max(code.registers for _, code in some),
            sum(code.spills.total() for _, code in some),
            min(code.residents(card) for _, code in some),
            *map(round, (issue, memory, matrices, len(some) * tokens ** 2 / EXPONENTIALS)),
            f'{issue / max(memory, matrices):.2f}'])
    return rows


def table() -> str:
    heads = ['window', 'pass', 'registers', 'spills', 'programs a processor', 'issue', 'memory',
             'matrices', 'exponentials', 'issue / larger of memory and matrices']
    lines = [heads, ['---'] * len(heads), *(row for side in WINDOWS for row in budget(side))]
    return '\n'.join([*(f'| {" | ".join(map(str, line))} |' for line in lines), '',
                      f'Estimated for {CARDS[90].name}, bf16, heads of {WIDTH} channels, blocks '
                      f'without shift, by triton {triton.__version__}: cycles for one window and '
                      'head. Nothing of it was measured.'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--write', action='store_true', help='fill the table of --page')
    parser.add_argument('--page', type=Path, default=timing.ROOT / 'docs/speed.md')
    args = parser.parse_args()
    text = table()
    print(text)
    if args.write:
        timing.fill(args.page, 'kernels', text)


if __name__ == '__main__':
    main()
