"""tools/test.py takes a checkpoint as tools/infer.py does: every tensor of the model, or none."""
import cv2
import pytest
import torch
from helpers import ROOT
from infer_checks import DEMOS, call, checkpoint, picture
from mmengine.config import Config

from swinv2_mm.apis.inference.weights import WholeModel, load_weights
from swinv2_mm.utils.errors import UserError


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """One picture of each class of the demo."""
    root = tmp_path_factory.mktemp('crops')
    dataset = Config.fromfile(ROOT / DEMOS['cls']).test_dataloader.dataset
    for i, name in enumerate(dataset.metainfo.classes):
        folder = root / dataset.data_prefix / name
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / '0.jpg'), picture(i, 64, 64))
    return root


def state():
    return torch.load(checkpoint('cls'), weights_only=True)['state_dict']


def backbone_alone(found):
    return {name.removeprefix('backbone.'): value for name, value in found.items()
            if name.startswith('backbone.')}


def more_classes(found):
    return {name: torch.cat([value, value[:1]]) if name.startswith('head.') else value
            for name, value in found.items()}


def without_a_norm(found):
    return {name: value for name, value in found.items() if 'norm3' not in name}


WRONG = {backbone_alone: 'must be of the model that the config describes, backbone, head; .* is of '
                         'patch_embed, layers, norm3',
         more_classes: r'must have the classes of the config, .* differs in 2 tensors: head.fc.weig'
                       r'ht is \(7, 256\) in the file and \(6, 256\) in the model',
         without_a_norm: 'lacks 2 of its .* tensors, such as backbone.norm3'}


@pytest.mark.parametrize('spoil', WRONG, ids=lambda spoil: spoil.__name__)
def test_weights_of_another_model_are_refused_before_a_picture_is_seen(data, tmp_path, spoil):
    """Case 19."""
    torch.save(dict(state_dict=spoil(state())), tmp_path / 'a.pth')
    with pytest.raises(UserError, match=WRONG[spoil]):
        run(data, tmp_path)


def run(data, folder, *options):
    call('test', ROOT / DEMOS['cls'], folder / 'a.pth', '--work-dir', folder / 'w',
         '--cfg-options', f'test_dataloader.dataset.data_root={data}', *options,
         scope='mmpretrain')


def test_whole_weights_are_tested_and_held_to_their_windows(data, tmp_path):
    torch.save(dict(state_dict=state()), tmp_path / 'a.pth')
    run(data, tmp_path)
    (metrics,) = (tmp_path / 'w').glob('*/*.json')
    assert 'accuracy/top1' in metrics.read_text()
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[8, 8, 8, 8\]'):
        run(data, tmp_path, 'model.backbone.window_size=16')


def test_a_runner_that_loads_by_itself_is_checked_by_a_hook():
    model = torch.nn.Linear(2, 3)
    hook, runner = WholeModel('a.pth'), type('Runner', (), dict(model=model))
    hook.after_load_checkpoint(runner, dict(state_dict=model.state_dict()))
    with pytest.raises(UserError, match=r'a.pth differs in 2 tensors: weight is \(4, 2\)'):
        hook.after_load_checkpoint(runner, torch.nn.Linear(2, 4).state_dict())


def test_weights_of_before_windows_were_kept_are_whole(tmp_path):
    model = torch.nn.Module()
    from swinv2_mm import SwinTransformerV2
    model.backbone = SwinTransformerV2('nano', window_size=8)
    found = {name: value for name, value in model.state_dict().items()
             if not name.endswith('pretrained_windows')}
    torch.save(found, tmp_path / 'old.pth')
    load_weights(model, str(tmp_path / 'old.pth'))
