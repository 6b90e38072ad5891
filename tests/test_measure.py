"""From the masks of a chunk to its three tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import (
    AFFINE,
    CHUNK,
    save_nifti,
    study_folder,
    study_image,
    write_chunk,
    write_index,
    write_result,
)

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.measures import AGREEMENT, METRICS, PlausibleLimits
from spineseg.provenance import sha256_file
from spineseg.study.measure import measure_chunk
from spineseg.studyfolder.decisions import Exceptions, Perturbed, write_exceptions, write_perturbed
from spineseg.studyfolder.files import read_text_table
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.layout import TABLES, Stage
from spineseg.studyfolder.manifests import ManifestEntry
from spineseg.studyfolder.marks import Mark
from spineseg.studyfolder.sidecars import read_sidecar
from spineseg.studyfolder.tables import (
    AGREEMENT_COLUMNS,
    METRICS_COLUMNS,
    SLICES_COLUMNS,
    ChunkTables,
    read_agreement,
    read_metrics,
    read_slices,
    write_chunk_tables,
)

SHAPE = (32, 32, 12)


def cord(first=0, last=12, radius=8.0):
    i, j, k = np.indices(SHAPE)
    return (np.hypot(i - 15.5, j - 15.5) < radius) & (k >= first) & (k < last)


class Study:
    """A results folder with masks given as arrays; None is a failed image."""

    def __init__(self, root: Path):
        self.root, self.folder = root, study_folder(root)
        self.images, self.manifests = [], {}

    def add(self, subject, masks, reference=None, affines=None, image=None, uncertainty=None):
        files = {}
        if image is not None:
            files["path"] = str(save_nifti(self.root / f"sub-{subject}_T2w.nii.gz", image, AFFINE, np.float32))
        if reference is not None:
            files["reference"] = str(save_nifti(self.root / f"sub-{subject}_ref.nii.gz", reference))
        self.images.append(study_image(subject, **files))
        for method, mask in masks.items():
            more = {"message": "no cord\timage"} if mask is None else {}
            entry = write_result(
                self.folder,
                self.images[-1],
                method,
                mask,
                affine=(affines or {}).get(method, AFFINE),
                slice_uncertainty=uncertainty,
                **more,
            )
            self.manifests.setdefault(method, []).append(entry)

    def write(self):
        write_index(self.folder, self.images)
        for method, entries in self.manifests.items():
            write_chunk(self.folder, method, entries)
        return self

    def measure(self, methods=("a", "b"), limits=PlausibleLimits(), **more) -> ChunkTables:  # noqa: B008
        self.write()
        return measure_chunk(self.folder, CHUNK, methods, limits, **more)


def by_subject(rows):
    return {(row.image.subject, row.method): row for row in rows}


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_two_methods_with_reference(study):
    study.add("01", {"a": cord(), "b": cord(3, 12)}, reference=cord(2, 8))
    tables = study.measure()
    a, b = tables.metrics
    assert (a.method, a.status, a.values["coverage"], a.values["dice"]) == ("a", "ok", 1.0, 1.0)
    assert b.values["coverage"] == pytest.approx(9 / 12)
    assert b.values["dice"] == pytest.approx(10 / 11)
    assert not {"seconds", "peak_mb"} & set(a.values)  # times are not measures: decisions must not depend on them
    agreement = tables.agreement[0].values
    assert agreement["dice"] == pytest.approx(18 / 21)
    assert agreement["min_slice_dice"] == 1
    assert agreement["csa_difference_mm2"] == pytest.approx(0)
    assert agreement["nsd_tolerance_mm"] == 0.5
    assert len(tables.slices) == 12 + 9
    assert tables.slices[12].slice == 3
    np.testing.assert_allclose(
        [tables.slices[12].values[f"centroid_{x}_mm"] for x in "xyz"], [-7.75, 7.75, 6.0], atol=1e-9
    )


@pytest.mark.parametrize("of", ["the corrected mask", "the method's"])
def test_a_fail_of_the_corrected_mask_takes_its_numbers_away(study, of):
    study.add("01", {"a": cord()})
    study.write()
    image = read_images(study.folder.images)[0]
    drawn = save_nifti(study.folder.kept_mask(image), cord(last=6), AFFINE)
    seen = sha256_file(drawn) if of == "the corrected mask" else sha256_file(study.folder.mask(image, "a"))
    fails = {(image.image_id, "a"): [Mark(image.image_id, "a", "fail", reason="short", mask_sha256=seen[:12])]}
    (row,) = study.measure(["a"], corrected=True, failed=fails).metrics
    if of == "the corrected mask":
        assert (row.status, dict(row.values)) == ("failed", {})
        assert row.message.startswith("fail by unnamed rater: short; corrected by hand")
    else:
        assert (row.status, row.values["n_slices"]) == ("ok", 6)


def test_failed_and_empty_are_rows(study):
    study.add("01", {"a": None, "b": cord()}, reference=cord())
    study.add("02", {"a": cord() & False, "b": cord()})
    study.add("03", {"a": None, "b": None})
    study.add("04", {"a": cord() & False, "b": cord() & False})
    rows = by_subject(study.measure().metrics)
    failed = rows["01", "a"]
    assert failed.status == "failed"
    assert [failed.values[name] for name in ("coverage", "dice", "n_slices")] == [0.0, 0.0, 0]
    empty = rows["02", "a"]
    assert (empty.status, empty.values["coverage"], empty.values["n_components"]) == ("empty", 0.0, 0)
    assert "coverage" not in rows["03", "a"].values
    assert np.isnan(rows["04", "a"].values["coverage"])
    agreement = {row.image.subject: row.values for row in study.measure().agreement}
    assert "dice" not in agreement["01"]
    assert agreement["02"]["dice"] == 0
    assert np.isnan(agreement["02"]["hd95_mm"])
    assert np.isnan(agreement["04"]["dice"])


def test_one_and_three_methods(study):
    study.add("01", {"a": cord(), "b": cord(2), "c": cord(0, 5)})
    assert len(study.measure(["a"]).metrics) == 1
    tables = study.measure(["a", "b", "c"])
    assert [(row.method_a, row.method_b) for row in tables.agreement] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert tables.metrics[2].values["coverage"] == pytest.approx(5 / 12)


def test_a_mask_on_another_grid_is_a_failure_of_that_method(study):
    study.add("01", {"a": cord(), "b": cord()}, affines={"b": np.diag([-0.5, 0.5, 3.0, 1.0])})
    rows = study.measure().metrics
    assert [row.status for row in rows] == ["ok", "failed"]
    assert "affine" in rows[1].message


def test_a_bad_reference_is_reported(study):
    study.add("01", {"a": cord(), "b": cord()}, reference=np.ones((3, 3, 3), bool))
    study.add("02", {"a": cord(), "b": cord()}, reference=cord() & False)
    rows = study.measure().metrics
    assert "reference not used" in rows[0].message
    assert "empty" in rows[2].message
    assert "dice" not in rows[0].values


# row: with `test_several_labels_are_refused_unless_one_is_named`
def test_the_cord_of_a_reference_with_several_labels_is_named(study):
    study.add("01", {"a": cord()}, reference=cord() + 4 * cord(radius=2.0).astype(np.uint8))
    assert "found the labels 1, 5" in study.measure(["a"]).metrics[0].message
    whole = study.images[0]
    for label, dice in ((1, 0.97), (5, 0.11)):
        study.images[0] = replace(whole, reference_label=label)
        assert study.measure(["a"]).metrics[0].values["dice"] == pytest.approx(dice, abs=0.01)
    study.images[0] = replace(whole, reference_label=3)
    assert "reference not used: " in (said := study.measure(["a"]).metrics[0].message)
    assert "expected the label 3, found 1, 5" in said


def test_a_reference_without_content_is_named_as_such(study):
    study.add("01", {"a": cord()}, reference=cord())
    Path(study.images[0].reference).write_text("/annex/objects/MD5E-s1--0.nii.gz")
    (row,) = study.measure(["a"]).metrics
    assert "reference not used" in row.message
    assert "pointer without content" in row.message
    assert "dice" not in row.values


def test_changed_mask_is_refused(study):
    study.add("01", {"a": cord(), "b": cord()})
    study.write()
    path = save_nifti(study.folder.mask(study.images[0], "a"), cord(1))
    with pytest.raises(InputError, match="has changed since it was made"):
        measure_chunk(study.folder, CHUNK, ["a", "b"], None)
    path.unlink()
    with pytest.raises(InputError, match=r"the file is gone; to redo what is missing: rm \S+\.json, then"):
        measure_chunk(study.folder, CHUNK, ["a", "b"], None)


def test_manifests_must_agree(study):
    study.add("01", {"a": cord(), "b": cord()})
    study.add("02", {"a": cord()})
    with pytest.raises(InputError, match="sub-02_T2w is in one method's manifest only"):
        study.measure()
    with pytest.raises(InputError, match="expected the manifest of a chunk, found no file to read"):
        study.measure(["a", "z"])
    write_index(study.folder, study.images[:1])
    with pytest.raises(InputError, match="no row for image sub-02_T2w of a's chunk"):
        measure_chunk(study.folder, CHUNK, ["a"], None)


def run_measure(study, *options) -> list[Path]:
    """Run the command and return the tables."""
    command = ["measure", "-results", str(study.folder.root), "-chunk", CHUNK]
    assert main([*command, *options]) == 0
    stage = Stage.STUDY if "study" in options else Stage.ALL
    return [study.folder.chunk_table(stage, CHUNK, name) for name in TABLES]


def test_tables_do_not_depend_on_time_or_memory(study):
    study.add("01", {"a": cord(), "b": cord(3)}, reference=cord())
    study.add("02", {"a": None, "b": cord(3)})
    study.write()
    first = [path.read_bytes() for path in run_measure(study, "-methods", "a", "b")]
    for image in study.images:  # a busier machine
        for method in ("a", "b"):
            mask = study.folder.mask(image, method)
            sidecar = read_sidecar(mask)
            write_result(study.folder, image, method, mask.read_bytes() if mask.is_file() else None,
                         status=sidecar.status, message="".join(sidecar.notes), seconds=99.0, peak_mb=9.0)  # fmt: skip
    paths = run_measure(study, "-methods", "a", "b")
    assert [path.read_bytes() for path in paths] == first
    for path, columns in zip(paths, (METRICS_COLUMNS, AGREEMENT_COLUMNS, SLICES_COLUMNS), strict=True):
        assert tuple(read_text_table(path).split("\n")[0].split("\t")) == columns
    failed = read_metrics(paths[0])[2]
    assert failed.message == "no cord image"
    assert "csa_mean_mm2" not in failed.values
    assert "\tn/a\t" in read_text_table(paths[0]).splitlines()[3]
    assert len(read_agreement(paths[1])) == 2
    assert set(read_slices(paths[2])["method"]) == {"a", "b"}


def test_limits_of_plausible_are_those_of_the_configuration(study, tmp_path):
    study.add("01", {"a": cord(radius=3)})
    study.write()
    config = tmp_path / "c.yaml"
    found = []
    for text in ("{}", "{plausible: {csa_mm2: [1, 130], diameter_mm: [1, 18]}}", "{plausible: null}"):
        config.write_text(text.replace("{", "{dataset: x, ", 1) if text != "{}" else "{dataset: x}")
        table = run_measure(study, "-methods", "a", "-config", str(config))[0]
        found.append(read_metrics(table)[0].values.get("plausible"))
    assert found == [0, 1, None]


def test_a_configuration_in_the_folder_is_used(study):
    study.add("01", {"a": cord(radius=3)})
    study.write()
    study.folder.configuration.write_text('{"dataset": "demo", "plausible": null}')
    assert "plausible" not in read_metrics(run_measure(study, "-methods", "a")[0])[0].values


def test_wrong_limits_are_one_line(study, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("{dataset: x, plausible: {min_csa: 1}}")
    command = ["measure", "-results", str(study.folder.root), "-chunk", CHUNK, "-methods", "a", "-config", str(config)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "csa_mm2" in error
    assert error.count("\n") == 1


def test_excepted_images_are_measured_by_their_own_method(study):
    study.add("01", {"a": cord(), "b": cord(3)})
    study.add("02", {"a": cord(), "b": cord(3)})
    other = study.manifests["b"][1]
    excepted = Exceptions("a", (ManifestEntry(**{**vars(other), "exception": "exception: b instead of a"}),))
    write_exceptions(study.folder, excepted)
    rows = study.measure(["a"], exceptions=excepted).metrics
    assert [(row.image.subject, row.method) for row in rows] == [("01", "a"), ("02", "b")]
    assert rows[1].message == "exception: b instead of a"
    options = ("-methods", "a", "-stage", "study", "-exceptions", str(study.folder.exceptions))
    assert [row.method for row in read_metrics(run_measure(study, *options)[0])] == ["a", "b"]


def test_agreement_with_itself_reaches_the_table(study):
    study.add("01", {"a": cord(), "b": cord()})
    study.add("02", {"a": cord(), "b": cord()})
    images = {"sub-01_T2w": {"perturb_dice": 0.9, "perturb_csa_cv": None}}
    perturbed = Perturbed("b", CHUNK, 3, images)
    rows = by_subject(study.measure(perturbed=[perturbed]).metrics)
    assert rows["01", "b"].values["perturb_dice"] == 0.9
    assert "perturb_csa_cv" not in rows["01", "b"].values
    assert not any("perturb_dice" in rows[key].values for key in rows if key != ("01", "b"))
    path = study.folder.perturbed("b", CHUNK)
    write_perturbed(path, perturbed)
    table = run_measure(study, "-methods", "a", "b", "-perturbed", str(path))[0]
    assert by_subject(read_metrics(table))["01", "b"].values["perturb_dice"] == 0.9


def test_only_known_measures_are_written(study):
    study.add("01", {"a": cord(), "b": cord(3)}, reference=cord(), image=picture()[0][:32, :32])
    tables = study.measure()
    assert all(set(row.values) <= set(METRICS) for row in tables.metrics)
    assert all(set(row.values) <= set(AGREEMENT) for row in tables.agreement)
    assert all(set(row.values) <= set(SLICES_COLUMNS) for row in tables.slices)


def test_empty_chunk(study):
    study.add("01", {"a": cord()})
    study.manifests = {"a": []}
    paths = write_chunk_tables(study.folder, Stage.ALL, "empty", study.measure(["a"]))
    assert paths[0].read_text() == "\t".join(METRICS_COLUMNS) + "\n"
    assert (read_metrics(paths[0]), read_agreement(paths[1])) == ([], [])
    assert read_slices(paths[2]).empty


def picture(radius=8.0):
    """A cord of 4 mm in fluid in tissue, on a grid with room around it."""
    shape = (96, 96, 12)
    i, j, _ = np.indices(shape)
    away = np.hypot(i - 47.5, j - 47.5)
    image = np.where(away < radius, 100.0, np.where(away < 15, 300.0, 180.0))
    return image + np.random.default_rng(0).normal(0, 5, shape), away < radius


def test_predicted_dice_needs_the_image_and_sees_size(study):
    image, mask = picture()
    large = picture(12.0)[1]
    study.add("01", {"a": mask, "b": large}, image=image)
    study.add("02", {"a": mask, "b": mask & False}, image=image)
    study.add("03", {"a": cord(), "b": None})
    rows = by_subject(study.measure().metrics)
    good, bad = rows["01", "a"], rows["01", "b"]
    assert bad.values["predicted_dice"] < good.values["predicted_dice"] - 0.1
    assert bad.values["edge_offset_mm"] == pytest.approx(-2.0, abs=0.3)
    assert bad.values["flagged"] == 1
    for row in (good, bad):
        assert (
            0
            <= row.values["predicted_dice_low"]
            <= row.values["predicted_dice"]
            <= row.values["predicted_dice_high"]
            <= 1
        )
    assert (rows["02", "b"].values["predicted_dice"], rows["02", "b"].values["flagged"]) == (0.0, 1)
    assert (rows["03", "b"].values["predicted_dice"], rows["03", "b"].values["flagged"]) == (0.0, 1)
    assert "predicted_dice" not in rows["03", "a"].values  # the table names no image
    again = by_subject(study.measure(("b", "a")).metrics)
    assert again["01", "a"].values["predicted_dice"] == good.values["predicted_dice"]  # whatever other methods ran


def test_an_image_that_cannot_be_read_costs_the_prediction_only(study):
    image, mask = picture()
    study.add("01", {"a": mask, "b": mask}, reference=mask, image=image)
    study.add("02", {"a": mask, "b": mask}, image=image[:, :, :5])
    Path(study.images[0].path).write_bytes(b"")
    for row in study.measure().metrics:
        assert "predicted_dice" not in row.values
        assert "quality not predicted" in row.message
        assert bool(row.guessed_contrast) is (row.image.subject == "02")  # read, but of another shape
        assert row.values["n_slices"] == 12


def test_the_uncertainty_of_the_method_reaches_the_table(study):
    doubt = (None, 0.1, 0.2, *[0.3] * 9)
    study.add("01", {"a": cord(1), "b": cord()}, uncertainty=doubt)
    study.add("02", {"a": cord(), "b": cord()}, uncertainty=doubt[:5])  # of another image
    study.add("03", {"a": cord(), "b": cord()})
    tables = study.measure()
    rows = by_subject(tables.metrics)
    assert rows["01", "a"].values["uncertainty"] == pytest.approx(np.mean(doubt[1:]))
    assert "uncertainty" not in rows["02", "a"].values
    assert "uncertainty" not in rows["03", "a"].values
    slices = [row for row in tables.slices if (row.image_id, row.method) == ("sub-01_T2w", "a")]
    assert [row.values["uncertainty"] for row in slices] == list(doubt[1:])
