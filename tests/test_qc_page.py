"""The quality-control folder: entries and page, also if images or masks are missing or odd."""

import json
import multiprocessing
import re
from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from made_study import MADE_BY, save_nifti, write_decision
from report_study import AFFINE, SHAPE, cord_mask, make_study, write_cord

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.phantom.dataset import write_dataset
from spineseg.report import qc_page
from spineseg.report.flags import FAILED
from spineseg.report.pictures import load_layers
from spineseg.report.qc import add_files, entry_name, render_study, write_entry
from spineseg.report.qc_page import build_index
from spineseg.report.review import MethodResult, ReviewImage, StudyView, list_methods
from spineseg.studyfolder.decisions import read_membership
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.sidecars import Sidecar, write_sidecar
from spineseg.studyfolder.tables import AgreementRow, Identity
from spineseg.volume import files


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    failed, empty = [("sub-02_T1w", "propseg")], [("sub-01_T1w", "deepseg")]
    folder = make_study(tmp_path_factory.mktemp("study"), n_subjects=2, failed=failed, empty=empty)
    draw_study(folder)
    return folder


def draw_study(folder):
    """Draw all images; return the page."""
    qc = folder.qc(Stage.ALL)
    render_study(StudyView(folder), qc)
    return build_index(qc)


def draw_files(qc, image, seg, **values):
    """Draw an image with its mask; return the page."""
    add_files(qc, image, seg, contrast="t2", **values)
    return build_index(qc)


@pytest.fixture
def cord(tmp_path):
    """An image and its mask."""
    image = tmp_path / "sub-01_T2w.nii.gz"
    return image, write_cord(image, np.random.default_rng(0))


@pytest.fixture
def reads(monkeypatch):
    """Count how often each image file is read."""
    found, open_image = Counter(), files.open_image

    def count(path, *args, **options):
        found[str(path)] += 1
        return open_image(path, *args, **options)

    monkeypatch.setattr(files, "open_image", count)
    return found


def page_data(page):
    """The page's data, as a browser reads it."""
    text = page.read_text()
    return json.loads(re.search(r'<script type="application/json" id="qc-data">(.*?)</script>', text, re.DOTALL)[1])


def detail_of(qc, name):
    text = (qc / "images" / name / "detail.js").read_text()
    return json.loads(re.fullmatch(r'spinesegDetail\("[^"]+",(.*)\);\n', text)[1])


def test_page_lists_every_image_failures_first(study):
    data = page_data(study.qc(Stage.ALL) / "index.html")
    assert {e["image_id"] for e in data["entries"]} == {f"sub-0{n}_{s}" for n in (1, 2) for s in ("T1w", "T2w")}
    assert {e["image_id"] for e in data["entries"][:2]} == {"sub-02_T1w", "sub-01_T1w"}
    assert [f["text"][:6] for e in data["entries"][:2] for f in e["flags"][:1]].count("failed") == 1


def test_no_numbers_are_shown_for_a_missing_mask(study):
    """The decision uses a predicted Dice of 0 for a missing mask; on the page 0.000 would look like a measurement."""
    methods = [m for e in page_data(study.qc(Stage.ALL) / "index.html")["entries"] for m in e["methods"]]
    assert {m["status"] for m in methods if not m["metrics"]} == {"failed", "empty"}
    assert all(m["metrics"] == {} for m in methods if m["status"] in ("failed", "empty"))


def test_equally_bad_images_are_sorted_by_overlap(tmp_path):
    names = [f"sub-0{n}_T2w" for n in range(4)]
    for name, dice in zip(names, (0.97, None, 0.95, 0.98), strict=True):
        methods = tuple(MethodResult(method, "ok") for method in ("propseg", "deepseg"))
        image = StudyImage(name, name[4:6], suffix="T2w", contrast="t2", path=str(tmp_path / f"{name}.nii.gz"))
        pair = AgreementRow(Identity.of(image), "propseg", "deepseg", {} if dice is None else {"dice": dice})
        write_entry(tmp_path, ReviewImage(image, methods, (pair,)), None, name=name, dataset="made")
    order = [e["image_id"] for e in page_data(build_index(tmp_path))["entries"]]
    assert order == [names[n] for n in (2, 0, 3, 1)]


def test_page_needs_no_network(study):
    text = (study.qc(Stage.ALL) / "index.html").read_text()
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert "fetch(" not in text
    assert "XMLHttpRequest" not in text
    assert "import(" not in text


