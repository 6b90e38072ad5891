"""Joining the chunks' tables and keeping masks, with every file checked against its manifest."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from made_study import (
    MADE_BY,
    PEAK_MB,
    SECONDS,
    save_nifti,
    study_folder,
    study_image,
    write_chunk,
    write_decision,
    write_index,
    write_result,
)

from spineseg.bids import sidecar_path
from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.study.configuration import make_configuration
from spineseg.study.gather import gather_tables
from spineseg.study.keep import keep_masks, note_gone
from spineseg.study.notices import list_refused
from spineseg.studyfolder.corrections import find_refused, is_corrected
from spineseg.studyfolder.decisions import (
    Exceptions,
    decided_method,
    read_decision,
    read_kept,
    write_exceptions,
    write_kept,
)
from spineseg.studyfolder.images import read_images, read_included, write_images
from spineseg.studyfolder.layout import TABLES, Stage
from spineseg.studyfolder.locks import KeptMethods, Lock, write_lock
from spineseg.studyfolder.manifests import ManifestEntry, Timing, read_manifest, read_timings, write_manifest
from spineseg.studyfolder.sidecars import read_sidecar, write_sidecar
from spineseg.studyfolder.tables import (
    METRICS_COLUMNS,
    AgreementRow,
    ChunkTables,
    Identity,
    MetricsRow,
    SliceRow,
    read_agreement,
    read_metrics,
    read_slices,
    write_chunk_tables,
)
from spineseg.writing import write_json

METHODS = ("propseg", "deepseg")
IMAGES = {"sub-1_T2w": "pilot-0001", "sub-2_T2w": "rest-0001", "sub-3_T2w": "pilot-0001", "sub-4_T2w": "rest-0001"}
FAILED = "sub-4_T2w"
SLICE = {"csa_mm2": 70.0, "centroid_z_mm": 5.0}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def study(tmp_path):
    """Results of four images in two chunks by two methods; one image failed."""
    folder = study_folder(tmp_path, "x")
    images = {name: study_image(name[4], pilot=chunk.startswith("pilot")) for name, chunk in IMAGES.items()}
    write_index(folder, list(images.values()), IMAGES)
    for method in METHODS:
        for chunk in dict.fromkeys(IMAGES.values()):
            own = [images[name] for name, where in IMAGES.items() if where == chunk]
            write_chunk(folder, method, [make_result(folder, image, method) for image in own], chunk)
    write_parts(folder, METHODS)
    write_decision(folder, "deepseg")
    return folder


def make_result(folder, image, method):
    if image.image_id == FAILED:
        return write_result(folder, image, method, None, message="cannot\tbe read")
    return write_result(folder, image, method, f"{image.image_id} {method}".encode())


def write_parts(folder, methods, stage=Stage.ALL) -> None:
    """Write the tables of every chunk."""
    for chunk in dict.fromkeys(IMAGES.values()):
        tables = ChunkTables()
        for name in (name for name, where in IMAGES.items() if where == chunk):
            image = Identity(name, name[4], suffix="T2w", contrast="t2")
            tables.metrics.extend(MetricsRow(image, m, "ok", {"n_slices": 2, "coverage": 1.0}) for m in methods)
            tables.slices.extend(SliceRow(name, m, k, SLICE) for m in methods for k in range(2))
            if len(methods) > 1:
                tables.agreement.append(AgreementRow(image, *methods, {"dice": 0.9}))
        write_chunk_tables(folder, stage, chunk, tables)


def gather(folder, stage=Stage.ALL, methods=METHODS, exceptions=None):
    gather_tables(folder, stage, methods, exceptions)
    return folder


def test_rows_come_in_the_order_of_the_images(study):
    gather(study)
    metrics = read_metrics(study.table(Stage.ALL, "metrics.tsv"))
    assert [(row.image.image_id, row.method) for row in metrics] == [(i, m) for i in IMAGES for m in METHODS]
    assert [row.image.image_id for row in read_agreement(study.table(Stage.ALL, "agreement.tsv"))] == list(IMAGES)
    slices = read_slices(study.table(Stage.ALL, "slices.tsv.gz"))
    assert slices["image_id"].tolist() == [image for image in IMAGES for _ in range(4)]
    timings = read_timings(study.timings(Stage.ALL))
    assert timings == [Timing(image, method, SECONDS, PEAK_MB) for image in IMAGES for method in METHODS]


def test_tables_do_not_depend_on_how_images_are_chunked(study):
    gather(study)
    paths = [study.table(Stage.ALL, name) for name in TABLES]
    before = [path.read_bytes() for path in paths]
    gather(study)
    assert [path.read_bytes() for path in paths] == before
    together = {image: "pilot-0001" for image in IMAGES}
    write_index(study, [replace(image, pilot=True) for image in read_included(study.images)], together)
    for method in METHODS:
        both = [read_manifest(study.manifest(method, chunk)).images for chunk in ("pilot-0001", "rest-0001")]
        write_chunk(study, method, sorted([*both[0], *both[1]], key=lambda entry: entry.image_id))
    tables = ChunkTables()
    for image in IMAGES:
        for table, rows in (("metrics", read_metrics(paths[0])), ("agreement", read_agreement(paths[1]))):
            getattr(tables, table).extend(row for row in rows if row.image.image_id == image)
        tables.slices.extend(SliceRow(image, m, k, SLICE) for m in METHODS for k in range(2))
    write_chunk_tables(study, Stage.ALL, "pilot-0001", tables)
    gather(study)
    assert [path.read_bytes() for path in paths] == before


def test_the_pilot_holds_its_images_only(study):
    rows = read_metrics(gather(study, Stage.PILOT).table(Stage.PILOT, "metrics.tsv"))
    assert {row.image.image_id for row in rows} == {"sub-1_T2w", "sub-3_T2w"}


def test_the_study_takes_its_own_parts(study):
    write_parts(study, ["deepseg"], Stage.STUDY)
    rows = read_metrics(gather(study, Stage.STUDY, ["deepseg"]).table(Stage.STUDY, "metrics.tsv"))
    assert [row.method for row in rows] == ["deepseg"] * len(IMAGES)


def test_the_command_says_where_the_tables_are(study, capsys):
    command = ["gather", "-results", str(study.root), "-stage", "pilot", "-methods", *METHODS]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(study.table(Stage.PILOT, "x").parent)


def first_mask(study):
    return study.root / "sub-2" / "anat" / "sub-2_T2w_desc-propseg_label-SC_seg.nii.gz"


def test_a_deleted_mask_is_named_with_the_remedy(study):
    first_mask(study).unlink()
    with pytest.raises(InputError, match=r"the file is gone; .*propseg/rest-0001.json, then run") as caught:
        gather(study)
    assert str(first_mask(study)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_mask_is_named(study):
    first_mask(study).write_bytes(b"edited")
    with pytest.raises(InputError, match="has changed since it was made"):
        gather(study)


def test_a_missing_damaged_or_short_manifest(study):
    path = study.manifest("deepseg", "pilot-0001")
    content = read_manifest(path)
    write_manifest(path, replace(content, images=content.images[1:]))
    with pytest.raises(InputError, match="has no entry for sub-1_T2w"):
        gather(study)
    path.write_text("{")
    with pytest.raises(InputError, match=r"expected the manifest of a chunk, found no JSON .* rm "):
        gather(study)
    path.unlink()
    with pytest.raises(InputError, match=r"expected the manifest of a chunk, found no file .* rm "):
        gather(study)


def test_a_part_that_lacks_an_image_or_has_it_twice(study):
    part = study.chunk_table(Stage.ALL, "rest-0001", "metrics.tsv")
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match="sub-4_T2w by deepseg has 0"):
        gather(study)
    part.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(InputError, match="sub-4_T2w by deepseg has 2"):
        gather(study)
    part.write_text("".join([lines[0].replace("coverage", "cover"), *lines[1:]]))
    with pytest.raises(InputError, match="its columns differ"):
        gather(study)
    part.write_text("".join([lines[0].replace("image_id", "image"), *lines[1:]]))
    with pytest.raises(InputError, match="not a whole table"):
        gather(study)
    part.write_text("".join([*lines[:2], "sub-2_T2w\tcut", *lines[3:]]))
    with pytest.raises(InputError, match=f"line 3: expected {len(METRICS_COLUMNS)} cells, found"):
        gather(study)
    part.write_text("".join(lines)[:-9])
    with pytest.raises(InputError, match=f"line {len(lines)}: expected {len(METRICS_COLUMNS)} cells"):
        gather(study)
    part.write_text("")
    with pytest.raises(InputError, match="not a whole table"):
        gather(study)
    part.unlink()
    with pytest.raises(InputError, match="no such table"):
        gather(study)


@pytest.mark.parametrize("change", ["cut", "header", "twice", "inside"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "agreement.tsv",
            "one row for each image and pair of methods; sub-.* by propseg and deepseg has [02]; .* rm -r",
        ),
        (
            "slices.tsv.gz",
            "2 slices with cord of sub-.* by .*seg, as in metrics.tsv, found [01]; .* rm -r|expected slice",
        ),
    ],
)
def test_lost_or_duplicate_rows(study, name, expected, change):
    part = study.chunk_table(Stage.ALL, "rest-0001", name)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(part, "rt") as file:
        lines = file.readlines()
    damaged = {"cut": lines[:-1], "header": lines[:1], "twice": [*lines, lines[-1]], "inside": [lines[0], *lines[2:]]}
    with opened(part, "wt") as file:
        file.writelines(damaged[change])
    with pytest.raises(InputError, match=expected):
        gather(study)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("command", ["report", "decide"])
def test_rows_lost_after_gathering_are_reported_by_every_reader(study, capsys, command, name):
    """A page or decision made from the remaining rows would look like that of the whole study."""
    write_json(study.configuration, make_configuration({"dataset": "x"}).document)
    stage = Stage.PILOT if command == "decide" else Stage.ALL
    table = gather(study, stage).table(stage, name)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(table, "rt") as file:
        lines = file.readlines()
    with opened(table, "wt") as file:
        file.writelines(lines[:-1])
    tables = ["-metrics", study.table(stage, TABLES[0]), "-table", study.images, "-config", study.configuration]
    given = ["-results", study.root] if command == "report" else [*tables, "-o", study.decision]
    before = study.decision.read_bytes()
    assert main([command, *map(str, given)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"spineseg {command}: error: {table}: expected ")
    assert said.endswith("delete it and run the study again\n")
    assert study.decision.read_bytes() == before
    assert not study.report(stage).exists()


def test_a_damaged_copy_of_the_configuration_is_named_with_the_remedy(study, capsys):
    write_json(study.configuration, make_configuration({"dataset": "x"}).document)
    whole = study.configuration.read_text()
    for text in ("", whole[: len(whole) // 2], "[1]", '{"dataset": 5}'):
        study.configuration.write_text(text)
        assert main(["keep", "-results", str(study.root)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"spineseg keep: error: {study.configuration}")
        assert said.endswith("; delete it and run the study again\n")


@pytest.mark.parametrize("number", ["q", "-1", "1.5", ""])
def test_a_slice_that_is_not_a_number(study, number):
    part = study.chunk_table(Stage.ALL, "rest-0001", "slices.tsv.gz")
    with gzip.open(part, "rt") as file:
        text = file.read()
    with gzip.open(part, "wt") as file:
        file.write(text.replace("\t0\t", f"\t{number}\t", 1))
    with pytest.raises(InputError, match=f"expected the number of a slice, found '{number}'"):
        gather(study)


def test_missing_timings_are_named(study):
    path = study.chunk_timings("deepseg", "rest-0001")
    path.unlink()
    with pytest.raises(InputError, match="no such table") as caught:
        gather(study)
    assert str(path) in str(caught.value)


def keep(folder, stage=Stage.ALL, config=None):
    rows = keep_masks(folder, stage, read_decision(folder.decision), config)
    return {row.image_id: row for row in rows}


def kept_mask(folder, image="sub-1_T2w"):
    return folder.labels / f"sub-{image[4]}" / "anat" / f"{image}_label-SC_seg.nii.gz"


def test_the_decided_masks_are_kept_with_their_sidecars(study):
    rows = keep(study)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w deepseg"
    sidecar = json.loads(sidecar_path(kept_mask(study)).read_text())
    assert sidecar["Decision"] == {"method": "deepseg", "verdict": "clear", "override": None}
    assert read_sidecar(kept_mask(study)).made_by == MADE_BY
    assert rows["sub-1_T2w"].sha256 == digest(b"sub-1_T2w deepseg")
    assert rows[FAILED].status == "failed"
    assert rows[FAILED].message == "cannot be read"
    assert not kept_mask(study, FAILED).exists()
    write_kept(study.kept(Stage.ALL), list(rows.values()))
    assert read_kept(study.kept(Stage.ALL)) == list(rows.values())


def test_the_command_writes_the_table_and_lists_failures(study, capsys):
    assert main(["keep", "-results", str(study.root)]) == 0
    printed = capsys.readouterr().out
    assert "1 failed, 3 ok" in printed
    assert f"failed: {FAILED}: cannot be read" in printed
    assert [row.method for row in read_kept(study.kept(Stage.ALL))] == ["deepseg"] * 4


def test_another_decision_replaces_the_kept_masks(study):
    keep(study)
    write_decision(study, "propseg", "override", computed="deepseg")
    keep(study)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w propseg"


def draw(path, last=6) -> bytes:
    """Save a mask as a person does; return the content of the file."""
    cord = np.zeros((8, 8, 4))
    cord[3:last, 3:6] = 1
    return save_nifti(path, cord).read_bytes()


def test_a_corrected_mask_is_left_alone(study):
    keep(study)
    by_hand = draw(kept_mask(study))
    drawn = kept_mask(study, FAILED)
    from_nothing = draw(drawn)
    rows = keep(study)
    assert rows["sub-1_T2w"].status == rows[FAILED].status == "corrected"
    assert kept_mask(study).read_bytes() == by_hand
    assert drawn.read_bytes() == from_nothing


@pytest.mark.parametrize("of", ["method", "corrected", "unknown"])
def test_a_fail_applies_to_the_mask_that_the_rater_saw(study, tmp_path, of):
    before = keep(study)["sub-1_T2w"].sha256
    draw(kept_mask(study))
    sha256 = {"method": before, "corrected": sha256_file(kept_mask(study)), "unknown": ""}[of]
    one = {"image": "sub-1_T2w", "method": "deepseg", "mark": "fail", "rater": "AB", "mask_sha256": sha256[:12]}
    write_json(tmp_path / "marks.json", {"marks": [one]})
    config = make_configuration({"dataset": "x", "marks": str(tmp_path / "marks.json")})
    row = keep(study, Stage.STUDY, config)["sub-1_T2w"]
    failed = of == "corrected"
    assert row.status == ("failed" if failed else "corrected")
    assert bool(row.mask) is not failed
    assert ("fail by AB" in row.message) is failed
    assert is_corrected(kept_mask(study))
    draw(kept_mask(study), last=5)  # another correction
    assert keep(study, Stage.STUDY, config)["sub-1_T2w"].status == "corrected"


def test_an_unchanged_saved_mask_is_not_a_correction_and_keeps_its_fail(study, tmp_path):
    ours = draw(tmp_path / "mask.nii.gz")
    replace_mask(study, ours)
    one = {"image": "sub-1_T2w", "method": "deepseg", "mark": "fail", "rater": "AB", "mask_sha256": digest(ours)}
    write_json(tmp_path / "marks.json", {"marks": [one]})
    config = make_configuration({"dataset": "x", "marks": str(tmp_path / "marks.json")})
    write_kept(study.kept(Stage.STUDY), list(keep(study, Stage.STUDY, config).values()))
    note = tmp_path / "note"
    note_gone(study, note)
    assert (note.read_text(), list_refused(study)) == ("", [])
    data = nib.load(kept_mask(study))
    affine = data.affine.copy()
    affine[0, 3] += 0.001
    nib.save(nib.Nifti1Image(np.asarray(data.dataobj, np.float64), affine), kept_mask(study))
    (line,) = list_refused(study)
    assert "saved again without changing any voxel, so not corrected: sub-1_T2w" in line
    note_gone(study, note)
    assert note.read_text()
    row = keep(study, Stage.STUDY, config)["sub-1_T2w"]
    assert (row.status, row.message) == ("failed", "fail by AB")
    assert kept_mask(study).read_bytes() == ours
    assert list_refused(study) == []


def test_a_correction_saved_unpacked_is_refused(study):
    keep(study)
    unpacked = kept_mask(study).with_suffix("")
    draw(unpacked)
    (line,) = find_refused(study, read_included(study.images))
    assert f"gzip -f {unpacked.name}" in line
    assert keep(study)["sub-1_T2w"].status == "failed"
    kept_mask(study).write_bytes(gzip.compress(unpacked.read_bytes()))  # a correction, and the same to look at
    assert find_refused(study, read_included(study.images)) == []
    assert keep(study)["sub-1_T2w"].status == "corrected"


def test_a_correction_under_another_name_is_named(study):
    keep(study)
    assert list_refused(study) == []
    strange = ("sub-1_T2w_label-SC_mask.NII", "sub-1_T2w_label-SC_seg-manual.nii.gz", "sub-1_T2w_manual.nii")
    for name in (*strange, "sub-1_T2w_label-discs_dlabel.nii.gz"):
        kept_mask(study).with_name(name).write_bytes(b"a mask")
    (line,) = list_refused(study)
    assert f"{', '.join(f'derivatives/labels/sub-1/anat/{name}' for name in strange)}; save" in line


def test_a_changed_mask_of_a_method_is_named(study):
    keep(study)
    mask = study.mask(read_images(study.images)[0], "propseg")
    draw(mask)
    assert list_refused(study) == []
    (line,) = list_refused(study, METHODS)
    assert f"changed, but no number uses them: {study.relative(mask)}; put corrections into derivatives/labels" in line


def replace_image(study, content):
    """Replace the first image and record the method's result on it."""
    images = read_images(study.images)
    image = replace(images[0], path=str(study.root / "image.nii.gz"))
    write_images(study.images, [image, *images[1:]])
    Path(image.path).parent.mkdir(parents=True, exist_ok=True)
    Path(image.path).write_bytes(content)
    replace_mask(study, b"mask of " + content)


