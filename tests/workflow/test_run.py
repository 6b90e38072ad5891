"""Whole studies on two synthetic people: bad files, additions, faults, stages."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_workflow import ROOT, Study, clean_environment

from spineseg.studyfolder.sidecars import KILLED

BAD = {
    "sub-90": ("failed", "not NIfTI"),
    "sub-91": ("failed", "empty file"),
    "sub-92": ("failed", "truncated"),
    "sub-93": ("failed", "all zero"),
    "sub-94": ("ok", "has NaN"),
}


def add_bad_files(root: Path) -> None:
    """Add files as a failed download or conversion leaves them."""
    good = next(root.glob("sub-01/anat/*_T2star.nii.gz"))
    content = gzip.decompress(good.read_bytes())
    image = nib.load(good)
    data = np.asarray(image.dataobj, dtype=np.float32)
    with_nan = data.copy()
    with_nan[:3] = np.nan
    for subject in BAD:
        (root / subject / "anat").mkdir(parents=True)
    paths = {subject: root / subject / "anat" / f"{subject}_T2star.nii.gz" for subject in BAD}
    paths["sub-90"].write_bytes(gzip.compress(b"this is a text file, whatever its name says\n" * 20))
    paths["sub-91"].write_bytes(b"")
    paths["sub-92"].write_bytes(gzip.compress(content[: len(content) // 2]))
    nib.save(nib.Nifti1Image(np.zeros_like(data), image.affine), paths["sub-93"])
    nib.save(nib.Nifti1Image(with_nan, image.affine), paths["sub-94"])


@pytest.fixture(scope="module")
def finished(people, tmp_path_factory) -> Study:
    """A finished study of the two people and the bad files, which the tests below continue in order."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(people, folder / "bids")
    add_bad_files(folder / "bids")
    study = Study(folder / "work", bids_dir=str(folder / "bids"), contrasts=["T2w", "T2star"])
    study.printed = study.run()
    return study


def test_every_image_has_a_result_and_bad_files_their_status(finished):
    rows = finished.table("metrics.tsv")
    assert len(rows) == 2 * 9
    for row in rows:
        expected, why = BAD.get(f"sub-{row['subject']}", ("ok", "a good image"))
        assert row["status"] == expected or (expected == "ok" and row["status"] == "partial"), (why, row)
        assert (row["message"] != "n/a") == (row["status"] != "ok")
    masks = list(finished.results.glob("sub-*/**/*_desc-*_label-SC_seg.nii.gz"))
    assert len(masks) == 2 * 5


def test_files_of_a_finished_study(finished):
    expected = (
        "images.tsv decision.json decision.md report.html qc/index.html dataset_description.json README"
        " tables/metrics.tsv tables/agreement.tsv tables/slices.tsv.gz tables/kept.tsv"
    )
    assert not [name for name in expected.split() if not (finished.results / name).is_file()]
    assert list((finished.results / "figures").glob("*.svg"))
    decision = json.loads((finished.results / "decision.json").read_text())
    assert decision["verdict"] != "clear"  # never below six participants
    kept = finished.table("kept.tsv")
    assert [row["status"] for row in kept].count("failed") == 4
    if decision["method"]:
        for row in kept:
            assert row["mask"] == "n/a" or (finished.results / row["mask"]).is_file()


def test_a_finished_study_has_nothing_to_do(finished):
    assert finished.plan() == {}
    assert finished.plan("pilot") == {"index_pilot_qc": 1, "write_pilot_report": 1, "pilot": 1}


def test_snakemakes_own_report_holds_figures_with_titles_and_captions(finished):
    finished.run(options=("--report", "sent.html"))
    page = (finished.folder / "sent.html").read_text()
    for words in ("Images by status", "all images", "a missing mask counts as 0", "Which method the study"):
        assert words in page, words
    for figure in ("failures", "dice", "cost", "csa_along_cord"):
        assert f"figures/{figure}.svg" in page, figure


