"""The quality-control page in a real browser, opened from the disk: keys, overlays, marks, storage."""

import base64
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from browser import needs_browser
from made_study import write_decision
from report_study import SHAPE, make_study, write_cord

from spineseg.report.qc import add_files, render_study
from spineseg.report.qc_page import build_index, index_study
from spineseg.report.review import StudyView
from spineseg.studyfolder.layout import Stage, StudyFolder

pytestmark = [pytest.mark.browser, needs_browser]


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


def test_overlay_on_and_off_by_right_arrow_one_method_by_left(browser, page):
    browser.open(page, "#sub-01_T2w")
    every = ["propseg", "deepseg", "reference"]
    seen = []
    for key in ("", "Right", "Right", "Left", "Left", "Left", "Left"):
        if key:
            browser.press(key)
        seen.append(browser.shown_layers())
    assert seen == [every, [], every, ["propseg"], ["deepseg"], ["reference"], every]
    assert "overlay: all" in browser.text("#live")


def test_a_method_keeps_its_number(browser, page):
    browser.open(page, "#sub-02_T1w")  # propseg failed here
    browser.shift("Digit2", "@")
    assert browser.shown_layers() == ["deepseg"]
    browser.shift("Digit1", "!")
    assert "no mask by propseg" in browser.text("#live")
    browser.shift("Digit0", ")")
    assert browser.shown_layers() == ["deepseg", "reference"]


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
    assert "Slice 4, of 0 to 13" in browser.text("#readout")
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
    assert "Slice 13, of 0 to 13" in browser.text("#readout")


def name_of(browser):
    return browser.text("#name")


def test_the_rater_is_asked_once_and_a_mark_takes_one_key(browser, page):
    browser.open(page, "#sub-01_T2w")
    browser.run("localStorage.clear()")
    browser.open(page, "#sub-01_T2w")
    first = name_of(browser)
    browser.press("f")
    browser.wait("return document.getElementById('rater-box').open")
    browser.press(*"Ann", "Enter")
    browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(first)}")  # the next image came
    second = name_of(browser)
    browser.press("p")
    browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(second)}")
    assert not browser.run("return document.getElementById('rater-box').open")
    marks = json.loads(browser.save("save-all"))["marks"]
    found = {(m["image"], m["method"], m["mark"], m["rater"]) for m in marks}
    assert found >= {("sub-01_T2w", method, "fail", "Ann") for method in ("propseg", "deepseg")}
    assert len({m["image"] for m in marks}) == 2


def test_marks_survive_a_reload_and_are_exported(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.press("m", "f")  # of propseg only
    browser.open(page, "#sub-01_T2w")
    assert browser.run("return document.querySelector('[data-mark=fail]').getAttribute('aria-pressed')") == "false"
    assert "0 reviewed · 1 by some of their methods" in browser.text("#counts")
    browser.press("m")
    assert browser.run("return document.querySelector('[data-mark=fail]').getAttribute('aria-pressed')") == "true"
    assert browser.save("save-fail") == "FILES_SEG:\n- sub-01_T2w.nii.gz  # propseg\n"
    assert browser.save("save-artifact") == "FILES_SEG: []\n"


@pytest.mark.parametrize("closed", [False, True])
def test_undo_takes_back_the_last_mark_and_its_image(browser, page, closed):
    browser.open_as("AB", page, "#sub-01_T2w")
    name = name_of(browser)
    browser.press("f")
    browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(name)}")
    if closed:
        browser.open(page, "#sub-02_T1w")
    browser.press("u")
    browser.wait(f"return document.getElementById('name').textContent === {json.dumps(name)}")
    assert json.loads(browser.save("save-all"))["marks"] == []


