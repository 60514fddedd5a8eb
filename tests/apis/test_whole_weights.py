"""tools/test.py takes a checkpoint as tools/infer.py does: every tensor of the model, or none."""
import cv2
import pytest
import torch
from helpers import ROOT
from infer_checks import DEMOS, call, checkpoint, picture
from mmengine.config import Config

from swinv2_mm.apis import train
from swinv2_mm.apis.inference.weights import Fills, WholeModel, load_weights
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


class Log(list):
    info = warning = list.append


def filled(state):
    """What is said when a training of a backbone and a head loads from a file."""
    model = torch.nn.Module()
    model.backbone, model.head = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    runner = type('Runner', (), dict(model=model, logger=Log(), _load_from='a.pth'))
    Fills().after_load_checkpoint(runner, dict(state_dict=state))
    return runner.logger


def test_what_load_from_fills_is_told_and_nothing_is_refused():
    backbone, head = torch.nn.Linear(2, 3).state_dict(), torch.nn.Linear(3, 1).state_dict()
    of_all = {f'module.backbone.{key}': value for key, value in backbone.items()}
    of_head = {f'head.{key}': value for key, value in head.items()}
    assert filled({**of_all, **of_head}) == ["load_from 'a.pth' fills 4 of the 4 tensors of the "
                                             'model.']
    assert 'fills 2 of the 4' in filled(of_all)[0] and len(filled(of_all)) == 1
    assert 'fills nothing of the backbone' in filled({'backbone.layers.0': head['bias'],
                                                      **of_head})[1]
    with pytest.raises(UserError, match='is of weight, bias: for the weights of a backbone alone'):
        filled(backbone)
    with pytest.raises(UserError, match='must be of the model'):
        filled({'backbone.weight': torch.ones(9, 9), 'bbox_head.weight': torch.ones(1)})


@pytest.mark.parametrize('resume, watched', [(False, True), (True, False)])
def test_tools_train_watches_what_it_loads(tmp_path, monkeypatch, resume, watched):
    (tmp_path / 'a.pth').touch()
    (tmp_path / 'config.py').write_text(
        f"default_scope = 'mmdet'\nmodel = {{}}\nload_from = '{tmp_path}/a.pth'\n"
        f'resume = {resume}\n')
    seen = []
    runner = type('Runner', (), dict(train=lambda: None, register_hook=seen.append))
    monkeypatch.setattr(train.Runner, 'from_cfg', lambda cfg: runner)
    monkeypatch.setattr(train.launch, 'keep_memory', lambda: None)
    monkeypatch.setattr(train.launch, 'read_safely', lambda: None)
    monkeypatch.setattr('sys.argv', ['train.py', str(tmp_path / 'config.py')])
    train.main()
    assert [type(hook) for hook in seen] == [Fills] * watched