def test_failures_are_listed_at_the_end(finished):
    end = finished.printed.splitlines()[-40:]
    for method in ("propseg", "deepseg"):
        line = next(line for line in end if line.startswith(f"{method} failed on 4 of 9 images: "))
        assert "sub-90_T2star (" in line
        assert "expected a NIfTI image, found another format" in line
    for words in ("verdict: ", "look at: results/tiny/qc/index.html", "report:  results/tiny/report.html", "next: "):
        assert [line for line in end if line.startswith(words)]
    assert "9 of 9 images segmented" not in finished.printed  # progress is shown as long as images are left


def test_masks_lie_on_the_images_grid(finished):
    for row in finished.table("metrics.tsv"):
        if row["status"] == "failed":
            continue
        stem = row["image_id"]
        image = nib.load(finished.folder.parent / "bids" / f"sub-{row['subject']}" / "anat" / f"{stem}.nii.gz")
        mask = nib.load(
            finished.results / f"sub-{row['subject']}" / "anat" / f"{stem}_desc-{row['method']}_label-SC_seg.nii.gz"
        )
        assert mask.shape == image.shape[:3]
        np.testing.assert_array_equal(mask.affine, image.affine)


def test_a_deleted_mask_is_noticed_and_written_again(finished):
    mask = next(finished.results.glob("sub-01/anat/*_T2star_desc-propseg_label-SC_seg.nii.gz"))
    content = mask.read_bytes()
    mask.unlink()
    (finished.results / "tables" / "metrics.tsv").unlink()
    done = finished.call()
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("spineseg gather: error:"))
    assert mask.name in line
    end = "\n".join(done.stdout.splitlines()[-8:])
    assert f"not finished: gather: {line} (log: logs/tiny/gather.log)" in end
    assert "Repeat the command to continue" in end
    manifest = line.split("rm ", 1)[1].split(",")[0]
    (finished.folder / manifest).unlink()
    finished.run()
    assert mask.read_bytes() == content


def test_the_study_uses_the_decided_method_and_recomputes_no_image(finished):
    decision = json.loads((finished.results / "decision.json").read_text())
    if decision["method"] is None:
        finished.config["override"] = {"method": "deepseg", "reason": "a test", "by": "the test"}
    before = {path: path.stat().st_mtime_ns for path in finished.results.glob("sub-*/**/*.nii.gz")}
    printed = finished.run("study")
    assert "rule segment_chunk" not in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = finished.table("metrics.tsv", "study")
    assert len(rows) == 9
    assert len({row["method"] for row in rows}) == 1
    assert (finished.results / "study" / "report.html").is_file()
    assert (finished.results / "study" / "qc" / "index.html").is_file()


def test_only_an_added_image_is_computed(finished):
    bids = finished.folder.parent / "bids"
    new = bids / "sub-95" / "anat" / "sub-95_T2star.nii.gz"
    new.parent.mkdir(parents=True)
    shutil.copy2(next(bids.glob("sub-02/anat/*_T2star.nii.gz")), new)  # as old as its source
    before = {path: path.stat().st_mtime_ns for path in finished.results.glob("sub-*/**/*.nii.gz")}
    finished.run()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["subject"] for row in finished.table("metrics.tsv")} >= {"95"}
    assert finished.plan() == {}


def test_an_excluded_image_leaves_the_tables(finished):
    finished.config["excluded"] = {"sub-95": "a copy"}
    finished.run()
    assert "95" not in {row["subject"] for row in finished.table("metrics.tsv")}
    assert "a copy" in (finished.results / "report.html").read_text()


def test_settings_of_the_decision_segment_and_measure_nothing(finished):
    finished.config["decision"] = {"max_fail": 0.3}
    printed = finished.run("pilot")
    assert "rule segment_chunk" not in printed
    assert "rule measure_chunk" not in printed
    decision = json.loads((finished.results / "preview" / "decision.json").read_text())
    assert "0.3" in json.dumps(decision)


