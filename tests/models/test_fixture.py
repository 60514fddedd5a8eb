"""A file of transformers, where transformers itself is not: made by benchmarks/make_fixture.py."""
import torch
import torch.nn.functional as F
from make_fixture import FOLDER, picture
from safetensors.torch import load_file

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import load_backbone, read_checkpoint, to_native


@torch.no_grad()
def test_a_file_of_transformers_gives_its_hidden_state_and_logits():
    model = SwinTransformerV2(dict(embed_dims=8, depths=(2, 2), num_heads=(1, 2)), window_size=4,
                              out_indices=(1,)).eval()
    report = load_backbone(model, FOLDER / 'model.safetensors')
    assert report.layout == 'transformers' and not report.fresh
    answers = load_file(FOLDER / 'answers.safetensors')  # float64, as all is from here on
    out, = model.double()(picture().double())
    torch.testing.assert_close(out.flatten(2).transpose(1, 2), answers['hidden'],
                               rtol=0, atol=1e-11)
    native = to_native(read_checkpoint(FOLDER / 'model.safetensors'))
    logits = F.linear(out.mean((2, 3)), native['head.weight'].double(),
                      native['head.bias'].double())
    torch.testing.assert_close(logits, answers['logits'], rtol=0, atol=1e-11)
    assert answers['logits'].std() > 0.1  # the picture is seen
