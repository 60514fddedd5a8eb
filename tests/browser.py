"""A real browser for tests: headless Chromium, by the commands of W3C WebDriver."""
from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

BROWSERS, DRIVER = ('chromium', 'chromium-browser'), 'chromedriver'
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--disable-dev-shm-usage', '--window-size=1200,1400']
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'  # the key that the standard names


def found() -> str | None:
    """The browser, where it and its driver are installed."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    return browser if shutil.which(DRIVER) else None


class Browser:
    """One window of a browser."""

    def __init__(self, address: str):
        self.address = address

    def ask(self, method: str, path: str, **body):
        """The value that one command of WebDriver answers."""
        data = json.dumps(body).encode() if method == 'POST' else None
        request = urllib.request.Request(self.address + path, data, method=method)
        # No proxy of the environment stands between a test and this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)['value']['message'].splitlines()[0]) from error

    def open(self, url: str) -> None:
        self.ask('POST', '/url', url=url)

    def run(self, script: str, *args):
        """What a function body in JavaScript returns."""
        return self.ask('POST', '/execute/sync', script=script, args=list(args))

    def type(self, selector: str, text: str) -> None:
        """Type into the first element of a CSS selector; the path of a file into a file input."""
        self.ask('POST', f'/element/{self._element(selector)}/value', text=text)

    def click(self, selector: str) -> None:
        """Click on the first element of a CSS selector."""
        self.ask('POST', f'/element/{self._element(selector)}/click')

    def _element(self, selector: str) -> str:
        return self.ask('POST', '/element', using='css selector', value=selector)[ELEMENT]

    def wait(self, script: str, *args, seconds: float = 60):
        """The first value of a script that is not false; AssertionError after some time."""
        end = time.monotonic() + seconds
        while not (value := self.run(script, *args)):
            if time.monotonic() > end:
                text = self.run('return document.body.innerText.slice(0, 500)')
                raise AssertionError(f'{script} stayed false; the page says: {text}')
            time.sleep(0.2)
        return value

    def requests(self) -> list[str]:
        """Addresses that the page has asked for since the last call."""
        entries = self.ask('POST', '/se/log', type='performance')
        messages = [json.loads(entry['message'])['message'] for entry in entries]
        return [message['params']['request']['url'] for message in messages
                if message['method'] == 'Network.requestWillBeSent']


@contextlib.contextmanager
def browser(profile) -> Iterator[Browser]:
    """A window, with an empty folder for its profile."""
    driver = subprocess.Popen([DRIVER, '--port=0'], stdout=subprocess.PIPE, text=True)
    window = None
    try:
        line = next(line for line in driver.stdout if 'successfully on port' in line)
        port = line.rstrip('.\n').split()[-1]
        window = Browser(f'http://127.0.0.1:{port}/session')
        options = dict(binary=found(), args=[*FLAGS, f'--user-data-dir={profile}'])
        wanted = {'goog:chromeOptions': options, 'goog:loggingPrefs': {'performance': 'ALL'}}
        session = window.ask('POST', '', capabilities=dict(alwaysMatch=wanted))['sessionId']
        window.address += f'/{session}'
        yield window
    finally:
        if window is not None:
            with contextlib.suppress(RuntimeError, OSError):
                window.ask('DELETE', '')  # closes the browser
        driver.terminate()
        driver.wait(timeout=30)