# row: an image crashes its process | tried once more alone, then failed for that method, with the signal; the rest of
#   its chunk is processed
# row: folders with braces, spaces, quotes, percent and dollar signs, accents | work
def test_a_crash_fails_only_its_image_whatever_the_names_of_folders(people, tmp_path):
    """The checkout, the dataset and the working folder have names with special characters of shells and Snakemake."""
    folder = tmp_path / "a {b} c% 'q' ü \"x\" $HOME"
    code = folder / "code"
    for name in ("rules", "envs", "config", "profiles", "spineseg"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", code)
    shutil.copytree(people, folder / "bids {x} %s")
    # a program that crashes the process that runs it
    program = tmp_path / "crash.sh"
    program.write_text("""
        case $2 in sub-01*) kill -SEGV $PPID; sleep 60;; esac
        cp "$(dirname "$1")/../../derivatives/labels/$3/anat/$2_label-SC_seg.nii.gz" "$4"
    """)
    crash = f"exec sh {program} {{image}} {{image_id}} {{subject}} {{mask}}"
    study = Study(
        folder / "work {y}",
        bids_dir=str(folder / "bids {x} %s"),
        contrasts=["T2star"],
        methods=["propseg", {"name": "crash", "command": crash}],
    )
    study.snakefile = code / "Snakefile"
    study.environment = {"PYTHONPATH": str(code)}
    printed = study.run()
    status = {(row["subject"], row["method"]): row["status"] for row in study.table("metrics.tsv")}
    assert status == {
        ("01", "propseg"): "ok",
        ("02", "propseg"): "ok",
        ("01", "crash"): "failed",
        ("02", "crash"): "ok",
    }
    end = "\n".join(printed.splitlines()[-12:])
    assert "crash failed on 1 of 2 images: sub-01_T2star (the process died on this image, twice (SIGSEGV" in end
    assert study.plan() == {}
    manifest = study.results / "chunks" / "crash" / "pilot-0001.json"
    manifest.write_text(manifest.read_text().replace("the process died on this image", KILLED))
    assert study.plan()["segment_chunk"] == 1  # alone, as after a lack of memory


# row: a method fails on more images than `max_failed` | the study stops and says why most of them failed
def test_a_study_whose_images_mostly_fail_stops_early(people, tmp_path):
    image = next(people.glob("sub-01/anat/*_T2star.nii.gz"))
    copies = [shutil.copy(image, tmp_path / f"{n:03d}.nii.gz") for n in range(60)]
    rows = [f"{copy.name[:3]}\tt2s\t{copy}" for copy in copies]
    (tmp_path / "images.tsv").write_text("\n".join(["subject\tcontrast\tpath", *rows, ""]))
    study = Study(
        tmp_path / "work",
        images=str(tmp_path / "images.tsv"),
        methods=[{"name": "broken", "command": "echo {image} {mask}; echo no licence >&2; exit 1"}],
        max_failed=0.3,
    )
    options = ("--set-scatter", "images_per_job=5", "--retries", "0")
    done = study.call(options=options)
    assert done.returncode == 1
    end = "\n".join(done.stdout.splitlines()[-16:])
    assert "failed by broken, more than the config key max_failed allows (0.3); most often" in end
    assert "no licence" in end
    finished = list((study.results / "chunks" / "broken").glob("*.json"))
    assert 4 <= len(finished) <= 5  # 20 images, and what ran beside the last of them
    study.config["max_failed"] = None
    study.run("results/tiny/tables/metrics.tsv", options=options)
    assert {row["status"] for row in study.table("metrics.tsv")} == {"failed"}


def test_kill_and_resume(people, tmp_path):
    """A killed study resumes, and its finished images are not computed again."""
    study = Study(tmp_path, bids_dir=str(people), contrasts=["T2w", "T2star"], methods=["propseg"])
    process = subprocess.Popen(
        study.command(),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (done := study.sidecars()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # snakemake and its jobs, as a reboot would
    process.wait()
    assert done, "no image was finished in five minutes"
    before = {path: path.stat().st_mtime_ns for path in study.sidecars()}
    assert not (study.results / "report.html").exists()
    study.run(options=("--unlock",))
    study.run()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (study.results / "report.html").is_file()
    assert not list(study.results.rglob(".*-tmp"))
