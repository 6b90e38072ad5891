"""Discs clicked on the quality-control page, by mouse and keyboard: saved, reloaded, imported and measured.

``python tests/test_qc_levels.py`` prints the errors of proposed discs that docs/measures.md reports.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from browser import needs_browser
from made_study import study_image
from report_study import AFFINE, SHAPE, ZOOMS, cord_mask, make_study

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.levels.clicked import ClickedImage, read_clicked
from spineseg.levels.spacing import BELOW_C2_C3_MM, propose_discs
from spineseg.phantom.dataset import draw_person
from spineseg.phantom.discs import FIRST_VALUE, LABEL_S_MM
from spineseg.provenance import sha256_file
from spineseg.report.qc import render_study
from spineseg.report.qc_page import build_index
from spineseg.report.review import StudyView
from spineseg.study.configuration import make_configuration
from spineseg.study.level_labels import CLICKED, LabelFile, rank_label_files
from spineseg.study.levels import measure_levels
from spineseg.study.sources import check_sources
from spineseg.studyfolder.decisions import KeptRow, write_kept
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.layout import Stage


def clicked_file(path, discs, image="sub-01_T2w", **more):
    """Write a file as the page saves it."""
    own = [{"value": value, "voxel": [0, 0, 0], "mm": list(mm), "state": "confirmed"} | more for value, mm in discs]
    path.write_text(json.dumps({"report": "x", "levels": [{"image": image, "file": f"{image}.nii.gz", "discs": own}]}))
    return path


class TestFile:
    @pytest.fixture
    def image(self, tmp_path):
        path = tmp_path / "sub-01_T2w.nii.gz"
        data = np.random.default_rng(0).random((20, 30, 40)).astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([1.0, -2.0, 1.5, 1.0])), path)
        return path

    def test_labels_lie_on_the_images_grid(self, image, tmp_path):
        file = clicked_file(tmp_path / "levels.json", [(3, (5, -20, 30)), (4, (5.2, -22, 12)), (50, (5, -16, 51))])
        assert main(["levels", "-i", str(image), "-levels", str(file), "-ofolder", str(tmp_path)]) == 0
        labels = nib.load(tmp_path / "sub-01_T2w_label-discs_dlabel.nii.gz")
        assert np.array_equal(labels.affine, nib.load(image).affine)
        found = {int(labels.dataobj[tuple(at)]): at.tolist() for at in np.argwhere(np.asarray(labels.dataobj))}
        assert found == {3: [5, 10, 20], 4: [5, 11, 8], 50: [5, 8, 34]}

    @pytest.mark.parametrize(
        ("discs", "more", "words"),
        [
            ([(3, (5, -20, 300))], {}, "disc 3 inside the image"),
            ([(3, (5, -20, 30)), (4, (5, -20, 30))], {}, "one voxel"),
            ([(3, (5, -20, 30)), (3, (5, -20, 12))], {}, "twice"),
            ([(3, (5, -20, 12)), (4, (5, -20, 30))], {}, "expected C3/C4 below C2/C3"),
            ([(3, (5, -20, 30)), (50, (5, -20, 12))], {}, "expected C2/C3 below the junction"),
            ([(77, (5, -20, 30))], {}, "disc 77"),
            ([(3, (5, -20))], {}, "no place for disc 3"),
            ([(3, (5, -20, 30))], {"state": "proposed"}, "none confirmed"),
        ],
    )
    def test_each_mistake_is_one_line(self, image, tmp_path, capsys, discs, more, words):
        file = clicked_file(tmp_path / "levels.json", discs, **more)
        assert main(["levels", "-i", str(image), "-levels", str(file), "-ofolder", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert not (tmp_path / "sub-01_T2w_label-discs_dlabel.nii.gz").exists()

    def test_another_image_and_another_file(self, image, tmp_path, capsys):
        file = clicked_file(tmp_path / "levels.json", [(3, (5, -20, 30))], image="sub-02_T2w")
        assert main(["levels", "-i", str(image), "-levels", str(file)]) == 2
        assert "sub-02_T2w" in capsys.readouterr().err
        (tmp_path / "marks.json").write_text('{"marks": []}')
        assert main(["levels", "-i", str(image), "-levels", str(tmp_path / "marks.json")]) == 2
        assert "Save levels" in capsys.readouterr().err

    def test_images_with_the_same_name_are_distinguished_by_content(self, image, tmp_path, capsys):
        other = tmp_path / "B" / image.name
        other.parent.mkdir()
        nib.save(nib.Nifti1Image(np.indices((20, 30, 40))[0].astype(np.uint8), nib.load(image).affine), other)
        entries = []
        for path, name, s in ((image, "sub-01_T2w-1", 30), (other, "sub-01_T2w-2", 12)):
            file = clicked_file(tmp_path / "levels.json", [(3, (5, -20, s))], name)
            (entry,) = json.loads(file.read_text())["levels"]
            entries.append(entry | {"file": image.name, "image_sha256": sha256_file(path)[:12]})
        file.write_text(json.dumps({"levels": entries}))
        for path, k in ((image, 20), (other, 8)):
            assert main(["levels", "-i", str(path), "-levels", str(file), "-ofolder", str(tmp_path)]) == 0
            labels = np.asarray(nib.load(tmp_path / "sub-01_T2w_label-discs_dlabel.nii.gz").dataobj)
            assert np.argwhere(labels).tolist() == [[5, 10, k]]
        file.write_text(json.dumps({"levels": entries[1:]}))
        capsys.readouterr()
        assert main(["levels", "-i", str(image), "-levels", str(file), "-ofolder", str(tmp_path)]) == 2
        assert "another image of this name" in capsys.readouterr().err
        file.write_text(json.dumps({"levels": [{**entries[0], "image_sha256": ""}, entries[1]]}))  # earlier format
        assert main(["levels", "-i", str(image), "-levels", str(file), "-ofolder", str(tmp_path)]) == 0
        file.write_text(json.dumps({"levels": [entries[0]] * 2}))
        with pytest.raises(InputError, match="sub-01_T2w-1 twice"):
            read_clicked(file)

    def test_a_study_uses_the_discs_of_its_own_images(self, image, tmp_path):
        def labels(sha, folder="a"):
            discs = {3: np.zeros(3)}
            clicked = ClickedImage("sub-01_T2w", image.name, discs, sha)
            return LabelFile(f"{folder}/levels.json", clicked.stem, CLICKED, clicked)

        def chosen(*files, of="sub-01_T2w"):
            one = study_image("01", image_id=of)
            return rank_label_files(one, {("01", ""): files}, {"sub-01_T2w": image})[0]

        own, others, drawn = labels(sha256_file(image)[:12]), labels("0" * 12, "b"), LabelFile("d", "sub-01_T2w", "_x")
        assert chosen(others, own).clicked is own.clicked
        assert chosen(labels("", "c"), drawn).path == "c/levels.json"
        for of in ("sub-01_T2w", "sub-01_run-2_T2w"):
            with pytest.raises(InputError, match=r"b/levels\.json: expected discs of .*another image of this name"):
                chosen(others, drawn, of=of)
            with pytest.raises(InputError, match=r"b/levels\.json: expected labels of sub-01_T2w in one file"):
                chosen(own, replace(own, path="b/levels.json"), of=of)

    def test_a_study_checks_the_file_before_its_first_job(self, tmp_path):
        (tmp_path / "bids" / "sub-01" / "anat").mkdir(parents=True)
        (tmp_path / "bad.json").write_text('{"levels": [{"image": "sub-01_T2w"}]}')
        config = make_configuration(
            {"dataset": "demo", "bids_dir": str(tmp_path / "bids"), "level_marks": [str(tmp_path / "bad.json")]}
        )
        with pytest.raises(InputError, match=r"config key 'level_marks': .*Save levels"):
            check_sources(config)


def leave_one_out(n_people=200):
    """Errors, mm, of discs C2/C3 to T3/T4 of synthetic people: from all others, and from C2/C3 alone."""
    others, alone = [], []
    for n in range(n_people):
        places = -LABEL_S_MM * draw_person(5, n).height
        known = {v: float(p) for v, p in enumerate(places, FIRST_VALUE) if 3 <= v <= 11}
        for value, place in known.items():
            rest = {v: p for v, p in known.items() if v != value}
            others.append(abs(propose_discs(rest)[value] - place))
            if value > 3:
                alone.append(abs(propose_discs({3: known[3]})[value] - place))
    return np.array(others), np.array(alone)


def test_proposals():
    assert propose_discs({}) == {}
    exact = {value: 0.9 * place + 7 for value, place in BELOW_C2_C3_MM.items()}
    found = propose_discs({value: exact[value] for value in (3, 9)})
    for value, place in found.items():
        assert place == pytest.approx(exact[value])
    others, alone = leave_one_out(40)
    assert np.median(others) < 1.5
    assert np.percentile(others, 95) < 3.0
    assert np.median(alone) < 5.0
    assert np.percentile(alone, 95) < 20.0


def click_strip(browser, k, right_share=0.3):
    """Press the mouse on the sagittal plane at a slice."""
    place = browser.run(f"""
        const strip = document.querySelector('#side svg image').getBoundingClientRect();
        const share = ({SHAPE[2]} - {k} - 0.5) / {SHAPE[2]};
        return [strip.x + {right_share} * strip.width, strip.y + share * strip.height];""")
    x, y = (round(value) for value in place)
    steps = [
        {"type": "pointerMove", "duration": 0, "x": x, "y": y},
        {"type": "pointerDown", "button": 0},
        {"type": "pointerUp", "button": 0},
    ]
    mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
    browser.call("POST", "/actions", {"actions": [mouse]})


def shown_discs(browser):
    """Value and state of the discs on the screen."""
    discs = "[...document.querySelectorAll('#discs [data-disc]')]"
    return dict(browser.run(f"return {discs}.map(d => [Number(d.dataset.disc), d.dataset.state])"))


@needs_browser
@pytest.mark.browser
def test_discs_by_mouse_and_keyboard_end_in_the_table(browser, tmp_path):
    study = make_study(tmp_path, n_subjects=1)
    render_study(StudyView(study), study.qc(Stage.ALL))
    page = build_index(study.qc(Stage.ALL))
    browser.open(page, "#sub-01_T2w")
    browser.press("l")
    assert not browser.run("return document.getElementById('levels-bar').hidden")
    click_strip(browser, 11)  # C2/C3
    assert shown_discs(browser) == {3: "confirmed", 4: "proposed"} | (
        {2: "proposed"} if 2 in shown_discs(browser) else {}
    )
    browser.press("\ue017")  # Delete removes the disc just set, although the next is chosen
    assert shown_discs(browser) == {}
    assert "C2/C3" in browser.text("#levels-next")
    click_strip(browser, 11)
    browser.press("j", "j")  # two slices down from the middle, 7
    before = int(browser.text("#readout").split()[1].rstrip(","))
    browser.press("g")  # C3/C4 by keyboard
    assert shown_discs(browser)[4] == "confirmed"
    assert browser.run("return document.querySelector('[data-level]').dataset.level") == "C3"
    browser.press("[")  # back to C3/C4
    browser.shift("ArrowDown", "ArrowDown")
    browser.press("[", "[", "[", "[")  # to the junction
    assert "PMJ" in browser.text("#levels-next")
    click_strip(browser, 1)
    assert browser.text("#levels-wrong") == "C2/C3 lies above PMJ"
    click_strip(browser, 13)
    assert browser.text("#levels-wrong") == ""
    browser.press("]", "]", "]", "]")
    file = tmp_path / "levels.json"
    file.write_text(browser.save("levels-save"))
    (clicked,) = read_clicked(file)
    assert clicked.image == "sub-01_T2w"
    to_voxel = np.linalg.inv(AFFINE)
    slices = {value: round((to_voxel @ [*place, 1])[2]) for value, place in clicked.discs.items()}
    assert slices == {3: 11, 4: before - 1, 50: 13}

    browser.load("levels-load", file.read_text().replace('"image_sha256": "', '"image_sha256": "no'))
    assert "another of this name" in browser.text("#message")
    browser.run("document.getElementById('message-box').close()")
    browser.load("levels-load", file.read_text())

    browser.open(page, "#sub-01_T2w")  # reloaded: still there, and drawn without the mode
    assert set(shown_discs(browser)) == {3, 4, 50}
    browser.press("l", "\ue017")  # Delete removes C2/C3, the first disc when a page is opened
    assert 3 not in {v for v, s in shown_discs(browser).items() if s == "confirmed"}
    browser.press("y")
    assert set(shown_discs(browser).values()) == {"confirmed"}

    images = read_images(study.images)
    path = next(image.path for image in images if image.image_id == "sub-01_T2w")
    assert main(["levels", "-i", path, "-levels", str(file), "-ofolder", str(tmp_path)]) == 0
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(cord_mask().astype(np.uint8), AFFINE), mask)
    out = tmp_path / "csa.csv"
    discs = str(tmp_path / "sub-01_T2w_label-discs_dlabel.nii.gz")
    assert main(["csa", "-i", str(mask), "-discfile", discs, "-vert", "C3", "-o", str(out)]) == 0
    with out.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["slices"] == f"{slices[4] + 1}:{slices[3]}"

    kept = study.kept_mask(next(image for image in images if image.image_id == "sub-01_T2w"))
    kept.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(cord_mask().astype(np.uint8), AFFINE), kept)
    write_kept(study.kept(Stage.ALL), [KeptRow("sub-01_T2w", "01", "", "t2", "propseg", "ok", study.relative(kept))])
    config = make_configuration(
        {"dataset": "demo", "bids_dir": str(tmp_path), "levels": ["C3"], "level_marks": str(file)}
    )
    (of_study,) = measure_levels(study, Stage.ALL, config)
    assert of_study.slices == row["slices"]
    assert of_study.values["csa_mm2"] == pytest.approx(float(row["csa_mm2"]), rel=1e-4)
    assert of_study.levels_from == str(file)
    assert ZOOMS[2] == 3.0  # the spacing of the clicks above


if __name__ == "__main__":
    for source, errors in zip(("all other discs", "C2/C3 alone"), leave_one_out(), strict=True):
        print(f"from {source}: median {np.median(errors):.1f} mm, 95th percentile {np.percentile(errors, 95):.1f} mm")
