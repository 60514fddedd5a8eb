"""Files that are no checkpoint, or are damaged, or hold other numbers than they should."""
import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import torch
from hostile_base import MAKERS, case, rewrite, saved, state, write_zip, zipped

# Not what they should be -----------------------------------------------------------------------
for name, says, content in (
        ('empty.pth', 'is empty', b''), ('text.pth', "starts with b'hello", b'hello\n'),
        ('lfs.pth', 'is a Git LFS pointer: fetch', b'version https://git-lfs.github.com/spec/v1\n'),
        ('page.pth', 'is a web page', b'<!DOCTYPE html><html>Not Found</html>'),
        ('keras.pth', 'is an HDF5 file', b'\x89HDF\r\n\x1a\n' + bytes(200)),
        ('zeros.pth', 'starts with', bytes(4096)),
        ('cut_at_once.pth', 'without its end', b'PK\x03\x04')):
    MAKERS[name] = says, lambda path, content=content: path.write_bytes(content)


@case('arrays.pth', r'without the data\.pkl')
def _(path):
    with path.open('wb') as file:
        np.savez(file, a=np.zeros(3))


@case('script.pth', 'is a TorchScript program')
def _(path):
    write_zip(path, b'\x80\x02}.', **{'constants.pkl': b'\x80\x02).', 'code/a.py': b''})


@case('tar.pth', 'is no file of torch.save')
def _(path):
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())


@case('pipe.pth', 'There is no checkpoint')
def _(path):
    os.mkfifo(path)


@case('missing.pth', 'There is no checkpoint')
def _(path):
    pass


@case('two_in_a_folder', r'holds 2 \(a\.pth, b\.pth\)')
def _(path):
    path.mkdir()
    for name in ('a.pth', 'b.pth'):
        torch.save(state(), path / name)


@case('empty_folder', 'There is no checkpoint in the folder')
def _(path):
    path.mkdir()


