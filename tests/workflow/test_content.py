"""Content decides what is recomputed: everything that depends on a change, and nothing else.

The table of docs/content.md has the jobs that this test counts; with SPINESEG_WRITE_DOCS=1 it writes the table.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from base64 import b64encode
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_workflow import ROOT, Study, read_table

PAGE = ROOT / "docs" / "content.md"
FIRST, LAST = "<!-- made by tests/workflow/test_content.py -->", "<!-- end -->"
SHOWN = {
    "segment": "images segmented",
    "measure_chunk": "chunks measured",
    "draw_chunk": "chunks drawn",
    "gather_tables": "tables gathered",
    "decide": "decision",
    "keep_masks": "masks kept",
    "tabulate_levels": "areas by level",
    "index_qc": "QC page",
    "write_report": "report",
}
OLD = 1_000_000_000  # 2001, as archives and rsync -a keep it

AFTER_MASKS = {
    *("measure_chunk", "draw_chunk", "gather_tables", "decide", "keep_masks", "tabulate_levels", "index_qc"),
    "write_report",
}


class Changes:
    """A finished study of two people, and the changes made to it one after the other."""

    def __init__(self, folder: Path, people: Path) -> None:
        self.bids = folder / "bids"
        shutil.copytree(people, self.bids)
        for name in ("sub-01", "sub-02"):
            for mask in self.bids.glob(f"derivatives/labels/{name}/anat/*_T2w_*.nii.gz"):
                shorten(mask)
            shorten(self.image(name, "T2w"))
            self.add_series(name)  # a diffusion series, for its b-values
        self.drawn = self.bids / "derivatives" / "drawn"
        shutil.copytree(self.bids / "derivatives" / "labels", self.drawn)
        # a copy of the package and the workflow, whose code the test may change
        self.code = folder / "code"
        for part in ("spineseg", "rules", "envs", "config", "profiles"):
            shutil.copytree(ROOT / part, self.code / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Snakefile", self.code)
        self.study = Study(
            folder / "work",
            bids_dir=str(self.bids),
            contrasts=["T2w", "dwi"],
            methods=[
                "propseg",
                "deepseg",
                {
                    "name": "drawn",
                    "files": "derivatives/drawn/{subject}/{session}/{datatype}/{image_id}_label-SC_seg.nii.gz",
                },
            ],
        )
        self.study.snakefile = self.code / "Snakefile"
        self.study.environment = {"PYTHONPATH": str(self.code)}
        self.rows: dict[str, dict[str, int]] = {}

    def add_series(self, subject: str) -> None:
        """Write a small diffusion series from the person's T2w: two volumes without weighting, two with."""
        source = self.image(subject, "T2w")
        image = nib.load(source)
        data = np.asarray(image.dataobj, np.float32)
        series = np.stack([data, data, data.max() - data, (data.max() - data) * 0.9], axis=-1)
        folder = self.bids / subject / "dwi"
        folder.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(series, image.affine), folder / f"{subject}_dwi.nii.gz")
        (folder / f"{subject}_dwi.bval").write_text("0 0 1000 1000\n")

    def image(self, subject: str, suffix: str) -> Path:
        return next(self.bids.glob(f"{subject}/*/{subject}_{suffix}.nii.gz"))

    def run(self, name: str) -> dict[str, int]:
        """Run the study and count what ran: images segmented by method, and jobs of every other step."""
        before = {path: path.stat().st_mtime_ns for path in self.study.sidecars()}
        printed = self.study.run()
        done: dict[str, int] = {}
        for path in self.study.sidecars():
            if before.get(path) != path.stat().st_mtime_ns:
                method = re.search("_desc-(.+?)_label", path.name)[1]
                done[method] = done.get(method, 0) + 1
        for rule in SHOWN:
            names = "gather_(?:tables|pilot)" if rule == "gather_tables" else rule  # both join tables
            if jobs := len(re.findall(rf"^\s*(?:local)?rule {names}:", printed, re.MULTILINE)):
                done[rule] = jobs
        self.rows[name] = done
        return done

    def replace(self, path: Path, change, *, old: bool) -> None:
        """Replace a file by a changed one, with an old date as from an archive, or with today's."""
        beside = path.with_name(f".{path.name}")
        beside.write_bytes(change(path.read_bytes()))
        if old:
            os.utime(beside, (OLD, OLD))
        beside.replace(path)

    def edit(self, module: str, before: str, after: str) -> None:
        """Change the code."""
        path = self.code / "spineseg" / module
        text = path.read_text()
        assert before in text, f"{module} has no {before!r} any more"
        path.write_text(text.replace(before, after, 1))

    def forget(self, name: str) -> None:
        """Delete Snakemake's record of a result."""
        record = b64encode(str(self.study.results / name).removeprefix(f"{self.study.folder}/").encode()).decode()
        (self.study.folder / ".snakemake" / "metadata" / record).unlink()

    def everything(self) -> dict[str, bytes]:
        """Content of masks, tables and decision, which is the same for the same inputs."""
        root = self.study.results
        files = [*root.glob("sub-*/**/*.nii.gz"), *root.glob("**/tables/*.ts*"), *root.glob("decision.*")]
        return {str(f.relative_to(root)): f.read_bytes() for f in files if f.name != "timings.tsv"}


