"""The table of areas by level that a study writes: labels are found, transferred between images, checked and used."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import made_study
import numpy as np
import pytest

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.levels.names import parse_request
from spineseg.levels.rows import measure_rows
from spineseg.provenance import sha256_file
from spineseg.report.level_figure import draw_levels
from spineseg.study import levels
from spineseg.study.change import measure_change, read_session_times
from spineseg.study.configuration import make_configuration
from spineseg.study.levels import measure_levels, measure_method_levels
from spineseg.studyfolder.csa import REFERENCE, CsaRow, read_csa, write_csa
from spineseg.studyfolder.decisions import KeptRow, write_kept
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.tables import Identity
from spineseg.writing import write_json

RADIUS_MM = 4.5
ZOOMS = {"T2w": (0.5, 0.5, 2.0), "T2star": (0.4, 0.4, 5.0), "T1w": (0.8, 0.8, 0.8)}
TOP_MM, STEP_MM = 60.0, 17.0  # of disc 3 (C2/C3) in the scanner, and the distance to the next
DISCS = (3, 4, 5)


def area(z):
    """Area of the cord at a height in the scanner; it grows downwards."""
    return np.pi * RADIUS_MM**2 * (1 + (TOP_MM - z) / 200)


def cord(suffix, moved_mm=0.0, span_mm=120.0):
    """A cord with partial volumes in the scanner, and its affine; the field of view ends at `span_mm`."""
    zooms = np.array(ZOOMS[suffix])
    shape = np.ceil(np.array([40.0, 40.0, span_mm]) / zooms).astype(int)
    affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
    affine[:3, 3] = [20.0, -20.0, -10.0]
    fine = 5
    x, y = ((np.arange(shape[a] * fine) + 0.5) / fine - 0.5 for a in (0, 1))
    x, y = 20.0 - zooms[0] * x - moved_mm, zooms[1] * y - 20.0
    distance = (x[:, None] ** 2 + y**2)[..., None]
    z = affine[2, 3] + zooms[2] * np.arange(shape[2])
    inside = np.stack([distance[..., 0] < area(one) / np.pi for one in z], axis=2)
    return inside.reshape(shape[0], fine, shape[1], fine, -1).mean(axis=(1, 3)), affine


def disc_labels(suffix, values=DISCS):
    """One voxel per disc, 12 mm in front of the cord."""
    mask, affine = cord(suffix)
    labels = np.zeros(mask.shape, np.uint8)
    for n, value in enumerate(values):
        at = np.linalg.inv(affine) @ [0.0, 12.0, TOP_MM - STEP_MM * n, 1.0]
        labels[tuple(np.rint(at[:3]).astype(int))] = value
    return labels, affine


def level_truth(n=0):
    """Mean area between two discs of T2w: the heights of the voxels that were marked."""
    _, affine = cord("T2w")
    tops = [np.rint((TOP_MM - STEP_MM * i - affine[2, 3]) / 2.0) * 2.0 + affine[2, 3] for i in (n, n + 1)]
    return area(np.mean(tops))


class Study:
    """A study that already has kept masks."""

    def __init__(self, root):
        self.folder = made_study.study_folder(root)
        self.bids = root / "bids"
        self.bids.mkdir()
        self.images, self.kept = [], []

    def add(self, suffix="T2w", subject="01", **changes):
        """Add an image with its kept mask."""
        image = made_study.study_image(subject, suffix)
        data, affine = cord(suffix, **changes)
        path = made_study.save_nifti(self.folder.kept_mask(image), data, affine, np.float32)
        self.images.append(image)
        row = {"method": "propseg", "status": "ok", "mask": self.folder.relative(path)}
        self.kept.append(KeptRow(image.image_id, subject, "", image.contrast, **row))
        return self

    def label(self, data, affine, end="_label-discs_dlabel", subject="01", suffix="T2w"):
        """Add a file of labels."""
        path = self.bids / "derivatives" / "labels" / f"sub-{subject}" / "anat" / f"sub-{subject}_{suffix}{end}.nii.gz"
        made_study.save_nifti(path, data, affine)
        return self

    def config(self, **config):
        """Write the tables that the step reads; return the configuration."""
        made_study.write_index(self.folder, self.images)
        write_kept(self.folder.kept(Stage.ALL), self.kept)
        return make_configuration({"dataset": "demo", "bids_dir": str(self.bids)} | config)

    def measure(self, **config):
        """Measure."""
        return measure_levels(self.folder, Stage.ALL, self.config(**config))


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


@pytest.mark.parametrize("end", ["_label-discs_dlabel", "_labels-disc-manual", "_labels-disc", "_seg_labeled_discs"])
def test_labels_of_one_image_are_used_for_its_whole_session(study, end):
    for suffix in ZOOMS:
        study.add(suffix)
    rows = study.label(*disc_labels("T2w"), end).measure(levels=["C3"])
    assert [row.image.suffix for row in rows] == list(ZOOMS)
    for row in rows:
        assert row.values["csa_mm2"] == pytest.approx(level_truth(), rel=0.01)
        assert row.values["level_coverage"] == pytest.approx(1.0)
        assert row.levels_distance_mm == pytest.approx(0.0, abs=0.05)
        assert row.levels_from.endswith(f"sub-01_T2w{end}.nii.gz")
        assert row.flags == ()


@pytest.mark.parametrize("end", ["_label-spine_dseg", "_seg_labeled", "_label-SC_seg_labeled"])
def test_a_labelled_cord_is_used_for_its_whole_session(study, end):
    mask, affine = cord("T2w")
    z = affine[2, 3] + 2.0 * np.arange(mask.shape[2])
    level = np.select([z > TOP_MM, z > TOP_MM - STEP_MM, z > TOP_MM - 2 * STEP_MM], [2, 3, 4], 5)
    for suffix in ZOOMS:
        study.add(suffix)
    rows = study.label((mask > 0.5) * level, affine, end).measure(levels=["C3"])
    for row in rows:
        assert row.values["csa_mm2"] == pytest.approx(level_truth(), rel=0.01)
        assert row.values["level_coverage"] == 1.0


def test_a_person_who_has_moved_is_doubted(study):
    study.add("T2w").add("T2star", moved_mm=6.0)
    own, other = study.label(*disc_labels("T2w")).measure(levels=["C3"])
    assert own.flags == ()
    assert other.flags == ("doubted",)
    assert other.levels_distance_mm == pytest.approx(6.0, abs=0.1)
    assert "6.0 mm away" in other.note
    assert "sub-01_T2w" in other.note


def test_levels_of_an_image_outside_the_study_are_doubted(study):
    (row,) = study.add("T2star").label(*disc_labels("T2w")).measure(levels=["C3"])
    assert row.flags == ("doubted",)
    assert "could not be compared" in row.note


def header_moved(affine, by_mm):
    moved = affine.copy()
    moved[:3, 3] += by_mm
    return moved


OTHER_GRIDS = {
    "moved header": lambda data, affine: (data, header_moved(affine, (0, 0, 18))),
    "one plane less": lambda data, affine: (data[:-1], affine),
    "finer": lambda data, affine: (data.repeat(2, axis=0), affine @ np.diag([0.5, 1, 1, 1])),
}


@pytest.mark.parametrize("name", OTHER_GRIDS)
@pytest.mark.parametrize("end", ["_label-discs_dlabel", "_seg_labeled"])
def test_labels_on_another_grid_than_their_image_are_refused_for_all_of_its_session(study, name, end):
    mask, affine = cord("T2w")
    z = affine[2, 3] + 2.0 * np.arange(mask.shape[2])
    level = (mask > 0.5) * np.select([z > TOP_MM, z > TOP_MM - STEP_MM], [2, 3], 4)
    labels = level if end == "_seg_labeled" else disc_labels("T2w")[0]
    rows = study.add().add("T1w").label(*OTHER_GRIDS[name](labels, affine), end).measure(levels=["C3"])
    for row in rows:
        assert row.flags == ("unmeasured",)
        assert f"sub-01_T2w{end}.nii.gz: expected the image's" in row.note


def test_labels_under_the_name_of_an_image_whose_header_was_moved(study):
    """Discs of T2w under the name of T1w, whose header was moved: T2w is used, and the distance is measured."""
    study.add().add("T1w", moved_mm=10.0).label(*disc_labels("T2w")).label(*disc_labels("T2w"), suffix="T1w")
    _, moved = study.measure(levels=["C3"])
    assert moved.flags == ("doubted",)
    assert moved.levels_distance_mm == pytest.approx(10.0, abs=0.1)
    assert moved.levels_from.endswith("sub-01_T2w_label-discs_dlabel.nii.gz")
    assert "sub-01_T1w_label-discs_dlabel.nii.gz not used" in moved.note


@pytest.mark.parametrize("own", [(4, 5, 6), (0, 0, 0), (3, 5, 4)])
def test_levels_missing_from_own_labels_come_from_other_images_of_the_session(study, own):
    """Discs that begin with C3/C4, no discs, and discs in the wrong order."""
    labels, affine = disc_labels("T1w")
    labels[:] = np.select([labels == value for value in DISCS], own)
    study.add("T1w").add().label(labels, affine, suffix="T1w").label(*disc_labels("T2w"))
    row, _ = study.measure(levels=["C3"])
    assert row.flags == ()
    assert row.levels_from.endswith("sub-01_T2w_label-discs_dlabel.nii.gz")
    assert "sub-01_T1w_label-discs_dlabel.nii.gz not used: " in row.note
    assert row.values["csa_mm2"] == pytest.approx(level_truth(), rel=0.01)


def test_a_level_that_leaves_the_field_of_view_is_flagged(study):
    span = 10.0 + TOP_MM - STEP_MM + 9.0  # about half of C3
    full, cut = study.add("T2w").add("T1w", span_mm=span).label(*disc_labels("T2w")).measure(levels=["C3"])
    assert full.flags == ()
    assert "C3: 0." in cut.note
    assert cut.flags == ("coverage",)
    assert cut.values["level_coverage"] == pytest.approx(0.5, abs=0.1)


def test_a_labelled_level_that_the_field_of_view_does_not_reach(study):
    study.add().add("T1w", span_mm=10.0 + TOP_MM - STEP_MM - 5.0).label(*disc_labels("T2w"))
    _, cut = study.measure(levels=["C3"])
    assert cut.flags == ("unmeasured",)
    assert "level C3: labelled, but found no cord there" in cut.note


def test_without_a_request_each_level_has_a_row_and_open_ends_are_reported(study):
    rows = study.add().label(*disc_labels("T2w")).measure()
    assert [row.level for row in rows] == ["C5", "C4", "C3", "C2"]
    assert [row.flags for row in rows] == [("unbounded",), (), (), ("unbounded",)]


def test_without_labels_the_whole_mask_is_measured(study):
    (row,) = study.add().measure()
    assert row.level == ""
    assert row.n_slices == 60
    assert row.flags == ()


SWAPPED = (3, 5, 4)
PROBLEMS = {
    "no labels": (None, "no labels of levels for sub-01"),
    "one disc": (disc_labels("T2w", (3,)), "only disc 3"),
    "swapped order": (disc_labels("T2w", SWAPPED), "swap their values"),
    "empty": ((np.zeros((80, 80, 60)), cord("T2w")[1]), "found no label"),
    "other levels": (disc_labels("T2w", (9, 10, 11)), "expected level C3"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_bad_label_file_is_one_line_and_affects_no_other_image(study, name):
    labels, words = PROBLEMS[name]
    study.add().add(subject="02").label(*disc_labels("T2w"), subject="02")
    if labels:
        study.label(*labels)
    bad, good = study.measure(levels=["C3"])
    assert words in bad.note
    assert bad.flags == ("unmeasured",)
    assert bad.level == "C3"
    assert not bad.values
    assert good.flags == ()


def test_a_missing_disc_joins_the_levels_it_separates(study):
    labels, affine = disc_labels("T2w")
    (row,) = study.add().label(np.where(labels == 4, 0, labels), affine).measure(levels=["C3"])
    assert row.level == "C3-C4"
    assert row.flags == ("joined",)
    assert "disc 4 is missing" in row.note
    assert row.values["level_coverage"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("asked", "flags"), [("C3-C4", ()), ("C3-C5", ()), ("C2-C3", ("joined",)), ("C4,C5", ("joined",))]
)
def test_a_missing_disc_inside_the_requested_range_leaves_the_area_unchanged(study, asked, flags):
    labels, affine = disc_labels("T2w", (2, 3, 4, 5, 6))
    (whole,) = study.add().label(labels, affine).measure(levels=[asked])
    (row,) = study.label(np.where(labels == 4, 0, labels), affine).measure(levels=[asked])
    assert row.flags == flags
    assert "C3-C4: disc 4 is missing" in row.note
    if not flags:
        assert (row.level, row.values) == (whole.level, whole.values)


def test_the_command_writes_what_statistics_and_sct_scripts_read(study):
    (study.bids / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t30\tF\nsub-02\tn/a\tM\n")
    marks = study.bids / "marks.json"
    one = {"image": "sub-02_T2w", "method": "propseg", "mark": "fail", "rater": "AB", "reason": "leak"}
    write_json(marks, {"marks": [one]})
    for subject in ("01", "02"):
        study.add(subject=subject).label(*disc_labels("T2w"), subject=subject)
    config = study.config(levels=["C3", "C2/C3"], columns=["age", "sex"], marks=str(marks))
    write_json(study.folder.configuration, config.document)
    assert main(["levels-table", "-results", str(study.folder.root)]) == 0
    rows = read_csa(study.folder.csa(Stage.ALL))
    assert [(row.image.subject, row.level) for row in rows] == [(s, v) for s in ("01", "02") for v in ("C3", "C2/C3")]
    assert dict(rows[0].participant) == {"age": "30", "sex": "F"}
    assert dict(rows[2].participant) == {"sex": "M"}
    assert rows[2].flags == ("failed",)
    assert rows[2].mark == "fail by AB: leak"
    assert not rows[2].corrected
    with (study.folder.sct_tables(Stage.ALL) / "csa-SC_T2w.csv").open() as stream:
        sct = list(csv.DictReader(stream))
    assert [row["VertLevel"] for row in sct] == ["3", "C2/C3"]  # a mask that a rater failed is left out
    assert float(sct[0]["MEAN(area)"]) == pytest.approx(rows[0].values["csa_mm2"], rel=1e-5)
    assert sct[0]["Filename"].endswith("sub-01_T2w_label-SC_seg.nii.gz")


def test_a_mark_of_a_mask_that_was_replaced_does_not_count(study):
    study.add()
    sha = sha256_file(study.folder.inside(study.kept[0].mask))
    study.kept[0] = replace(study.kept[0], sha256=sha)
    marks = study.bids / "marks.json"
    for of, flags in ((sha[:12], ("failed",)), ("0" * 12, ()), ("", ("failed",))):
        one = {"image": "sub-01_T2w", "method": "propseg", "mark": "fail", "rater": "AB", "mask_sha256": of}
        write_json(marks, {"marks": [one]})
        (row,) = study.measure(marks=str(marks))
        assert row.flags == flags
        assert bool(row.mark) == bool(flags)


def test_every_methods_masks_are_measured_at_the_levels_and_that_of_the_plan(study):
    study.images = [made_study.study_image("01", suffix) for suffix in ("T2w", "T1w")]
    study.images.append(made_study.study_image("02"))
    study.label(*disc_labels("T2w"))
    for method, least in (("propseg", 0.5), ("deepseg", 0.05)):
        done = []
        for image in study.images[:2]:
            mask, affine = cord(image.suffix)
            done.append(made_study.write_result(study.folder, image, method, mask > least, affine=affine))
        done.append(made_study.write_result(study.folder, study.images[2], method, None))
        made_study.write_chunk(study.folder, method, done)
    mask, affine = cord("T2w")
    labels = 2 * (mask > 0.5) + 7 * (mask == 0)  # the cord, and all around it
    drawn = made_study.save_nifti(study.bids / "drawn.nii.gz", labels, affine, np.uint8)
    study.images[0] = replace(study.images[0], reference=str(drawn), reference_label=2)
    config = study.config(levels=["C3"], decision={"level": "C3-C4"})
    write_json(study.folder.configuration, config.document)
    assert main(["levels-table", "-methods", "-stage", "pilot", "-results", str(study.folder.root)]) == 0
    *rows, reference = read_csa(study.folder.levels(Stage.PILOT))
    others = [row for row in rows if row.level not in ("C3", "C3-C4")]  # all labelled ones, for the report
    assert [row.level for row in others] == ["C5", "C4", "C2"] * 4
    rows = [row for row in rows if row not in others]
    assert (reference.method, reference.image.suffix, reference.level) == (REFERENCE, "T2w", "C3-C4")
    assert reference.values["csa_mm2"] == rows[1].values["csa_mm2"]  # the mask of propseg is the same
    found = [(row.method, row.image.suffix, row.level) for row in rows]
    assert found == [
        (m, suffix, level) for m in ("propseg", "deepseg") for suffix in ("T2w", "T1w") for level in ("C3", "C3-C4")
    ]
    assert {row.flags for row in rows} == {()}
    assert rows[4].values["csa_mm2"] > rows[0].values["csa_mm2"] == pytest.approx(level_truth(), rel=0.02)


def test_methods_are_compared_without_labels_only_by_numbers_of_slices(study, monkeypatch):
    study.images = [made_study.study_image("01", "T2w")]
    for method in ("propseg", "deepseg"):
        mask, affine = cord("T2w")
        done = made_study.write_result(study.folder, study.images[0], method, mask > 0.5, affine=affine)
        made_study.write_chunk(study.folder, method, [done])
    rows = measure_method_levels(study.folder, Stage.PILOT, study.config(levels=["C3", "slices 10:20"]))
    found = [(row.method, row.level, row.n_slices) for row in rows]
    assert found == [(method, "slices 10:20", 11) for method in ("propseg", "deepseg")]
    monkeypatch.setattr(levels, "load_mask", None)  # no mask has to be read
    assert measure_method_levels(study.folder, Stage.PILOT, study.config()) == []


def test_the_level_of_the_plan_is_checked_before_the_study():
    with pytest.raises(InputError, match=r"config key 'decision.level': levels"):
        make_configuration({"dataset": "demo", "decision": {"level": "C2/C5"}})


def test_slices_and_distances_from_a_point(study):
    labels, affine = disc_labels("T2w")
    at = np.linalg.inv(affine) @ [0.0, 0.0, TOP_MM + 40.0, 1.0]
    labels[tuple(np.rint(at[:3]).astype(int))] = 50
    study.add("T2w").add("T1w").add(subject="02").label(labels, affine)
    levels = ["slices 5:20", "C2/C3 5:25", "PMJ 50:70", "PMJ 100:300"]
    rows = {(row.image.image_id, row.level): row for row in study.measure(levels=levels)}
    top = np.rint((TOP_MM - affine[2, 3]) / 2.0) * 2.0 + affine[2, 3]  # of the voxels that were marked
    junction = np.rint((TOP_MM + 40 - affine[2, 3]) / 2.0) * 2.0 + affine[2, 3]
    for image in ("sub-01_T2w", "sub-01_T1w"):
        below, under = rows[image, "C2/C3 5:25"], rows[image, "PMJ 50:70"]
        assert below.values["csa_mm2"] == pytest.approx(area(top - 15), rel=0.01)
        assert below.values["length_mm"] == pytest.approx(20, abs=2)
        assert under.values["csa_mm2"] == pytest.approx(area(junction - 60), rel=0.01)
        assert below.flags == under.flags == ()
        assert rows[image, "PMJ 100:300"].flags == ("unmeasured",)
    assert rows["sub-01_T2w", "slices 5:20"].slices == "5:20"
    assert rows["sub-01_T2w", "slices 5:20"].levels_from == ""
    assert rows["sub-02_T2w", "slices 5:20"].slices == "5:20"  # no labels are needed
    assert "no labels" in rows["sub-02_T2w", "PMJ 50:70"].note


def junction_label(value):
    labels, affine = disc_labels("T2w")
    at = np.linalg.inv(affine) @ [0.0, 0.0, TOP_MM + 40.0, 1.0]
    labels[:] = 0
    labels[tuple(np.rint(at[:3]).astype(int))] = value
    return labels, affine


@pytest.mark.parametrize(("end", "value"), [("_label-pmj_dlabel", 50), ("_pmj-manual", 1), ("_pmj", 50)])
def test_a_junction_in_a_separate_file_beside_discs(study, end, value):
    study.add("T2w").add("T1w").label(*disc_labels("T2w")).label(*junction_label(value), end)
    rows = study.measure(levels=["PMJ 60", "C3", "PMJ 50:70"])
    _, affine = cord("T2w")
    junction = np.rint((TOP_MM + 40 - affine[2, 3]) / 2.0) * 2.0 + affine[2, 3]
    found = {(row.image.suffix, row.level): row for row in rows}
    for suffix in ("T2w", "T1w"):
        assert found[suffix, "C3"].levels_from.endswith("_label-discs_dlabel.nii.gz")
        below = found[suffix, "PMJ 60"]
        assert below.levels_from.endswith(f"{end}.nii.gz")
        assert below.flags == found[suffix, "C3"].flags == ()
        assert below.values["csa_mm2"] == pytest.approx(area(junction - 60), rel=0.01)
        assert below.values["csa_mm2"] == found[suffix, "PMJ 50:70"].values["csa_mm2"]


def test_a_clicked_junction_hides_no_discs(study):
    file = study.bids / "levels.json"
    one = {"value": 50, "voxel": [0, 0, 0], "mm": [0.0, 0.0, TOP_MM + 40.0], "state": "confirmed"}
    write_json(file, {"levels": [{"image": "sub-01_T2w", "file": "sub-01_T2w.nii.gz", "discs": [one]}]})
    rows = study.add().label(*disc_labels("T2w")).measure(levels=["C3", "PMJ 60"], level_marks=str(file))
    assert [Path(row.levels_from).name for row in rows] == ["sub-01_T2w_label-discs_dlabel.nii.gz", "levels.json"]
    assert {row.flags for row in rows} == {()}


def test_two_label_files_of_one_image_that_differ(study):
    labels, affine = disc_labels("T2w")
    study.add().label(labels, affine)
    other = study.bids / "derivatives" / "other" / "sub-01_T2w_label-discs_dlabel.nii.gz"
    other.parent.mkdir()
    other.write_bytes(next(study.bids.rglob("anat/*_label-discs_dlabel.nii.gz")).read_bytes())
    (row,) = study.measure(levels=["C3"])
    assert row.flags == ()
    made_study.save_nifti(other, np.roll(labels, 5, 2), affine)
    (row,) = study.measure(levels=["C3"])
    assert row.flags == ("unmeasured",)
    assert "expected labels of sub-01_T2w in one file, found others in" in row.note
    (row,) = study.measure(levels=["C3"], level_labels="derivatives/other")
    assert row.flags == ()


def test_a_junction_marked_twice_and_none(study):
    labels, affine = junction_label(50)
    labels[10, 10, 10] = 50
    study.add().add(subject="02").label(labels, affine, "_pmj").label(*disc_labels("T2w"), subject="02")
    twice, none = study.measure(levels=["PMJ 60"])
    assert "expected one mark for the pontomedullary junction (value 50), found 2" in twice.note
    assert "expected the pontomedullary junction (value 50), found none" in none.note


@pytest.mark.parametrize(
    "text",
    ["C3-C2", "X1", "C2/C5", "PMJ 70:50", "slices 9:5", "C2/C3 9:2", "PMJ", "slices", "C2/C4 5:9"],
)
def test_a_level_that_cannot_be_read_is_named_before_the_study(text):
    with pytest.raises(InputError, match="config key 'levels': levels"):
        make_configuration({"dataset": "demo", "levels": [text]})


def test_a_column_that_is_not_there_is_named(study):
    expected = r"config key 'columns': names the column 'age', .*participants\.tsv is missing"
    with pytest.raises(InputError, match=expected):
        study.add().measure(columns=["age"])


def test_the_statistics_of_the_docs(tmp_path, monkeypatch):
    """The code of docs/measures.md finds the difference between groups and the effect of age in rows made with them."""
    rng = np.random.default_rng(1)
    rows = []
    for n in range(40):
        age, group = float(rng.integers(20, 80)), ("control", "patient")[n % 2]
        true = 80 - 0.1 * age - 6 * (n % 2)
        for run, off in (("1", 0.5), ("2", -0.5)):
            image = Identity(f"sub-{n:02d}_run-{run}_T2w", f"{n:02d}", "", run, "T2w", "t2")
            columns = {"group": group, "age": f"{age:g}"}
            rows.append(
                CsaRow(image, "propseg", "C2-C3", n_slices=10, values={"csa_mm2": true + off}, participant=columns)
            )
        rows.append(replace(rows[-1], values={"csa_mm2": 500.0}, flags=("doubted",)))
        rows.append(replace(rows[-1], level="C4", values={"csa_mm2": 500.0}, flags=()))
    write_csa(tmp_path / "csa.tsv", rows, ["group", "age"])
    text = (Path(__file__).parents[1] / "docs" / "measures.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["effects"]["age"] == pytest.approx(-0.1, abs=1e-3)
    assert names["effects"]["group_patient"] == pytest.approx(-6, abs=1e-2)
    for lacking in ([replace(row, level="C4") for row in rows], [row for row in rows if int(row.image.subject) % 2]):
        write_csa(tmp_path / "csa.tsv", lacking, ["group", "age"])
        with pytest.raises(AssertionError, match=r"people with area, age and group"):  # none, and one group alone
            exec(code, {})


def test_slices_along_the_cord_do_not_count_and_a_gap_has_no_length():
    """A tube that is upright for 40 slices, with a gap of two, then at 50 degrees for 12."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=float) for n in (60, 30, 52)), indexing="ij")
    slope = np.tan(np.radians(50))
    middle = np.where(z < 40, 12.0, 12.0 + (z - 40) * slope)
    mask = np.hypot((x - middle) * np.where(z < 40, 1.0, np.cos(np.radians(50))), y - 15) <= 5
    mask[:, :, 10:12] = False
    (row,) = measure_rows(mask, (1.0, 1.0, 1.0))
    slices = measure_rows(mask, (1.0, 1.0, 1.0), per="slice")
    steep = [one for one in slices[:-2] if abs(one["angle_ap_deg"]) > 45]
    assert len(steep) >= 5
    left_out = f"{len(steep)} of 50 slices are tilted beyond 45 degrees and left out"
    in_mean = row["tilted"] - len(steep)  # where the line bends
    assert in_mean >= 1
    assert row["note"] == f"{left_out}; {in_mean} of {row['n_slices']} slices in the mean are tilted beyond 30 degrees"
    assert row["n_slices"] == 50 - len(steep)
    assert [np.isnan(one["length_mm"]) for one in slices[9:13]] == [False, True, True, False]
    discs = {3: np.array([12.0, 15.0, 39.0]), 4: np.array([12.0, 15.0, 19.0]), 2: np.array([24.0, 15.0, 50.0])}
    upright, steep_level = measure_rows(
        mask, (1.0, 1.0, 1.0), discs=discs, per="level", requests=[parse_request("2:3")]
    )
    assert upright["level_coverage"] == pytest.approx(1.0)
    assert steep_level["level_coverage"] == pytest.approx(1 - len(steep) / 11, abs=0.15)
    assert f"C2: {steep_level['level_coverage']:.2f} of its length is measured" in steep_level["note"]


