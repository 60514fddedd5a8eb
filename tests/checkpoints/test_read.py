"""Reading checkpoints: every format there is; test_refused.py has what is none."""
import argparse
import http.server
import json
import multiprocessing
import pickle
import resource
import sys
import threading
import types

import pytest
import torch
from helpers import LIBRARIES, logged
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from swinv2_mm.checkpoints import read_checkpoint
from swinv2_mm.checkpoints.read import read_contents, read_metadata


def state(dtype=torch.float32):
    """A few tensors under names of a SwinV2."""
    generator = torch.Generator().manual_seed(0)
    return {'patch_embed.proj.weight': torch.randn(8, 3, 4, 4, generator=generator).to(dtype),
            'patch_embed.proj.bias': torch.zeros(8, dtype=dtype),
            'layers.0.blocks.0.attn.relative_position_index': torch.arange(16).view(4, 4)}


STATE = state()


def assert_same(found, wanted=STATE):
    assert sorted(found) == sorted(wanted)  # safetensors orders by dtype
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


FORMATS = {
    'zipped': lambda path: torch.save({'model': STATE}, path / 'a.pth'),
    'before torch 1.6': lambda path: torch.save({'model': STATE}, path / 'a.pth',
                                                _use_new_zipfile_serialization=False),
    'parameters': lambda path: torch.save({k: torch.nn.Parameter(v, v.is_floating_point())
                                           for k, v in STATE.items()}, path / 'a.bin'),
    'safetensors': lambda path: save_file(STATE, path / 'a.safetensors'),
    'safetensors of another name': lambda path: save_file(STATE, path / 'a.pth'),
    'beside a worse format': lambda path: [save_file(STATE, path / 'model.safetensors'),
                                           torch.save([], path / 'pytorch_model.bin')],
    'shards': lambda path: write_shards(path, STATE),
}


def write_shards(folder, state):
    names = {}
    for i, (key, value) in enumerate(state.items()):
        names[key] = f'model-{i}.safetensors'
        save_file({key: value}, folder / names[key])
    (folder / 'model.safetensors.index.json').write_text(json.dumps(
        {'metadata': {'total_size': 1}, 'weight_map': names}))


@pytest.mark.parametrize('write', FORMATS.values(), ids=FORMATS)
def test_every_format_is_read_by_its_path_and_from_its_folder(write, tmp_path):
    write(tmp_path)
    assert_same(read_checkpoint(tmp_path))
    file = next((f for f in tmp_path.iterdir() if f.suffix == '.json'), None)
    assert_same(read_checkpoint(file or min(tmp_path.iterdir())))


def test_shards_may_be_links_into_one_folder_as_in_a_download_cache(tmp_path):
    blobs, snapshot = tmp_path / 'blobs', tmp_path / 'snapshots' / 'main'
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    write_shards(blobs, STATE)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f'../../blobs/{file.name}')
    assert_same(read_checkpoint(snapshot))


EMA = {key: value + 1 for key, value in STATE.items()}


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


WRAPPED = {
    'bare': STATE, 'model': {'model': STATE, 'epoch': 3}, 'state_dict': {'state_dict': STATE},
    'deepspeed': {'module': STATE}, 'twice': {'model': {'state_dict': STATE}},
    'parallel': {'model': prefixed(STATE, 'module.')},
    'compiled': {'model': prefixed(STATE, '_orig_mod.module.')},
    **{key: {key: STATE, 'epoch': 3, 'best': torch.tensor(0.5), 'config': {'lr': 1e-3},
             'optimizer': {'state': {0: {'exp_avg': torch.ones(1)}}, 'param_groups': [{}]}}
       for key in ('model_state_dict', 'model_state', 'net', 'network', 'params', 'weights', 'ema',
                   'state_dict_ema', 'params_ema', 'a name of my own')},
    'below another': {'checkpoint': {'net': {'weights': STATE}}},
    'settings under a known name': {'model': {'arch': 'tiny'}, 'net': STATE},
}


