"""The quality-control folder: entries, the page, and what happens when things are missing or strange."""

import json
import multiprocessing
import re

import nibabel as nib
import numpy as np
import pytest
from report_study import SHAPE, make_study, write_cord_image

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.report.qc import add_image_to_qc, build_index, entry_name, render_study
from spineseg.report.tables import list_methods


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    results = make_study(folder, n_subjects=2, failed=[("sub-02_T1w", "propseg")], empty=[("sub-01_T1w", "deepseg")])
    render_study(results, results / "qc")
    build_index(results / "qc")
    return results


def page_data(page):
    """The page's data, as a browser reads it."""
    text = page.read_text()
    return json.loads(re.search(r'<script type="application/json" id="qc-data">(.*?)</script>', text, re.DOTALL)[1])


def detail_of(qc, name):
    text = (qc / "images" / name / "detail.js").read_text()
    return json.loads(re.fullmatch(r'spinesegDetail\("[^"]+",(.*)\);\n', text)[1])


def test_page_holds_every_image_failures_first(study):
    data = page_data(study / "qc" / "index.html")
    assert {e["image_id"] for e in data["entries"]} == {f"sub-0{n}_{s}" for n in (1, 2) for s in ("T1w", "T2w")}
    assert {e["image_id"] for e in data["entries"][:2]} == {"sub-02_T1w", "sub-01_T1w"}
    assert [f["text"][:6] for e in data["entries"][:2] for f in e["flags"][:1]].count("failed") == 1


def test_page_needs_no_network(study):
    text = (study / "qc" / "index.html").read_text()
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert "fetch(" not in text
    assert "XMLHttpRequest" not in text
    assert "import(" not in text


def test_detail_holds_every_slice_of_every_mask_and_the_reference(study):
    detail = detail_of(study / "qc", "sub-01_T2w")
    assert [layer["name"] for layer in detail["layers"]] == ["propseg", "deepseg", "reference"]
    for layer in detail["layers"]:
        assert len(layer["paths"]) == len(layer["csa"]) == SHAPE[2]
        assert all(layer["paths"])
    assert detail["layers"][0]["corrected"]
    assert not detail["layers"][2]["corrected"]
    assert detail["layers"][2]["csa"][3] == pytest.approx(np.pi * 4.5**2, rel=0.05)


def test_failed_method_has_no_layer_and_empty_one_has_no_outline(study):
    detail = detail_of(study / "qc", "sub-02_T1w")
    assert [layer["name"] for layer in detail["layers"]] == ["deepseg", "reference"]
    empty = detail_of(study / "qc", "sub-01_T1w")["layers"][1]
    assert empty["name"] == "deepseg"
    assert not any(empty["paths"])
    assert set(empty["csa"]) == {None}


def test_chunks_and_index_by_command_line(study, tmp_path):
    qc, manifest = tmp_path / "qc", study / "chunks" / "drawn" / "pilot-0000.json"
    chunk = ["-results", str(study), "-o", str(qc)]
    assert main(["qc", *chunk, "-chunk", "pilot-0000", "-manifest", str(manifest)]) == 0
    assert not (qc / "index.html").exists()
    entries = json.loads(manifest.read_text())["entries"]
    assert list_methods(study) == ["propseg", "deepseg"]  # what was drawn is no method
    assert sorted(entries) == sorted(f"entries/{p.name}" for p in (qc / "entries").iterdir())
    stale = json.loads((qc / "entries" / "sub-01_T2w.json").read_text()) | {"id": "sub-99_T2w"}
    (qc / "entries" / "sub-99_T2w.json").write_text(json.dumps(stale))
    assert main(["qc", *chunk, "-index"]) == 0
    assert len(page_data(qc / "index.html")["entries"]) == 4  # an image that left the study leaves the page


def test_index_says_what_is_not_drawn(study, tmp_path, capsys):
    assert main(["qc", "-results", str(study), "-o", str(tmp_path), "-index"]) == 0
    assert "4 images are not drawn yet: sub-01_T2w" in capsys.readouterr().err


def test_report_identity_survives_a_new_page(study):
    before = page_data(study / "qc" / "index.html")["report"]
    assert page_data(build_index(study / "qc"))["report"] == before


def test_study_stage_shows_the_decided_method_alone(study, tmp_path):
    (study / "decision.json").write_text(json.dumps({"method": "deepseg"}))
    try:
        render_study(study, tmp_path, stage="study")
    finally:
        (study / "decision.json").unlink()
    data = page_data(build_index(tmp_path))
    assert {m["name"] for e in data["entries"] for m in e["methods"]} == {"deepseg"}


