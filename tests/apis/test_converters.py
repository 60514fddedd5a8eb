"""tools/model_converters, run as a user does: what is printed, what is written, what is refused."""
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import awaken
from helpers import ROOT, checked, last_line, run_tool, weights
from safetensors import safe_open
from safetensors.torch import load_file

from swinv2_mm import SwinTransformerV2
from swinv2_mm.apis.conversion import convert as tool
from swinv2_mm.checkpoints import from_native, load_backbone, read_checkpoint, to_native

CONVERT = 'tools/model_converters/convert.py'
PUBLISH = 'tools/model_converters/publish.py'
SAME = [((8, 8), (8, 8))] * 4
OTHER = [((16, 16), (12, 12))] * 3 + [((8, 8), (6, 6))]



def convert(*words):
    return run_tool(CONVERT, *words)


@pytest.fixture
def here(monkeypatch, capsys):
    """convert.py in this process, which spares its start: words -> what it printed."""
    def main(*words):
        monkeypatch.setattr(sys, 'argv', ['convert.py', *map(str, words)])
        tool.main()
        return capsys.readouterr().out
    return main


@pytest.fixture(scope='module')
def native():
    """Weights of a nano classifier."""
    model = awaken(SwinTransformerV2('nano', out_indices=(3,)))
    return weights(model) | {'head.weight': torch.randn(10, 256) / 16, 'head.bias':
                                 torch.randn(10)}


@pytest.fixture(scope='module')
def files(native, tmp_path_factory):
    """Official files of it, by their windows."""
    folder = tmp_path_factory.mktemp('official')
    for name, windows in ('same', SAME), ('other', OTHER):
        torch.save({'model': from_native(native, 'official', windows), 'epoch': 3},
                   folder / f'{name}.pth')
    return folder


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


PLANS = {  # layout -> a line of the plan, what is counted, parameters afterwards
    'timm': ('3 renamed layers.0.downsample.norm.bias layers.1.downsample.norm.bias',
             '142 kept, 11 renamed, 16 dropped', '2,305,800'),
    'torchvision': ('8 joined or split layers.0.blocks.0.attn.q_bias features.1.0.attn.qkv.bias',
                    '133 renamed, 8 joined or split, 4 kept, 16 dropped, 16 added', '2,306,760'),
    'mmpretrain': ('3 permuted layers.0.downsample.reduction.weight '
                   'backbone.stages.1.downsample.reduction.weight',
                   '150 renamed, 3 permuted, 16 dropped, 16 added', '2,305,800'),
}


@pytest.mark.parametrize('layout', PLANS)
def test_a_conversion_prints_its_plan_and_is_verified_with_the_library(layout, files, native,
                                                                       tmp_path, here):
    source = files / ('same.pth' if layout == 'torchvision' else 'other.pth')
    out = tmp_path / f'out{".pth" if layout == "mmpretrain" else ".safetensors"}'
    done = checked(convert(source, out, '--to', layout, '--verify'))
    line, counts, parameters = PLANS[layout]
    lines = [' '.join(words.split()) for words in done.stdout.splitlines()]
    assert line in lines and counts in lines
    assert f'parameters: 2,305,800 -> {parameters}' in lines
    assert 'arch nano' in lines[0] and 'verified: 153 tensors read back equal' in lines
    assert any(line.startswith(f'verified: features of the {layout} model') for line in lines)
    normaliser = 8 if layout == 'torchvision' else '12, 12, 12, 6'
    assert f'pretrained_window_sizes=[{normaliser}' in done.stdout
    assert_same(to_native(read_checkpoint(out), layout), native)
    assert list(tmp_path.iterdir()) == [out]

    back = tmp_path / 'back.pth'
    here(out, back, '--to', 'official')
    assert_same(torch.load(back)['model'], torch.load(source)['model'])


def test_windows_that_a_file_does_not_tell_are_asked_for_and_kept(native, tmp_path, here):
    torch.save(from_native(native, 'timm'), tmp_path / 'timm.pth')
    out = tmp_path / 'native.safetensors'
    text = here(tmp_path / 'timm.pth', out, '--to', 'native', '--dry-run')
    assert 'windows: unknown' in text and '--window-size names them' in text
    assert 'dry run: nothing written' in text and not out.exists()

    given = ['--window-size', '16,16,16,8', '--pretrained-window-sizes', '12,12,12,6']
    here(tmp_path / 'timm.pth', out, '--to', 'native', *given)
    report = load_backbone(SwinTransformerV2('nano', pretrained_window_sizes='from_checkpoint'),
                           out)
    assert 'trained with windows [16, 16, 16, 8]' in str(report)
    with safe_open(out, 'pt') as file:
        metadata = file.metadata()
    assert metadata['arch'] == 'nano' and metadata['layout'] == 'native'
    assert json.loads(metadata['pretrained_window_sizes']) == [12, 12, 12, 6]
    # Now that the file tells them, others are refused.
    with pytest.raises(tool.UserError, match='The windows must be those of the file'):
        here(out, tmp_path / 'no.pth', '--to', 'timm', '--window-size', '8,8,8,8')