def replace_mask(study, content):
    """Replace the method's mask of the first image."""
    mask = study.mask(read_images(study.images)[0], "deepseg")
    mask.write_bytes(content)
    write_sidecar(mask, replace(read_sidecar(mask), mask_sha256=digest(content)))
    path = study.manifest("deepseg", IMAGES["sub-1_T2w"])
    manifest = read_manifest(path)
    entries = [replace(e, mask_sha256=digest(content)) if e.image_id == "sub-1_T2w" else e for e in manifest.images]
    write_manifest(path, replace(manifest, images=tuple(entries)))


def test_an_outdated_kept_mask_without_sidecar_is_written_again(study):
    replace_image(study, b"first")
    keep(study)
    sidecar_path(kept_mask(study)).unlink()
    replace_image(study, b"second")
    assert find_refused(study, read_included(study.images)) == []
    assert keep(study)["sub-1_T2w"].status == "ok"
    assert kept_mask(study).read_bytes() == b"mask of second"


@pytest.mark.parametrize("with_sidecar", [True, False])
def test_a_correction_of_a_replaced_image_is_refused_until_confirmed(study, with_sidecar):
    replace_image(study, b"first")
    keep(study)
    by_hand = draw(kept_mask(study))
    if not with_sidecar:
        sidecar_path(kept_mask(study)).unlink()
    assert keep(study)["sub-1_T2w"].status == "corrected"
    replace_image(study, b"second")
    for _ in range(2):  # a message once shown does not accept it
        (line,) = find_refused(study, read_included(study.images))
        assert "drawn on another image" in line
        assert keep(study)["sub-1_T2w"].status == "failed"
    assert kept_mask(study).read_bytes() == by_hand
    said = f'"ImageSHA256": "{digest(b"second")[:12]}"'
    assert said in line
    sidecar_path(kept_mask(study)).write_text(f"{{{said}}}")
    assert keep(study)["sub-1_T2w"].status == "corrected"
    replace_image(study, b"third")
    assert keep(study)["sub-1_T2w"].status == "failed"
    sidecar_path(kept_mask(study)).unlink()
    draw(kept_mask(study), last=5)  # drawn again, on the third
    assert keep(study)["sub-1_T2w"].status == "corrected"


