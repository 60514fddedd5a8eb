"""Every checkpoint says which windows it was trained with, and whoever loads it is held to them."""
import json

import pytest
import torch
from conftest import awaken
from helpers import weights
from mmengine.runner import load_state_dict
from safetensors.torch import load_file, save_file
from test_windows_of_files import ARCH, FROM, assert_equal, backbone, features

from swinv2_mm import SwinTransformerV2, SwinTransformerV2Video
from swinv2_mm.checkpoints import from_native, load_backbone, pretrained_windows
from swinv2_mm.models import swin


@pytest.fixture(scope='module')
def trained():
    """At window 8, with pretrained_window_sizes=0."""
    return awaken(backbone(), seed=3)


def inside(model, prefix='backbone.'):
    """As a user writes it, in a plain dict."""
    return {prefix + name: value for name, value in model.state_dict().items()}


def by_torch(model, file):
    torch.save(dict(state_dict=inside(model)), file)


def bare(model, file):
    torch.save(model.state_dict(), file)


def of_data_parallel(model, file):
    torch.save(dict(model=inside(model, 'module.backbone.'), epoch=3), file)


def in_safetensors(model, file):
    save_file(inside(model), file)


WRITERS = {'a.pth': by_torch, 'b.pth': bare, 'c.pth': of_data_parallel,
           'd.safetensors': in_safetensors}


@pytest.mark.parametrize('name', WRITERS)
def test_a_model_trained_with_0_is_taken_with_its_windows_or_refused(trained, tmp_path, name):
    WRITERS[name](trained, tmp_path / name)
    size = 256, 256  # no map is smaller than the window, so that 0 is 8
    wanted = features(trained, size)
    for settings in (dict(), dict(pretrained_window_sizes=8), FROM):
        model = backbone(**settings)
        load_backbone(model, tmp_path / name)
        assert_equal(features(model, size), wanted)
    moved = backbone(window_size=16, pretrained_window_sizes=8)
    load_backbone(moved, tmp_path / name)
    taken = backbone(window_size=16, **FROM)
    load_backbone(taken, tmp_path / name)
    assert taken.pretrained_window_sizes == [(8, 8)] * 4
    assert_equal(features(taken), features(moved))
    for window, wrong in ((16, 0), (16, 12), (8, 12), ([8, 8, 16, 8], 0)):
        with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[8, 8, 8, 8\]'):
            load_backbone(backbone(window_size=window, pretrained_window_sizes=wrong),
                          tmp_path / name)


@pytest.mark.parametrize('load', [
    lambda model, state: model.load_state_dict(state, strict=True),
    lambda model, state: load_state_dict(model, state, strict=True),
    lambda model, state: load_state_dict(model, state, strict=False)],
    ids=['torch', 'mmengine', 'mmengine, not strict'])
def test_whoever_loads_is_held_to_the_windows_and_takes_no_weight_if_refused(trained, load):
    inner = torch.nn.Sequential(backbone())
    load(inner, inside(trained, '0.'))
    assert_equal(features(inner[0]), features(trained))
    other = torch.nn.Sequential(backbone(window_size=16))
    before = other[0].patch_embed.proj.weight.clone()
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[8, 8, 8, 8\]'):
        load(other, inside(trained, '0.'))
    assert torch.equal(other[0].patch_embed.proj.weight, before)


def test_what_is_trained_on_at_another_window_keeps_both_numbers(trained):
    second = backbone(window_size=16, **FROM)
    load_backbone(second, inside(trained))
    third = backbone(window_size=(16, 24), **FROM)
    load_backbone(third, inside(second))
    assert pretrained_windows(inside(third)) == [((16, 24), (8, 8))] * 4
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[8, 8, 8, 8\]'):
        load_backbone(backbone(window_size=(16, 24)), inside(third))  # the window, but 0


