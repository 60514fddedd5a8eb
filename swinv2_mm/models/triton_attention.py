"""Scaled cosine attention of all windows as Triton kernels on the map, forward and backward.

They read q, k, v where the dense layer left them, (B, *S, 3C), and write each token's result to its
place: window, cyclic shift, padding and seam are arithmetic on addresses, and no logits reach
memory. A program has one head and a tile of a window's queries, keys, or both. Where one tile holds
a window, a program walks over many windows and keeps its bias; else over the tiles of one window,
with an online softmax, or without a maximum where the temperature bounds the logits. They are in
base 2, and worked out anew backward.

    forward_kernel   the output, and log2 of the denominator of every softmax
    whole_kernel     all gradients, where one tile holds a window; else
    rows_kernel, columns_kernel, bias_kernel      those of q; of k and v; of the bias

Nothing is added by atomics: who owns a sum keeps it, and partial sums are added in a fixed order.

Letters as in windows.py, T = 1 for pictures; K* the shift, W* the window; N its tokens with what
fills the last tile up; OWN a program's, BLOCK those of the tiles it walks over; D the power of 2
from the width d of a head on; P how float32 is multiplied. Imported by launch.py alone, since it
needs triton.
"""
import triton
import triton.language as tl

from . import windows
from .sequential import COSINE_EPS

LOG2E = tl.constexpr(1.4426950408889634)
SEAM = tl.constexpr(windows.SEAM * 1.4426950408889634)
EPS = tl.constexpr(COSINE_EPS)
# Logits from -ROOM to ROOM are small: float32 sums their exponentials as they are.
ROOM = tl.constexpr(48.)
# These take any value without compiling anew.
SIZES = ['heads', 'count', 'step', 'T', 'H', 'W', 'KT', 'KH', 'KW']


@triton.jit
def _window(window, T, H, W, KT, KH, KW, WT: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr):
    """Row of a window's first token, its place along each side, and whether it reaches an end."""
    nt, nh, nw = tl.cdiv(T, WT), tl.cdiv(H, WH), tl.cdiv(W, WW)
    y = window // nw
    t = y // nh
    image = t // nt
    t0, y0, x0 = (t - image * nt) * WT + KT, (y - t * nh) * WH + KH, (window - y * nw) * WW + KW
    first = image.to(tl.int64) * T * H * W + (t0 * H + y0) * W + x0
    return first, t0, y0, x0, (t0 + WT > T) | (y0 + WH > H) | (x0 + WW > W)


@triton.jit
def _side(place, start, size, WINDOW: tl.constexpr):
    """Along one side of a window: what the shift took round, and what is no padding."""
    end = tl.cdiv(size, WINDOW) * WINDOW - start
    return place >= end, (place >= end) | (place < size - start)


@triton.jit
def _tokens(i, t0, y0, x0, T, H, W, WT: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr,
            EDGES: tl.constexpr):
    """Tokens i of a window: rows from its first, which are real, and their regions between seams.

    Where there are no edges it is the same for all windows, and worked out once.
    """
    t, y, x = i // (WH * WW), i // WW % WH, i % WW
    row, real, region = (t * H + y) * W + x, i < WT * WH * WW, tl.zeros_like(i)
    if EDGES:
        y_round, y_real = _side(y, y0, H, WH)
        x_round, x_real = _side(x, x0, W, WW)
        row -= tl.where(y_round, tl.cdiv(H, WH) * WH * W, 0)
        row -= tl.where(x_round, tl.cdiv(W, WW) * WW, 0)
        real, region = real & y_real & x_real, y_round.to(tl.int32) * 2 + x_round.to(tl.int32)
        if WT > 1:
            t_round, t_real = _side(t, t0, T, WT)
            row -= tl.where(t_round, tl.cdiv(T, WT) * WT * H * W, 0)
            real, region = real & t_real, region + t_round.to(tl.int32) * 4
    return row, real, region


@triton.jit
def _load(pointer, row, real, STRIDE, d: tl.constexpr, D: tl.constexpr,
          MASKED: tl.constexpr):
    """Vectors of some rows, (BLOCK, D), 0 for what is not there."""
    c = tl.arange(0, D)
    at = pointer + row[:, None] * STRIDE + c[None, :]
    if MASKED:
        return tl.load(at, mask=real[:, None] & (c[None, :] < d), other=0.)
    return tl.load(at)


