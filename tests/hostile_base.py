"""What the lists of hostile files share: the registry, and files that are written by hand."""
import struct
import zipfile

import torch

MARKER = 'CODE_RAN'  # what a pickle that runs would leave behind, in the folder of the files
MAKERS = {}  # name of a file -> (what its error must say, what writes it)


def case(name, says):
    def keep(make):
        MAKERS[name] = says, make
        return make
    return keep


def state(dtype=torch.float32):
    """A few tensors under names of a SwinV2."""
    generator = torch.Generator().manual_seed(0)
    return {'patch_embed.proj.weight': torch.randn(8, 3, 4, 4, generator=generator).to(dtype),
            'patch_embed.proj.bias': torch.zeros(8, dtype=dtype),
            'layers.0.blocks.0.attn.relative_position_index': torch.arange(16).view(4, 4)}


def write_zip(path, data, numbers=(), **extra):
    """An archive as torch.save makes it, around any pickle; numbers: key -> bytes."""
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', data)
        archive.writestr('archive/byteorder', 'little')
        for key, value in dict(numbers).items():
            archive.writestr(f'archive/data/{key}', value)
        archive.writestr('archive/version', '3\n')
        for name, value in extra.items():
            archive.writestr(f'archive/{name}', value)


def text(value):
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def call(name, *args):
    """Pickle instructions that call a function by its name."""
    return b'c' + name.replace(' ', '\n').encode() + b'\n(' + b''.join(args) + b'tR'


def beside(instructions, path, start=b''):
    """A pickle of {'model': {}, 'extra': what the instructions give}."""
    write_zip(path, b'\x80\x02' + start + b'}(' + text('model') + b'}' + text('extra')
              + instructions + b'u.')


def zipped(name, says):
    """A case that changes the bytes of a good zipped file."""
    def keep(change):
        @case(name, says)
        def make(path):
            torch.save({'model': state()}, path)
            path.write_bytes(change(path.read_bytes()))
        return change
    return keep


def saved(name, says):
    """A case that changes the state dict of a good file."""
    def keep(change):
        @case(name, says)
        def make(path):
            torch.save({'model': state() | change()}, path)
        return change
    return keep


def crafted(name, says, instructions, start=b''):
    """A case with these pickle instructions beside the weights."""
    MAKERS[name] = says, lambda path: beside(instructions, path, start)


def rewrite(path, change):
    """A good file, with other numbers."""
    torch.save({'model': state()}, path)
    with zipfile.ZipFile(path) as archive:
        names = {name.partition('/')[2]: name for name in archive.namelist()}
        data = archive.read(names['data.pkl'])
        numbers = {name[5:]: archive.read(full) for name, full in names.items()
                   if name.startswith('data/')}
    write_zip(path, data, change(numbers))