# Zip archives ----------------------------------------------------------------------------------
zipped('half.pth', 'cut off')(lambda data: data[:len(data) // 2])
zipped('less_one_byte.pth', 'cut off')(lambda data: data[:-1])
zipped('more_at_the_end.pth', 'without its end')(lambda data: data + b'more')
zipped('directory_of_junk.pth', 'damaged|not where its end says')(
    lambda data: data.replace(b'PK\x01\x02', b'PK\x01\x03'))
zipped('pickle_with_a_bit_flipped.pth', 'damaged|makes? no sense|asks for')(
    lambda data: data.replace(b'FloatStorage', b'FloatStorbge', 1))


@zipped('shifted_by_a_prefix.pth', 'is no file of torch.save|starts with')
def _(data):
    return b'\0' * 16 + data


@zipped('end_record_in_a_comment.pth', 'not where its end says|damaged')
def _(data):
    """Two readers could take two different directories for the one."""
    return data[:-2] + struct.pack('<H', 22) + b'PK\x05\x06' + bytes(18)


@case('bomb.pth', 'compressed or encrypted')
def _(path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02}.')
        archive.writestr('archive/data/0', bytes(300 << 20))


@case('compressed_pickle.pth', 'compressed or encrypted')
def _(path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02' + b'(' * (300 << 20) + b'.')


@case('one_block_listed_often.pth', 'claims to hold')
def _(path):
    """Every entry of the directory is the same 4 MB."""
    numbers = {f'{i:03}': bytes(1) for i in range(200)} | {'200': bytes(4 << 20)}
    write_zip(path, b'\x80\x02}.', numbers)
    data = bytearray(path.read_bytes())
    directory = data.index(b'PK\x01\x02')
    big = data.rindex(b'archive/data/200') - 46
    at = data.find(b'PK\x01\x02', directory)
    while at >= 0:
        if data[at + 46:at + 59] == b'archive/data/':
            data[at + 16:at + 28] = data[big + 16:big + 28]  # check sum and sizes
            data[at + 42:at + 46] = data[big + 42:big + 46]  # place
        at = data.find(b'PK\x01\x02', at + 4)
    path.write_bytes(data)


@case('huge_by_its_directory.pth', 'claims to hold')
def _(path):
    write_zip(path, b'\x80\x02}.', {'0': bytes(64)})
    data = bytearray(path.read_bytes())
    at = data.index(b'archive/data/0', data.index(b'PK\x01\x02')) - 46
    data[at + 20:at + 28] = struct.pack('<II', 0xfffffff0, 0xfffffff0)
    path.write_bytes(data)


@case('encrypted.pth', 'compressed or encrypted')
def _(path):
    write_zip(path, b'\x80\x02}.')
    data = bytearray(path.read_bytes())
    data[data.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(data)


@case('long_directory.pth', 'zip directory of')
def _(path):
    write_zip(path, b'\x80\x02}.', {f'{i}{"x" * 200}': b'' for i in range(36_000)})


@case('two_of_one_name.pth', 'two zip entries of one name')
def _(path):
    with zipfile.ZipFile(path, 'w') as archive:
        for name in ('data.pkl', 'data/0', 'data/1'):
            archive.writestr(f'archive/{name}', b'\x80\x02}.')
    path.write_bytes(path.read_bytes().replace(b'data/1', b'data/0'))


@case('numbers_missing.pth', "needs 1,536 bytes of numbers as '0' and holds none")
def _(path):
    rewrite(path, lambda numbers: {})


@case('numbers_short.pth', "needs 1,536 bytes of numbers as '0' and holds 4")
def _(path):
    rewrite(path, lambda numbers: {key: value[:4] for key, value in numbers.items()})


# Before torch 1.6 ------------------------------------------------------------------------------
def legacy(name, says):
    def keep(change):
        @case(name, says)
        def make(path):
            torch.save({'model': state()}, path, _use_new_zipfile_serialization=False)
            path.write_bytes(change(path.read_bytes()))
        return change
    return keep


legacy('old_cut_in_numbers.pth', 'so it is cut off')(lambda data: data[:-1])
legacy('old_cut_in_pickle.pth', 'cut off within its pickle')(lambda data: data[:300])
legacy('old_cut_at_once.pth', 'cut off within its pickle')(lambda data: data[:20])
legacy('old_with_other_keys.pth', 'other blocks of numbers')(
    lambda data: data[:data.rindex(b'\x80\x02]')] + b'\x80\x02].' + bytes(4000))


@legacy('old_of_a_terabyte.pth', 'needs 1,[0-9,]+ bytes of numbers')
def _(data):
    """The count of one storage, 384 or 0x180, made a billion times larger."""
    return data.replace(b'M\x80\x01N', b'\x8a\x06' + (384 << 30).to_bytes(6, 'little') + b'N', 1)


# Numbers ---------------------------------------------------------------------------------------
WEIGHT = 'patch_embed.proj.weight'
saved('nan.pth', f"its '{WEIGHT}' holds NaN")(lambda: {WEIGHT: torch.tensor([1, float('nan')])})
saved('infinity.pth', f"its '{WEIGHT}' holds NaN or infinity")(
    lambda: {WEIGHT: torch.tensor([1, -float('inf')]).half()})
saved('beyond_float32.pth', 'beyond float32')(lambda: {WEIGHT: torch.tensor([1e300]).double()})
saved('int8.pth', r'is of torch\.int8')(lambda: {WEIGHT: torch.zeros(4, dtype=torch.int8)})
saved('bool.pth', r'is of torch\.bool')(lambda: {WEIGHT: torch.zeros(4, dtype=torch.bool)})
saved('complex.pth', r"asks for 'torch\.ComplexFloatStorage'")(
    lambda: {WEIGHT: torch.zeros(4, dtype=torch.complex64)})
if hasattr(torch, 'float8_e4m3fn'):  # from torch 2.1 on
    saved('float8.pth', "asks for 'torch")(
        lambda: {WEIGHT: torch.zeros(4, dtype=torch.float8_e4m3fn)})
saved('sparse.pth', "asks for 'torch._utils._rebuild_sparse")(
    lambda: {WEIGHT: torch.eye(3).to_sparse()})
saved('quantized.pth', "asks for 'torch")(
    lambda: {WEIGHT: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)})
saved('expanded.pth', 'repeats 4 bytes of numbers')(
    lambda: {WEIGHT: torch.zeros(1).expand(1 << 20, 1 << 20)})
saved('not_tensors.pth', 'other values under epoch')(lambda: {'epoch': 3})
saved('numbered.pth', 'other values under 7')(lambda: {7: torch.zeros(1)})


@case('overlapping_views.pth', 'share memory')
def _(path):
    numbers = torch.zeros(4 << 20).half()
    torch.save({f'{i}': numbers[i:] for i in range(200)}, path)


@case('part_of_a_large_one.pth', 'is a small part of')
def _(path):
    numbers = torch.zeros(40 << 20).half()
    torch.save({f'{i}': part for i, part in enumerate(numbers.chunk(8))}, path)


@case('outside_of_its_storage.pth', 'is damaged')
def _(path):
    rewrite(path, lambda numbers: numbers)
    with zipfile.ZipFile(path) as archive:
        data = archive.read('archive/data.pkl')
        numbers = {str(i): archive.read(f'archive/data/{i}') for i in range(3)}
    write_zip(path, data.replace(b'(K\x08K\x03K\x04K\x04t', b'(K\xffK\x03K\x04K\x04t'), numbers)


for name, says, content in (
        ('list.pth', 'got list', [1, 2]), ('nothing.pth', 'got dict without any', {}),
        ('no_state.pth', 'other values under epoch', {'epoch': 3, 'optimizer': {}}),
        ('tensor.pth', 'got Tensor', torch.zeros(3))):
    MAKERS[name] = says, lambda path, content=content: torch.save(content, path)
