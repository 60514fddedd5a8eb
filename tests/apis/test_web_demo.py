"""tools/web_demo.py in a real browser, and what it makes of uploads that mean no good."""
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import browser as browsers
import cv2
import numpy as np
import psutil
import pytest
from helpers import ROOT
from infer_checks import DEMOS, SCOPES, checkpoint, damaged_animation, picture, write_video
from mmengine.registry import DefaultScope

from swinv2_mm.apis.inference import models  # isort: skip

MISSING = [what for what, there in (
    ("gradio (pip install 'gradio>=6.31,<7')", importlib.util.find_spec('gradio')),
    ('Chromium and its driver (apt-get install chromium chromium-driver)', browsers.found()))
    if not there]
TASKS = ('seg', 'cls', 'det', 'video')
FILE = '#upload input[type=file]'
# Notes every connection that the page's server opens, and every name it looks up.
AUDIT = '''import sys
def note(event, args):
    if event in ('socket.connect', 'socket.getaddrinfo'):
        with open({path!r}, 'a') as file:
            print(args[1][0] if event == 'socket.connect' else args[0], file=file)
sys.addaudithook(note)
'''


class Page:
    """The page, served by the tool itself."""

    def __init__(self, folder):
        self.folder, self.audit = folder, folder / 'audit.txt'
        (folder / 'sitecustomize.py').write_text(AUDIT.format(path=str(self.audit)))
        with socket.create_server(('127.0.0.1', 0)) as server:
            self.port = server.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'
        words = [word for task in TASKS
                 for word in ('--model', DEMOS[task], str(checkpoint(task)))]
        (folder / 'tmp').mkdir()
        environment = os.environ | dict(
            CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', TMPDIR=str(folder / 'tmp'),
            PYTHONPATH=os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')]))
        self.log = (folder / 'log.txt').open('w+')
        self.process = subprocess.Popen(
            [sys.executable, 'tools/web_demo.py', *words, '--port', str(self.port), '--max-mb', '1',
             '--max-frames', '4'], cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)

    def wait(self):
        """Until the page answers."""
        end = time.monotonic() + 300
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return self.get('/config')
            except OSError:
                time.sleep(0.5)
        raise AssertionError((self.folder / 'log.txt').read_text()[-3000:])

    def get(self, path, data=None, kind='application/json'):
        """The body that a request gets."""
        request = urllib.request.Request(self.url + path, data, {'Content-Type': kind})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as answer:
            return answer.read()

    def ask(self, path):
        """What the page answers to a request that names a file of its own choice."""
        config = json.loads(self.get('/config'))
        (name,) = (part['props']['value'] for part in config['components']
                   if part['props'].get('elem_id') == 'model')
        look = config['dependencies'][0]
        file = dict(path=path, meta={'_type': 'gradio.FileData'}, orig_name='x.png')
        body = dict(data=[name, file, 0.3, 8], fn_index=look['id'], session_hash='forged')
        self.get('/gradio_api/queue/join', json.dumps(body).encode())
        return self.get('/gradio_api/queue/data?session_hash=forged').decode()

    def stop(self):
        # Not SIGINT: what a shell starts in the background ignores it, and so do its children.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.log.close()


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    if MISSING:
        # CI sets the variable, so that a browser that went missing there is no silent skip.
        stop = pytest.fail if os.environ.get('SWINV2_MM_NEED_BROWSER') else pytest.skip
        stop(f'the page needs {" and ".join(MISSING)}')
    page = Page(tmp_path_factory.mktemp('page'))
    try:
        page.wait()
        yield page
    finally:
        page.stop()


@pytest.fixture(scope='module')
def window(page, tmp_path_factory):
    with browsers.browser(tmp_path_factory.mktemp('profile')) as window:
        yield window


@pytest.fixture
def opened(page, window):
    """The page, freshly opened in the browser."""
    window.open(page.url)
    window.wait(f'return document.querySelector({json.dumps(FILE)}) !== null')
    return window


def drawn(page, window, old=None):
    """The picture that the page shows once it is another than `old`, BGR, and its address."""
    url = window.wait('let i = document.querySelector("#picture img");'
                      'return i && i.naturalWidth && i.src !== arguments[0] && i.src', old)
    content = np.frombuffer(page.get(url.removeprefix(page.url)), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR), url


def choose(window, task):
    """Take the model of a task from the list."""
    window.click('#model input')
    option = f'[role=option][aria-label^="{task}:"]'
    window.wait(f'return document.querySelector({json.dumps(option)}) !== null')
    window.click(option)
    window.wait('return document.querySelector("#model input").value.startsWith(arguments[0])',
                task)


def said(window, text):
    """Wait until the page says something."""
    return window.wait('return document.body.innerText.includes(arguments[0])', text)


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder / name)


