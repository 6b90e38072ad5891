"""Reviews in a real browser from start to end: by keyboard, blind, by two people; accessibility by axe-core."""

import json
import shutil
import subprocess
import tarfile

import pytest
from browser import needs_browser
from report_study import decide, make_study

from spineseg.report.page import ReportPaths, write_report
from spineseg.report.qc import render_study
from spineseg.report.qc_page import build_index
from spineseg.report.review import StudyView
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.marks import read_marks

pytestmark = [pytest.mark.browser, needs_browser]

AXE = "axe-core@4.10.2"
N_IMAGES = 30
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Thirty images, of which one has no mask by propseg."""
    study = make_study(tmp_path_factory.mktemp("study"), n_subjects=N_IMAGES // 2, failed=[("sub-02_T1w", "propseg")])
    render_study(StudyView(study), study.qc(Stage.ALL))
    build_index(study.qc(Stage.ALL))
    decide(study)
    write_report(StudyView(study), ReportPaths(study.report(Stage.ALL), study.figures(Stage.ALL), study.qc(Stage.ALL)))
    return study


@pytest.fixture(scope="module")
def page(study):
    return study.qc(Stage.ALL) / "index.html"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script of axe-core, fetched by npm."""
    folder = tmp_path_factory.mktemp("axe")
    if not shutil.which("npm"):
        pytest.skip("npm, which fetches axe-core, is not installed")
    try:
        done = subprocess.run(
            ["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer, so axe-core is not there")
    archives = list(folder.glob("*.tgz"))
    if not archives:
        pytest.skip(f"npm could not fetch {AXE}: {done.stderr.strip()[-200:]}")
    with tarfile.open(archives[0]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def objections(browser, axe):
    """Serious problems that axe-core finds on the present page."""
    browser.run(f"{axe}; window.axe = axe;")
    browser.run("window.found = null; axe.run({resultTypes: ['violations']}).then((r) => { window.found = r; });")
    browser.wait("return window.found !== null")
    found = browser.run("""return window.found.violations.map((v) =>
        [v.impact, v.id, v.nodes.slice(0, 3).map((n) => `${n.target} ${n.failureSummary}`)]);""")
    return [one for one in found if one[0] in SERIOUS]


def prefer(browser, scheme):
    still = {"name": "prefers-reduced-motion", "value": "reduce"}  # a colour in transition would be measured otherwise
    features = [{"name": "prefers-color-scheme", "value": scheme}, still]
    command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
    browser.call("POST", "/goog/cdp/execute", command)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, study, page, axe, scheme):
    prefer(browser, scheme)
    browser.open_as("AB", page)
    found = {"mosaic": objections(browser, axe)}
    for key, view in (("p", "marked"), ("Enter", "slice"), ("w", "wall"), ("?", "help")):
        browser.press(key)
        found[view] = objections(browser, axe)
    browser.press("Escape")
    browser.open_as("AB", page, look=False)
    found["offer"] = objections(browser, axe)
    browser.press("b")
    browser.wait("return document.querySelectorAll('#blind .tile').length > 0")
    found["blind"] = objections(browser, axe)
    browser.call("POST", "/url", {"url": study.report(Stage.ALL).as_uri()})
    found["report"] = objections(browser, axe)
    prefer(browser, "light")
    assert {view: own for view, own in found.items() if own} == {}


def test_no_table_of_the_report_is_cut_on_paper(browser, study):
    browser.call("POST", "/url", {"url": study.report(Stage.ALL).as_uri()})
    paper = {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 with margins
    for command, params in (("setEmulatedMedia", {"media": "print"}), ("setDeviceMetricsOverride", paper)):
        browser.call("POST", "/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": params})
    cut = browser.run("""return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth
        || e.scrollHeight > e.clientHeight).map((e) => e.getAttribute('aria-label'));""")
    n_tables = browser.run("return document.querySelectorAll('.scroll table').length")
    for command, params in (("setEmulatedMedia", {"media": ""}), ("clearDeviceMetricsOverride", {})):
        browser.call("POST", "/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": params})
    assert n_tables > 3
    assert cut == []


