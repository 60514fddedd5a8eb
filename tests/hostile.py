"""Malformed and hostile checkpoint files, each with what must be said of it.

    python tests/hostile.py FOLDER

writes them all, reads each in a process of its own under a limit of memory and time, and prints
one line of json for each: what was raised, and by how much memory grew.
"""
import json
import os
import resource
import signal
import sys
from pathlib import Path

import hostile_archives  # noqa: F401 - these fill MAKERS
import hostile_pickles  # noqa: F401
import hostile_safetensors  # noqa: F401
import torch
from hostile_base import MAKERS, MARKER, state

__all__ = ['MAKERS', 'MARKER', 'SECONDS', 'limited', 'state']
SECONDS = 20


def write_all(folder):
    for name, (_, make) in MAKERS.items():
        make(folder / name)


def size_of(path):
    files = path.glob('*') if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def limited(read, path):
    """What `read(path)` raises in a process of its own: (kind, message, MB of growth, seconds)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # a pool of threads does not live through a fork
        before = resource.getrusage(resource.RUSAGE_SELF)
        allowed = 2 * size_of(path) + (200 << 20)
        virtual = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (virtual + allowed,) * 2)
        signal.alarm(SECONDS)
        try:
            read(path)
            result = ['nothing', '']
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
            result = [type(error).__name__, str(error)]
        after = resource.getrusage(resource.RUSAGE_SELF)
        result += [(after.ru_maxrss - before.ru_maxrss) / 1024, allowed / 2 ** 20,
                   after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime]
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as pipe:
        data = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(data) if data else [f'ended with status {status}', '', 0, 0, 0]


def main(folder):
    from swinv2_mm.checkpoints.read import read_checkpoint
    write_all(folder)
    os.chdir(folder)
    for name in MAKERS:
        print(json.dumps([name, *limited(read_checkpoint, folder / name)]), flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]).resolve())
