"""What imports what: the floors of the package, its weight, and how configs find its types."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import swinv2_mm

PACKAGE = Path(swinv2_mm.__file__).parent
MODELS = PACKAGE / 'models'


def imported(file):
    """Absolute names of the modules that a file of the package imports, at any depth in it."""
    package = ['swinv2_mm', *file.relative_to(PACKAGE).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            base = '.'.join([*base, *([node.module] if node.module else [])])
            names |= {base} | {f'{base}.{alias.name}' for alias in node.names}
    return names


def test_geometry_and_attention_need_torch_alone():
    for name in ('windows', 'sequential', 'attention'):
        roots = {module.split('.')[0] for module in imported(MODELS / f'{name}.py')}
        assert roots - set(sys.stdlib_module_names) <= {'torch', 'swinv2_mm'}, name


def test_the_core_imports_torch_and_mmengine_only():
    for file in [PACKAGE / '__init__.py', PACKAGE / 'registry.py', *MODELS.glob('*.py')]:
        roots = {name.split('.')[0] for name in imported(file)} - set(sys.stdlib_module_names)
        kernels = {'triton'} if file.name == 'triton_attention.py' else set()
        assert roots <= {'torch', 'mmengine', 'swinv2_mm'} | kernels, file


def fresh(code):
    """What `code` prints in a process of its own."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
                          text=True, timeout=300, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_and_running_a_model_loads_no_task_library():
    loaded = fresh('''
import sys, torch
import swinv2_mm
print(*sys.modules)
swinv2_mm.SwinTransformerV2('nano')(torch.zeros(1, 3, 40, 40))
print(*sys.modules)
''').split()
    unwanted = {'mmdet', 'mmseg', 'mmaction', 'mmpretrain', 'torchvision', 'mmcv', 'timm',
                'transformers'}
    assert 'swinv2_mm' in loaded and not unwanted & set(loaded)


def test_importing_takes_under_one_and_a_half_times_what_it_needs():
    """Processor time of fresh processes by turns; the least of each is free of what runs beside."""
    ours, theirs = 'from swinv2_mm import SwinTransformerV2', 'import mmengine.model, torch'
    least = {ours: float('inf'), theirs: float('inf')}
    for _ in range(2):
        for code in least:
            spent = float(fresh(f'{code}\nimport time\nprint(time.process_time())').split()[-1])
            least[code] = min(least[code], spent)
    assert least[ours] < 1.5 * least[theirs], f'processor seconds: {least}'


BUILD = '''
from importlib import import_module
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
for registry in {registries!r}:
    if {scope!r}:
        DefaultScope.get_instance(registry, scope_name={scope!r})
    models = import_module(registry).MODELS
    for name in ('SwinTransformerV2', 'SwinTransformerV2Video'):
        model = models.build(dict(type='swinv2_mm.' + name, arch='nano'))
        print(type(model).__module__, type(model).__name__)
wrapper = build_optim_wrapper(torch.nn.Linear(2, 2), dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
    constructor='swinv2_mm.SwinV2OptimWrapperConstructor'))
print([group['weight_decay'] for group in wrapper.optimizer.param_groups])
'''


@pytest.mark.parametrize('scope', [None, 'mmdet'])
def test_types_are_found_under_a_default_scope_without_custom_imports(scope):
    """The Runner builds from mmengine's registry, a detector its parts from mmdet's.

    Under the scopes of the other libraries configs are built, in tests/configs/test_configs.py.
    """
    registries = ['mmengine.registry', *([f'{scope}.registry'] if scope else [])]
    code = BUILD.format(scope=scope, registries=registries)
    *models, decays = [line for line in fresh(code).splitlines()
                       if line.startswith(('swinv2_mm.models', '['))]
    assert models == len(registries) * [
        'swinv2_mm.models.swin SwinTransformerV2', 'swinv2_mm.models.swin SwinTransformerV2Video']
    assert decays == '[0.1, 0.0]'


def test_types_do_not_hide_those_of_mmpretrain():
    """Its own SwinTransformerV2 has the same name in another scope."""
    assert fresh('''
from mmpretrain.registry import MODELS
import mmpretrain.models, swinv2_mm
print(MODELS.get('SwinTransformerV2').__module__)
print(MODELS.get('swinv2_mm.SwinTransformerV2').__module__)
''').split()[-2:] == ['mmpretrain.models.backbones.swin_transformer_v2', 'swinv2_mm.models.swin']
