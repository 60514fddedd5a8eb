"""What all tests share: models that are awake, and the settings they are built with."""
import gc
import os
from collections import Counter

import pytest
import torch
from awake import awaken
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist begins with files of many tests else
    gc.set_threshold(100_000, 20, 20)  # to look at all that the libraries hold takes half a second


def pytest_collection_finish():
    gc.freeze()  # what is imported by now is no garbage, for which each data set looks


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no process waits for the last of them."""
    slow = Counter(item.path for item in items if item.get_closest_marker('slow'))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def awake():
    """`awaken`, as a fixture: `model = awake(SwinTransformerV2('nano'))`."""
    return awaken


@pytest.fixture(autouse=True, scope='session')
def own_compiled_code(tmp_path_factory):
    """No test runs what another run compiled, perhaps for other instructions of this processor."""
    base = tmp_path_factory.getbasetemp()
    run = base.parent if os.environ.get('PYTEST_XDIST_WORKER') else base
    os.environ['TORCHINDUCTOR_CACHE_DIR'] = str(run / 'compiled')


@pytest.fixture
def quick_compiler(monkeypatch):
    """torch's compiler writes for AVX2, without programs that try all there is, in one process."""
    from torch._inductor import config, cpu_vec_isa

    monkeypatch.setattr(cpu_vec_isa, 'supported_vec_isa_list', [cpu_vec_isa.VecAVX2()])
    cpu_vec_isa.valid_vec_isa_list.cache_clear()
    with config.patch({'cpp.vec_isa_ok': True, 'compile_threads': 1}):
        yield
    cpu_vec_isa.valid_vec_isa_list.cache_clear()


def scopes_put_back():
    """Nobody leaves a default scope to the next: mmengine takes the newest of a process."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


of_test = pytest.fixture(autouse=True, name='scopes_of_test')(scopes_put_back)
of_file = pytest.fixture(autouse=True, name='scopes_of_file', scope='module')(scopes_put_back)


@pytest.fixture(autouse=True)
def own_log():
    """No test finds the logs quietened, as some tools do for their own process."""
    for logger in MMLogger._instance_dict.values():
        logger.setLevel('NOTSET')


@pytest.fixture(autouse=True)
def own_numbers():
    """No test leaves denormal numbers at zero, as onnxruntime does where it is asked to."""
    yield
    torch.set_flush_denormal(False)