def test_the_named_label_of_a_reference_is_shown(tmp_path):
    truth = np.zeros((20, 20, 4), np.uint8)
    truth[8:12, 8:12], truth[2:5, 2:5] = 3, 1
    files = [save_nifti(tmp_path / f"{name}.nii.gz", data, AFFINE) for name, data in (("t", truth), ("m", truth == 3))]
    image = StudyImage("sub-01_T2w", "01", path=str(files[1]), reference=str(files[0]), reference_label=3)
    layers = load_layers(ReviewImage(image, (MethodResult("m", "ok", mask=files[1]),)))
    assert (layers.masks["reference"] == layers.masks["m"]).all()
    assert layers.problems == ()


def test_detail_holds_every_slice_of_every_mask_and_the_reference(study):
    detail = detail_of(study.qc(Stage.ALL), "sub-01_T2w")
    assert [layer["name"] for layer in detail["layers"]] == ["propseg", "deepseg", "reference"]
    for layer in detail["layers"]:
        assert len(layer["paths"]) == len(layer["csa"]) == SHAPE[2]
        assert all(layer["paths"])
    assert detail["layers"][0]["corrected"]
    assert not detail["layers"][2]["corrected"]
    assert detail["layers"][2]["csa"][3] == pytest.approx(np.pi * 4.5**2, rel=0.05)


def test_failed_method_has_no_layer_and_empty_one_has_no_outline(study):
    detail = detail_of(study.qc(Stage.ALL), "sub-02_T1w")
    assert [layer["name"] for layer in detail["layers"]] == ["deepseg", "reference"]
    empty = detail_of(study.qc(Stage.ALL), "sub-01_T1w")["layers"][1]
    assert empty["name"] == "deepseg"
    assert not any(empty["paths"])
    assert set(empty["csa"]) == {None}


def test_chunks_and_index_by_command_line(study, tmp_path, capsys):
    qc, manifest = tmp_path / "qc", tmp_path / "qc" / "drawn" / "pilot-0001.json"
    command = ["qc", "-results", str(study.root), "-o", str(qc)]
    assert main([*command, "-chunk", "pilot-0001", "-manifest", str(manifest)]) == 0
    assert not (qc / "index.html").exists()
    entries = json.loads(manifest.read_text())["entries"]
    assert entries == ["entries/sub-01_T2w.json", "entries/sub-01_T1w.json"]
    assert list_methods(study, read_membership(study).chunks) == ["propseg", "deepseg"]  # and not measures
    assert main([*command, "-index"]) == 0
    assert "2 images are not drawn yet: sub-02_T2w, sub-02_T1w" in capsys.readouterr().err
    assert main([*command, "-chunk", "pilot-0002"]) == 0
    stale = json.loads((qc / "entries" / "sub-01_T2w.json").read_text()) | {"id": "sub-99_T2w"}
    (qc / "entries" / "sub-99_T2w.json").write_text(json.dumps(stale))
    assert main([*command, "-index"]) == 0
    assert len(page_data(qc / "index.html")["entries"]) == 4  # an image that left the study leaves the page


def test_a_chunk_is_drawn_from_its_own_tables(study, tmp_path):
    """An entry is the same before and after tables are gathered."""
    render_study(StudyView(study), tmp_path, chunks=["pilot-0001"])
    name = "entries/sub-01_T2w.json"
    assert json.loads((tmp_path / name).read_text()) == json.loads((study.qc(Stage.ALL) / name).read_text())


def test_index_reports_images_that_are_not_drawn(study, tmp_path, capsys):
    assert main(["qc", "-results", str(study.root), "-o", str(tmp_path), "-index"]) == 0
    assert "4 images are not drawn yet: sub-01_T2w" in capsys.readouterr().err


def test_report_identity_survives_a_new_page(study):
    before = page_data(study.qc(Stage.ALL) / "index.html")["report"]
    assert page_data(build_index(study.qc(Stage.ALL)))["report"] == before


def test_study_stage_shows_the_decided_method_alone(study, tmp_path):
    write_decision(study, "deepseg")
    try:
        render_study(StudyView(study, Stage.STUDY), tmp_path)
    finally:
        study.decision.unlink()
    data = page_data(build_index(tmp_path))
    assert {m["name"] for e in data["entries"] for m in e["methods"]} == {"deepseg"}


def test_methods_that_left_the_configuration_are_not_shown(study, tmp_path):
    render_study(StudyView(study, methods=["propseg"]), tmp_path)
    entries = page_data(build_index(tmp_path))["entries"]
    assert {m["name"] for e in entries for m in e["methods"]} == {"propseg"}
    assert not any(e["agreement"] for e in entries)


