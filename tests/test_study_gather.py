"""Joining the chunks' tables and keeping masks, with every file checked against its manifest."""

import gzip
import hashlib
import json

import pytest

from spineseg.bids import derivative_path, sidecar_path
from spineseg.errors import InputError
from spineseg.study.gather import gather_tables, part_path
from spineseg.study.images import read_included, write_images
from spineseg.study.keep import LABELS, keep_masks, read_decided_method, write_kept

METHODS = ("propseg", "deepseg")
IMAGES = {"sub-1_T2w": "pilot-0001", "sub-2_T2w": "rest-0001", "sub-3_T2w": "pilot-0001", "sub-4_T2w": "rest-0001"}
FAILED = "sub-4_T2w"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def study(tmp_path):
    """Results of four images in two chunks by two methods; one image failed."""
    results = tmp_path / "results" / "x"
    rows = [
        {
            "image_id": image,
            "subject": image[4],
            "datatype": "anat",
            "contrast": "t2",
            "path": f"{image}.nii.gz",
            "included": "true",
            "pilot": str(chunk.startswith("pilot")).lower(),
            "chunk": chunk,
        }
        for image, chunk in IMAGES.items()
    ]
    write_images(results / "images.tsv", rows)
    for method in METHODS:
        entries = {row["image_id"]: write_mask(results, row, method) for row in read_included(results / "images.tsv")}
        for chunk in set(IMAGES.values()):
            own = [entries[image] for image, where in IMAGES.items() if where == chunk]
            path = results / "chunks" / method / f"{chunk}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"method": method, "chunk": chunk, "images": own}))
    for chunk in set(IMAGES.values()):
        write_parts(results, chunk, METHODS, "all")
    (results / "decision.json").write_text(json.dumps({"method": "deepseg", "verdict": "clear", "override": None}))
    return results


def write_mask(results, row, method) -> dict:
    relative = derivative_path(row, method)
    content = f"{row['image_id']} {method}".encode()
    failed = row["image_id"] == FAILED
    (results / relative).parent.mkdir(parents=True, exist_ok=True)
    if not failed:
        (results / relative).write_bytes(content)
    sidecar_path(results / relative).write_text(json.dumps({"Method": method, "Status": "failed" if failed else "ok"}))
    return {
        "image_id": row["image_id"],
        "status": "failed" if failed else "ok",
        "message": "cannot\tbe read" if failed else "",
        "mask": None if failed else str(relative),
        "mask_sha256": None if failed else digest(content),
        "sidecar": str(sidecar_path(relative)),
    }


def write_parts(results, chunk, methods, stage) -> None:
    images = [image for image, where in IMAGES.items() if where == chunk]
    metrics = [f"{image}\t{method}" for image in images for method in methods]
    slices = [f"{image}\t{method}\t{k}" for image in images for method in methods for k in range(2)]
    for name, heading, lines in (
        ("metrics.tsv", "image_id\tmethod", metrics),
        ("agreement.tsv", "image_id\tdice", [f"{image}\t0.9" for image in images]),
        ("slices.tsv.gz", "image_id\tmethod\tslice", slices),
    ):
        path = part_path(results, stage, chunk, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join([heading, *lines, ""]).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)


def gather(results, stage="all", methods=METHODS):
    return gather_tables(results / "images.tsv", results, stage, methods)


def test_rows_come_in_the_order_of_the_images(study):
    folder = gather(study)
    lines = (folder / "metrics.tsv").read_text().splitlines()
    assert lines[0] == "image_id\tmethod"
    assert [line.split("\t")[0] for line in lines[1:]] == [image for image in IMAGES for _ in METHODS]
    slices = gzip.decompress((folder / "slices.tsv.gz").read_bytes()).decode().splitlines()
    assert slices[0] == "image_id\tmethod\tslice"
    assert [line.split("\t")[0] for line in slices[1:]] == [image for image in IMAGES for _ in range(4)]


