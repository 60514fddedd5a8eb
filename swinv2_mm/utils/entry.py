"""How a tool ends: with its work done, or with one sentence as the last line."""
import gc
import re
import sys
import traceback
from collections.abc import Callable

import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from swinv2_mm.utils.errors import UserError, outside_fault


def run(main: Callable[[], None]) -> None:
    """Call main(); on an error end with a non-zero status and one sentence as the last line."""
    status = None
    try:
        main()
    except SystemExit as end:  # stopped as asked
        status = end.code
    except KeyboardInterrupt:
        sys.exit('Interrupted.')
    except Exception as error:  # noqa: BLE001 - whatever it is, it must end in a sentence
        if not isinstance(error, UserError):
            traceback.print_exc()
        sys.exit(f'Error: {_sentence(error)}')
    _leave_group()
    if status is not None:
        sys.exit(status)


def _leave_group() -> None:
    """End the threads of the process group while Python still runs.

    One of gloo's that lets go of a tensor while Python ends aborts the process: its exit status is
    then that of a crash, after all has gone well.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for thing in gc.get_objects():
            if type(thing) is _MultiProcessingDataLoaderIter:
                thing._shutdown_workers()  # as garbage it would wait 5 s for each that is kept
        gc.collect()  # the wrapper of the model holds the group as well
        torch.distributed.destroy_process_group()


def _sentence(error: Exception) -> str:
    """What an error says, in one line."""
    if sentence := outside_fault(error):
        return sentence
    # str() of a KeyError puts quotes around its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A data loader's worker puts its own traceback into the message; the reason comes last.
    last = lines[-1] if lines else 'no message; see above'
    if isinstance(error, UserError):
        return last
    if image := re.search(r'failed to load image: (.+)', last):  # said by mmcv
        return (f'failed to load image {image[1]}: it cannot be decoded, so replace the file or '
                'take it out of the annotations.')
    name = f'{type(error).__name__}: '
    return name + last.removeprefix(name)