def test_unreadable_image_gets_an_entry_that_says_why(tmp_path):
    folder = make_study(tmp_path, n_subjects=1)
    (tmp_path / "bids" / "sub-01_T2w.nii.gz").write_bytes(b"not an image")
    first = page_data(draw_study(folder))["entries"][0]
    assert first["image_id"] == "sub-01_T2w"
    assert first["picture"] is None
    assert "damaged" in first["flags"][0]["text"] or "another format" in first["flags"][0]["text"]


def test_mask_on_another_grid_is_a_warning_not_a_crash(tmp_path):
    folder = make_study(tmp_path, n_subjects=1)
    image = next(image for image in read_images(folder.images) if image.suffix == "T2w")
    save_nifti(folder.mask(image, "propseg"), np.ones((5, 5, 5)), np.eye(4))
    first = page_data(draw_study(folder))["entries"][0]
    assert any("propseg cannot be shown" in flag["text"] for flag in first["flags"])
    assert first["picture"] is not None


def test_an_entry_reads_the_image_once_and_each_mask_once(study, tmp_path, reads):
    render_study(StudyView(study), tmp_path, chunks=["pilot-0001"])
    images = [image for image in read_images(study.images) if image.subject == "01"]
    masks = [str(study.mask(image, method)) for image in images for method in ("propseg", "deepseg")]
    assert reads == Counter([*masks, *(image.path for image in images), *(image.reference for image in images)])


def test_adding_files_reads_the_image_once_and_each_mask_once(cord, tmp_path, reads):
    image, seg = cord
    reference = save_nifti(tmp_path / "reference.nii.gz", np.asarray(nib.load(seg).dataobj), AFFINE)
    reads.clear()
    page = draw_files(tmp_path / "qc", image, seg, method="m", reference=reference)
    assert reads == Counter(map(str, (image, seg, reference)))
    (entry,) = page_data(page)["entries"]
    assert [layer["name"] for layer in detail_of(tmp_path / "qc", entry["id"])["layers"]] == ["m", "reference"]


def test_segmenting_with_qc_reads_each_image_once_and_builds_the_page_once(tmp_path, reads, monkeypatch):
    images = write_dataset(tmp_path / "bids", 1, 3, contrasts=["T2star"], rescan=True)
    assert len(images) == 2
    reads.clear()
    built = []
    monkeypatch.setattr(qc_page, "build_index", lambda folder, **more: built.append(build_index(folder, **more)))
    qc, masks = tmp_path / "qc", tmp_path / "masks"
    files = ["-i", *map(str, images), "-ofolder", str(masks)]
    assert main(["propseg", *files, "-c", "t2s", "-qc", str(qc), "-v", "0"]) == 0
    assert reads == Counter(map(str, images))  # and the masks are drawn from memory
    assert built == [qc / "index.html"]
    entries = page_data(built[0])["entries"]
    assert {(e["session"], e["methods"][0]["name"], e["contrast"]) for e in entries} == {
        ("1", "propseg", "t2s"),
        ("2", "propseg", "t2s"),
    }
    assert all(e["picture"] and e["methods"][0]["seconds"] > 0 for e in entries)


def test_markup_in_names_stays_text(cord, tmp_path):
    image, seg = cord
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    page = draw_files(tmp_path / "qc", image, seg, method=evil, dataset=evil, subject=evil)
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
    qc, image, seg, number = args
    draw_files(qc, image, seg, method=f"method{number}")


def test_images_added_at_the_same_time_are_all_in_the_page(tmp_path):
    image = tmp_path / "sub-01_T2w.nii.gz"
    seg = write_cord(image, np.random.default_rng(0), shape=(40, 40, 4))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(add_one, [(tmp_path / "qc", image, seg, number) for number in range(4)], chunksize=1)
    data = page_data(tmp_path / "qc" / "index.html")
    (entry,) = data["entries"]  # masks of one image are one entry, whichever process was first
    assert {m["name"] for m in entry["methods"]} == {f"method{n}" for n in range(4)}
    assert not list((tmp_path / "qc").rglob("*.tmp"))
    assert not list((tmp_path / "qc").glob(".report_id*"))


def test_adding_again_replaces_the_entry(tmp_path):
    image = tmp_path / "sub-07_ses-2_T2w.nii.gz"
    seg = write_cord(image, np.random.default_rng(0))
    for _ in range(2):
        page = draw_files(tmp_path / "qc", image, seg, method="propseg")
    (entry,) = page_data(page)["entries"]
    assert (entry["subject"], entry["session"], entry["suffix"]) == ("07", "2", "T2w")
    assert entry["methods"][0]["status"] == "ok"


