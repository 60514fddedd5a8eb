"""The benchmarks of speed: they run, measure what they say, and compare equals."""
import csv
import importlib.util
import math
import re
import shlex

import backbone
import backbone_report
import linear
import pytest
import rivals
import timing
import torch
from floor import floor, flops, products
from helpers import ROOT, checked, run_tool
from torch.utils.flop_counter import FlopCounterMode

# by its path: tools/analysis has an attention.py as well
spec = importlib.util.spec_from_file_location('timed', ROOT / 'benchmarks' / 'attention.py')
attention = importlib.util.module_from_spec(spec)
spec.loader.exec_module(attention)
CPU = torch.device('cpu')
NANO = backbone.QUICK['nano-w8-128']
ROW = dict.fromkeys(backbone.FIELDS, '') | dict(
    run='1', device='a CPU', threads='2', torch='2', versions='timm 1', workload='w', mode='m',
    name='timm', function='same', median_ms='200', min_ms='190', max_ms='210', speedup='1',
    of_floor='0.4', gflops='3', peak_mib='20')


def rows_of(script, out, *words):
    """The rows and the output of a quick run."""
    done = checked(run_tool(f'benchmarks/{script}.py', '--quick', '--out', out, '--modes',
                            'infer-fp32', 'train-bf16', *words))
    with out.open() as file:
        return list(csv.DictReader(file)), done.stdout


@pytest.mark.slow
def test_the_backbones_are_timed_and_a_missing_peer_is_named(tmp_path):
    peers = ['timm', 'transformers', 'torchvision']
    rows, output = rows_of('backbone', tmp_path / 'out.csv', '--peers', *peers)
    found = {'swinv2_mm', 'timm', 'torchvision', 'floor'}
    try:
        import transformers  # noqa: F401
        found.add('transformers')
    except ImportError:
        assert 'transformers is left out: No module named' in output
    assert tuple(rows[0]) == backbone.FIELDS
    assert [{row['name'] for row in rows if row['mode'] == mode}
            for mode in ('infer-fp32', 'train-bf16')] == [found, found]
    for row in rows:
        assert 0 < float(row['min_ms']) <= float(row['median_ms']) <= float(row['max_ms'])
        assert float(row['of_floor']) > 0 and float(row['gflops']) > 0
        if row['name'] in ('timm', 'torchvision'):
            assert 0 < float(row['difference']) < rivals.BOUND
        if row['name'] != 'floor':
            assert (float(row['saved_mib']) > 0) == (row['mode'] == 'train-bf16')
    assert max(float(row['speedup']) for row in rows if row['name'] in peers) == 1


@pytest.mark.slow
def test_attention_alone_is_timed_after_all_were_found_equal(tmp_path):
    rows, _ = rows_of('attention', tmp_path / 'out.csv')
    assert tuple(rows[0]) == attention.FIELDS
    assert {(row['name'], row['channels']) for row in rows} == {
        (name, dim) for name in ('swinv2_mm', 'sdpa', 'plain') for dim in ('96', '384')}
    assert all(float(row['difference']) < attention.BOUND for row in rows)


@pytest.mark.slow
def test_cost_by_pixels_is_measured_against_the_first_size(tmp_path):
    rows, _ = rows_of('linear', tmp_path / 'out.csv')
    assert tuple(rows[0]) == linear.FIELDS
    assert [row['side'] for row in rows] == ['64', '128'] * 2
    for first, second in (rows[:2], rows[2:]):
        assert float(first['per_pixel']) == 1
        assert math.isclose(float(second['per_pixel']), float(second['median_ms'])
                            / float(first['median_ms']) / 4, abs_tol=1e-3)


@pytest.mark.parametrize('name', ['timm', 'torchvision', 'mmpretrain'])
def test_a_peer_with_one_weight_disturbed_is_refused(name):
    model = rivals.ours(NANO)
    peer = rivals.build(name, NANO, model)
    x = torch.randn(NANO.shape, generator=torch.Generator().manual_seed(0))
    stages = 3 if name == 'torchvision' else 4
    assert rivals.check(model, peer, x, stages) < rivals.BOUND
    other = rivals.ours(NANO)  # the weights are shared: a change would be everyone's
    with torch.no_grad():
        other.layers[1].blocks[1].attn.logit_scale += 0.5
    with pytest.raises(ValueError, match='in stage 1, got .* another function'):
        rivals.check(other, peer, x, stages)


@pytest.mark.parametrize('window', [(12, 12), (8, 7, 7)])
def test_the_plain_attention_of_the_benchmark_is_ours_and_a_wrong_seam_is_refused(window):
    size = tuple(2 * w for w in window)
    models = attention.build(size, window, 32, 2)
    x = torch.randn(1, *size, 32, generator=torch.Generator().manual_seed(0))
    attention.check(models, x)
    models['sdpa'].mask1.zero_()
    with pytest.raises(ValueError, match='sdpa must be within'):
        attention.check(models, x)