@triton.jit
def _store(pointer, row, real, x, STRIDE, d: tl.constexpr, D: tl.constexpr,
           MASKED: tl.constexpr):
    c = tl.arange(0, D)
    at = pointer + row[:, None] * STRIDE + c[None, :]
    if MASKED:
        tl.store(at, x.to(pointer.dtype.element_ty), mask=real[:, None] & (c[None, :] < d))
    else:
        tl.store(at, x.to(pointer.dtype.element_ty))


@triton.jit
def _inverse_length(x):
    x = x.to(tl.float32)
    return tl.rsqrt(tl.maximum(tl.sum(x * x, 1), EPS * EPS))


@triton.jit
def _scaled(x, scale):
    """Rows times their scale, for the logits; of unit vectors float16 keeps what bfloat16 had."""
    product = x.to(tl.float32) * scale[:, None]
    return product if x.dtype == tl.float32 else product.to(tl.float16)


@triton.jit
def _logits(q, k, bias, region_i, region_j, real_j, edge, EDGES: tl.constexpr, P: tl.constexpr):
    """In base 2, (queries, keys), from what `_scaled` gives."""
    s = tl.dot(q, tl.trans(k), bias.to(tl.float32), input_precision=P)
    if EDGES:
        if edge:
            s += tl.where(region_i[:, None] != region_j[None, :], SEAM, 0.)
            s = tl.where(real_j[None, :], s, float('-inf'))
    return s


@triton.jit
def _add(total, mean, p, v, P: tl.constexpr):
    """Sums of weights, and of what they average, with a tile more of both.

    In half precision matrix units sum the weights, rounded as they average, in 16 columns alike.
    """
    p = p.to(v.dtype)
    if v.dtype == tl.float32:
        total += tl.sum(p, 1)[:, None]
    else:
        total += tl.dot(p, tl.full((v.shape[0], 16), 1., tl.float32).to(v.dtype))
    return total, mean + tl.dot(p, v, input_precision=P)


