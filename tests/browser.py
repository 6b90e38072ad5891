"""Chromium without a window, for tests and benchmarks of the quality-control page."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")
KEYS = {"Right": "\ue014", "Left": "\ue012", "Up": "\ue013", "Down": "\ue015", "Enter": "\ue007", "Escape": "\ue00c",
        "PageUp": "\ue00e", "PageDown": "\ue00f"}  # fmt: skip
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,900"),
]


class Browser:
    """Chromium through the WebDriver protocol, which is plain HTTP and JSON."""

    def __init__(self, profile):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}"
        self._wait_for_driver()
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.url += f"/session/{session['sessionId']}"

    def _wait_for_driver(self):
        for _ in range(600):
            try:
                self.call("GET", "/status")
            except urllib.error.URLError:
                time.sleep(0.2)
            else:
                return
        raise TimeoutError("chromedriver did not start")

    def call(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["value"]

    def open(self, page, fragment="", *, look=True):
        """Open a page; with `look`, leave the offer of a blind comparison and show an image."""
        self.call("POST", "/url", {"url": "about:blank"})
        self.call("POST", "/url", {"url": f"{page.resolve().as_uri()}{fragment}"})
        self.wait("return document.querySelectorAll('.tile, .message').length > 0")
        if look and self.run("return document.getElementById('offer') !== null"):
            self.press("Down")
            self.wait("return document.getElementById('offer') === null && document.querySelector('.tile, .message')")

    def open_as(self, rater, page, fragment="", *, look=True):
        """Open a page about which this browser stores nothing but the rater's name."""
        self.open(page, fragment)
        name = json.dumps(json.dumps(rater))
        self.run(f"localStorage.clear(); localStorage.setItem('spineseg-qc::rater', {name})")
        self.open(page, fragment, look=look)

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, script, seconds=30):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def press(self, *keys):
        for key in keys:
            value = KEYS.get(key, key)
            steps = [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
            self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def shift(self, code, value):
        """Press a key with shift; the event has the code of the key and the character, as from a keyboard."""
        event = {"code": code, "key": value, "shiftKey": True, "bubbles": True}
        self.run(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {json.dumps(event)}))")

    def shown_layers(self):
        """Names of the layers whose outlines are on the screen."""
        return self.run("""
            const names = [...document.querySelectorAll('#layers [data-show]')].map(b => b.dataset.show)
              .filter(n => n !== 'all' && n !== 'none');
            return names.filter((_, n) => [...document.querySelectorAll('.tile .layer-' + n)]
              .some(path => getComputedStyle(path).display !== 'none' && path.getBoundingClientRect().width > 3));""")

    def text(self, selector):
        return self.run(f"return document.querySelector({json.dumps(selector)}).textContent")

    def save(self, button):
        """Press a button that saves a file; return the file's text."""
        self.run(f"""
            window.saved = null;
            URL.createObjectURL = (blob) => {{ blob.text().then((text) => {{ window.saved = text; }}); return '#'; }};
            document.getElementById('{button}').click();""")
        self.wait("return window.saved !== null")
        return self.run("return window.saved")

    def load(self, field, *contents):
        """Choose files with these texts in a file field of the page."""
        self.run(f"""
            const files = new DataTransfer();
            {json.dumps(list(contents))}.forEach((text, n) => files.items.add(new File([text], `file${{n}}.json`)));
            document.getElementById('live').textContent = '';
            document.getElementById('{field}').files = files.files;
            document.getElementById('{field}').dispatchEvent(new Event('change'));""")
        self.wait("return document.getElementById('live').textContent.endsWith('loaded')")

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(10)
