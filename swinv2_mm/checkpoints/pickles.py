"""What unpickling a torch checkpoint would build and call, found without building or calling it.

`torch.load(weights_only=True)` refuses most of what a pickle can do. `follow` goes ahead of it: it
walks over the instructions with stand-ins for all objects, so that a file is refused with a reason
before anything in it is given memory. Opcodes: the source of Python's `pickletools`.
"""
import re
import struct
from typing import BinaryIO, NamedTuple

# Kinds of numbers that torch saves -> bytes each.
STORAGES = {f'torch.{kind}Storage': size for kind, size in dict(
    Float=4, Double=8, Half=2, BFloat16=2, Long=8, Int=4, Short=2, Char=1, Byte=1, Bool=1).items()}
TENSORS = {'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_parameter', 'torch.Size',
           'torch.device', 'collections.OrderedDict', 'collections.Counter', '_codecs.encode',
           *(f'torch.{kind}' for kind in ('float16', 'bfloat16', 'float32', 'float64', 'int64'))}
# Beside the weights, mmengine saves histories of logged numbers (HistoryBuffer, and by name its
# methods, hence getattr), and timm its arguments. They are read as `Skipped`, which does nothing.
SKIPPED = {'builtins.getattr', 'mmengine.logging.history_buffer.HistoryBuffer',
           'argparse.Namespace', 'numpy.dtype', 'numpy.ndarray',
           *(f'numpy.{core}.multiarray.{function}' for core in ('core', '_core')
             for function in ('_reconstruct', 'scalar'))}
# The official training code saves its configuration, a dict of a class of its own.
DICTS = {'yacs.config.CfgNode'}
ORDERED = {'collections.OrderedDict', *DICTS}

MOST_INSTRUCTIONS = 1_000_000  # a detector of 3,000 tensors with its optimizer takes 150,000
LONG_TEXT = 1 << 20  # a text that long is the bytes of an array as latin-1, or it is no good
BEYOND_LATIN1 = re.compile(rb'[\xc4-\xff]')