def test_a_corrected_mask_that_cannot_be_used_is_named_and_left_alone(study):
    keep(study)
    kept_mask(study).write_bytes(b"no image")
    rows = keep(study)
    assert (rows["sub-1_T2w"].status, rows["sub-1_T2w"].mask) == ("failed", "")
    assert rows["sub-1_T2w"].message.startswith("a corrected mask cannot be used, so its image has no numbers")
    assert kept_mask(study).name in rows["sub-1_T2w"].message
    assert {row.status for name, row in rows.items() if name not in ("sub-1_T2w", FAILED)} == {"ok"}
    assert kept_mask(study).read_bytes() == b"no image"


def test_a_kept_mask_without_its_sidecar_is_not_a_correction(study):
    """A mask that equals the method's byte for byte was not drawn."""
    keep(study)
    sidecar_path(kept_mask(study)).unlink()
    assert keep(study)["sub-1_T2w"].status == "ok"
    assert read_sidecar(kept_mask(study)).method == "deepseg"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"MaskSHA256": "0"}'])
def test_a_mask_with_a_foreign_sidecar_is_a_correction(study, text):
    keep(study)
    sidecar_path(kept_mask(study)).write_text(text)
    by_hand = draw(kept_mask(study))
    assert keep(study)["sub-1_T2w"].status == "corrected"
    assert kept_mask(study).read_bytes() == by_hand