@pytest.mark.parametrize('content', WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_taken_off(content, tmp_path):
    torch.save(content, tmp_path / 'a.pth')
    assert_same(read_checkpoint(tmp_path / 'a.pth'))


def test_a_prefix_of_some_names_only_is_a_name(tmp_path):
    torch.save({'module.a': torch.ones(1), 'b': torch.ones(1)}, tmp_path / 'a.pth')
    assert list(read_checkpoint(tmp_path / 'a.pth')) == ['module.a', 'b']


@pytest.mark.parametrize('content', [
    {'state_dict': STATE, 'state_dict_ema': EMA},  # timm
    {'model': STATE, 'model_ema': {'n_averaged': torch.tensor(3)} | prefixed(EMA, 'module.')},
], ids=['timm', 'torchvision'])
def test_averaged_weights_are_read_if_asked_for(content, tmp_path):
    torch.save(content, tmp_path / 'a.pth')
    plain = read_contents(tmp_path / 'a.pth')
    assert_same(plain.state)
    assert ['ema=True' in note for note in plain.notes] == [True]
    averaged = read_contents(tmp_path / 'a.pth', ema=True)
    assert_same(averaged.state, EMA)
    assert averaged.notes == []


SWIN = {'layers.0.blocks.0.attn.logit_scale': torch.ones(1)}


@pytest.mark.parametrize('content', [
    {'student': SWIN, 'teacher': EMA | SWIN}, {'net': STATE, 'ema': {'decay': 0.9, 'shadow': EMA}},
    {'params': STATE, 'params_ema': EMA}], ids=lambda content: ' and '.join(content))
def test_of_two_the_averaged_ones_are_read_if_asked_for(content, tmp_path):
    torch.save(content, tmp_path / 'a.pth')
    averaged = read_contents(tmp_path / 'a.pth', ema=True).state
    assert_same({k: v for k, v in averaged.items() if k not in SWIN}, EMA)


@pytest.mark.parametrize('content', [
    {'student': SWIN, 'teacher': SWIN}, {'generator': SWIN, 'other': {'net': SWIN}},
    {'one': STATE, 'two': EMA}], ids=lambda content: ' and '.join(content))
def test_of_two_none_is_guessed(content, tmp_path):
    torch.save(content, tmp_path / 'a.pth')
    keys = ', '.join(content)
    with pytest.raises(ValueError, match=f'one state dict, got 2 under {keys}: save the') as error:
        read_checkpoint(tmp_path / 'a.pth')
    assert ('teacher by ema=True (--ema)' in str(error.value)) == ('teacher' in content)


def test_the_one_of_a_swinv2_is_meant_and_a_dict_may_hold_itself(tmp_path):
    content = {'loss': {'weight': torch.ones(3)}, 'backbone_net': SWIN}
    torch.save(content, tmp_path / 'a.pth')
    assert list(read_checkpoint(tmp_path / 'a.pth')) == list(SWIN)
    content = {'epoch': 3}
    content['again'] = content
    torch.save(content, tmp_path / 'b.pth')
    with pytest.raises(ValueError, match='other values under'):
        read_checkpoint(tmp_path / 'b.pth')


def test_averaged_weights_that_are_not_there_are_missed(tmp_path):
    torch.save({'model': STATE, 'epoch': 3}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='must hold averaged weights .* got model, epoch: leave'):
        read_checkpoint(tmp_path / 'a.pth', ema=True)


class Toy(torch.nn.Module):
    """What mmengine's Runner can train in one step."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def train_step(self, data, optim_wrapper):
        loss = self.layer(torch.stack(data)).square().mean()
        optim_wrapper.update_params(loss)
        return dict(loss=loss, grad_norm=loss.detach())


def run(folder, hooks=()):
    """A checkpoint as mmengine's Runner writes it, and the Runner."""
    runner = Runner(
        Toy(), work_dir=str(folder), experiment_name=folder.name, custom_hooks=list(hooks),
        train_dataloader=DataLoader([torch.ones(2)] * 3, batch_size=1, collate_fn=list),
        train_cfg=dict(by_epoch=False, max_iters=3), default_scope='mmengine',
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[dict(type='MultiStepLR', by_epoch=False, milestones=[1, 2])],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)))
    runner.train()
    return folder / 'iter_3.pth', runner


def test_what_mmengine_writes_beside_the_weights_is_passed_over(tmp_path):
    """Histories of logged numbers, which torch refuses to read."""
    path, runner = run(tmp_path / 'plain')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert_same(read_checkpoint(path), runner.model.state_dict())


def test_mmengine_keeps_averaged_weights_as_the_state_dict(tmp_path):
    path, runner = run(tmp_path / 'ema', [dict(type='EMAHook', momentum=0.5)])
    hook = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook')
    weights = {k.removeprefix('module.'): v for k, v in hook.ema_model.state_dict().items()
               if k != 'steps'}
    assert not torch.equal(weights['layer.weight'], runner.model.layer.weight)
    for ema in (False, True):
        contents = read_contents(path, ema=ema)
        assert_same(contents.state, weights)
        assert 'mmengine saved averaged weights' in contents.notes[0]


def test_configurations_that_training_codes_save_are_passed_over(tmp_path, monkeypatch):
    """timm's arguments, and the official code's tree of them: here a class of the same name."""
    module = types.ModuleType('yacs.config')
    module.CfgNode = type('CfgNode', (dict,), dict(__module__='yacs.config'))
    monkeypatch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    config = module.CfgNode(MODEL=module.CfgNode(TYPE='swinv2'), EPOCHS=300)
    config.__dict__['frozen'] = True
    torch.save({'model': STATE, 'config': config, 'args': argparse.Namespace(lr=0.1)},
               tmp_path / 'a.pth')
    assert_same(read_checkpoint(tmp_path / 'a.pth'))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_are_reported(dtype, tmp_path):
    torch.save(state(dtype), tmp_path / 'a.pth')
    found, _, notes = read_contents(tmp_path / 'a.pth')
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}
    assert_same(found, {k: v if v.dtype == torch.int64 else v.float()
                        for k, v in state(dtype).items()})
    name = str(dtype).removeprefix('torch.')
    assert notes == [f'{tmp_path / "a.pth"}: 2 tensors converted from {name} to float32 '
                     '(patch_embed.proj.weight, patch_embed.proj.bias).']