def test_a_video_keeps_its_windows_in_time(trained):
    video = SwinTransformerV2Video(ARCH, window_size=(4, 8, 8), pretrained_window_sizes=(0, 8, 8))
    load_backbone(video, inside(trained))
    assert pretrained_windows(video.state_dict()) == [((4, 8, 8), (0, 8, 8))] * 4
    again = SwinTransformerV2Video(ARCH, window_size=(4, 8, 8), pretrained_window_sizes=(0, 8, 8))
    load_backbone(again, video.state_dict())
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[\(0, 8, 8\)'):
        load_backbone(SwinTransformerV2Video(ARCH, window_size=(4, 16, 16)), video.state_dict())


def test_a_model_of_videos_takes_windows_in_time_from_a_file_of_videos_alone(trained):
    video = SwinTransformerV2Video(ARCH, window_size=(4, 8, 8), pretrained_window_sizes=(2, 8, 8))
    for file, windows in ((video, (2, 8, 8)), (trained, (0, 0, 0))):
        model = SwinTransformerV2Video(ARCH, window_size=(4, 8, 8), **FROM)
        load_backbone(model, inside(file))
        assert model.pretrained_window_sizes == [windows] * len(model.window_sizes)


def test_a_file_from_before_windows_were_kept_loads_with_a_warning(trained, monkeypatch):
    said = []
    monkeypatch.setattr(swin, 'print_log', lambda line, *args: said.append(line))
    backbone().load_state_dict(weights(trained), strict=True)
    assert len(said) == 1 and 'does not tell which windows' in said[0]
    backbone(pretrained_window_sizes=8).load_state_dict(weights(trained))
    backbone().load_state_dict(trained.state_dict())
    assert len(said) == 1


def test_windows_are_no_parameter_and_no_buffer_and_stay_whole_numbers(trained):
    assert 'pretrained_windows' not in dict(trained.named_buffers())
    kept = backbone().half().state_dict()['pretrained_windows']
    assert kept.tolist() == [[[8, 8]] * 4, [[0, 0]] * 4, [[0, 0]] * 4] and kept.dtype == torch.int64


# A config.json beside the weights.

def folder(path, model, content, name='model.safetensors', layout='transformers'):
    """A folder of a user's own name, as another library writes it."""
    path.mkdir()
    state = {key: value.contiguous() for key, value in from_native(
        weights(model), layout).items()}
    save_file(state, path / name, metadata=dict(format='pt'))
    (path / 'config.json').write_text(content if isinstance(content, str) else json.dumps(content))
    return path


SIZES = dict(embed_dim=8, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 2], patch_size=4)
TUNED = dict(model_type='swinv2', image_size=384, window_size=24,
             pretrained_window_sizes=[12, 12, 12, 6], **SIZES)


@pytest.mark.parametrize('content, windows, normalisers', [
    (TUNED, [24, 24, 24, 12], [12, 12, 12, 6]),
    (TUNED | dict(pretrained_window_sizes=[0, 0, 0, 0]), [24, 24, 24, 12], [24, 24, 24, 12]),
    (dict(model_type='upernet', backbone_config=TUNED), [24, 24, 24, 12], [12, 12, 12, 6]),
    (dict(model_type='swinv2', image_size=[256, 256], window_size=8, **SIZES), [8] * 4, [8] * 4),
    (dict(model_type='swinv2', **SIZES), [7] * 4, [7] * 4)],  # its own defaults
    ids=['tuned', 'pretrained at 0', 'in a segmentor', 'a list of sides', 'defaults'])
def test_a_folder_of_any_name_tells_its_windows(trained, tmp_path, content, windows, normalisers):
    path = folder(tmp_path / 'my-finetuned-cells', trained, content)
    model = backbone(window_size=24, **FROM)
    report = load_backbone(model, path)
    assert 'windows taken from the config.json beside the file' in report.notes
    assert f'trained with windows {windows}' in str(report)
    assert model.pretrained_window_sizes == [(n, n) for n in normalisers]
    load_backbone(backbone(window_size=24, pretrained_window_sizes=normalisers), path)
    for wrong in (0, 9):
        with pytest.raises(ValueError, match='set pretrained_window_sizes=' + str(
                normalisers).replace('[', r'\[')):
            load_backbone(backbone(window_size=20, pretrained_window_sizes=wrong),
                          path / 'model.safetensors')


@pytest.mark.parametrize('content', [
    '{', '[]', '3', dict(model_type='vit'), TUNED | dict(embed_dim=96), TUNED | dict(window_size=0),
    TUNED | dict(depths=None), TUNED | dict(image_size='large'),
    TUNED | dict(pretrained_window_sizes=[12])], ids=lambda content: str(content)[:40])
def test_a_config_that_tells_nothing_of_the_file_is_passed_over(trained, tmp_path, content):
    path = folder(tmp_path / 'mine', trained, content)
    with pytest.raises(ValueError, match="must tell its windows for pretrained_window_sizes='from"):
        load_backbone(backbone(**FROM), path)


@pytest.mark.parametrize('content, normalisers', [
    (dict(architecture='swinv2_tiny_window8_256'), [8] * 4),
    (dict(architecture='swinv2_tiny_window16_256.ms_in1k'), [16, 16, 16, 8]),
    (dict(architecture='swinv2_tiny_window8_256', model_args=dict(img_size=128)), [8, 8, 8, 4])],
    ids=['plain', 'with its tag', 'at another size'])
def test_a_folder_of_timm_tells_its_windows(trained, tmp_path, content, normalisers):
    path = folder(tmp_path / 'mine', trained, content, layout='timm')
    model = backbone(window_size=16, **FROM)
    load_backbone(model, path)
    assert model.pretrained_window_sizes == [(n, n) for n in normalisers]


def test_files_of_the_record_are_those_of_any_tensor(trained, tmp_path):
    in_safetensors(trained, tmp_path / 'a.safetensors')
    assert load_file(tmp_path / 'a.safetensors')['backbone.pretrained_windows'].shape == (3, 4, 2)
    assert SwinTransformerV2(ARCH, **FROM).pretrained_windows is None