def test_kept_masks_of_removed_images_are_deleted_unless_corrected(study):
    keep(study)
    kept_mask(study, "sub-3_T2w").write_bytes(b"by hand")
    write_images(study.images, [image for image in read_included(study.images) if image.subject == "1"])
    keep(study)
    assert kept_mask(study).exists()
    assert not kept_mask(study, "sub-2_T2w").exists()
    assert kept_mask(study, "sub-3_T2w").read_bytes() == b"by hand"


def test_a_locked_study_keeps_its_method_whatever_is_decided_later(study):
    write_lock(study, Lock(KeptMethods("deepseg"), {"deepseg": MADE_BY}))
    write_decision(study, "propseg", "undecided")
    rows = keep(study)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w deepseg"
    assert rows["sub-1_T2w"].message == "the study is held to deepseg; the decision would now keep propseg"
    study.lock.write_text("{")
    with pytest.raises(InputError, match="expected the lock of a study"):
        keep(study)


def test_an_exception_is_kept_by_its_own_method_and_flagged(study):
    choice = {"method": "propseg", "reason": "metal", "by": "me"}
    config = make_configuration({"dataset": "x", "exceptions": {"sub-1_T2w": choice}})
    rows = keep(study, config=config)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w propseg"
    assert kept_mask(study, "sub-2_T2w").read_bytes() == b"sub-2_T2w deepseg"
    words = "exception: propseg instead of deepseg (metal; me)"
    assert rows["sub-1_T2w"].message == words
    assert json.loads(sidecar_path(kept_mask(study)).read_text())["Exception"] == words
    entry = read_manifest(study.manifest("propseg", "pilot-0001")).entries["sub-1_T2w"]
    excepted = Exceptions("deepseg", (ManifestEntry(**{**vars(entry), "exception": words}),))
    write_exceptions(study, excepted)
    assert keep(study, Stage.STUDY, config) == rows
    assert read_sidecar(kept_mask(study)).more["KeptFrom"] == entry.mask