def png(image):
    return cv2.imencode('.png', image)[1].tobytes()


@pytest.mark.slow
def test_an_uploaded_picture_comes_back_as_the_model_draws_it(page, opened, tmp_path):
    image = picture(3, 64, 96)
    opened.type(FILE, write(tmp_path, 'a.png', png(image)))
    shown, _ = drawn(page, opened)
    with DefaultScope.overwrite_default_scope(SCOPES['seg']):
        model = models.load(str(ROOT / DEMOS['seg']), str(checkpoint('seg')), 'cpu')
        (sample,) = model.predict([image])
    assert np.array_equal(shown, model.draw(image, sample))
    assert not np.array_equal(shown, image)
    for row in model.record(sample)['segments']:
        assert said(opened, f'"{row["name"]}"')


@pytest.mark.slow
def test_a_broken_upload_gets_a_message_and_the_page_lives_on(page, opened, tmp_path):
    for name, content in (('broken.png', b'no picture'), ('moving.png', damaged_animation())):
        opened.type(FILE, write(tmp_path, name, content))
        assert said(opened, 'cannot be read as a picture')
        opened.run('document.querySelector("#upload button[aria-label=Clear]").click()')
        assert said(opened, 'Drop a picture or a video first')
    opened.type(FILE, write(tmp_path, 'whole.png', png(picture(1))))
    assert drawn(page, opened)[0].shape == (64, 96, 3)
    assert 'cannot be read' not in opened.run('return document.body.innerText')


@pytest.mark.slow
def test_the_window_and_the_threshold_change_what_is_shown(page, opened, tmp_path):
    choose(opened, 'det')
    opened.type(FILE, write(tmp_path, 'a.png', png(picture(2))))
    drawn(page, opened)  # mmdet jitters the colours of masks, so what was found is compared
    record = 'document.querySelector("#record").innerText'
    first = opened.wait(f'return {record}')
    opened.type('#window input[type=range]', '\ue012' * 4)  # four steps to the left: 8 -> 4
    opened.wait(f'return {record} !== arguments[0]', first)
    opened.type('#window input[type=range]', '\ue014' * 4)
    opened.wait(f'return {record} === arguments[0]', first)
    opened.type('#score input[type=range]', '\ue010')  # to the end: 1
    opened.wait(f'return {record}.includes("instances") && !{record}.includes("score")')


@pytest.mark.slow
def test_a_classifier_shows_its_likeliest_classes(page, opened, tmp_path):
    choose(opened, 'cls')
    opened.type(FILE, write(tmp_path, 'a.png', png(picture(2))))
    drawn(page, opened)
    top = opened.wait('return document.querySelector("#top").innerText')
    assert sum(name in top for name in ('cross', 'disc', 'ring', 'square', 'star', 'triangle')) == 5


@pytest.mark.slow
def test_a_video_comes_back_as_a_video_that_plays(page, opened, tmp_path):
    opened.type(FILE, str(write_video(tmp_path / 'film.mp4', 6, (96, 64))))
    size = opened.wait('let v = document.querySelector("#video video");'
                       'return v && v.readyState >= 2 && [v.videoWidth, v.videoHeight, v.duration]')
    assert size[:2] == [96, 64]
    assert size[2] == pytest.approx(0.4, abs=0.11)  # 4 frames, 10 a second
    assert not opened.run('return document.querySelector("#video video").error')