def session_row(subject, session, area_mm2, run="", level="C3", flags=(), acq=""):
    name = f"sub-{subject}_ses-{session}" + (f"_acq-{acq}" if acq else "") + (f"_run-{run}" if run else "") + "_T2w"
    image = Identity(name, subject, session, run, "T2w", "t2")
    return CsaRow(image, "propseg", level, n_slices=9, values={"csa_mm2": area_mm2}, flags=flags)


def test_change_between_sessions_with_the_methods_own_error(tmp_path):
    folder = tmp_path / "sub-01"
    folder.mkdir()
    head = "session_id\tacq_time\n"
    (folder / "sub-01_sessions.tsv").write_text(
        f"{head}ses-a\t2020-01-01T10:00:00\nses-b\t2021-07-02T08:30:00\nses-c\tn/a\n"
    )
    rows = [
        *(session_row("01", "a", value, run) for run, value in (("1", 81.0), ("2", 79.0))),
        session_row("01", "a", 20.0, "3", flags=("failed",)),  # another run shows the level
        session_row("01", "b", 76.0, flags=("tilted",)),
        session_row("01", "b", 60.0, acq="other"),  # one session alone has such an image
        session_row("01", "b", 70.0, level="C4"),  # one session alone shows it
        *(session_row("02", session, value) for session, value in (("a", 60.0), ("c", 66.0))),
        session_row("02", "b", np.nan),
        session_row("02", "other", 50.0),
    ]
    first, second = measure_change(rows, ["a", "b", "c"], read_session_times(tmp_path))
    assert (first.subject, first.session_a, first.session_b, first.level) == ("01", "a", "b", "C3")
    assert (first.csa_a_mm2, first.change_pct) == (80.0, pytest.approx(-5.0))
    assert first.years == pytest.approx(1.5, abs=0.01)
    assert first.change_pct_per_year == pytest.approx(-5.0 / 1.5, rel=0.01)
    assert first.error_pct == pytest.approx(100 * np.sqrt(2 * 2.0) / 80.0)  # the variance of 79 and 81 is 2
    assert first.error_df == 1
    assert (first.flags, first.form) == ("tilted", "T2w")
    assert (second.subject, second.session_b, second.change_pct) == ("02", "c", pytest.approx(10.0))
    assert np.isnan(second.years)
    for flag in ("unbounded", "coverage", "doubted", "failed"):
        rows = [session_row("01", "a", 80.0), session_row("01", "b", 70.0, flags=(flag,))]
        (unknown,) = measure_change(rows, ["a", "b"], {})
        assert (unknown.csa_b_mm2, unknown.flags, np.isnan(unknown.change_pct)) == (70.0, flag, True)
    whole = [session_row("01", session, area, level="") for session, area in (("a", 80.0), ("b", 70.0))]
    (unknown,) = measure_change(whole, ["a", "b"], {})
    assert (unknown.csa_b_mm2, np.isnan(unknown.change_pct)) == (70.0, True)
    (folder / "sub-01_sessions.tsv").write_text(f"{head}ses-a\tsoon\n")
    with pytest.raises(InputError, match=r"sub-01_sessions\.tsv, line 2: expected acq_time"):
        read_session_times(tmp_path)


