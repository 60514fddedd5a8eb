"""Save a small model with transformers, and what it answers, for tests that run without it.

    .venv-peers/bin/python tests/with_transformers/make_fixture.py

writes tests/fixtures/transformers/: `config.json` and `model.safetensors` by its own
`save_pretrained`, `answers.safetensors` with its last hidden state and logits for `picture()`.
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Swinv2Config, Swinv2ForImageClassification

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS))
from conftest import awaken  # noqa: E402
from test_fixture import picture  # noqa: E402

FOLDER = TESTS / 'fixtures' / 'transformers'


@torch.no_grad()
def main():
    config = Swinv2Config(image_size=64, embed_dim=8, depths=[2, 2], num_heads=[1, 2],
                          window_size=4, num_labels=5)
    model = awaken(Swinv2ForImageClassification(config), seed=1).eval()
    model.save_pretrained(FOLDER)
    hidden = model.swinv2(picture()).last_hidden_state  # (B, H W, C)
    save_file({'hidden': hidden.contiguous(), 'logits': model(picture()).logits},
              FOLDER / 'answers.safetensors')
    for file in sorted(FOLDER.iterdir()):
        print(file.name, file.stat().st_size, 'bytes')


if __name__ == '__main__':
    main()