@pytest.mark.parametrize('words, sentence', [
    (['other.pth', 'out.pth', '--to', 'torchvision'],
     'torchvision has one window for all stages .*choose another layout'),
    (['same.pth', 'out.npz', '--to', 'timm'], r"must end in one of .*got 'out.npz': give such"),
    (['same.pth', 'none/out.pth', '--to', 'timm'], 'none, which is none: give another path'),
    (['cut.pth', 'out.pth', '--to', 'timm'], r'cut off or damaged \(.*\): download it again'),
], ids=['windows', 'ending', 'folder', 'cut'])
def test_what_cannot_be_converted_ends_in_one_sentence(words, sentence, files, tmp_path):
    (files / 'cut.pth').write_bytes((files / 'same.pth').read_bytes()[:-1000])
    done = convert(files / words[0], tmp_path / words[1], *words[2:])
    assert 'Traceback' not in done.stderr
    assert re.search(sentence, last_line(done)), last_line(done)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_conversion_is_found_and_not_written(files, tmp_path, monkeypatch, here):
    def careless(state, layout, *args):
        """As a converter between other layouts would have it: the corners stay as they are."""
        out = from_native(state, layout, *args)
        for i in range(3):
            ours, theirs = f'layers.{i}.downsample', f'backbone.stages.{i + 1}.downsample'
            out[f'{theirs}.reduction.weight'] = state[f'{ours}.reduction.weight']
        return out

    out = tmp_path / 'out.pth'
    out.write_bytes(b'what was here')
    words = files / 'other.pth', out, '--to', 'mmpretrain', '--verify'
    monkeypatch.setattr(tool, 'from_native', careless)
    with pytest.raises(tool.UserError, match='must hold the weights of the input'):
        here(*words)
    assert out.read_bytes() == b'what was here' and list(tmp_path.iterdir()) == [out]
    # The features tell as well, should reading be wrong in the same way.
    truth = to_native(read_checkpoint(files / 'other.pth'))
    monkeypatch.setattr(tool, 'to_native', lambda state, layout: truth)
    with pytest.raises(tool.UserError, match='must give the features of ours'):
        here(*words)
    assert out.read_bytes() == b'what was here' and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_a_full_disk_leaves_the_output_as_it_was(ending, files, tmp_path):
    out = tmp_path / f'out{ending}'
    out.write_bytes(b'what was here')

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = subprocess.run(
        [sys.executable, CONVERT, str(files / 'same.pth'), str(out), '--to', 'timm'], cwd=ROOT,
        env=os.environ | dict(OMP_NUM_THREADS='1'), preexec_fn=limit, capture_output=True,
        text=True, timeout=120)
    assert 'writing it failed' in last_line(done) and 'nothing was changed' in last_line(done)
    assert out.read_bytes() == b'what was here' and list(tmp_path.iterdir()) == [out]


def test_a_kill_while_writing_leaves_the_output_as_it_was_or_whole(tmp_path):
    model = SwinTransformerV2('tiny', out_indices=(3,))
    torch.save(from_native(weights(model), 'official', SAME), tmp_path / 'in.pth')
    out = tmp_path / 'out.pth'
    out.write_bytes(b'what was here')
    process = subprocess.Popen(
        [sys.executable, CONVERT, str(tmp_path / 'in.pth'), str(out), '--to', 'timm'], cwd=ROOT,
        env=os.environ | dict(OMP_NUM_THREADS='1'), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob('.out.partial-*')):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert list(tmp_path.glob('.out.partial-*')), 'it was not killed while writing'
    assert out.read_bytes() == b'what was here'


def test_publishing_keeps_weights_alone_and_names_them_by_their_hash(native, tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    state = {f'backbone.{name}': value for name, value in native.items() if 'head' not in name}
    state |= {'neck.weight': torch.ones(3)[1:], 'neck.num_batches_tracked': torch.tensor(7)}
    torch.save({'state_dict': state, 'optimizer': optimizer.state_dict(),
                'meta': {'experiment_name': 'my_config_2026', 'epoch': 3}}, tmp_path / 'in.pth')
    done = checked(run_tool(
        PUBLISH, tmp_path / 'in.pth', tmp_path / 'mine.safetensors', '--licence', 'MIT',
        '--window-size', '16,16,16,8', '--pretrained-window-sizes', '12,12,12,6'))
    file, = tmp_path.glob('mine*')
    assert file.name == f'mine-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.safetensors'
    assert f'written: {file}' in done.stdout
    record = torch.tensor([[[16] * 2] * 3 + [[8] * 2], [[12] * 2] * 3 + [[6] * 2]])
    assert_same(load_file(file), state | {'backbone.pretrained_windows': record})
    with safe_open(file, 'pt') as opened:
        metadata = opened.metadata()
    assert metadata['licence'] == 'MIT' and metadata['config'] == 'my_config_2026'
    assert metadata['arch'] == 'nano' and metadata['window_size'] == '[16, 16, 16, 8]'
    assert file.stat().st_mode & 0o044  # others may read it
    with pytest.raises(ValueError, match=r'set pretrained_window_sizes=\[12, 12, 12, 6\]'):
        load_backbone(SwinTransformerV2('nano', window_size=16), file)

    checked(run_tool(PUBLISH, file, tmp_path / 'alone.safetensors', '--backbone-only',
                     '--config', 'configs/det/mine.py'))
    alone, = tmp_path.glob('alone*')
    assert_same(load_file(alone), {name: value for name, value in native.items()
                                   if 'head' not in name} | {'pretrained_windows': record})
    with safe_open(alone, 'pt') as opened:
        assert opened.metadata()['config'] == 'mine.py'
        assert 'not stated' in opened.metadata()['licence']