def test_unreadable_image_gets_an_entry_that_says_why(tmp_path):
    results = make_study(tmp_path, n_subjects=1)
    image = tmp_path / "bids" / "sub-01_T2w.nii.gz"
    image.write_bytes(b"not an image")
    render_study(results, results / "qc")
    first = page_data(build_index(results / "qc"))["entries"][0]
    assert first["image_id"] == "sub-01_T2w"
    assert first["picture"] is None
    assert "damaged" in first["flags"][0]["text"] or "another format" in first["flags"][0]["text"]


def test_mask_on_another_grid_is_a_warning_not_a_crash(tmp_path):
    results = make_study(tmp_path, n_subjects=1)
    mask = next(results.rglob("sub-01_T2w_desc-propseg*.nii.gz"))
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), mask)
    render_study(results, results / "qc")
    first = page_data(build_index(results / "qc"))["entries"][0]
    assert any("propseg cannot be shown" in flag["text"] for flag in first["flags"])
    assert first["picture"] is not None


def test_markup_in_names_stays_text(tmp_path):
    image = tmp_path / "sub-01_T2w.nii.gz"
    write_cord_image(image, np.random.default_rng(0))
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    page = add_image_to_qc(tmp_path / "qc", image, image, method=evil, contrast="t2", dataset=evil, subject=evil)
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert page_data(page)["entries"][0]["dataset"] == evil
    assert "&lt;/script&gt;" in text  # the title
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", p.name) for p in (tmp_path / "qc").rglob("*"))


def test_entry_names_are_safe_and_distinct():
    assert entry_name("sub-01_T2w") == "sub-01_T2w"
    assert len({entry_name(name) for name in ("a/b", "a\\b", "a_b", "../a_b", "ä_b")}) == 5
    assert "/" not in entry_name("../../x")
    assert not entry_name("..").startswith(".")


def add_one(args):
    qc, image, number = args
    add_image_to_qc(qc, image, image, method=f"method{number}", contrast="t2")


def test_images_added_at_the_same_time_are_all_in_the_page(tmp_path):
    image = tmp_path / "sub-01_T2w.nii.gz"
    write_cord_image(image, np.random.default_rng(0), shape=(30, 30, 4))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(add_one, [(tmp_path / "qc", image, number) for number in range(4)], chunksize=1)
    data = page_data(tmp_path / "qc" / "index.html")
    assert {e["methods"][0]["name"] for e in data["entries"]} == {f"method{n}" for n in range(4)}
    assert not list((tmp_path / "qc").rglob("*.tmp"))
    assert not list((tmp_path / "qc").glob(".report_id*"))


def test_adding_again_replaces_the_entry(tmp_path):
    image = tmp_path / "sub-07_ses-2_T2w.nii.gz"
    mask = write_cord_image(image, np.random.default_rng(0))
    seg = tmp_path / "seg.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), nib.load(image).affine), seg)
    for _ in range(2):
        page = add_image_to_qc(tmp_path / "qc", image, seg, method="propseg", contrast="t2")
    (entry,) = page_data(page)["entries"]
    assert (entry["subject"], entry["session"], entry["suffix"]) == ("07", "2", "T2w")
    assert entry["methods"][0]["status"] == "ok"


def test_mask_of_another_image_is_refused(tmp_path):
    image = tmp_path / "a.nii.gz"
    write_cord_image(image, np.random.default_rng(0))
    other = tmp_path / "b.nii.gz"
    nib.save(nib.Nifti1Image(np.eye(5)[..., None].astype(np.uint8), np.eye(4)), other)
    with pytest.raises(InputError, match=r"b\.nii\.gz: expected the image's grid"):
        add_image_to_qc(tmp_path / "qc", image, other, method="propseg", contrast="t2")


def test_single_image_by_command_line(tmp_path, capsys):
    image = tmp_path / "sub-01_T2w.nii.gz"
    write_cord_image(image, np.random.default_rng(0))
    assert main(["qc", "-i", str(image), "-s", str(image), "-c", "t2", "-qc", str(tmp_path / "qc")]) == 0
    assert "index.html" in capsys.readouterr().out
    assert main(["qc", "-i", str(image)]) == 2
    assert main(["qc"]) == 2
    assert main(["qc", "-results", str(tmp_path / "nothing")]) == 2
    assert "images.tsv" in capsys.readouterr().err


def test_native_slice_numbers(tmp_path):
    """A file whose third axis runs downwards shows its own index beside the canonical one."""
    image = tmp_path / "x.nii.gz"
    data = np.random.default_rng(0).random((20, 20, 6)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([1, 1, -3, 1])), image)
    page = add_image_to_qc(tmp_path / "qc", image, image, method="m", contrast="t2")
    name = page_data(page)["entries"][0]["id"]
    assert detail_of(tmp_path / "qc", name)["native"] == {"axis": 2, "flipped": True}
