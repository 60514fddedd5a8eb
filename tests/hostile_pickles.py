"""Pickles that would run code, or take more memory or time than their length."""
import pickle
import struct

import torch
from hostile_base import MARKER, call, case, crafted, state, text, write_zip


class Code:
    """Pickles to a call that leaves a trace."""

    def __init__(self, folder):
        self.trace = str(folder / MARKER)

    def __reduce__(self):
        return open, (self.trace, 'w')


# Code ------------------------------------------------------------------------------------------
@case('code.pth', r"asks for 'io\.open', which is code and not weights: save its state dict")
def _(path):
    torch.save({'model': state(), 'extra': Code(path.parent)}, path)


@case('code_before_torch_1_6.pth', r"asks for 'io\.open'")
def _(path):
    torch.save({'model': state(), 'extra': Code(path.parent)}, path,
               _use_new_zipfile_serialization=False)


@case('code_in_a_bare_pickle.pth', r"asks for 'io\.open'")
def _(path):
    path.write_bytes(pickle.dumps({'model': 1, 'extra': Code(path.parent)}, 2))


@case('bare_pickle.pth', 'is a bare pickle')
def _(path):
    path.write_bytes(pickle.dumps({'model': {'a': 1}}, 2))


@case('whole_model.pth', r"asks for 'torch\.nn\.modules")
def _(path):
    torch.save(torch.nn.Linear(2, 2), path)


@case('protocol_4.pth', 'which torch never writes')
def _(path):
    torch.save({'model': state()}, path, pickle_protocol=4)


crafted('system.pth', r"asks for 'os\.system'", call('os system', text(f'touch {MARKER}')))
crafted('eval.pth', r"asks for 'builtins\.eval'", call('__builtin__ eval', text('1')))
crafted('getattr_of_a_module.pth', r"asks for 'os\.os'",
        call('__builtin__ getattr', b'cos\nos\n', text('system')))
crafted('method_of_a_stand_in.pth', 'calls something that is no function',
        call('__builtin__ getattr', call('numpy dtype', text('f8')), text('newbyteorder')) + b')R')
crafted('stored_function.pth', 'calls something that is no function', b'h\1)R',
        start=text('os.system') + b'q\x010'[:2])
crafted('changed_tensor.pth', 'must stay as it is',
        call('torch.Size ', b'').replace(b'torch.Size\n\n', b'torch\nSize\n') + b'}b')
crafted('new_object.pth', 'neither a tensor nor a plain value', b'ctorch\nFloatStorage\n)\x81')
crafted('outside_reference.pth', 'make no sense|outside of the pickle', text('/etc/passwd') + b'Q')

# Pickles that take more than their length ------------------------------------------------------
crafted('bytearray.pth', r"asks for '(builtins\.|__builtin__\.)?bytearray'",
        call('__builtin__ bytearray', b'\x8a\x06' + (10 ** 13).to_bytes(6, 'little')))
crafted('tensor_of_a_size.pth', r"asks for 'torch\.FloatTensor'",
        call('torch FloatTensor', b'\x8a\x06' + (10 ** 13).to_bytes(6, 'little')))
crafted('meta_tensor.pth', "asks for 'torch._utils._rebuild_meta_tensor_no_storage'",
        call('torch._utils _rebuild_meta_tensor_no_storage', b'N'))
crafted('slow_encoding.pth', "encodes a text as 'punycode'",
        call('_codecs encode', text('ü' * 100_000), text('punycode')))
crafted('copied_text.pth', 'copies the same data over and over',
        b']' + (b'c_codecs\nencode\nh\1h\2\x86Ra' * 20_000),
        start=text('x' * 500_000) + b'q\1' + text('latin1') + b'q\2')
crafted('copied_size.pth', 'copies the same data over and over',
        b']' + (b'ctorch\nSize\nh\1\x85Ra' * 20_000), start=b'(' + b'K\1' * 50_000 + b'tq\1')
crafted('copied_counter.pth', 'copies the same data over and over',
        b']' + (b'ccollections\nCounter\nh\1\x85Ra' * 20_000),
        start=b'}q\1(' + b''.join(b'J' + struct.pack('<i', i) + b'N' for i in range(50_000)) + b'u')
crafted('million_of_dicts.pth', 'over 1,000,000 instructions', b'(' + b'}' * 1_100_000 + b't')
crafted('wide_text.pth', 'holds a text of', text('x' * (40 << 20) + '\U0001f600'))
crafted('deep_key.pth', 'neither text nor numbers',
        b'}' + b')' + b'\x85' * 400_000 + b'Ns')
crafted('deep_value.pth', 'over 1,000,000 instructions', b'(' * 1_100_000)
# A walk through all that is in these would not end: each of 64 dictionaries holds the last twice.
crafted('shared_dicts.pth', 'without any', b'h\1',
        start=b'}q\1' + (b'}(' + text('a') + b'h\1' + text('b') + b'h\1uq\1') * 64)
crafted('dict_in_itself.pth', 'without any', b'}q\1' + text('a') + b'h\1s')
crafted('empty_stack.pth', 'make no sense', b'tttt')
crafted('unknown_memo.pth', 'make no sense', b'h\xff')
crafted('negative_storage.pth', 'torch never writes',
        b'(' + text('storage') + b'ctorch\nFloatStorage\n' + text('0') + text('cpu')
        + b'J' + struct.pack('<i', -1) + b'tQ')


@case('pickle_that_never_ends.pth', 'cut off within its pickle')
def _(path):
    write_zip(path, b'\x80\x02X' + struct.pack('<I', 0xffffffff))