def position_flops(model, backward):
    """Operations of timm's position networks in one pass; their input needs no gradient."""
    total = 0
    for module in model.modules():
        if hasattr(module, 'cpb_mlp'):
            first, _, second = module.cpb_mlp
            table = math.prod(module.relative_coords_table.shape[:-1])
            total += 2 * table * (first.weight.numel() * (1 + backward)
                                  + second.weight.numel() * (1 + 2 * backward))
    return total


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('window, side', [(8, 128), (16, 256)])
def test_the_floor_has_the_products_that_another_library_is_counted_to_make(
        window, side, training):
    workload = rivals.Workload('nano', (window, window), (2, 3, side, side))
    model, trunks, _ = rivals.timm(workload)
    model.train(training)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        outs = trunks(torch.zeros(workload.shape))
        if training:
            sum(out.sum() for out in outs).backward()
    work = products('nano', (4, 4), workload.window, workload.shape)
    assert flops(work, training) == counter.get_total_flops() - position_flops(model, training)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('workload', [
    rivals.Workload('nano', (8, 8), (1, 3, 72, 100)),
    rivals.Workload('nano', (2, 3, 3), (1, 3, 6, 40, 28))])
def test_the_floor_works_out_what_it_counts(workload, training, monkeypatch):
    made = []

    def counted(product):
        def call(a, b, out):
            made.append(2 * out.numel() * a.shape[-1])
            return product(a, b, out=out)
        return call

    for name in ('mm', 'bmm'):
        monkeypatch.setattr(torch, name, counted(getattr(torch, name)))
    work = products('nano', workload.patch, workload.window, workload.shape)
    floor(work, training, torch.float32, CPU)()
    assert sum(made) == flops(work, training)


def test_the_video_floor_takes_whole_windows_and_real_tokens():
    """2 x 10 x 7 tokens in windows of (2, 3, 3): 4 x 3 of 18 places, by hand."""
    first, *_ = products('nano', (2, 4, 4), (2, 3, 3), (1, 3, 4, 40, 28))[1:]
    assert (first.m, first.k, first.n, first.times) == (140, 32, 96, 2)
    logits = products('nano', (2, 4, 4), (2, 3, 3), (1, 3, 4, 40, 28))[5]
    assert (logits.batch, logits.m, logits.k, logits.n) == (12, 18, 32, 18)


def test_what_autograd_keeps_counts_each_storage_once_and_no_weight():
    weight = torch.nn.Parameter(torch.randn(64, 64))
    x = torch.randn(32, 64, requires_grad=True)
    with timing.count_saved([weight]) as saved:
        y = x @ weight  # keeps x, and the weight
        z = y.sigmoid()  # keeps its output
        (x * z.t().t()).sum()  # keeps both again
    assert sum(saved.values()) == 2 * 32 * 64 * 4


def test_an_exported_backbone_is_timed_alone_in_four_ways():
    for module in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(module)
    done = checked(run_tool('benchmarks/exported.py', '--quick', '--threads', '1'))
    head, _, row, *_, machine = done.stdout.strip().splitlines()
    assert [cell.strip() for cell in head.split('|')[2:-1]] == [
        'plain', 'itself', 'file', 'file without']
    assert re.fullmatch(r'\| 4, 64 x 64( \| [\d.]+ \([\d.]+-[\d.]+\)){4} \|', row)
    assert '1 threads; torch' in machine and 'onnxruntime' in machine


PEAK = """
import timing, torch
torch.ones(64 << 20)  # 256 MiB, freed before the peak begins
def call():
    for _ in range(3):
        torch.ones(16 << 20)  # 64 MiB, freed before the next
print(timing.peak(call, torch.device('cpu')) / 2**20)
"""


def test_the_peak_is_what_a_call_holds_at_most():
    """In a process of its own: in an old one, malloc may give the second call other pages."""
    done = checked(run_tool('-c', PEAK, PYTHONPATH=ROOT / 'benchmarks'))
    assert 62 < float(done.stdout) < 80  # the kernel counts pages in batches


def test_too_much_memory_is_an_error_that_is_known_and_the_limit_is_lifted_after():
    size = timing.available()
    with pytest.raises(RuntimeError) as caught, timing.bounded_memory(CPU):
        torch.empty(size, dtype=torch.uint8)
    assert timing.ran_out(caught.value)
    torch.empty(size, dtype=torch.uint8)  # the system promises more than it has
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) + torch.ones(3)
    assert not timing.ran_out(caught.value)

    def fails():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    models = dict.fromkeys('ab', torch.nn.Linear(1, 1))
    found, first = timing.warm_all({'a': fails, 'b': lambda: None}, models, CPU)
    assert found['a'] == {'note': 'memory ran out'} and list(first) == ['b']


def test_a_model_that_does_not_compile_is_named_and_the_others_are_timed():
    def gives_up(graph, inputs):
        raise NotImplementedError('no kernel')

    workload = backbone.QUICK['nano-w8-128']
    models, _ = backbone.prepare(workload, [], CPU, False)
    models['swinv2_mm compiled'] = torch.compile(torch.nn.Conv2d(3, 4, 1), backend=gives_up)
    found = backbone.measure(workload, models, 'infer-fp32', 1, CPU)
    assert found['swinv2_mm compiled'] == {'note': 'not compiled: BackendCompilerFailed'}
    assert found['swinv2_mm']['median_ms'] > 0


