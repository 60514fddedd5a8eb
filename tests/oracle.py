"""SwinV2 as the paper and the official code define it, in plain loops and float64.

It is slow and shares nothing with the package but parameter names, so that the two cannot be wrong
in the same way. A map is a dict from the place of a token, (y, x) or (t, y, x), to its vector:
there is no padding, rolling, cutting or masking of tensors here. For each query it is asked which
tokens it may see, and at which logit.
"""
import itertools
import math

import numpy as np
import torch

erf = np.vectorize(math.erf, otypes=[float])


def features(state, images, *, depths, num_heads, window_sizes, pretrained_window_sizes,
             patch_size, out_indices, extra_norm_every=0):
    """Features of each out index, (B, C_i, *S_i) float64, for a state dict and (B, C, *S) images.

    Windows are one tuple of sides per stage; a 0 in `pretrained_window_sizes` is the window in use.
    """
    state = {name: value.double().numpy() for name, value in state.items()}
    per_image = []
    for image in images.double().numpy():
        tokens, outs = embed(state, image, patch_size), []
        for i, depth in enumerate(depths[:max(out_indices) + 1]):
            for j in range(depth):
                tokens = block(state, f'layers.{i}.blocks.{j}', tokens, num_heads[i],
                               window_sizes[i], pretrained_window_sizes[i], shifted=j % 2 == 1)
                if extra_norm_every and (j + 1) % extra_norm_every == 0:
                    tokens = each(tokens, norm, state, f'layers.{i}.blocks.{j}.norm3')
            if i in out_indices:
                outs.append(dense(each(tokens, norm, state, f'norm{i}')))
            if i < max(out_indices):
                tokens = downsample(state, f'layers.{i}.downsample', tokens)
        per_image.append(outs)
    return [torch.from_numpy(np.stack(stage)) for stage in zip(*per_image)]


def each(tokens, function, *arguments):
    return {place: function(*arguments, vector) for place, vector in tokens.items()}


def sides_of(tokens):
    return tuple(1 + max(column) for column in zip(*tokens))


def dense(tokens):
    array = np.stack([tokens[place] for place in sorted(tokens)], axis=1)
    return array.reshape(-1, *sides_of(tokens))


def norm(state, name, x):
    x = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    return x * state[f'{name}.weight'] + state[f'{name}.bias']


def linear(state, name, x):
    return state[f'{name}.weight'] @ x + state.get(f'{name}.bias', 0.0)


def embed(state, image, patch):
    """Each patch times the kernel; what lacks at the right and the bottom is zero."""
    tokens = {}
    for corner in itertools.product(*(range(0, s, p) for s, p in zip(image.shape[1:], patch))):
        pixels = np.zeros((image.shape[0], *patch))
        present = image[(slice(None), *(slice(c, c + p) for c, p in zip(corner, patch)))]
        pixels[tuple(slice(n) for n in present.shape)] = present
        kernel = state['patch_embed.proj.weight'].reshape(-1, pixels.size)
        vector = kernel @ pixels.ravel() + state['patch_embed.proj.bias']
        tokens[tuple(c // p for c, p in zip(corner, patch))] = vector
    return each(tokens, norm, state, 'patch_embed.norm')


def downsample(state, name, tokens):
    """2 x 2 neighbours in space, in the order (y, x) = 00, 10, 01, 11; what lacks is zero."""
    *time, height, width = sides_of(tokens)
    nothing = np.zeros_like(next(iter(tokens.values())))
    merged = {}
    for place in itertools.product(*map(range, (*time, (height + 1) // 2, (width + 1) // 2))):
        *t, y, x = place
        corners = [(2 * y, 2 * x), (2 * y + 1, 2 * x), (2 * y, 2 * x + 1), (2 * y + 1, 2 * x + 1)]
        joined = np.concatenate([tokens.get((*t, *corner), nothing) for corner in corners])
        merged[place] = norm(state, f'{name}.norm', linear(state, f'{name}.reduction', joined))
    return merged


def block(state, name, tokens, heads, window, pretrained, shifted):
    """Residual post-norm: x + norm1(attention(x)), then x + norm2(mlp(x))."""
    mixed = attention(state, f'{name}.attn', tokens, heads, window, pretrained, shifted)
    tokens = {p: x + norm(state, f'{name}.norm1', mixed[p]) for p, x in tokens.items()}
    return {p: x + norm(state, f'{name}.norm2', mlp(state, f'{name}.mlp', x))
            for p, x in tokens.items()}


def mlp(state, name, x):
    x = linear(state, f'{name}.fc1', x)
    return linear(state, f'{name}.fc2', x * 0.5 * (1 + erf(x / math.sqrt(2))))


def attention(state, name, tokens, heads, window, pretrained, shifted):
    """For each query, the softmax over every token that is in the same window after the shift."""
    size = sides_of(tokens)
    # A side that fits into one window is that window, and has nothing to shift.
    shift = [w // 2 if shifted and s > w else 0 for s, w in zip(size, window)]
    window = [min(s, w) for s, w in zip(size, window)]
    whole = [math.ceil(s / w) * w for s, w in zip(size, window)]  # the map in whole windows
    normaliser = [p or w for p, w in zip(pretrained, window)]
    scale = np.exp(np.minimum(state[f'{name}.logit_scale'].ravel(), math.log(100)))  # (heads,)

    def split(x):
        return x.reshape(heads, -1)

    query, key, value, members = {}, {}, {}, {}
    seats = {p: tuple((c - k) % n for c, k, n in zip(p, shift, whole)) for p in tokens}
    for place, x in tokens.items():
        q, k, v = np.split(state[f'{name}.qkv.weight'] @ x, 3)  # a key has no bias
        query[place] = unit(split(q + state[f'{name}.q_bias']))
        key[place] = unit(split(k))
        value[place] = split(v + state[f'{name}.v_bias'])
        window_number = tuple(s // w for s, w in zip(seats[place], window))
        members.setdefault(window_number, []).append(place)

    biases, out = {}, {}
    for places in members.values():
        for a in places:
            logits = []
            for b in places:
                offset = tuple(i - j for i, j in zip(seats[a], seats[b]))
                if offset not in biases:
                    biases[offset] = position_bias(state, f'{name}.cpb_mlp', offset, normaliser)
                logit = (query[a] * key[b]).sum(-1) * scale + biases[offset]
                # The shift brings the first tokens of a side round to the last ones: strangers.
                strangers = any((i < k) != (j < k) for i, j, k in zip(a, b, shift))
                logits.append(logit - 100 if strangers else logit)
            weights = np.exp(logits - np.max(logits, axis=0))  # (keys, heads)
            weights /= weights.sum(axis=0)
            mixed = sum(w[:, None] * value[b] for w, b in zip(weights, places))
            out[a] = linear(state, f'{name}.proj', mixed.ravel())
    return out


def unit(x):
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), 1e-6)


def position_bias(state, name, offset, normaliser):
    """16 sigmoid(G(offset)) for each head, of an offset in tokens from key to query."""
    coordinates = []
    for tokens, n in zip(offset, normaliser):
        share = 8 * tokens / (n - 1) if n > 1 else 8.0 * tokens
        coordinates.append(math.copysign(math.log2(1 + abs(share)) / math.log2(8), share))
    hidden = np.maximum(linear(state, f'{name}.0', np.array(coordinates)), 0)
    return 16 / (1 + np.exp(-linear(state, f'{name}.2', hidden)))