def shorten(path: Path) -> None:
    """Keep the middle third of an image, to save time."""
    image = nib.load(path)
    axis = [code in "SI" for code in nib.aff2axcodes(image.affine)].index(True)
    cut = [slice(None)] * 3
    cut[axis] = slice(image.shape[axis] // 3, 2 * image.shape[axis] // 3)
    nib.save(image.slicer[tuple(cut)], path)


def darker(content: bytes) -> bytes:
    """The same image, 10 % darker in one corner."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    data = np.asarray(image.dataobj).copy()
    data[:6, :6] = data[:6, :6] // 2
    return gzip.compress(nib.Nifti1Image(data, image.affine, image.header).to_bytes())


def shorter(content: bytes) -> bytes:
    """The same mask without its lowest two slices of cord."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    data = np.asarray(image.dataobj).copy()
    axis = [code in "SI" for code in nib.aff2axcodes(image.affine)].index(True)
    filled = np.flatnonzero(data.any(axis=tuple(a for a in range(3) if a != axis)))
    np.moveaxis(data, axis, 0)[filled[:2]] = 0
    return gzip.compress(nib.Nifti1Image(data, image.affine, image.header).to_bytes())


@pytest.fixture(scope="module")
def changes(people, tmp_path_factory) -> Changes:
    return Changes(tmp_path_factory.mktemp("content"), people)


def test_content_decides_what_is_recomputed(changes):
    c = changes
    masks = dict.fromkeys(("propseg", "deepseg", "drawn"), 4)
    everything = dict.fromkeys(AFTER_MASKS, 1) | {"gather_tables": 2}
    assert c.run("the first run") == masks | everything

    # (g) nothing, and dates alone
    assert c.study.plan() == {}
    c.rows["nothing changes"] = {}
    for path in c.bids.rglob("*.nii.gz"):
        path.touch()
    assert c.run("dates change, content does not") == {}

    # (a) an image, whatever its date
    for subject, old in (("sub-01", True), ("sub-02", False)):
        c.replace(c.image(subject, "T2w"), darker, old=old)
    done = c.run("an image is replaced by an older file, another by a newer one")
    assert done == dict.fromkeys(masks, 2) | everything
    assert c.study.plan() == {}

    # (b) a reference, b-values, an existing mask
    for subject, old in (("sub-01", True), ("sub-02", False)):
        c.replace(next(c.bids.glob(f"derivatives/labels/{subject}/anat/*_T2w_label-SC_seg.nii.gz")), shorter, old=old)
    assert c.run("two references, likewise") == everything
    for subject, old in (("sub-01", True), ("sub-02", False)):
        c.replace(next(c.bids.glob(f"{subject}/dwi/*.bval")), lambda _: b"0 1000 1000 1000\n", old=old)
    assert c.run("two files of b-values, likewise") == dict.fromkeys(masks, 2) | everything
    for subject, old in (("sub-01", True), ("sub-02", False)):
        c.replace(next(c.drawn.glob(f"{subject}/anat/*_T2w_label-SC_seg.nii.gz")), shorter, old=old)
    assert c.run("two existing masks, likewise") == {"drawn": 2} | everything

    # (d) options and weights
    c.study.config["methods"][1] = {"name": "deepseg", "method": "deepseg", "options": {"thr": 0.6}}
    assert c.run("an option of deepseg changes") == {"deepseg": 4} | everything
    weights = c.code / "spineseg" / "weights"
    shutil.copy(weights / "optic_t2s.safetensors", weights / "optic_t2.safetensors")
    assert c.run("weights of propseg change")["propseg"] == 4

    # (e) a person is added, leaves, comes back
    shutil.copytree(c.bids / "sub-02", c.bids / "sub-03")
    for path in sorted((c.bids / "sub-03").rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.replace("sub-02", "sub-03")))
    new = {"propseg": 2, "deepseg": 2, "drawn": 2}
    assert c.run("a person is added") == new | everything
    with_three = c.everything()
    shutil.move(c.bids / "sub-03", c.bids.parent / "away")
    assert c.run("a person leaves") == everything
    assert c.everything() != with_three
    shutil.move(c.bids.parent / "away", c.bids / "sub-03")
    assert c.run("that person comes back") == everything
    assert c.everything() == with_three

    # (f) content that is elsewhere
    image = c.image("sub-03", "T2w")
    away = c.bids / ".git" / "annex" / image.name
    away.parent.mkdir(parents=True)
    content = image.read_bytes()
    image.write_bytes(b"/annex/objects/MD5E-s123--0123456789abcdef.nii.gz\n")  # unlocked, not fetched
    assert c.run("an image becomes a pointer without content") == everything
    reasons = {row["image_id"]: row["reason"] for row in read_table(c.study.results / "images.tsv")}
    assert "pointer without content" in reasons["sub-03_T2w"]
    image.unlink()
    image.symlink_to(away)
    assert "segment" not in c.run("the pointer becomes a broken link")
    away.write_bytes(content)
    assert c.run("annexed content arrives") == everything
    assert c.everything() == with_three


