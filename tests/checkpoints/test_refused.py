"""Files that are no checkpoint, are damaged, or would run code: one sentence each; nothing runs."""
import io
import pickle
import re
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from swinv2_mm.checkpoints import read_checkpoint
from swinv2_mm.utils import versions
from swinv2_mm.utils.errors import UserError

WEIGHT = 'patch_embed.proj.weight'
STATE = {WEIGHT: torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
         'patch_embed.proj.bias': torch.zeros(8)}
MARKER = 'CODE_RAN'  # what a pickle that runs leaves behind


def refused(path):
    """What is said of a file, which must be one sentence without torch's advice to trust it."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read_checkpoint(path)
    text = str(error.value)
    assert text.endswith('.') and '. ' not in text and '\n' not in text and len(text) < 500
    assert 'trust' not in text and 'weights_only' not in text
    return text


CONTENTS = {
    'empty': (b'', 'is empty'),
    'text': (b'hello\n', 'no file of torch.save'),
    'Git LFS pointer': (b'version https://git-lfs.github.com/spec/v1\n', 'LFS pointer: fetch'),
    'web page': (b'<!DOCTYPE html><html>Not Found</html>', 'is a web page'),
    'Keras': (b'\x89HDF\r\n\x1a\n' + bytes(200), 'is an HDF5 file'),
    'zeros': (bytes(4096), 'no file of torch.save'),
    'start of a zip': (b'PK\x03\x04', 'cut off or damaged'),
}


@pytest.mark.parametrize('content, says', CONTENTS.values(), ids=CONTENTS)
def test_what_is_met_where_a_checkpoint_should_be_is_told(content, says, tmp_path):
    (tmp_path / 'a.pth').write_bytes(content)
    assert re.search(says, refused(tmp_path / 'a.pth'))


def test_archives_of_others_are_told(tmp_path):
    with (tmp_path / 'a.pth').open('wb') as file:
        np.savez(file, a=np.zeros(3))
    assert 'cut off or damaged' in refused(tmp_path / 'a.pth')
    with tarfile.open(tmp_path / 'b.pth', 'w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert 'no file of torch.save' in refused(tmp_path / 'b.pth')
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'c.pth'))
    assert 'is a TorchScript program and not a state dict' in refused(tmp_path / 'c.pth')


def test_a_path_holds_one_checkpoint(tmp_path):
    assert 'There is no checkpoint at' in refused(tmp_path / 'none.pth')
    assert 'There is no checkpoint in the folder' in refused(tmp_path)
    for name in ('a.pth', 'b.pth'):
        torch.save(STATE, tmp_path / name)
    assert 'holds 2 (a.pth, b.pth)' in refused(tmp_path)


@pytest.mark.parametrize('zipped', [True, False], ids=['zipped', 'before torch 1.6'])
@pytest.mark.parametrize('keep', [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(zipped, keep, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'model': STATE}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * keep)])
    assert re.search('cut off or damaged|asks for', refused(path))  # for half a name


class Code:
    """Pickles to a call that leaves a trace."""

    def __init__(self, folder):
        self.trace = str(folder / MARKER)

    def __reduce__(self):
        return open, (self.trace, 'w')


@pytest.mark.parametrize('zipped', [True, False], ids=['zipped', 'before torch 1.6'])
def test_code_in_a_file_does_not_run(zipped, tmp_path):
    path, content = tmp_path / 'a.pth', {'model': STATE, 'extra': Code(tmp_path)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert "asks for 'io.open', which is code and not weights: save its" in refused(path)
    assert not (tmp_path / MARKER).exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / MARKER).exists()  # it would have run


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def call(name, *args):
    """Pickle instructions that call a function by its name."""
    return b'c' + name.replace(' ', '\n').encode() + b'\n(' + b''.join(args) + b'tR'


CRAFTED = {
    'os.system': call('os system', text(f'touch {MARKER}')),
    'eval': call('__builtin__ eval', text('1')),
    'of a module': call('__builtin__ getattr', b'cos\nos\n', text('system')),
    'of a stand-in': call('__builtin__ getattr', call('numpy dtype', text('f8')),
                          text('newbyteorder')) + b')R',
    'bytearray': call('__builtin__ bytearray', b'\x8a\x06' + (10 ** 13).to_bytes(6, 'little')),
}


@pytest.mark.parametrize('instructions', CRAFTED.values(), ids=CRAFTED)
def test_calls_beside_the_weights_do_not_run(instructions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile('a.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02}(' + text('model') + b'}' + text('extra')
                         + instructions + b'u.')
        archive.writestr('archive/version', '3\n')
    refused('a.pth')
    assert not (tmp_path / MARKER).exists()


def test_whole_models_and_bare_pickles_are_told(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / 'a.pth')
    assert "asks for 'torch.nn.modules.linear.Linear', which is code" in refused(tmp_path / 'a.pth')
    (tmp_path / 'b.pth').write_bytes(pickle.dumps({'model': {'a': 1}}, 2))
    assert 'no file of torch.save' in refused(tmp_path / 'b.pth')


NUMBERS = {
    'NaN': (torch.tensor([1, float('nan')]), 'holds NaN'),
    'infinity': (torch.tensor([1, -float('inf')]).half(), 'holds NaN or infinity'),
    'beyond float32': (torch.tensor([1e300]).double(), 'beyond float32'),
    'int8': (torch.zeros(4, dtype=torch.int8), r'is of torch\.int8'),
    'complex': (torch.zeros(4, dtype=torch.complex64), r'is of torch\.complex64'),
    'sparse': (torch.eye(3).to_sparse(), 'is sparse|asks for'),
    'expanded': (torch.zeros(1).expand(1 << 20, 1 << 20), 'repeats 4 bytes of numbers'),
    'no tensor': (3, f'other values under {WEIGHT}'),
}


@pytest.mark.parametrize('value, says', NUMBERS.values(), ids=NUMBERS)
def test_what_is_no_weight_is_named(value, says, tmp_path):
    torch.save({'model': STATE | {WEIGHT: value}}, tmp_path / 'a.pth')
    assert re.search(says, refused(tmp_path / 'a.pth')) and WEIGHT in refused(tmp_path / 'a.pth')


def test_tensors_that_would_outgrow_their_file_are_named(tmp_path):
    numbers = torch.zeros(4 << 20).half()
    torch.save({f'{i}': numbers[i:] for i in range(200)}, tmp_path / 'a.pth')
    assert 'share memory' in refused(tmp_path / 'a.pth')
    numbers = torch.zeros(40 << 20).half()
    torch.save({f'{i}': part for i, part in enumerate(numbers.chunk(8))}, tmp_path / 'a.pth')
    assert 'is a small part of' in refused(tmp_path / 'a.pth')


@pytest.mark.parametrize('content, says', [
    ([1, 2], 'got list'), ({}, 'got dict without any'), (torch.zeros(3), 'got Tensor'),
    ({'epoch': 3, 'optimizer': {}}, 'other values under epoch'),
    ({7: torch.zeros(1)}, 'other values under 7')], ids=str)
def test_what_holds_no_state_dict_is_told(content, says, tmp_path):
    torch.save(content, tmp_path / 'a.pth')
    assert says in refused(tmp_path / 'a.pth')


def test_damaged_safetensors_are_refused(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file(STATE, path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b'more', whole[:4], b'{"a": 1}' * 4,
                    whole.replace(b'"F32"', b'"F99"', 1)):
        path.write_bytes(content)
        assert 'cut off or damaged' in refused(path)


SHARDS = {
    'not json': ('{', 'JSON that cannot be read'),
    'no map': ('{"weight_map": {}}', 'without a weight_map'),
    'elsewhere': ('{"weight_map": {"a": "../a.safetensors"}}', 'not in its own folder'),
    'missing': ('{"weight_map": {"a": "b.safetensors"}}', 'which is not beside it: download'),
    'other tensors': ('{"weight_map": {"a": "a.safetensors"}}', "disagrees with it on 'a'"),
}


@pytest.mark.parametrize('index, says', SHARDS.values(), ids=SHARDS)
def test_shards_are_what_their_index_says(index, says, tmp_path):
    save_file(STATE, tmp_path / 'a.safetensors')
    (tmp_path / 'model.safetensors.index.json').write_text(index)
    assert says in refused(tmp_path / 'model.safetensors.index.json')


def test_without_safetensors_its_files_end_in_the_line_that_installs_it(tmp_path, monkeypatch):
    import sys
    save_file(STATE, tmp_path / 'a.safetensors')
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    assert refused(tmp_path / 'a.safetensors').endswith(
        'which is not installed here: run `pip install safetensors`.')


def test_an_older_torch_says_that_it_does_not_read_the_folder_of_a_sharded_run(
        tmp_path, monkeypatch):
    (tmp_path / '.metadata').touch()
    torch.save({}, tmp_path / 'run.pth')
    monkeypatch.setattr(versions, 'TORCH', (2, 5))
    with pytest.raises(UserError, match='A sharded checkpoint needs torch 2.6 or newer'):
        read_checkpoint(tmp_path)