def test_notes_are_logged(tmp_path):
    torch.save(state(torch.float16), tmp_path / 'a.pth')
    with logged() as lines:
        read_checkpoint(tmp_path / 'a.pth')
    assert any('converted from float16 to float32' in line for line in lines)


def test_tied_weights_are_read_once(tmp_path):
    weight = torch.randn(100, 100).half()
    torch.save({f'{i}.weight': weight for i in range(50)}, tmp_path / 'a.pth')
    state = read_checkpoint(tmp_path / 'a.pth')
    assert len({value.data_ptr() for value in state.values()}) == 1


def large(path, dtype, training):
    """A file of 256 MB: weights, and with `training` an optimizer's state three times as large."""
    def numbers():
        return torch.ones(16 << 20, dtype=dtype)

    count = (256 << 20) // (numbers().element_size() << 24)
    weights = count // 4 if training else count
    content = {'model': {f'{i}.weight': numbers() for i in range(weights)}}
    torch.save(content | {'optimizer': [numbers() for _ in range(count - weights)]}, path)


def read_and_tell(path, pipe):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_checkpoint(path)
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def grown(path):
    """MB by which a process that reads a file grows; one that has no memory of tests before it."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LIBRARIES)
    receiver, sender = context.Pipe()
    process = context.Process(target=read_and_tell, args=(path, sender))
    process.start()
    process.join()
    assert process.exitcode == 0
    return receiver.recv()


@pytest.mark.parametrize('dtype, training', [
    (torch.float32, False), (torch.float32, True), (torch.float16, False), (torch.float64, False)])
def test_memory_stays_below_twice_the_file_and_a_constant(dtype, training, tmp_path):
    large(tmp_path / 'a.pth', dtype, training)
    assert 50 < grown(tmp_path / 'a.pth') < 2 * 256 + 200  # the weights at least


def test_one_large_tensor_is_checked_without_copies_of_it(tmp_path):
    save_file({'a.weight': torch.ones(128 << 20)}, tmp_path / 'a.safetensors')
    # The least copy, a mask of booleans, takes 128 more.
    assert 500 < grown(tmp_path / 'a.safetensors') < 512 + 100


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that is served over http, its address, and an empty cache of torch.hub."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'site').mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / 'site'))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / 'site', f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_a_url_is_kept_in_the_cache_of_torch_hub(site, tmp_path):
    folder, address = site
    save_file(STATE, folder / 'swinv2 tiny.safetensors')
    assert_same(read_checkpoint(f'{address}/swinv2%20tiny.safetensors?download=true'))
    (folder / 'swinv2 tiny.safetensors').unlink()
    assert_same(read_checkpoint(f'{address}/swinv2%20tiny.safetensors'))
    assert [f.name for f in (tmp_path / 'cache/hub/checkpoints').iterdir()] == [
        'swinv2 tiny.safetensors']
    with pytest.raises(OSError, match='404.* give its path'):
        read_checkpoint(f'{address}/nowhere.pth')


def test_files_of_one_common_name_are_told_apart_by_their_url(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    for name, state in ('a', STATE), ('b', EMA):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / 'model.safetensors')
    assert_same(read_checkpoint((tmp_path / 'a/model.safetensors').as_uri()))
    assert_same(read_checkpoint((tmp_path / 'b/model.safetensors').as_uri()), EMA)


@pytest.mark.parametrize('url', ['ftp://host/a.pth', 'https://host/folder/', 's3://bucket/a.pth'])
def test_other_urls_are_refused(url):
    with pytest.raises(ValueError, match='must be http, https or file and name a file'):
        read_checkpoint(url)


def test_a_url_that_is_not_there_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    with pytest.raises(OSError, match='nowhere.pth could not be read .* give its path'):
        read_checkpoint((tmp_path / 'nowhere.pth').as_uri())
    assert list((tmp_path / 'cache/hub/checkpoints').iterdir()) == []


def test_metadata_are_read_without_the_tensors(tmp_path):
    save_file(STATE, tmp_path / 'a.safetensors', metadata={'arch': 'tiny'})
    torch.save(STATE, tmp_path / 'a.pth')
    assert read_metadata(tmp_path / 'a.safetensors') == {'arch': 'tiny'}
    assert read_metadata(tmp_path / 'a.pth') == {}
    assert read_contents(tmp_path / 'a.safetensors').metadata == {'arch': 'tiny'}