def test_thirty_images_are_reviewed_by_keyboard_alone(browser, page, tmp_path):
    browser.open_as("", page)
    answers = []
    for n in range(N_IMAGES):
        name = browser.text("#name")
        key = "pfa"[n % 3]
        browser.press(key)
        if n == 0:
            browser.wait("return document.getElementById('rater-box').open")
            browser.press(*"Ann", "Enter")
        answers.append((name, key))
        if n < N_IMAGES - 1:
            browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(name)}")
    assert len({name for name, _ in answers}) == N_IMAGES
    assert browser.run("return document.getElementById('progress').value") == N_IMAGES
    assert f"{N_IMAGES} reviewed" in browser.text("#counts")
    # the file is saved by keyboard, too
    browser.run("document.activeElement.blur()")
    for _ in range(40):
        browser.press("\ue004")
        if browser.run("return document.activeElement.id") == "save-all":
            break
    browser.run("""window.saved = null;
        URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; };""")
    browser.press("Enter")
    browser.wait("return window.saved !== null")
    (tmp_path / "marks.json").write_text(browser.run("return window.saved"))
    marks = read_marks([tmp_path / "marks.json"])
    kinds = {kind: {m.image for m in marks.of_kind(kind)} for kind in ("pass", "fail", "artefact")}
    assert {kind: len(images) for kind, images in kinds.items()} == dict.fromkeys(kinds, N_IMAGES // 3)
    assert {mark.rater for mark in marks.marks} == {"Ann"}


def answer_round(browser, prefer_side):
    """Answer a blind round, always preferring one kind of mask; return the page's source at each step."""
    sources, orders = [], []
    browser.press("b")
    browser.wait("return document.querySelectorAll('#blind .tile').length > 0")
    for n in range(200):
        total = int(browser.run("return document.getElementById('blind-progress').max"))
        if n == total:
            return sources, orders
        browser.wait(f"return document.getElementById('blind-progress').value == {n}"
                     " && document.querySelectorAll('#blind .tile').length > 0")  # fmt: skip
        sources.append(browser.run("return document.documentElement.outerHTML"))
        orders.append(
            browser.run("""return [...document.querySelectorAll('#blind .canvas')].map((pane) =>
            [...pane.querySelectorAll('.blind-layer')].reduce((sum, path) => sum + path.getBBox().width, 0))""")
        )
        browser.press(prefer_side(*orders[-1]))
    raise AssertionError("the round has no end")


def test_a_blind_round_leaks_nothing_and_two_raters_are_joined(browser, page, tmp_path):
    files = []
    for rater, taste in (("Ann", lambda x, y: "y" if y > x else "x"), ("Bob", lambda _x, _y: "x")):
        browser.open_as(rater, page, look=False)
        sources, widths = answer_round(browser, taste)
        for source in sources:
            shown = source.split("<script")[0] + source.rpartition("</script>")[2]  # the script is always the same
            assert not [word for word in ("propseg", "deepseg", "Dice", "mm²", "probably") if word in shown]
            assert rater not in shown
        assert len(widths) == 29 + 3  # pairs with two masks, and a tenth of them again
        larger = [x > y for x, y in widths]
        assert 4 <= sum(larger) <= 28  # sides at random: outside once in a million rounds
        files.append(tmp_path / f"{rater}.json")
        browser.press("Escape")
        files[-1].write_text(browser.save("save-all"))
    joined = read_marks(files)
    assert {one.rater for one in joined.preferences} == {"Ann", "Bob"}
    ann = [one.answer for one in joined.preferences if one.rater == "Ann"]
    assert set(ann) == {"deepseg"}  # the larger mask, whatever side it was on
    bob = [one.answer for one in joined.preferences if one.rater == "Bob"]
    assert set(bob) == {"propseg", "deepseg"}
    given = [[p for p in joined.preferences if p.rater == r] for r in ("Ann", "Bob")]
    orders = [[p.image for p in own] for own in given]
    assert orders[0] != orders[1]
    for own, order in zip(given, orders, strict=True):
        again = [n for n, p in enumerate(own) if p.repeat]
        assert len(again) == 3
        assert all(n - order.index(order[n]) > len(order) / 3 - 2 for n in again)  # a third of the round lies between
        assert min(again) >= len(order) * 2 / 3 - 2


def load_file(browser, path, content):
    """Give a file to the button Load marks."""
    path.write_text(json.dumps(content))
    field = browser.call("POST", "/element", {"using": "css selector", "value": "#load"})
    browser.call("POST", f"/element/{next(iter(field.values()))}/value", {"text": str(path)})
    browser.wait("return document.getElementById('live').textContent.includes('loaded')")


def test_raters_neither_undo_nor_overwrite_each_other(browser, page, tmp_path):
    browser.open_as("Ann", page)
    name = browser.text("#name")
    browser.press("f")
    browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(name)}")
    saved = json.loads(browser.save("save-all"))
    browser.run("document.getElementById('rater-open').click(); document.getElementById('rater').value = 'Bob'")
    browser.press("Enter")
    browser.wait("return document.getElementById('rater-open').textContent === 'Rater: Bob'")
    browser.run("document.activeElement.blur()")
    browser.press("u")
    assert json.loads(browser.save("save-all"))["marks"] == saved["marks"]  # Ann's marks; Bob has none
    leave_to_ann = "document.getElementById('rater-open').click(); document.getElementById('rater').value = 'Ann'"
    for rater in ("Ann", "Bob"):
        browser.run(leave_to_ann.replace("Ann", rater))
        browser.press("Enter")
        browser.wait(f"return document.getElementById('rater-open').textContent === 'Rater: {rater}'")
        browser.run("document.activeElement.blur()")
        browser.press("u")
        assert json.loads(browser.save("save-all"))["marks"] == []
    load_file(browser, tmp_path / "new.json", saved)
    older = saved | {"marks": [saved["marks"][0] | {"mark": "pass", "time": "2020-01-01T00:00:00Z"}]}
    load_file(browser, tmp_path / "old.json", older)
    assert json.loads(browser.save("save-all"))["marks"] == saved["marks"]
    browser.run("document.activeElement.blur()")
    browser.press("b")
    browser.wait("return document.getElementById('message-box').open")  # images have been seen
    browser.press("Escape")
    browser.wait("return document.querySelectorAll('#blind .tile').length > 0")
    browser.press("x")
    browser.wait("return document.getElementById('blind-progress').value == 1")
    browser.press("Escape")
    answer = json.loads(browser.save("save-all"))["preferences"][0]
    load_file(browser, tmp_path / "zoe.json", saved | {"preferences": [answer | {"rater": "Zoe"}]})
    browser.run("document.activeElement.blur()")
    browser.press("b")
    browser.wait("return document.getElementById('blind-progress').value == 1")
    browser.press("Escape", "u", "Escape")
    assert [one["rater"] for one in json.loads(browser.save("save-all"))["preferences"]] == ["Zoe"]