def test_two_windows_of_a_page_keep_each_others_marks(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    first = browser.call("GET", "/window")
    second = browser.call("POST", "/window/new", {"type": "window"})["handle"]
    browser.call("POST", "/window", {"handle": second})
    browser.open(page, "#sub-02_T2w")
    browser.call("POST", "/window", {"handle": first})
    browser.press("f")
    browser.call("POST", "/window", {"handle": second})
    browser.wait("return document.getElementById('counts').textContent.includes('1 reviewed')")
    browser.press("p")
    assert {(image, mark) for image, _, mark in marks_of(browser)} == {("sub-01_T2w", "fail"), ("sub-02_T2w", "pass")}
    browser.call("DELETE", "/window")
    browser.call("POST", "/window", {"handle": first})
    browser.press("u")
    assert {(image, mark) for image, _, mark in marks_of(browser)} == {("sub-01_T2w", "fail")}


def test_a_browser_that_stores_nothing_says_so_once_and_loses_no_mark(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.run("Storage.prototype.setItem = () => { throw new Error('full'); }")
    browser.press("f")
    assert "Save marks before" in browser.text("#message")
    browser.press("Escape", "p")
    assert not browser.run("return document.getElementById('message-box').open")
    assert len({image for image, _, _ in marks_of(browser)}) == 2


def test_a_wrong_address_still_opens_an_image(browser, page):
    for fragment in ("#sub-01_T2w/999", "#%", "#sub-99/abc", "#sub-01_T2w/abc"):
        browser.open_as("AB", page, fragment)
        browser.wait("return document.getElementById('readout').textContent.startsWith('Slice')")
        assert browser.run("return document.querySelectorAll('.tile.current').length") == 1


def test_rating_comment_and_slices_are_saved_with_the_mark(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w/5")
    browser.press("7", "s", ".", "s", "c")
    browser.wait("return document.getElementById('comment-box').open")
    browser.press(*"leak", "Enter")
    browser.wait("return document.getElementById('given').textContent.includes('leak')")
    marks = json.loads(browser.save("save-all"))["marks"]
    assert [m["method"] for m in marks] == ["deepseg", "propseg"]
    assert {(m["rating"], *m["slices"], m["reason"], m["mark"]) for m in marks} == {(7, 4, 5, "leak", "")}


def marks_of(browser):
    """Image, method and mark of each mark."""
    return {(m["image"], m["method"], m["mark"]) for m in json.loads(browser.save("save-all"))["marks"]}


def test_an_artefact_marks_the_image_for_all_methods(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.press("p")
    browser.open(page, "#sub-01_T1w")
    browser.press("a")
    assert marks_of(browser) == {
        *{("sub-01_T2w", "propseg", "pass"), ("sub-01_T2w", "deepseg", "pass")},
        ("sub-01_T1w", None, "artefact"),
    }


def test_a_method_without_a_mask_is_marked_only_where_it_is_chosen(browser, page):
    browser.open_as("AB", page, "#sub-02_T1w")  # propseg failed here
    browser.press("f")
    assert marks_of(browser) == {("sub-02_T1w", "deepseg", "fail")}
    assert "1 reviewed" in browser.text("#counts")
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.press("Left")  # only propseg is shown, so marks are of its mask
    browser.press(*"fff", "/", *"sub-02 t1w", "Enter", "f")  # three images have a mask by propseg
    assert browser.run("return !document.getElementById('notice').hidden")
    assert "propseg has no mask here" in browser.text("#notice")
    assert {(m, k) for _, m, k in marks_of(browser)} == {("propseg", "fail")}
    browser.press("m", "m", "m", "f")  # chosen on this image
    assert ("sub-02_T1w", "propseg", "fail") in marks_of(browser)


def test_the_same_key_again_removes_nothing_and_the_end_of_a_pass_shows_no_image(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.run("""const state = document.getElementById('filter-state');
        state.value = 'unmarked'; state.dispatchEvent(new Event('input'));""")
    browser.press(*"pppp")
    assert name_of(browser) == ""
    assert "Every image of the list is marked" in browser.text("#canvas")
    given = marks_of(browser)
    assert len({image for image, _, _ in given}) == 4
    browser.press("p", "f", "5")
    assert marks_of(browser) == given
    browser.open(page, "#sub-01_T2w")
    browser.press("p")
    assert "pass already" in browser.text("#notice")
    assert marks_of(browser) == given
    browser.open(page, "#sub-01_T2w")
    browser.run("document.querySelector('[data-mark=pass]').click()")
    assert "pass removed. U puts it back." in browser.text("#notice")
    assert len(marks_of(browser)) == len(given) - 2
    browser.press("u")
    assert marks_of(browser) == given


def test_files_of_one_name_are_listed_by_their_paths(browser, tmp_path):
    images = [tmp_path / person / "t2.nii.gz" for person in ("a", "b", "c")]
    for n, image in enumerate(images):
        image.parent.mkdir()
        mask = write_cord(image, np.random.default_rng(n))
        add_files(tmp_path / "qc", image, mask, method="propseg", contrast="t2")
    page = build_index(tmp_path / "qc")
    browser.open_as("AB", page)
    names = []
    for key in "ff":
        names.append(name_of(browser))
        browser.press(key)
        browser.wait(f"return document.getElementById('name').textContent !== {json.dumps(names[-1])}")
    assert len(set(names)) == 2
    listed = browser.save("save-fail").splitlines()[1:]
    assert len(listed) == 2
    assert {line.removeprefix("- ").split("  #")[0].strip('"') for line in listed} <= set(map(str, images))


def test_files_of_two_raters_are_merged_and_those_of_another_report_refused(browser, page):
    browser.open_as("Ann", page, "#sub-01_T2w")
    browser.press("f")
    ann = json.loads(browser.save("save-all"))
    bob = {**ann, "marks": [{**ann["marks"][0], "rater": "Bob", "mark": "pass"}]}
    other = {**ann, "report": "another"}
    wrong = [{"mark": "superb"}, {"mark": "constructor"}, {"rating": 99}, {"slices": ["a", -4]},
             {"image": "sub-99_T2w"}, {"method": "mine"}, {"time": "2999-01-01T00:00:00Z", "rater": "Ann"}]  # fmt: skip
    bob["marks"] += [bob["marks"][0] | one for one in wrong] + [3, None]
    bob["preferences"] = [{"image": "sub-01_T2w", "x": "propseg", "y": "propseg", "choice": "x", "rater": "Bob"}]
    bob["preferences"].append(bob["preferences"][0] | {"y": "deepseg", "choice": "valueOf"})
    browser.load("load", json.dumps(bob), json.dumps(other), "null")
    assert "file0.json: 11 of 12 rows left out" in browser.text("#message")
    assert "another report" in browser.text("#message")
    assert "file2.json cannot be used: it holds no list of marks" in browser.text("#message")
    browser.press("Escape")
    marks = json.loads(browser.save("save-all"))["marks"]
    assert {(m["rater"], m["mark"]) for m in marks} == {("Ann", "fail"), ("Bob", "pass")}


def test_marks_of_the_pilots_page_load_into_the_studys(browser, page):
    folder = StudyFolder(page.parents[1])
    pilot, _ = index_study(StudyView(folder, Stage.PILOT), folder.qc(Stage.PILOT), folder.qc(Stage.ALL))
    write_decision(folder, "deepseg")
    view = StudyView(folder, Stage.STUDY)
    render_study(view, folder.qc(Stage.STUDY))
    folder.decision.unlink()
    study, _ = index_study(StudyView(folder, Stage.STUDY), folder.qc(Stage.STUDY))
    browser.open_as("AB", pilot, "#sub-01_T2w")
    browser.press("f")
    saved = json.loads(browser.save("save-all"))
    browser.open_as("AB", study, "#sub-01_T2w")
    browser.load("load", json.dumps(saved))
    assert marks_of(browser) == {("sub-01_T2w", "propseg", "fail"), ("sub-01_T2w", "deepseg", "fail")}
    assert browser.run("return document.querySelector('[data-mark=fail]').getAttribute('aria-pressed')") == "true"


def test_marks_of_an_earlier_mask_stay_beside_those_of_the_mask_shown(browser, page):
    browser.open_as("Ann", page, "#sub-01_T2w")
    empty = json.loads(browser.save("save-all"))
    told = {"rating": None, "time": "2026-01-01T00:00:00Z", "reason": "leak", "slices": [], "mask_sha256": "0" * 12}
    mark = {"image": "sub-01_T2w", "method": "propseg", "mark": "fail", "rater": "Ann"} | told
    browser.load("load", json.dumps(empty | {"marks": [mark]}))
    state = "const b = document.querySelector('[data-mark=fail]'); return [b.getAttribute('aria-pressed'), b.className]"
    assert browser.run(state) == ["false", "stale"]
    assert "of an earlier mask" in browser.text("#given")
    assert "[]" in browser.save("save-fail")  # nobody has failed one of the present masks
    name = name_of(browser)
    browser.press("m", "p")
    marks = json.loads(browser.save("save-all"))["marks"]
    assert [(m["mark"], m["mask_sha256"] == "0" * 12) for m in marks] == [("fail", True), ("pass", False)]
    browser.press("u")
    browser.wait(f"return document.getElementById('name').textContent === {json.dumps(name)}")
    assert json.loads(browser.save("save-all"))["marks"] == [mark]


def test_no_key_marks_an_image_that_is_not_shown(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.press("/", *"sub-02", "Enter")
    assert "sub-02" in name_of(browser)  # the viewer follows the list
    browser.press("/", *" nothing", "Enter")
    assert name_of(browser) == ""
    browser.press("f", "a", "5")
    assert json.loads(browser.save("save-all"))["marks"] == []


def test_the_difference_of_two_masks_has_its_area(browser, page):
    """The mask of deepseg is the true one; that of propseg lacks the rightmost voxel of each row (0.25 mm²)."""
    browser.open_as("AB", page, "#sub-01_T2w/6")
    browser.press("x")
    text = browser.text("#readout")
    rows = browser.run("""
        const path = document.querySelector('.tile.current .beyond').getAttribute('d');
        return [...path.matchAll(/M/g)].length;""")
    alone = [float(number) for number in re.findall(r"alone (\d+\.\d) mm²", text)]
    assert alone == [0, pytest.approx(rows * 0.25, abs=0.051)]
    assert 15 <= rows <= 19  # a circle of 9 mm in voxels of 0.5 mm
    browser.press("x")
    assert browser.run("return document.querySelector('.beyond') === null")


def test_flicker_shows_two_masks_in_turn(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    browser.press("t")
    for name in ("propseg", "deepseg", "propseg"):
        browser.wait(f"return document.body.dataset.overlay === '{name}'")
    browser.press("t")
    assert browser.shown_layers() == ["propseg", "deepseg", "reference"]
    browser.press("t", "Down", "Up")  # opening another image also ends it, and shows every mask again
    browser.wait("return document.querySelectorAll('.tile').length > 0")
    assert browser.shown_layers() == ["propseg", "deepseg", "reference"]


def test_with_reduced_motion_each_press_shows_the_other_mask(browser, page):
    browser.open_as("AB", page, "#sub-01_T2w")
    prefer = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": []}}
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.call("POST", "/goog/cdp/execute", prefer | {"params": still})
    shown = []
    for _ in range(3):
        browser.press("t")
        shown.append(browser.shown_layers())
    browser.call("POST", "/goog/cdp/execute", prefer)
    assert shown == [["propseg"], ["deepseg"], ["propseg"]]


def test_one_mask_alone_is_compared_with_nothing_and_the_page_says_so(browser, tmp_path):
    image = tmp_path / "sub-01_T2w.nii.gz"
    mask = write_cord(image, np.random.default_rng(0))
    add_files(tmp_path / "qc", image, mask, method="propseg", contrast="t2")
    browser.open(build_index(tmp_path / "qc"))
    for name, key in (("difference", "x"), ("flicker", "t")):
        assert browser.run(f"return document.getElementById('{name}').disabled")
        browser.run("document.getElementById('notice').textContent = ''")
        browser.press(key)
        assert "no two masks" in browser.text("#notice")


def visible_text(browser):
    """Everything that a reader of the page could see or hear: text, titles, labels, address, styles of the layers."""
    return browser.run("""
        const seen = [document.title, location.href, document.body.innerText];
        for (const e of document.querySelectorAll('#blind *')) {
          for (const a of e.attributes) if (a.name !== 'd') seen.push(a.value);
          seen.push(getComputedStyle(e).stroke);
        }
        return seen.join('\\n');""")


def test_a_blind_round_hides_the_methods_and_ends_in_preferences(browser, page):
    browser.open_as("AB", page, look=False)
    browser.press("b")
    browser.wait("return document.querySelectorAll('#blind .tile').length > 0")
    seen, sides = 0, set()
    while browser.run("return !document.getElementById('blind-answers').hidden"):
        text = visible_text(browser)
        for word in ("propseg", "deepseg", "mm²", "Dice", "reference", "no warning"):
            assert word not in text
        lines = "[...document.querySelectorAll('#blind .blind-layer')]"
        strokes = f"return new Set({lines}.map(p => getComputedStyle(p).stroke)).size"
        assert browser.run(strokes) == 1
        seen += 1
        browser.press("y" if seen % 2 else "s")
        done = f"return document.getElementById('blind-progress').value === {seen}"
        browser.wait(done)
        sides.add(browser.run("return document.querySelectorAll('#blind .pane').length"))
    assert seen == 4  # sub-01 twice, sub-02 T2w (its T1w has only one mask), and one of them again
    assert "The round is done" in browser.text("#blind-panes")
    assert "himself" in browser.text("#blind-panes")
    preferences = json.loads(browser.save("save-all"))["preferences"]
    assert [p["choice"] for p in preferences] == ["y", "same", "y", "same"]
    assert sum(p["repeat"] for p in preferences) == 1
    assert all({p["x"], p["y"]} == {"propseg", "deepseg"} and p["blind"] and p["rater"] == "AB" for p in preferences)
    browser.press("Escape")
    assert browser.run("return document.getElementById('blind').hidden")


def start_round(browser):
    browser.press("b")
    browser.wait("return document.querySelectorAll('#blind .tile').length > 0")


@pytest.mark.parametrize(("down", "up"), [(" ", "PageUp"), ("PageDown", "Up"), ("j", "k"), (".", ","), ("Down", "k")])
def test_keys_scroll_both_panes_of_a_blind_round(browser, page, down, up):
    browser.open_as("AB", page, look=False)
    start_round(browser)
    browser.press("d")  # large tiles, so that there is more than the window shows
    places = "return [...document.querySelectorAll('#blind .canvas')].map((pane) => pane.scrollTop)"
    browser.press(down)
    browser.wait(f"const [x, y] = (() => {{ {places} }})(); return x > 30 && x === y")
    browser.press(*[up] * 6)
    browser.wait(f"const [x, y] = (() => {{ {places} }})(); return x === 0 && y === 0")
    assert browser.text("#blind-count") == "1 of 4"
    browser.press("d", "Escape")


def stored_round(browser):
    return json.loads(browser.run("return localStorage[Object.keys(localStorage).find((k) => k.endsWith(':round'))]"))


def store(browser, what, content):
    """Store a value in the browser, as the page does."""
    key = "Object.keys(localStorage).find((k) => k.endsWith('AB:round')).replace('AB:round', '')"
    browser.run(f"localStorage[{key} + '{what}'] = {json.dumps(json.dumps(content))}")


def answer_all(browser, key):
    """Give one answer to all remaining pairs of a round."""
    while browser.run("return !document.getElementById('blind-answers').hidden"):
        count = browser.text("#blind-count")
        browser.press(key)
        browser.wait(f"return document.getElementById('blind-count').textContent !== '{count}'")


def test_an_interrupted_round_resumes_without_showing_a_name(browser, page):
    browser.open_as("AB", page, look=False)
    start_round(browser)
    for key, count in (("x", 2), ("y", 3), ("u", 2)):
        browser.press(key)
        browser.wait(f"return document.getElementById('blind-count').textContent === '{count} of 4'")
    stored = stored_round(browser)
    assert all(set(trial) == {"image", "pair", "repeat"} and trial["pair"] == ["propseg", "deepseg"]
               for trial in stored["trials"])  # nothing of the sides  # fmt: skip
    browser.press("Escape")
    for _ in range(2):  # left, and opened again
        assert_quiet(browser, "left at 2 of 4")
        assert rows_of(browser) == [f"sub-0{n} · {kind}" for n in (1, 2) for kind in ("T1w", "T2w")]  # in their order
        browser.open(page, look=False)
    start_round(browser)
    assert browser.text("#blind-count") == "2 of 4"
    browser.press("Escape")
    assert_quiet(browser, "left at 2 of 4")
    browser.press("w")  # the overview shows masks and warnings
    assert_quiet(browser, "left at 2 of 4")
    browser.press("/", *"sub-01")
    assert len(rows_of(browser)) == 2
    assert_quiet(browser, "left at 2 of 4")
    browser.press("Escape")
    browser.run("document.getElementById('search').value = ''")
    leave_to(browser, "Bob")  # his round is another
    start_round(browser)
    assert browser.text("#blind-count") == "1 of 4"
    browser.press("Escape")
    leave_to(browser, "a b", "AB")  # in another spelling
    start_round(browser)
    assert browser.text("#blind-count") == "2 of 4"
    answer_all(browser, "x")
    browser.press("Escape")
    assert "no warning" in browser.text("#rows")  # the round is finished, so the list shows everything again
    assert {p["blind"] for p in json.loads(browser.save("save-all"))["preferences"]} == {True}


def test_an_address_opens_no_image_during_a_blind_round(browser, page):
    browser.open_as("AB", page, look=False)
    start_round(browser)
    browser.press("x", "Escape")
    browser.open(page, "#sub-02_T2w/3", look=False)  # a link of the report
    assert_quiet(browser, "left at 2 of 4")
    browser.press("Down")  # the reader opens the image anyway
    browser.wait("return document.querySelectorAll('.tile').length > 0")
    assert browser.text("#name") == "sub-02 · T2w"
    assert browser.text("#readout").startswith("Slice 3,")
    browser.press("Up")
    browser.wait("return document.getElementById('name').textContent !== 'sub-02 · T2w'")


def rows_of(browser):
    return browser.run("return [...document.querySelectorAll('.row')].map((row) => row.textContent)")


def assert_quiet(browser, offer):
    """Assert that no text, title or label says anything about the methods, and that the comparison is offered."""
    assert offer in browser.text("#offer")
    assert browser.run("return document.querySelectorAll('.tile, .card, .wall, main img').length") == 0
    labels = "(e) => [e.title, e.getAttribute('aria-label')].join(' ')"
    said = browser.run(f"return [...document.querySelectorAll('main *')].map({labels}).join(' ')")
    said += visible_text(browser)
    assert not [word for word in ("propseg", "deepseg", "mm²", "Dice") if word in said]
    rows = rows_of(browser)
    assert rows
    assert all(re.fullmatch("sub-0[12] · T[12]w", row) for row in rows)


def leave_to(browser, typed, rater=""):
    """Change the rater."""
    browser.run(f"document.getElementById('rater-open').click(); document.getElementById('rater').value = '{typed}'")
    browser.press("Enter")
    browser.wait(f"return document.getElementById('rater-open').textContent === 'Rater: {rater or typed}'")
    browser.run("document.activeElement.blur()")


@pytest.mark.parametrize("damage", ["gone", "other", "junk"])
def test_a_stored_round_resumes_without_images_no_longer_on_the_page(browser, page, damage):
    browser.open_as("AB", page, look=False)
    start_round(browser)
    browser.press("x")
    browser.wait("return document.getElementById('blind-count').textContent === '2 of 4'")
    stored = stored_round(browser)
    trials = stored["trials"]
    if damage == "gone":
        trials[1]["image"] = "sub-99_T2w"  # the next one: excluded since
        left = "2 of 3"
    elif damage == "other":
        trials[0]["pair"] = ["propseg", "another"]
        left = "1 of 3"
    else:
        trials[1:3] = [None, 5]
        left = "2 of 2"
        store(browser, "marks", [1, None])
        store(browser, "seen", {"AB": 3})
    store(browser, "AB:round", stored)
    browser.open(page, look=False)
    if damage == "junk":
        browser.wait("return document.getElementById('message-box').open")
        assert "2 of the marks" in browser.text("#message")
        browser.press("Escape")
    start_round(browser)
    assert browser.text("#blind-count") == left
    answer_all(browser, "y")
    assert "The round is done" in browser.text("#blind-panes")
    assert {p["blind"] for p in json.loads(browser.save("save-all"))["preferences"]} == {True}
    browser.press("Escape")


@pytest.mark.parametrize(("before", "view"), [((), "viewer"), ((), "wall"), (("x",), "viewer")])
def test_an_answer_after_the_names_were_seen_is_not_blind(browser, page, before, view):
    browser.open_as("AB", page, look=False)
    image = "sub-01_T2w"
    if before:
        start_round(browser)
        browser.press(*before)
        browser.wait("return document.getElementById('blind-count').textContent === '2 of 4'")
        browser.press("Escape")
        image = stored_round(browser)["trials"][1]["image"]
    if view == "wall":
        browser.press("w")
    else:
        browser.open(page, f"#{image}")
    browser.press("b")
    browser.wait("return document.getElementById('message-box').open")
    known = {image} if view == "viewer" else {"sub-01_T1w", "sub-01_T2w", "sub-02_T2w"}
    assert "do not count as blind" in browser.text("#message")
    browser.press("Escape")
    browser.wait("return document.querySelectorAll('#blind .tile').length > 0")
    answer_all(browser, "y")
    assert "not counted" in browser.text("#blind-panes")
    browser.press("Escape")
    answers = json.loads(browser.save("save-all"))["preferences"]
    later = answers[len(before) :]
    assert all(p["blind"] == (p["image"] not in known) for p in later)
    assert all(p["blind"] for p in answers[: len(before)])
    # the names are known now, so a second round would be useless
    browser.press("b")
    browser.wait("return document.getElementById('message-box').open")
    assert "3 of 3 images" in browser.text("#message")
    browser.press("Escape", "Escape")


def test_search_narrows_the_list(browser, page):
    browser.open(page)
    browser.press("/", *"sub-01 t1w")
    assert browser.run("return [...document.querySelectorAll('.row')].map(r => r.id)") == ["row-sub-01_T1w"]
    browser.press("Escape")


def test_overview_shows_every_image_and_opens_one(browser, page):
    browser.open_as("AB", page)  # no round is open
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
    fsleyes, *itksnap = command.splitlines()
    assert fsleyes.startswith("fsleyes '/")  # absolute, so that it works in any folder
    assert fsleyes.count("-a 70.0") == 2
    assert "desc-propseg_label-SC_seg.nii.gz' -cm red" in fsleyes
    assert [line.split()[0:2] for line in itksnap] == [["itksnap", "-g"]] * 2
    for word in shlex.split(" ".join([fsleyes.rstrip("&"), *(line.rstrip("&") for line in itksnap)])):
        if word.startswith("/"):
            assert Path(word).is_file()


def test_help_and_focus_are_reachable_by_keyboard(browser, page):
    browser.open(page)
    browser.press("?")
    assert browser.run("return document.getElementById('help').open")
    browser.press("Escape")
    assert not browser.run("return document.getElementById('help').open")


def test_a_screenshot_is_written_for_inspection(browser, page, tmp_path):
    browser.open(page, "#sub-01_T2w")
    picture = base64.b64decode(browser.call("GET", "/screenshot"))
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
