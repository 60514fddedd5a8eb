"""Safetensors files and shard indices whose headers lie."""
import json
import struct

from hostile_base import MAKERS, case

# Safetensors -----------------------------------------------------------------------------------
GOOD = dict(dtype='F32', shape=[2], data_offsets=[0, 8])


def header(name, says, content, numbers=bytes(8), length=None):
    """A safetensors file of this header, as a dict or as text."""
    raw = json.dumps(content).encode() if isinstance(content, dict) else content
    data = struct.pack('<Q', len(raw) if length is None else length) + raw + numbers
    MAKERS[f'{name}.safetensors'] = says, lambda path: path.write_bytes(data)


def one(**changes):
    return {'a.weight': GOOD | changes}


header('shorter_than_a_length', 'declares a header', {}, b'', length=0)
MAKERS['shorter_than_a_length.safetensors'] = ('declares a header of', lambda path:
                                               path.write_bytes(b'\1\0\0'))
header('longer_than_the_file', 'declares a header of 1,000 bytes', one(), length=1000)
header('longer_than_memory', 'declares a header of 9,', one(), length=(1 << 63) - 1)
header('no_json', 'has JSON that cannot be read', b'{nonsense')
header('no_text', 'has JSON that cannot be read', b'\xff\xfe\xfd\xfc')
header('no_object', 'is not an object', b'[1, 2]')
header('huge_number', 'has JSON that cannot be read|not counts',
       b'{"a":{"dtype":"F32","shape":[' + b'9' * 9999 + b'],"data_offsets":[0,8]}}')
header('deep_json', 'has JSON that cannot be read', b'{"a":' + b'[' * 500_000)
header('long_json', 'more than 4 MB of JSON', b'{"a":[' + b'{},' * 2_000_000 + b'1]}')
header('key_twice', 'names a key twice',
       b'{"a":%s,"a":%s}' % ((json.dumps(GOOD).encode(),) * 2))
header('dtype_unknown', "by the dtype 'F31'", one(dtype='F31'))
header('dtype_no_text', 'by the dtype', one(dtype=['F32']))
header('dtype_missing', 'by the dtype', {'a.weight': dict(shape=[2])})
header('entry_no_object', "describes 'a.weight'", {'a.weight': 3})
header('dtype_too_wide', '8 bytes, where its shape and dtype take 16', one(dtype='F64'))
header('shape_too_large', 'take 4,000,000,000,000', one(shape=[10 ** 6, 10 ** 6]))
header('shape_overflows', 'where its shape', one(shape=[1 << 32, 1 << 32, 1 << 32]))
header('shape_negative', 'not counts', one(shape=[-2, -1]))
header('shape_fraction', 'not counts', one(shape=[2.0]))
header('shape_of_many', 'not counts', one(shape=[1] * 1000))
header('offsets_backwards', 'where its shape', one(data_offsets=[8, 0]))
header('offsets_three', 'not counts', one(data_offsets=[0, 8, 16]))
header('offsets_beyond', 'declares 8 bytes of numbers and holds 4', one(), bytes(4))
header('offsets_overlap', 'overlaps another', {'a': GOOD, 'b': GOOD})
header('offsets_gap', 'leaves a gap', one(data_offsets=[8, 16]), bytes(16))
header('more_behind', 'holds 16', one(), bytes(16))
header('metadata_no_text', 'metadata that are not all text', one() | {'__metadata__': {'a': 1}})
header('no_tensors', 'without any', {}, b'')
header('nan', 'holds NaN', one(), struct.pack('<ff', 1, float('nan')))
header('int8', r'is of torch\.int8', one(dtype='I8', data_offsets=[0, 2]), bytes(2))


@case('zip_named.safetensors', 'without its end')
def _(path):
    path.write_bytes(b'PK\x03\x04' + bytes(100))


# Shards ----------------------------------------------------------------------------------------
def good_shard(path):
    raw = json.dumps(one()).encode()
    path.write_bytes(struct.pack('<Q', len(raw)) + raw + bytes(8))


def sharded(name, says, weight_map, prepare=lambda folder: None):
    def make(path):
        path.mkdir()
        prepare(path)
        text = json.dumps({'weight_map': weight_map}) if weight_map else '{}'
        (path / 'model.safetensors.index.json').write_text(text)
    MAKERS[name] = says, make


def outside_link(folder):
    good_shard(folder.parent / 'outside.safetensors')
    (folder / 'link.safetensors').symlink_to('../outside.safetensors')


sharded('shard_above', 'not in its own folder', {'a.weight': '../outside.safetensors'})
sharded('shard_absolute', 'not in its own folder', {'a.weight': '/etc/passwd'})
sharded('shard_below', 'not in its own folder', {'a.weight': 'below/a.safetensors'})
sharded('shard_dots', 'not in its own folder', {'a.weight': '..'})
sharded('shard_zero', 'not in its own folder', {'a.weight': 'a\0b'})
sharded('shard_link', 'not in its own folder', {'a.weight': 'link.safetensors'}, outside_link)
sharded('shard_missing', 'names the shard .b.safetensors., which is not beside it',
        {'a.weight': 'b.safetensors'})
sharded('shard_without', "disagrees with it on 'b.weight'",
        {'a.weight': 'a.safetensors', 'b.weight': 'a.safetensors'},
        lambda folder: good_shard(folder / 'a.safetensors'))
sharded('shard_damaged', 'has a shard .a.safetensors. that declares a header',
        {'a.weight': 'a.safetensors'},
        lambda folder: (folder / 'a.safetensors').write_bytes(b'\xff' * 20))
sharded('index_without_map', 'without a weight_map', None)
sharded('index_of_numbers', 'without a weight_map', {'a.weight': 3})


@case('long.safetensors.index.json', 'more than 4 MB of JSON')
def _(path):
    path.write_bytes(b'{"weight_map":[' + b'{},' * 2_000_000 + b'1]}')