@triton.jit
def _along_length(grad, x, inverse):
    """Gradient of x from that of its unit vector."""
    unit = x.to(tl.float32) * inverse[:, None]
    return (grad - unit * tl.sum(grad * unit, 1)[:, None]) * inverse[:, None]


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(qkv, out, lse, bias, scale, largest, heads, count, step, T, H, W, KT, KH, KW,
                   d: tl.constexpr, D: tl.constexpr, WT: tl.constexpr, WH: tl.constexpr,
                   WW: tl.constexpr, N: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr,
                   ALWAYS: tl.constexpr, EDGES: tl.constexpr, MASKED: tl.constexpr,
                   P: tl.constexpr):
    """ALWAYS: the maximum of logits is needed, however small they are."""
    C = heads * d
    tiles: tl.constexpr = N // OWN
    head, tile = tl.program_id(0) % heads, tl.program_id(0) // heads % tiles
    i, j = tile * OWN + tl.arange(0, OWN), tl.arange(0, BLOCK)
    inverse_temperature = tl.load(scale + head) * LOG2E
    biases = bias + head.to(tl.int64) * N * N + i[:, None] * N + j[None, :]
    if N == BLOCK:
        b = tl.load(biases)
    large = 1
    if not ALWAYS:
        large = (tl.load(largest + head) > ROOM).to(tl.int32)
    for window in range(tl.program_id(0) // (heads * tiles), count, step):
        first, t0, y0, x0, edge = _window(window, T, H, W, KT, KH, KW, WT, WH, WW)
        row, real, region = _tokens(i, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
        place = qkv + first * (3 * C) + head * d
        x = _load(place, row, real, 3 * C, d, D, MASKED)
        q = _scaled(x, _inverse_length(x) * inverse_temperature)
        top = tl.zeros((OWN,), tl.float32)
        total = tl.zeros((OWN, 1 if x.dtype == tl.float32 else 16), tl.float32)
        mean = tl.zeros((OWN, D), tl.float32)
        for LARGE in tl.static_range(ALWAYS, 2):  # one of two loops is run
            if large == LARGE:
                if LARGE:
                    top -= 1e30  # finite: a tile may be all padding
                for start in range(0, N, BLOCK):
                    row_j, real_j, region_j = row, real, region
                    if N > BLOCK:
                        row_j, real_j, region_j = _tokens(
                            start + j, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
                        b = tl.load(biases + start)
                    k = _load(place + C, row_j, real_j, 3 * C, d, D, MASKED)
                    v = _load(place + 2 * C, row_j, real_j, 3 * C, d, D, MASKED)
                    s = _logits(q, _scaled(k, _inverse_length(k)), b, region, region_j, real_j,
                                edge, EDGES, P)
                    if LARGE:
                        new = tl.maximum(top, tl.max(s, 1))
                        shrink = tl.exp2(top - new)
                        total, mean, top = total * shrink[:, None], mean * shrink[:, None], new
                        s -= top[:, None]
                    total, mean = _add(total, mean, tl.exp2(s), v, P)
        total = tl.max(total, 1)
        mean = mean * (1 / total)[:, None]  # one division a row
        _store(out + first * C + head * d, row, real, mean, C, d, D, MASKED)
        tl.store(lse + (first + row) * heads + head, top + tl.log2(total), mask=real)


@triton.jit(do_not_specialize=SIZES)
def whole_kernel(qkv, grad, lse, bias, scale, grad_qkv, part_bias, part_scale, heads, count, step,
                 T, H, W, KT, KH, KW, d: tl.constexpr, D: tl.constexpr, WT: tl.constexpr,
                 WH: tl.constexpr, WW: tl.constexpr, N: tl.constexpr, EDGES: tl.constexpr,
                 MASKED: tl.constexpr, P: tl.constexpr):
    C = heads * d
    head, split, i = tl.program_id(0) % heads, tl.program_id(0) // heads, tl.arange(0, N)
    inverse_temperature = tl.load(scale + head)
    square = i[:, None] * N + i[None, :]
    sum_bias, sum_scale = tl.zeros((N, N), tl.float32), 0.
    for window in range(split, count, step):
        first, t0, y0, x0, edge = _window(window, T, H, W, KT, KH, KW, WT, WH, WW)
        row, real, region = _tokens(i, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
        place, to = qkv + first * (3 * C) + head * d, grad_qkv + first * (3 * C) + head * d
        q = _load(place, row, real, 3 * C, d, D, MASKED)
        k = _load(place + C, row, real, 3 * C, d, D, MASKED)
        v = _load(place + 2 * C, row, real, 3 * C, d, D, MASKED)
        g = _load(grad + first * C + head * d, row, real, C, d, D, MASKED)
        q_inverse, k_inverse = _inverse_length(q), _inverse_length(k)
        b = tl.load(bias + head * N * N + square)  # again and again: it leaves no registers else
        s = _logits(_scaled(q, q_inverse * (inverse_temperature * LOG2E)), _scaled(k, k_inverse),
                    b, region, region, real, edge, EDGES, P)
        total = tl.load(lse + (first + row) * heads + head, mask=real, other=float('inf'))
        p = tl.exp2(s - total[:, None])  # 0 for queries that are padding
        _store(to + 2 * C, row, real, tl.dot(tl.trans(p.to(v.dtype)), g, input_precision=P),
               3 * C, d, D, MASKED)
        ds = tl.dot(g, tl.trans(v), input_precision=P)
        ds = p * (ds - tl.sum(ds * p, 1)[:, None])
        sum_bias += ds
        ds = ds.to(q.dtype)
        k_unit = (k.to(tl.float32) * k_inverse[:, None]).to(k.dtype)
        grad_q = tl.dot(ds, k_unit, input_precision=P)
        sum_scale += tl.sum(tl.sum(grad_q * q.to(tl.float32), 1) * q_inverse)
        _store(to, row, real, _along_length(grad_q * inverse_temperature, q, q_inverse),
               3 * C, d, D, MASKED)
        q_unit = (q.to(tl.float32) * q_inverse[:, None]).to(q.dtype)
        grad_k = tl.dot(tl.trans(ds), q_unit, input_precision=P) * inverse_temperature
        _store(to + C, row, real, _along_length(grad_k, k, k_inverse), 3 * C, d, D, MASKED)
    tl.store(part_bias + tl.program_id(0).to(tl.int64) * N * N + square, sum_bias)
    tl.store(part_scale + tl.program_id(0), sum_scale)


@triton.jit(do_not_specialize=SIZES)
def rows_kernel(qkv, grad, out, lse, bias, scale, grad_qkv, delta, lengths, part_scale, heads,
                count, step, T, H, W, KT, KH, KW, d: tl.constexpr, D: tl.constexpr,
                WT: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr, N: tl.constexpr,
                OWN: tl.constexpr, BLOCK: tl.constexpr, EDGES: tl.constexpr, MASKED: tl.constexpr,
                P: tl.constexpr):
    """Gradient of a tile of queries; for the others, delta, (gradient . output), and 1 / |q|."""
    C = heads * d
    tiles: tl.constexpr = N // OWN
    head, tile = tl.program_id(0) % heads, tl.program_id(0) // heads % tiles
    window = tl.program_id(0) // (heads * tiles)
    i, j = tile * OWN + tl.arange(0, OWN), tl.arange(0, BLOCK)
    inverse_temperature = tl.load(scale + head)
    biases = bias + head.to(tl.int64) * N * N + i[:, None] * N + j[None, :]
    first, t0, y0, x0, edge = _window(window, T, H, W, KT, KH, KW, WT, WH, WW)
    row, real, region = _tokens(i, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
    place = qkv + first * (3 * C) + head * d
    q = _load(place, row, real, 3 * C, d, D, MASKED)
    g = _load(grad + first * C + head * d, row, real, C, d, D, MASKED)
    o = _load(out + first * C + head * d, row, real, C, d, D, MASKED)
    along = tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
    at = (first + row) * heads + head
    tl.store(delta + at, along, mask=real)
    total = tl.load(lse + at, mask=real, other=float('inf'))
    q_inverse = _inverse_length(q)
    tl.store(lengths + at, q_inverse, mask=real)
    q_scaled = _scaled(q, q_inverse * (inverse_temperature * LOG2E))
    grad_q = tl.zeros((OWN, D), tl.float32)
    for start in range(0, N, BLOCK):
        row_j, real_j, region_j = _tokens(
            start + j, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
        k = _load(place + C, row_j, real_j, 3 * C, d, D, MASKED)
        v = _load(place + 2 * C, row_j, real_j, 3 * C, d, D, MASKED)
        k_inverse = _inverse_length(k)
        s = _logits(q_scaled, _scaled(k, k_inverse), tl.load(biases + start), region, region_j,
                    real_j, edge, EDGES, P)
        ds = tl.dot(g, tl.trans(v), input_precision=P)
        ds = tl.exp2(s - total[:, None]) * (ds - along[:, None])
        k_unit = (k.to(tl.float32) * k_inverse[:, None]).to(k.dtype)
        grad_q += tl.dot(ds.to(k.dtype), k_unit, input_precision=P)
    tl.store(part_scale + window * tiles * heads + tile * heads + head,
             tl.sum(tl.sum(grad_q * q.to(tl.float32), 1) * q_inverse))
    _store(grad_qkv + first * (3 * C) + head * d, row, real,
           _along_length(grad_q * inverse_temperature, q, q_inverse), 3 * C, d, D, MASKED)


@triton.jit(do_not_specialize=SIZES)
def columns_kernel(qkv, grad, lse, bias, scale, grad_qkv, delta, q_lengths, k_lengths, heads,
                   count, step, T, H, W, KT, KH, KW, d: tl.constexpr, D: tl.constexpr,
                   WT: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr, N: tl.constexpr,
                   OWN: tl.constexpr, BLOCK: tl.constexpr, EDGES: tl.constexpr,
                   MASKED: tl.constexpr, P: tl.constexpr):
    """Gradients of a tile of keys and values, and 1 / |k| for the next."""
    C = heads * d
    tiles: tl.constexpr = N // OWN
    head, tile = tl.program_id(0) % heads, tl.program_id(0) // heads % tiles
    window = tl.program_id(0) // (heads * tiles)
    i, j = tl.arange(0, BLOCK), tile * OWN + tl.arange(0, OWN)
    inverse_temperature = tl.load(scale + head)
    biases = bias + head.to(tl.int64) * N * N + i[:, None] * N + j[None, :]
    first, t0, y0, x0, edge = _window(window, T, H, W, KT, KH, KW, WT, WH, WW)
    row_j, real_j, region_j = _tokens(j, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
    place = qkv + first * (3 * C) + head * d
    k = _load(place + C, row_j, real_j, 3 * C, d, D, MASKED)
    v = _load(place + 2 * C, row_j, real_j, 3 * C, d, D, MASKED)
    k_inverse = _inverse_length(k)
    tl.store(k_lengths + (first + row_j) * heads + head, k_inverse, mask=real_j)
    k_scaled = _scaled(k, k_inverse * (inverse_temperature * LOG2E))
    grad_k, grad_v = tl.zeros((OWN, D), tl.float32), tl.zeros((OWN, D), tl.float32)
    for start in range(0, N, BLOCK):
        row, real, region = _tokens(
            start + i, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
        q = _load(place, row, real, 3 * C, d, D, MASKED)
        g = _load(grad + first * C + head * d, row, real, C, d, D, MASKED)
        at = (first + row) * heads + head
        total = tl.load(lse + at, mask=real, other=float('inf'))
        q_inverse = tl.load(q_lengths + at, mask=real, other=0.)
        s = _logits(_scaled(q, q_inverse), k_scaled, tl.load(biases + start * N), region,
                    region_j, real_j, edge, EDGES, P)
        p = tl.exp2(s - total[:, None])
        ds = tl.dot(g, tl.trans(v), input_precision=P)
        ds = p * (ds - tl.load(delta + at, mask=real, other=0.)[:, None])
        # in this order the fewest registers spill
        grad_v += tl.dot(tl.trans(p.to(g.dtype)), g, input_precision=P)
        q_unit = (q.to(tl.float32) * q_inverse[:, None]).to(q.dtype)
        grad_k += tl.dot(tl.trans(ds.to(q.dtype)), q_unit, input_precision=P)
    to = grad_qkv + first * (3 * C) + head * d
    _store(to + C, row_j, real_j, _along_length(grad_k * inverse_temperature, k, k_inverse),
           3 * C, d, D, MASKED)
    _store(to + 2 * C, row_j, real_j, grad_v, 3 * C, d, D, MASKED)


@triton.jit(do_not_specialize=SIZES)
def bias_kernel(qkv, grad, lse, bias, scale, delta, q_lengths, k_lengths, part_bias, heads, count,
                step, T, H, W, KT, KH, KW, d: tl.constexpr, D: tl.constexpr, WT: tl.constexpr,
                WH: tl.constexpr, WW: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
                EDGES: tl.constexpr, MASKED: tl.constexpr, P: tl.constexpr):
    """Gradient of a tile of the bias, over every step-th window."""
    C = heads * d
    tiles: tl.constexpr = N // BLOCK
    head, tile = tl.program_id(0) % heads, tl.program_id(0) // heads % (tiles * tiles)
    split = tl.program_id(0) // (heads * tiles * tiles)
    i = tile // tiles * BLOCK + tl.arange(0, BLOCK)
    j = tile % tiles * BLOCK + tl.arange(0, BLOCK)
    inverse_temperature = tl.load(scale + head) * LOG2E
    square = i[:, None] * N + j[None, :]
    b = tl.load(bias + head.to(tl.int64) * N * N + square)
    sum_bias = tl.zeros((BLOCK, BLOCK), tl.float32)
    for window in range(split, count, step):
        first, t0, y0, x0, edge = _window(window, T, H, W, KT, KH, KW, WT, WH, WW)
        row, real, region = _tokens(i, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
        row_j, real_j, region_j = _tokens(j, t0, y0, x0, T, H, W, WT, WH, WW, EDGES)
        place = qkv + first * (3 * C) + head * d
        # gradients first: two tiles at a time leave the registers for the next two
        v = _load(place + 2 * C, row_j, real_j, 3 * C, d, D, MASKED)
        g = _load(grad + first * C + head * d, row, real, C, d, D, MASKED)
        at = (first + row) * heads + head
        ds = tl.dot(g, tl.trans(v), input_precision=P)
        ds -= tl.load(delta + at, mask=real, other=0.)[:, None]
        q = _load(place, row, real, 3 * C, d, D, MASKED)
        k = _load(place + C, row_j, real_j, 3 * C, d, D, MASKED)
        total = tl.load(lse + at, mask=real, other=float('inf'))
        q_inverse = tl.load(q_lengths + at, mask=real, other=0.)
        k_inverse = tl.load(k_lengths + (first + row_j) * heads + head, mask=real_j, other=0.)
        s = _logits(_scaled(q, q_inverse * inverse_temperature), _scaled(k, k_inverse), b, region,
                    region_j, real_j, edge, EDGES, P)
        sum_bias += tl.exp2(s - total[:, None]) * ds
    owner = (split * heads + head).to(tl.int64)
    tl.store(part_bias + owner * N * N + square, sum_bias)