class Skipped:
    """Stands in for a Python object beside the weights; holds nothing and runs nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


class Storage(NamedTuple):
    """Numbers that a tensor is a view of."""

    key: str
    nbytes: int


class _Global(NamedTuple):
    """Something the pickle asks for by name."""

    name: str


class _Made(NamedTuple):
    """What a call would give."""

    name: str


class _Text(NamedTuple):
    """A string too long to be a name."""

    nbytes: int


class _Dict:
    """A dictionary, of which only the number of its entries matters here."""

    __slots__ = ('count',)

    def __init__(self):
        self.count = 0


class Refused(ValueError):
    """What a file is or holds that no checkpoint does, and what to do: parts of a sentence."""

    def __init__(self, came: str, advice: str = 'download it again, or save it again'):
        super().__init__(came)
        self.advice = advice


def follow(stream: BinaryIO) -> tuple[object, dict[str, int]]:
    """The value that one pickle stands for, and bytes by key of the storages in it.

    Containers and constants come out as such, the rest as stand-ins. `stream` ends up behind the
    pickle. Raises Refused for a pickle that asks for anything but tensors and plain values, that
    is cut off, or that would take far more memory or time than its length.
    """
    machine = _Machine(stream)
    return machine.run(), machine.storages


class _Machine:
    """One walk over a pickle: `stack` and `memo` as pickle has them, with stand-ins on them."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream
        self.stack: list = []
        self.marked: list[list] = []
        self.memo: dict[int, object] = {}
        self.storages: dict[str, int] = {}
        self.called = 0  # sizes of the arguments of all calls: these are copied
        self.allowance = 1 << 20

    def run(self):
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)
            if code == b'.':
                return self.stack.pop()
            step = STEPS.get(code)
            if step is None:
                raise Refused(f'holds the pickle instruction {code!r}, which torch never writes')
            try:
                step(self)
            except Refused:
                raise
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                raise Refused('holds a pickle whose instructions make no sense') from error
        raise Refused(f'holds a pickle of over {MOST_INSTRUCTIONS:,} instructions')

    def take(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) < count:
            raise Refused('is cut off within its pickle')
        return data

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def push(self, value) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def text(self, length: int) -> None:
        data = self.take(length)
        self.allowance += 4 * length
        if length <= 1024:
            self.push(data.decode('utf-8', 'surrogatepass'))
            return
        if length > LONG_TEXT and BEYOND_LATIN1.search(data):
            raise Refused(f'holds a text of {length:,} bytes')
        self.push(_Text(length))

    def name(self) -> None:
        module, name = (self.stream.readline()[:-1].decode('utf-8') for _ in range(2))
        full = f'{module}.{name}'.replace('__builtin__.', 'builtins.', 1)
        if full not in STORAGES and full not in TENSORS | SKIPPED | DICTS:
            raise Refused(f'asks for {full[:80]!r}, which is code and not weights',
                          'save its state dict alone, in the environment that made it')
        self.push(_Global(full))

    def join(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def append(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused('appends to something that is no list')
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        # The hash of a deeply nested tuple overflows the stack of the interpreter.
        if not all(key is None or isinstance(key, (str, int, float)) for key in items[::2]):
            raise Refused('holds a dictionary with keys that are neither text nor numbers')
        target = self.stack[-1]
        if isinstance(target, _Dict):
            target.count += len(items)
        elif not isinstance(target, _Made) or target.name not in ORDERED:
            raise Refused('sets entries of something that is no dictionary')

    def call(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(args) is not tuple or not isinstance(function, _Global):
            raise Refused('calls something that is no function')
        self.called += _size(args)
        if self.called > self.allowance:
            raise Refused('copies the same data over and over')
        if function.name == '_codecs.encode' and args[1] != 'latin1':
            raise Refused(f'encodes a text as {str(args[1])[:40]!r}')
        if function.name in ORDERED and args:
            raise Refused('copies a dictionary')
        self.push(_Made(function.name))

    def new(self) -> None:
        args, kind = self.stack.pop(), self.stack.pop()
        if args != () or kind.name not in SKIPPED | DICTS:
            raise Refused('makes an object that is neither a tensor nor a plain value')
        self.push(_Made(kind.name))

    def build(self) -> None:
        self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Made) or target.name not in ORDERED | SKIPPED:
            raise Refused('changes an object that must stay as it is')

    def storage(self) -> None:
        word, kind, key, _, count, *view = self.stack.pop()
        if word != 'storage' or not isinstance(key, str) or not isinstance(count, int):
            raise Refused('refers to data outside of the pickle that are no numbers')
        if count < 0 or view not in ([], [None]):
            raise Refused('refers to numbers in a way that torch never writes')
        nbytes = STORAGES[kind.name] * count
        if self.storages.setdefault(key, nbytes) != nbytes:
            raise Refused('gives one block of numbers two sizes')
        self.push(Storage(key, nbytes))


def _size(args: tuple) -> int:
    """About how many bytes or entries a call with these arguments would copy."""
    total = 0
    for value in args:
        if isinstance(value, _Text):
            total += value.nbytes
        elif isinstance(value, _Dict):
            total += value.count
        elif type(value) in (str, tuple, list):
            total += len(value)
    return total


# The instructions that torch.load(weights_only=True) knows, by their byte.
STEPS = {
    b'\x80': lambda m: m.take(1),  # PROTO
    b'c': _Machine.name,
    b'N': lambda m: m.push(None),
    b'\x88': lambda m: m.push(True),
    b'\x89': lambda m: m.push(False),
    b'J': lambda m: m.push(m.number('<i')),
    b'K': lambda m: m.push(m.number('<B')),
    b'M': lambda m: m.push(m.number('<H')),
    b'G': lambda m: m.push(m.number('>d')),
    b'\x8a': lambda m: m.push(int.from_bytes(m.take(m.number('<B')), 'little', signed=True)),
    b'X': lambda m: m.text(m.number('<I')),
    b'U': lambda m: m.text(m.number('<B')),
    b'(': _Machine.mark,
    b't': lambda m: m.push(tuple(m.pop_mark())),
    b')': lambda m: m.push(()),
    b'\x85': lambda m: m.join(1),
    b'\x86': lambda m: m.join(2),
    b'\x87': lambda m: m.join(3),
    b']': lambda m: m.push([]),
    b'a': lambda m: m.append([m.stack.pop()]),
    b'e': lambda m: m.append(m.pop_mark()),
    b'}': lambda m: m.push(_Dict()),
    b's': lambda m: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    b'u': lambda m: m.set_items(m.pop_mark()),
    b'R': _Machine.call,
    b'\x81': _Machine.new,
    b'b': _Machine.build,
    b'Q': _Machine.storage,
    b'q': lambda m: m.remember(m.number('<B')),
    b'r': lambda m: m.remember(m.number('<I')),
    b'h': lambda m: m.push(m.memo[m.number('<B')]),
    b'j': lambda m: m.push(m.memo[m.number('<I')]),
}
