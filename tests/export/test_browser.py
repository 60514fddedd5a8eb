"""docs/export_browser.html runs exported files in Chromium, and sees what the runner sees."""
import functools
import http.server
import json
import shutil
import subprocess
import tarfile
import threading

import browser
import numpy as np
import pytest
from helpers import ROOT, load_tool
from PIL import Image
from small_models import small

from swinv2_mm.export import runner

VERSION = '1.30.0'


def few(cfg):
    cfg.model.test_cfg.rpn.update(nms_pre=60, max_per_img=40)
    cfg.model.test_cfg.rcnn.update(score_thr=0.02, max_per_img=30)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder with the page and onnxruntime-web, and its address."""
    if not (browser.found() and shutil.which('npm')):
        pytest.skip('chromium, its driver or npm is not installed')
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run(['npm', 'pack', f'onnxruntime-web@{VERSION}', '--fetch-retries=1'],
                          cwd=folder, timeout=300, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'npm cannot bring onnxruntime-web: {done.stderr.strip()[-200:]}')
    with tarfile.open(folder / f'onnxruntime-web-{VERSION}.tgz') as archive:
        for name in ('ort.wasm.min.js', 'ort-wasm-simd-threaded.mjs',
                     'ort-wasm-simd-threaded.wasm'):
            (folder / name).write_bytes(archive.extractfile(f'package/dist/{name}').read())
    shutil.copy(ROOT / 'docs/export_browser.html', folder)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize('task, size', [('cls', (32, 32)), ('det', (64, 96))])
def test_the_page_sees_what_the_runner_sees(site, tmp_path, task, size):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed')
    folder, address = site
    config, checkpoint, _ = small(tmp_path, task, few if task == 'det' else None)
    file = folder / f'{task}.onnx'
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    picture.save(tmp_path / 'picture.png')
    load_tool('export').main([config, checkpoint, '--size', *map(str, size), '--out', str(file),
                              '--images', str(tmp_path / 'picture.png')])
    seen = runner.Model(file)(picture)
    with browser.browser(tmp_path / 'profile') as window:
        window.open(f'{address}/export_browser.html?model={file.name}')
        window.wait("return document.querySelector('span').textContent == 'ready'")
        window.type('input', str(tmp_path / 'picture.png'))
        found = json.loads(window.wait("return document.querySelector('pre').textContent"))
    rows = seen['top'] if task == 'cls' else seen['instances']
    assert len(found) >= len(rows) > 3
    for ours, theirs in zip(rows, found):
        assert ours['name'] == theirs['name'] and abs(ours['score'] - theirs['score']) < 1e-4
        assert task == 'cls' or np.abs(np.subtract(ours['box'], theirs['box'])).max() < 0.05