def test_rows_are_added_and_the_last_run_of_a_workload_is_read(tmp_path):
    file, fields = tmp_path / 'new/out.csv', ('run', 'workload', 'name')
    for run in '123':
        timing.append(file, fields, [dict(run=run, workload='ab'[run == '2'], name=name)
                                     for name in 'xy'])
    found = timing.read([file], ('workload',))
    assert [(row['run'], row['name']) for row in found] == [
        ('2', 'x'), ('2', 'y'), ('3', 'x'), ('3', 'y')]
    with pytest.raises(ValueError, match='must be run, name, got run, workload, name'):
        timing.append(file, ('run', 'name'), [])


def test_the_table_names_speed_ups_and_means_over_workloads_of_the_same_function(tmp_path):
    ours = ROW | dict(name='swinv2_mm', median_ms='50', min_ms='40', max_ms='60', speedup='4',
                      peak_mib='5')
    rows = [ROW, ours, ROW | dict(workload='v'), ours | dict(workload='v', speedup='1'),
            ROW | dict(workload='video', function='other'), ours | dict(workload='video')]
    assert backbone_report.means(rows) == {'m': (2.0, 1.0)}
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- table: backbone -->\nold\n<!-- end -->\nb\n')
    timing.fill(page, 'backbone', backbone_report.tables(rows))
    text = page.read_text()
    assert '| w | 200 (190-210) | 50.0 (40.0-60.0) | 4 | 0.4 | 3 |' in text
    assert '| w | 4.00, 0.40 |' in text  # of all settings
    assert '| w | 20 | 5 | 0.25x |' in text and 'geometric mean 2.00, least 1.00' in text
    assert 'a CPU, 2 threads; torch 2; timm 1.' in text
    assert text.startswith('a\n') and text.endswith('<!-- end -->\nb\n') and 'old' not in text
    page.write_text('<!-- table: chart -->\n<!-- end -->\n')
    timing.append(tmp_path / 'out.csv', backbone.FIELDS, rows)
    backbone_report.report(None, page, [tmp_path / 'out.csv'])
    assert '(page.png)' in page.read_text()
    assert 1000 < (tmp_path / 'page.png').stat().st_size < 150_000
    with pytest.raises(ValueError, match='must hold <!-- table: other -->'):
        timing.fill(page, 'other', '')


def test_a_row_says_what_the_environment_asked_of_the_processor(monkeypatch):
    for name in ('ATEN_CPU_CAPABILITY', 'MALLOC_TOP_PAD_'):
        monkeypatch.delenv(name, raising=False)
    cpu = torch.device('cpu')
    assert backbone.setting(cpu) == []
    monkeypatch.setenv('ATEN_CPU_CAPABILITY', 'avx2')
    monkeypatch.setenv('MALLOC_TOP_PAD_', '1')
    assert backbone.setting(cpu) == ['AVX2', 'memory kept']
    assert backbone.setting(torch.device('cuda')) == []


def test_the_page_has_a_place_for_each_table_and_names_options_that_exist():
    text = (ROOT / 'docs/speed.md').read_text()
    assert {*re.findall('<!-- table: (.*) -->', text)} == {
        'chart', 'backbone', 'attention', 'linear', 'step', 'kernels'}
    blocks = re.findall(r'^```shell\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 13
    helps = {script: checked(run_tool(script, '--help')).stdout
             for script in {words[1] for words in commands}}
    for _, script, *words in commands:
        for word in words:
            if word.startswith('--'):
                assert re.search(rf'(?<![\w-]){word}(?![\w-])', helps[script]), (script, word)
    assert {*backbone.WORKLOADS} >= {'t-w16-800x1344'}


@pytest.mark.slow
def test_the_run_for_a_gpu_goes_through_on_a_cpu_without_mmengine(tmp_path):
    pytest.importorskip('triton', reason='the kernels need it')
    out = tmp_path / 'gpu.csv'
    done = checked(run_tool('benchmarks/gpu.py', '--device', 'cpu', '--quick', '--bare', '--peers',
                            'timm', '--out', out, PYTHONPATH=f'{ROOT}:{ROOT}/tests/models'))
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row['part'] for row in rows} == {'kernels', 'attention', 'backbone', 'compiled',
                                             'block', 'large', 'detector'}
    assert {row['name'] for row in rows if row['part'] == 'block' and row['median_ms']} == {
        'eager', 'compiled'}
    assert {row['name'] for row in rows if row['part'] == 'attention'} == {
        'swinv2_mm', 'sdpa', 'plain', 'flex', 'swinv2_mm core', 'sdpa core'}
    assert all(row['note'].startswith('right') for row in rows if row['part'] == 'kernels')
    assert 'failed' not in done.stdout
