"""The quality-control page in a real browser, opened from the disk: keys, overlays, marks, storage."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from report_study import SHAPE, make_study

from spineseg.report.qc import render_study
from spineseg.report.qc_page import build_index
from spineseg.report.review import StudyView
from spineseg.study.exclusion import read_exclusions
from spineseg.studyfolder.layout import Stage

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
KEYS = {"Right": "\ue014", "Left": "\ue012", "Up": "\ue013", "Down": "\ue015", "Enter": "\ue007", "Escape": "\ue00c"}
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

    def open(self, page, fragment=""):
        self.call("POST", "/url", {"url": "about:blank"})
        self.call("POST", "/url", {"url": f"{page.resolve().as_uri()}{fragment}"})
        self.wait("return document.querySelectorAll('.tile, .message').length > 0")

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, script, seconds=120):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def press(self, *keys):
        for key in keys:
            value = KEYS.get(key, key)
            steps = [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
            self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def shown_layers(self):
        """Names of the layers whose outlines are on the screen."""
        return self.run("""
            const names = [...document.querySelectorAll('#layers [data-show]')].map(b => b.dataset.show)
              .filter(n => n !== 'all' && n !== 'none');
            return names.filter((_, n) => [...document.querySelectorAll('.tile .layer-' + n)]
              .some(path => getComputedStyle(path).display !== 'none' && path.getBoundingClientRect().width > 3));""")

    def text(self, selector):
        return self.run(f"return document.querySelector({json.dumps(selector)}).textContent")

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(10)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    session = Browser(tmp_path_factory.mktemp("profile"))
    yield session
    session.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study = make_study(folder, n_subjects=2, failed=[("sub-02_T1w", "propseg")])
    render_study(StudyView(study), study.qc(Stage.ALL))
    return build_index(study.qc(Stage.ALL))


def test_opens_without_errors_on_the_worst_image(browser, page):
    browser.open(page)
    assert "sub-02 · T1w" in browser.text("#name")
    assert browser.run("return document.querySelectorAll('.tile').length") == SHAPE[2]
    assert [entry for entry in browser.call("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"] == []


def test_right_arrow_toggles_the_overlay(browser, page):
    browser.open(page, "#sub-01_T2w")
    seen = []
    for _ in range(6):
        seen.append(browser.shown_layers())
        browser.press("Right")
    every = ["propseg", "deepseg", "reference"]
    assert seen == [every, [], ["propseg"], ["deepseg"], ["reference"], every]
    assert "overlay: none" in browser.text("#live")
    browser.press("2")
    assert browser.shown_layers() == ["deepseg"]
    browser.open(page, "#sub-02_T1w")  # propseg failed here; deepseg keeps its number
    browser.press("2")
    assert browser.shown_layers() == ["deepseg"]
    browser.press("1")
    assert "no mask by propseg" in browser.text("#live")
    browser.press("a")


def test_outlines_lie_on_the_picture(browser, page):
    """The outline of the true mask covers a 9 mm circle in the middle of its tile."""
    browser.open(page, "#sub-01_T2w")
    tile, path = browser.run("""
        const tile = document.querySelectorAll('.tile')[6], path = tile.querySelector('.layer-1');
        const box = (e) => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
        return [box(tile), box(path)];""")
    assert path[2] / tile[2] == pytest.approx(9 / 44, abs=0.03)
    assert path[0] + path[2] / 2 == pytest.approx(tile[0] + tile[2] / 2, abs=3)
    assert browser.run("return [...document.querySelectorAll('.letter')].map(e => e.textContent).join('')") == "APRL"


def test_slices_and_images_by_key(browser, page):
    browser.open(page, "#sub-01_T2w/5")
    browser.press("Enter", ".")
    assert "Slice 4 of 14" in browser.text("#readout")
    assert "mm²" in browser.text("#readout")
    assert browser.text(".single .number") == "4"
    browser.press("k", "k", "Escape")
    assert browser.run("return document.querySelector('.tile.current').dataset.k") == "6"
    name = browser.text("#name")
    browser.press("Up")
    browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(name)}")


def test_click_on_the_area_curve_jumps_to_the_slice(browser, page):
    browser.open(page, "#sub-01_T2w/2")
    browser.run("""
        const box = document.querySelector('#side svg').getBoundingClientRect();
        document.querySelector('#side').dispatchEvent(
          new MouseEvent('click', { bubbles: true, clientX: box.x + 5, clientY: box.y + 36 }));""")
    assert "Slice 13 of 14" in browser.text("#readout")


def test_marks_survive_a_reload_and_are_exported(browser, page, tmp_path):
    browser.open(page, "#sub-01_T2w")
    browser.run("localStorage.clear()")
    browser.open(page, "#sub-01_T2w")
    browser.press("1", "f", "f")
    browser.open(page, "#sub-01_T2w")
    assert browser.run("return document.querySelector('[data-mark=fail]').getAttribute('aria-pressed')") == "true"
    browser.run("""
        window.saved = null;
        URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; };
        document.getElementById('save-fail').click();""")
    browser.wait("return window.saved !== null")
    assert browser.run("return window.saved") == "- sub-01_T2w.nii.gz  # propseg\n"
    (tmp_path / "qc_fail.yml").write_text(browser.run("return window.saved"))
    assert list(read_exclusions(str(tmp_path / "qc_fail.yml"))) == ["sub-01_T2w"]  # what the config takes


def test_search_narrows_the_list(browser, page):
    browser.open(page)
    browser.press("/", *"sub-01 t1w")
    assert browser.run("return [...document.querySelectorAll('.row')].map(r => r.id)") == ["row-sub-01_T1w"]
    browser.press("Escape")


def test_wall_shows_every_image_and_opens_one(browser, page):
    browser.open(page)
    browser.press("w")
    assert browser.run("return document.querySelectorAll('.wall button').length") == 4
    browser.run("document.querySelectorAll('.wall button')[3].click()")
    browser.wait("return document.querySelectorAll('.tile').length > 0")
    assert browser.run("return document.querySelectorAll('.row')[3].getAttribute('aria-selected')") == "true"


def test_viewer_command_names_image_and_masks(browser, page):
    browser.open(page, "#sub-01_T2w")
    browser.press("v")
    command = browser.run("return document.getElementById('command').value")
    browser.press("Escape")
    assert command.startswith("fsleyes ")
    assert command.count("-a 70.0") == 2
    assert "desc-propseg_label-SC_seg.nii.gz -cm red" in command


def test_help_and_focus_are_reachable_by_keyboard(browser, page):
    browser.open(page)
    browser.press("?")
    assert browser.run("return document.getElementById('help').open")
    browser.press("Escape")
    assert not browser.run("return document.getElementById('help').open")


def test_picture_for_the_eye(browser, page, tmp_path):
    browser.open(page, "#sub-01_T2w")
    picture = base64.b64decode(browser.call("GET", "/screenshot"))
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
