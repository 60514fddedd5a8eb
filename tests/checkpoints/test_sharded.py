"""Folders that sharded runs save: read whole without running anything in them, or refused."""
import os
import pickle
import re

import pytest
import torch
from torch.distributed import checkpoint as dcp

from swinv2_mm import SwinTransformerV2
from swinv2_mm.checkpoints import load_backbone, read_checkpoint
from swinv2_mm.checkpoints.sharded import METADATA, RUN, is_sharded
from swinv2_mm.engine.files import fault
from swinv2_mm.engine.reading import read_run
from swinv2_mm.utils import versions

pytestmark = pytest.mark.skipif(
    not versions.can('a sharded checkpoint'), reason='older versions of torch write none')


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SwinTransformerV2(dict(embed_dims=8, depths=(1, 1), num_heads=(1, 2)), window_size=4,
                             out_indices=(1,))


@pytest.fixture
def folder(model, tmp_path):
    """Weights, and the state of an optimizer of two parameters."""
    folder = tmp_path / 'iter_7.pth'
    tensors = {f'state_dict.{name}': value for name, value in model.state_dict().items()}
    for number in (10, 2):
        tensors[f'optimizer.{number}.exp_avg'] = torch.full((3, 2), float(number))
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder))
    torch.save(dict(meta=dict(iter=7), optimizer=dict(state={}, param_groups=[])), folder / RUN)
    return folder


def test_a_folder_is_read_as_the_file_that_one_process_writes(folder, model):
    assert is_sharded(folder) and not is_sharded(folder.parent) and fault(folder) is None
    content = read_run(folder)
    assert content['meta'] == dict(iter=7)
    assert list(content['optimizer']['state']) == [2, 10]
    assert torch.equal(content['optimizer']['state'][10]['exp_avg'], torch.full((3, 2), 10.0))
    own = model.state_dict()
    for state in (content['state_dict'], read_checkpoint(folder)):
        assert state.keys() == own.keys()
        assert all(torch.equal(state[name], value) for name, value in own.items())
    for value in model.parameters():
        torch.nn.init.zeros_(value)
    assert not load_backbone(model, folder).fresh
    assert torch.equal(model.patch_embed.proj.weight,
                       content['state_dict']['patch_embed.proj.weight'])


def test_damage_anywhere_in_a_folder_is_found_out(folder):
    (part,) = folder.glob('*.distcp')
    for path in (part, folder / METADATA, folder / RUN):
        content = path.read_bytes()
        for length in (0, len(content) // 2):
            path.write_bytes(content[:length])
            assert re.match('is empty|is cut off or damaged', fault(folder)), path
        path.write_bytes(content)
    content = part.read_bytes()
    start = content.index(torch.full((3, 2), 10.0).numpy().tobytes())
    part.write_bytes(content[:start] + b'\x01' + content[start + 1:])
    assert fault(folder) == 'is damaged: its part optimizer.10.exp_avg fails its checksum'
    part.unlink()
    assert fault(folder) == 'cannot be read (No such file or directory)'


class Program:
    def __reduce__(self):
        return os.system, ('touch ran',)


@pytest.mark.parametrize('change', [
    lambda found: found.state_dict_metadata.update(x=Program()),
    # torch would unpickle such an entry, whatever it holds
    lambda found: found.state_dict_metadata.update({
        next(iter(found.state_dict_metadata)): dcp.metadata.BytesStorageMetadata()}),
    lambda found: setattr(next(iter(found.storage_data.values())), 'relative_path', '../other'),
    lambda found: found.storage_data.pop(next(iter(found.storage_data))),
    lambda found: setattr(next(iter(found.state_dict_metadata.values())), 'size',
                          torch.Size([10**12])),
], ids=['code', 'object', 'elsewhere', 'nowhere', 'too large'])
def test_what_is_no_list_of_tensors_is_refused_and_not_run(folder, monkeypatch, change):
    monkeypatch.chdir(folder.parent)
    found = pickle.loads((folder / METADATA).read_bytes())
    change(found)
    (folder / METADATA).write_bytes(pickle.dumps(found))
    refused = r"and it (is (cut off or )?damaged|asks for '(posix|torch)\..*code)"
    with pytest.raises(ValueError, match=refused):
        read_checkpoint(folder)
    assert not (folder.parent / 'ran').exists()
