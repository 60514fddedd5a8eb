"""Save a small model with transformers, and what it answers, for tests that run without it.

    .venv-peers/bin/python benchmarks/make_fixture.py

writes tests/fixtures/transformers/: `config.json` and `model.safetensors` by its own
`save_pretrained`, `answers.safetensors` with its last hidden state and logits for `picture()`, in
float64: what a float32 model answers differs between processors.
"""
from pathlib import Path

import torch
from awake import awaken
from safetensors.torch import save_file

from swinv2_mm.models.attention import log_spaced_offsets

FOLDER = Path(__file__).resolve().parents[1] / 'tests/fixtures/transformers'


def in_float64(model):
    """The model in float64, with the positions that it keeps as float32 buffers worked out anew."""
    model = model.double()
    for layer in model.modules():
        if hasattr(layer, 'relative_coords_table'):
            size, table = layer.window_size[0], layer.relative_coords_table
            exact = log_spaced_offsets(layer.window_size, layer.pretrained_window_size
                                       if any(layer.pretrained_window_size) else layer.window_size)
            exact = exact.view(1, 2 * size - 1, 2 * size - 1, 2)
            assert (table - exact).abs().max() < 1e-6  # the same, rounded
            layer.relative_coords_table = exact
    return model


def picture():
    """(2, 3, 64, 64), the same with every version of torch."""
    x = torch.arange(2 * 3 * 64 * 64, dtype=torch.float64)
    return (torch.sin(x * x / 7000) * 2).float().view(2, 3, 64, 64)


@torch.no_grad()
def main():
    from transformers import Swinv2Config, Swinv2ForImageClassification

    config = Swinv2Config(image_size=64, embed_dim=8, depths=[2, 2], num_heads=[1, 2],
                          window_size=4, num_labels=5)
    model = awaken(Swinv2ForImageClassification(config), seed=1).eval()
    model.save_pretrained(FOLDER)
    exact = in_float64(model)
    image = picture().double()
    hidden = exact.swinv2(image).last_hidden_state  # (B, H W, C)
    save_file({'hidden': hidden.contiguous(), 'logits': exact(image).logits},
              FOLDER / 'answers.safetensors')
    for file in sorted(FOLDER.iterdir()):
        print(file.name, file.stat().st_size, 'bytes')


if __name__ == '__main__':
    main()