def test_the_same_parts_give_the_same_bytes(study):
    folder = gather(study)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    gather(study)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_pilot_holds_its_images_only(study):
    lines = (gather(study, "pilot") / "metrics.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[0] for line in lines} == {"sub-1_T2w", "sub-3_T2w"}


def test_the_study_takes_its_own_parts(study):
    for chunk in set(IMAGES.values()):
        write_parts(study, chunk, ["deepseg"], "study")
    lines = (gather(study, "study", ["deepseg"]) / "metrics.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(IMAGES)


def first_mask(study):
    return study / "sub-2" / "anat" / "sub-2_T2w_desc-propseg_label-SC_seg.nii.gz"


def test_a_deleted_mask_is_named_with_what_mends_it(study):
    first_mask(study).unlink()
    with pytest.raises(InputError, match=r"the file is gone; .* rm .*propseg/rest-0001.json, then the same") as caught:
        gather(study)
    assert str(first_mask(study)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_mask_is_named(study):
    first_mask(study).write_bytes(b"edited")
    with pytest.raises(InputError, match="has changed since it was made"):
        gather(study)


def test_a_manifest_that_is_gone_damaged_or_short(study):
    path = study / "chunks" / "deepseg" / "pilot-0001.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"images": content["images"][1:]}))
    with pytest.raises(InputError, match="has no entry for sub-1_T2w"):
        gather(study)
    path.write_text("{")
    with pytest.raises(InputError, match="found none that is whole"):
        gather(study)
    path.unlink()
    with pytest.raises(InputError, match="found none that is whole"):
        gather(study)


def test_a_part_that_lacks_an_image_or_has_it_twice(study):
    part = part_path(study, "all", "rest-0001", "metrics.tsv")
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match="sub-4_T2w by deepseg has 0"):
        gather(study)
    part.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(InputError, match="sub-4_T2w by deepseg has 2"):
        gather(study)
    part.write_text("".join(["image_id\tother\n", *lines[1:]]))
    with pytest.raises(InputError, match="its columns differ"):
        gather(study)
    part.write_text("".join(["method\tdice\timage_id\n", *lines[1:]]))
    with pytest.raises(InputError, match="not a whole table"):
        gather(study)
    part.unlink()
    with pytest.raises(InputError, match="no such table"):
        gather(study)


def keep(results, stage="all"):
    rows = keep_masks(results / "images.tsv", results, stage, results / "decision.json")
    return {row["image_id"]: row for row in rows}


def kept_mask(results, image="sub-1_T2w"):
    return results / LABELS / f"sub-{image[4]}" / "anat" / f"{image}_label-SC_seg.nii.gz"


def test_the_decided_masks_are_kept_with_their_sidecars(study):
    rows = keep(study)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w deepseg"
    sidecar = json.loads(sidecar_path(kept_mask(study)).read_text())
    assert sidecar["Decision"] == {"method": "deepseg", "verdict": "clear", "override": None}
    assert rows["sub-1_T2w"]["sha256"] == digest(b"sub-1_T2w deepseg")
    assert rows[FAILED]["status"] == "failed"
    assert rows[FAILED]["message"] == "cannot be read"
    assert not kept_mask(study, FAILED).exists()
    path = write_kept(list(rows.values()), study, "all")
    assert len(path.read_text().splitlines()) == 1 + len(IMAGES)


def test_another_decision_replaces_the_kept_masks(study):
    keep(study)
    (study / "decision.json").write_text(json.dumps({"method": "propseg", "verdict": "override"}))
    keep(study)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w propseg"


def test_a_corrected_mask_is_left_alone(study):
    keep(study)
    kept_mask(study).write_bytes(b"by hand")
    drawn = kept_mask(study, FAILED)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    drawn.write_bytes(b"drawn from nothing")
    rows = keep(study)
    assert rows["sub-1_T2w"]["status"] == rows[FAILED]["status"] == "corrected"
    assert kept_mask(study).read_bytes() == b"by hand"
    assert drawn.read_bytes() == b"drawn from nothing"


def test_masks_of_images_that_left_the_study_go_unless_corrected(study):
    keep(study)
    kept_mask(study, "sub-3_T2w").write_bytes(b"by hand")
    rows = [row for row in read_included(study / "images.tsv") if row["subject"] == "1"]
    write_images(study / "images.tsv", rows)
    keep(study)
    assert kept_mask(study).exists()
    assert not kept_mask(study, "sub-2_T2w").exists()
    assert kept_mask(study, "sub-3_T2w").read_bytes() == b"by hand"


def test_what_a_study_was_begun_by_is_kept_whatever_is_decided_later(study):
    lock = {"method": "deepseg", "facts": {}, "accepted": []}
    (study / "study").mkdir()
    (study / "study" / "lock.json").write_text(json.dumps(lock))
    (study / "decision.json").write_text(json.dumps({"method": "propseg", "verdict": "undecided"}))
    rows = keep(study)
    assert kept_mask(study).read_bytes() == b"sub-1_T2w deepseg"
    assert rows["sub-1_T2w"]["message"] == "the study was begun by deepseg; the decision would now keep propseg"
    (study / "study" / "lock.json").write_text("{")
    with pytest.raises(InputError, match="expected what the study was begun by"):
        keep(study)


def test_chunks_that_were_not_made_alike_are_refused(study):
    path = study / "chunks" / "deepseg" / "rest-0001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights": {"a": "2"}}))
    with pytest.raises(InputError, match=r"was made by other weights than .*pilot-0001.json; such masks"):
        gather(study)


def test_a_decision_for_none_keeps_none(study):
    keep(study)
    (study / "decision.json").write_text(json.dumps({"method": None, "verdict": "none"}))
    assert {row["status"] for row in keep(study).values()} == {"none"}
    assert not list((study / LABELS).rglob("*.nii.gz"))
    with pytest.raises(InputError, match="keeps no method"):
        read_decided_method(study / "decision.json")


def test_a_changed_source_mask_is_not_kept(study):
    (study / "sub-1" / "anat" / "sub-1_T2w_desc-deepseg_label-SC_seg.nii.gz").write_bytes(b"other")
    with pytest.raises(InputError, match="has changed since it was made"):
        keep(study)
