"""Files of `torch.save`, read with weights_only=True: nothing in them is run."""
from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from ..utils import versions

ZIP = b'PK\x03\x04'
PICKLE = b'\x80'  # the first byte of a file of torch before 1.6


class Refused(ValueError):
    """What a file is or holds that no checkpoint does, and what to do: parts of a sentence."""

    def __init__(self, came: str, advice: str = 'download it again, or save it again'):
        super().__init__(came)
        self.advice = advice


class Skipped:
    """Stands in for a Python object beside the weights; holds nothing and runs nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# Beside the weights, mmengine saves histories of logged numbers (HistoryBuffer, and by name its
# methods, hence getattr), timm its arguments, and the official code a dict of a class of its own.
STAND_INS = {
    **dict.fromkeys(('builtins.getattr', 'mmengine.logging.history_buffer.HistoryBuffer',
                     'argparse.Namespace', 'numpy.dtype', 'numpy.ndarray',
                     *(f'numpy.{core}.multiarray.{function}' for core in ('core', '_core')
                       for function in ('_reconstruct', 'scalar'))), Skipped),
    'yacs.config.CfgNode': OrderedDict}


def read_torch_file(path: Path, mapped: bool = False, known: Mapping[str, object] = STAND_INS,
                    map_location='cpu') -> object:
    """What torch.load(path, weights_only=True) gives.

    Objects that mmengine, timm and the official code save beside the weights come out as
    `Skipped`, unless `known` says what their names mean.
    With `mapped`, tensors of a zipped file are not read but mapped from it.
    Raises Refused, with a part of a sentence, for a file that is damaged or asks for code.
    """
    with path.open('rb') as file:
        start = file.read(len(ZIP))
    zipped = start == ZIP
    try:
        return versions.load(path, known, map_location, mapped and zipped)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever a damaged file provokes
        if not zipped and start[:1] != PICKLE:
            raise Refused('is no file of torch.save') from error
        raise refused(error) from error


def refused(error: Exception) -> Refused:
    """The reason in torch's message, which goes on with advice on how to run the file's code."""
    text = str(error)
    if asked := re.search(r'(?:GLOBAL|asks for) (?!the)([\w.]*\w)', text):
        return Refused(f'asks for {asked[1][:80]!r}, which is code and not weights',
                       'save its state dict alone, in the environment that made it')
    if 'TorchScript' in text:
        return Refused('is a TorchScript program and not a state dict',
                       'save the state dict of the loaded program')
    if 'Invalid magic number' in text or '.tar format' in text:
        return Refused('is no file of torch.save')
    first = re.split(r'[.:]? *\n|\. ', text.rpartition('WeightsUnpickler error: ')[2])[0]
    return Refused(f'is cut off or damaged ({type(error).__name__} {first})'[:300])