def test_a_study_with_exceptions_has_one_row_for_each_image(study):
    write_parts(study, ["deepseg"], Stage.STUDY)
    entry = read_manifest(study.manifest("propseg", "pilot-0001")).entries["sub-1_T2w"]
    with pytest.raises(InputError, match="sub-1_T2w by deepseg has 1"):  # measured before it became an exception
        gather(study, Stage.STUDY, ["deepseg"], Exceptions("deepseg", (entry,)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {"net.safetensors": "2" * 64}}, r"weights net.safetensors 111111111111, now 222222222222"),
        ({"code": "d" * 64}, r"code cccccccccccc \(version 0.1.0\), now dddddddddddd \(version 0.1.0\)"),
        ({"parameters": {"thr": 0.4}}, "thr 0.5, now 0.4"),
    ],
)
def test_chunks_by_different_code_or_parameters_are_refused(study, changes, words):
    path = study.manifest("deepseg", "rest-0001")
    manifest = read_manifest(path)
    write_manifest(path, replace(manifest, made_by=replace(MADE_BY, **changes)))
    with pytest.raises(InputError, match=rf"was not made as .*pilot-0001.json \({words}\); such masks"):
        gather(study)


def test_other_library_versions_do_not_change_masks(study):
    path = study.manifest("deepseg", "rest-0001")
    write_manifest(path, replace(read_manifest(path), made_by=replace(MADE_BY, libraries={"numpy": "9"}, version="9")))
    gather(study)


def test_a_decision_for_no_method_keeps_no_masks(study):
    keep(study)
    write_decision(study, None, "none")
    assert {row.status for row in keep(study).values()} == {"none"}
    assert not list(study.labels.rglob("*.nii.gz"))
    with pytest.raises(InputError, match="keeps no method"):
        decided_method(study.decision)


def test_a_changed_source_mask_is_not_kept(study):
    (study.root / "sub-1" / "anat" / "sub-1_T2w_desc-deepseg_label-SC_seg.nii.gz").write_bytes(b"other")
    with pytest.raises(InputError, match="has changed since it was made"):
        keep(study)