@pytest.mark.slow
def test_a_model_of_actions_takes_videos_and_says_so_of_pictures(page, opened, tmp_path):
    choose(opened, 'video')
    opened.type(FILE, write(tmp_path, 'a.png', png(picture(2))))
    assert said(opened, "video takes a video, got 'a.png'")
    opened.run('document.querySelector("#upload button[aria-label=Clear]").click()')
    assert said(opened, 'Drop a picture or a video first')
    opened.type(FILE, str(write_video(tmp_path / 'film.mp4')))
    assert drawn(page, opened)[0].shape[1] > 500  # eight frames side by side
    assert 'left' in opened.wait('return document.querySelector("#top").innerText')


@pytest.mark.slow
def test_files_of_other_kinds_and_too_large_ones_are_refused(page, opened, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    opened.type(FILE, write(tmp_path, 'large.png', png(noise)))  # 1.5 MB; 1 MB is the limit
    assert said(opened, 'exceed the maximum allowed size of 1.0 Mb')
    opened.run('location.reload()')
    opened.wait(f'return document.querySelector({json.dumps(FILE)}) !== null')
    opened.type(FILE, write(tmp_path, 'notes.txt', b'text'))
    assert said(opened, 'Invalid file type')
    assert opened.run('return document.querySelector("#picture img")') is None


@pytest.mark.slow
@pytest.mark.parametrize('path', ['/etc/passwd', str(ROOT / 'README.md'), 'README.md',
                                  '../../../../../../etc/passwd'])
def test_a_path_from_the_browser_reads_no_file(page, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        page.get(f'/gradio_api/file={path}')
    assert error.value.code in (403, 404)
    answer = page.ask(path)
    assert '"success":false' in answer and 'was not uploaded' in answer


@pytest.mark.slow
def test_an_address_in_the_place_of_a_file_is_not_fetched(page):
    assert 'Addresses are not fetched' in page.ask('https://example.com/a.png')
    assert 'Addresses are not fetched' in page.ask(f'{page.url}/a.png')


@pytest.mark.slow
def test_an_upload_cannot_choose_where_it_is_kept(page, tmp_path):
    name = f'../../../../../../../../{tmp_path}/evil.png'
    body = (f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            'Content-Type: image/png\r\n\r\nabc\r\n--x--\r\n').encode()
    (kept,) = json.loads(page.get('/gradio_api/upload', body, 'multipart/form-data; boundary=x'))
    assert kept.startswith(str(page.folder / 'tmp')) and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_server_itself_refuses_what_is_too_large(page):
    body = (b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            + bytes(2 << 20) + b'\r\n--x--\r\n')
    with pytest.raises(OSError):  # it answers 413, or hangs up before all of it has come
        page.get('/gradio_api/upload', body, 'multipart/form-data; boundary=x')
    files = [path for path in (page.folder / 'tmp').rglob('*') if path.is_file()]
    assert all(path.stat().st_size <= 1 << 20 for path in files)


# The last ones: they look back at what the ones before did.

@pytest.mark.slow
def test_the_page_listens_on_loopback_alone(page):
    listening = [connection.laddr for connection in
                 psutil.Process(page.process.pid).net_connections('tcp')
                 if connection.status == psutil.CONN_LISTEN]
    assert [tuple(address) for address in listening] == [('127.0.0.1', page.port)]


@pytest.mark.slow
def test_neither_the_page_nor_its_server_calls_anybody(page, window):
    hosts = {url.split('/')[2] for url in window.requests() if url.startswith('http')}
    assert hosts == {f'127.0.0.1:{page.port}'}
    called = set(page.audit.read_text().split()) if page.audit.exists() else set()
    assert called <= {'127.0.0.1', 'localhost', '::1', 'None', '0.0.0.0'}


@pytest.mark.slow
def test_nothing_is_left_of_uploads_when_the_page_ends(page):
    page.stop()
    assert list((page.folder / 'tmp').iterdir()) == []