def test_a_mask_no_longer_by_the_method_is_not_shown_as_its_own(cord, tmp_path):
    image, seg = cord
    draw_files(tmp_path / "qc", image, seg, method="propseg")
    save_nifti(seg, cord_mask(radius_mm=4), AFFINE)
    (entry,) = page_data(draw_files(tmp_path / "qc", image, seg, method="deepseg"))["entries"]
    assert [m["name"] for m in entry["methods"]] == ["deepseg"]  # it overwrote the other
    assert "now holds the mask by deepseg" in entry["flags"][0]["text"]
    assert entry["flags"][0]["severity"] == FAILED
    other = tmp_path / "other.nii.gz"
    other.write_bytes(seg.read_bytes())
    (entry,) = page_data(draw_files(tmp_path / "qc", image, other, method="propseg"))["entries"]
    assert [m["name"] for m in entry["methods"]] == ["propseg", "deepseg"]
    assert not entry["flags"]
    write_cord(image, np.random.default_rng(1))  # the image has changed
    (entry,) = page_data(draw_files(tmp_path / "qc", image, other, method="propseg"))["entries"]
    assert [m["name"] for m in entry["methods"]] == ["propseg"]
    assert "has changed since; run deepseg again" in entry["flags"][0]["text"]


def test_status_and_notes_come_from_the_masks_sidecar(cord, tmp_path):
    image, seg = cord
    sidecar = Sidecar("propseg", "t2", "partial", MADE_BY, notes=("no cord below slice 3",))
    for status, empty in (("partial", False), ("empty", True)):
        if empty:
            save_nifti(seg, np.zeros(SHAPE), AFFINE)
        write_sidecar(seg, replace(sidecar, status="ok" if empty else status))
        (entry,) = page_data(draw_files(tmp_path / "qc", image, seg, method="propseg"))["entries"]
        assert entry["methods"][0]["status"] == status
        assert entry["methods"][0]["message"] == "no cord below slice 3"


def test_mask_of_another_image_is_refused(cord, tmp_path):
    other = save_nifti(tmp_path / "b.nii.gz", np.eye(5)[..., None], np.eye(4))
    with pytest.raises(InputError, match=r"b\.nii\.gz: expected the image's grid"):
        add_files(tmp_path / "qc", cord[0], other, method="propseg", contrast="t2")
    assert not (tmp_path / "qc").exists()


def test_single_image_by_command_line(cord, tmp_path, capsys):
    image, seg = cord
    assert main(["qc", "-i", str(image), "-s", str(seg), "-c", "t2", "-qc", str(tmp_path / "qc")]) == 0
    assert "index.html" in capsys.readouterr().out
    assert main(["qc", "-i", str(image)]) == 2
    assert main(["qc"]) == 2
    assert main(["qc", "-results", str(tmp_path / "nothing")]) == 2
    assert "expected a folder of results, found none" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"not an image", b"", None])
def test_an_unreadable_reference_is_one_line(cord, tmp_path, capsys, content):
    image, seg = cord
    reference = tmp_path / "reference.nii.gz"
    if content is not None:
        reference.write_bytes(content)
    command = ["-i", str(image), "-s", str(seg), "-d", str(reference), "-c", "t2", "-qc", str(tmp_path / "qc")]
    assert main(["qc", *command]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert str(reference) in line
    assert not (tmp_path / "qc").exists()


def test_native_slice_numbers(tmp_path):
    """A file whose third axis runs downwards shows its own index beside the canonical one."""
    affine, mask = np.diag([1, 1, -3, 1]), np.zeros((20, 20, 6))
    mask[8:12, 8:12] = 1
    noise = np.random.default_rng(0).random(mask.shape)
    image = save_nifti(tmp_path / "x.nii.gz", noise, affine, np.float32)
    page = draw_files(tmp_path / "qc", image, save_nifti(tmp_path / "x_seg.nii.gz", mask, affine), method="m")
    name = page_data(page)["entries"][0]["id"]
    assert detail_of(tmp_path / "qc", name)["native"] == {"axis": 2, "flipped": True}


def test_the_page_has_a_policy_that_allows_its_own_script_only(tmp_path):
    import base64
    import hashlib
    import re

    from spineseg.report.page import POLICY
    from spineseg.report.qc_page import build_index

    page = build_index(tmp_path).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"script-src 'sha256-{digest}' file: 'self';" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "unsafe-eval" not in policy
    assert not re.search(r"\son[a-z]+=", page.replace(scripts[0], ""))
    for words in ("http:", "https:", "*"):
        assert words not in policy
        assert words not in POLICY