def test_changed_code_reaches_what_it_computes_and_nothing_else(changes):
    c = changes
    everything = AFTER_MASKS
    c.edit("propseg/refine.py", "ALPHA = ", "ALPHA = 2 * ")
    done = c.run("a constant in propseg changes")
    assert (done["propseg"], done.get("deepseg"), done.get("drawn")) == (6, None, None)
    assert set(done) - {"propseg"} == everything

    c.edit("deepseg/cleanup.py", "\nimport numpy as np\n", "\nimport numpy as np\n\nADDED = 1\n")
    done = c.run("code of deepseg changes")
    assert (done.get("propseg"), done["deepseg"], done.get("drawn")) == (None, 6, None)

    c.edit("metrics/intrinsic.py", "SPIKE_SD = 4.0", "SPIKE_SD = 5.0")
    assert set(c.run("a constant in the metrics changes")) == everything

    c.edit("report/page.py", "N_WORST = 8", "N_WORST = 9")
    c.forget("figures")  # as after a version whose rule did not declare them: Snakemake then compares no parameters
    assert c.run("a constant in the report changes") == {"write_report": 1}

    c.edit("report/mosaics.py", "CROP_MM = 44.0", "CROP_MM = 45.0")
    assert set(c.run("a constant in the pictures changes")) == {"draw_chunk", "index_qc", "write_report"}

    c.edit("propseg/refine.py", "from __future__", "# a comment\nfrom __future__")
    assert c.study.plan() == {}
    c.rows["a comment in propseg changes"] = {}


def test_the_page_shows_the_observed_jobs(changes):
    methods = ("propseg", "deepseg", "drawn")
    head = ["what changes", *(f"images by {m}" for m in methods), *list(SHOWN.values())[1:]]
    lines = [head, ["---"] * len(head)]
    for name, done in changes.rows.items():
        lines.append([name, *(str(done.get(key, "-")) for key in (*methods, *list(SHOWN)[1:]))])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text = PAGE.read_text() if PAGE.is_file() else f"{FIRST}\n{LAST}\n"
    start, rest = text.split(FIRST)
    wanted = f"{start}{FIRST}\n{table}\n{LAST}{rest.split(LAST)[1]}"
    if os.environ.get("SPINESEG_WRITE_DOCS"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "docs/content.md shows other numbers; SPINESEG_WRITE_DOCS=1 writes it"


def test_the_same_inputs_give_the_same_bytes(people, tmp_path):
    """Other numbers of cores, other chunks, a busy machine, another order of finishing."""
    found = []
    for name, options in (("one", ("--set-scatter", "images_per_job=1", "--cores", "1")), ("two", ())):
        study = Study(tmp_path / name, bids_dir=str(people), contrasts=["T2w", "T2star"])
        busy = [
            os.posix_spawn("/bin/sh", ["sh", "-c", "while :; do :; done"], os.environ)
            for _ in range(2 * (name == "one"))
        ]
        try:
            study.run(options=options)
        finally:
            for pid in busy:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
        files = [*study.results.glob("sub-*/**/*.nii.gz"), *study.results.glob("**/tables/*.ts*")]
        files += [study.results / name for name in ("decision.json", "decision.md", "images.tsv")]
        found.append({str(f.relative_to(study.results)): f.read_bytes() for f in files if f.name != "timings.tsv"})
        assert "seconds" not in (study.results / "decision.json").read_text()
    assert found[0] == found[1]