def test_the_command_writes_changes_where_sessions_are_follow_up(study):
    mask, affine = cord("T2w")
    for session, scale in (("one", 1.0), ("two", 0.9)):
        image = made_study.study_image("01", "T2w", session=session, image_id=f"sub-01_ses-{session}_T2w")
        path = made_study.save_nifti(study.folder.kept_mask(image), scale * mask, affine, np.float32)
        study.images.append(image)
        row = {"method": "propseg", "status": "ok", "mask": study.folder.relative(path)}
        study.kept.append(KeptRow(image.image_id, "01", session, image.contrast, **row))
    config = study.config(levels=["slices 10:40"], follow_up=["ses-one", "two"])
    write_json(study.folder.configuration, config.document)
    assert main(["levels-table", "-results", str(study.folder.root)]) == 0
    with study.folder.change(Stage.ALL).open() as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert float(row["change_pct"]) == pytest.approx(-10.0, abs=0.01)
    assert (row["session_a"], row["session_b"], row["years"], row["error_pct"]) == ("one", "two", "n/a", "n/a")


def test_the_figure_of_levels_shows_people_their_mean_and_the_difference_of_methods():
    rows = []
    for n in range(5):
        for level, value in (("C3", 3), ("C4", 4)):
            image = Identity(f"sub-{n}_T2w", str(n), "", "", "T2w", "t2")
            one = CsaRow(image, "propseg", level, str(value), n_slices=9, values={"csa_mm2": 70.0 + n})
            rows += [one, replace(one, method="deepseg", values={"csa_mm2": 72.0 + n})]
        rows.append(replace(one, level="C5", vert_level="5", flags=("coverage",)))
    figure = draw_levels(rows)
    people, others, difference = figure.axes
    assert [text.get_text() for text in people.get_xticklabels()] == ["C3\nn = 5", "C4\nn = 5"]
    assert len(people.lines) == 6  # five people, and their mean
    np.testing.assert_allclose(people.lines[-1].get_ydata(), [72, 72])
    assert max(line.get_linewidth() for line in people.lines[:-1]) < people.lines[-1].get_linewidth()
    assert others.get_title() == "t2: deepseg"
    np.testing.assert_allclose(difference.lines[1].get_ydata(), [-2, -2])
    people, *_ = draw_levels([row for row in rows if row.level == "C3"]).axes
    assert [text.get_text() for text in people.get_xticklabels()] == ["C3\nn = 5"]
    assert people.lines[-1].get_marker() == "o"  # a line of one point is no line
    ranges = [replace(row, level="C2-C3", vert_level="2:3") for row in rows if row.level == "C3"]
    stretches = [replace(row, level="C2/C3", vert_level="") for row in ranges]
    people, *_ = draw_levels([*ranges, *stretches]).axes
    assert [text.get_text() for text in people.get_xticklabels()] == ["C2-C3\nn = 5", "C2/C3\nn = 5"]
    assert draw_levels([row for row in rows if row.level == "C5"]) is None
    assert draw_levels([]) is None
