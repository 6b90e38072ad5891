"""Declared methods: existing masks and programs, which are checked and read."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from made_study import CHUNK, study_folder, study_image, write_index
from nibabel import orientations

from spineseg.cli import main
from spineseg.errors import InputError, MachineError
from spineseg.methods.declared import check_declared
from spineseg.methods.external import run_program
from spineseg.methods.placeholders import check_command, fill_command
from spineseg.provenance import sha256_file
from spineseg.study.configuration import StudyConfig, make_configuration
from spineseg.study.index import index_images
from spineseg.study.segment import segment_chunk
from spineseg.study.sources import check_sources
from spineseg.studyfolder.manifests import read_manifest, read_timings
from spineseg.studyfolder.sidecars import read_sidecar
from spineseg.volume import load_image
from spineseg.writing import compress

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
SUBJECTS = ("01", "02")
FILES = {"name": "sct", "files": "derivatives/sct/{subject}/anat/{image_id}_seg.nii.gz"}


def disc(radius: float = 8) -> np.ndarray:
    i, j, _ = np.indices((40, 44, 10))
    return (np.hypot(i - 19.5, j - 21.5) < radius).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def bids(tmp_path):
    for subject in SUBJECTS:
        save(tmp_path / "bids" / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz", 100 + 50 * disc())
    return tmp_path / "bids"


def configure(bids, method, **keys) -> StudyConfig:
    methods = ["propseg", *(method if isinstance(method, list) else [method])]
    return make_configuration({"dataset": "x", "bids_dir": str(bids), "methods": methods} | keys)


def mask_path(bids, subject="01") -> Path:
    return bids / "derivatives" / "sct" / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w_seg.nii.gz"


def make_index(tmp_path, bids):
    images = [
        study_image(subject, path=str(bids / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz"))
        for subject in SUBJECTS
    ]
    return write_index(study_folder(tmp_path, "x"), images), images


def segment(tmp_path, bids, method, threads=1) -> dict[str, Any]:
    """By subject: manifest entry, timing, content of the mask, sidecar and its path."""
    folder, images = make_index(tmp_path, bids)
    prepared = configure(bids, method).methods[method["name"]].prepare(threads=threads)
    manifest, timings = segment_chunk(folder, prepared, CHUNK)
    found = {}
    for entry, timing, image in zip(manifest.images, timings, images, strict=True):
        values = vars(entry) | {"seconds": timing.seconds, "peak_mb": timing.peak_mb}
        values["data"] = entry.mask and np.asanyarray(nib.Nifti1Image.from_filename(folder.inside(entry.mask)).dataobj)
        values["path"] = folder.mask(image, method["name"])
        values["json"] = read_sidecar(values["path"])
        found[image.subject] = values
    return found


def test_existing_masks_become_results_and_a_missing_one_a_failure(tmp_path, bids):
    save(mask_path(bids), disc().astype(np.uint8))
    entries = segment(tmp_path, bids, FILES | {"version": "6.5"})
    np.testing.assert_array_equal(entries["01"]["data"], disc())
    assert entries["01"]["data"].dtype == np.uint8
    assert entries["01"]["status"] == "ok"
    assert entries["01"]["seconds"] is None
    sidecar = entries["01"]["json"]
    assert sidecar.sources == (str(bids / "sub-01" / "anat" / "sub-01_T2w.nii.gz"), str(mask_path(bids)))
    assert sidecar.maker == "6.5"
    assert sidecar.to_json()["GeneratedBy"][1] == {"Name": "sct", "Version": "6.5"}
    assert (sidecar.method, sidecar.status) == ("sct", "ok")
    assert entries["02"]["status"] == "failed"
    assert "expected the mask of sub-02_T2w.nii.gz, found no such file" in entries["02"]["message"]


def test_a_mask_with_other_axes_is_turned_to_the_image(tmp_path, bids):
    flip = orientations.axcodes2ornt(("P", "S", "R"))
    turn = orientations.ornt_transform(orientations.io_orientation(AFFINE), flip)
    mask = disc()
    mask[:10] = 0  # so that a flip is noticed
    turned = orientations.apply_orientation(mask, turn)
    save(mask_path(bids), turned, AFFINE @ orientations.inv_ornt_aff(turn, mask.shape))
    entry = segment(tmp_path, bids, FILES)["01"]
    np.testing.assert_array_equal(entry["data"], mask)
    assert "other axes" in entry["warnings"][0]


@pytest.mark.parametrize(
    ("mask", "affine", "status", "message"),
    [
        (disc()[:-1], AFFINE, "failed", r"expected the image's grid (40, 44, 10), found (39, 44, 10)"),
        (disc(), AFFINE + np.eye(4, k=3), "failed", "affine, found one that is off by up to 2 voxels"),
        (disc() * 0, AFFINE, "empty", "the mask holds no cord"),
        (np.maximum(disc() * 0.6, disc(4)), AFFINE, "ok", "is a soft mask; cut at 0.5"),
        (disc() * 0.6, AFFINE, "failed", "expected a mask of 0 and 1, found 0 and 0.6"),
        (
            disc() + disc(4),
            AFFINE,
            "failed",
            "expected a mask with one label, found the labels 1, 2; save the cord's alone, or name it",
        ),
        (disc() * 255, AFFINE, "ok", ""),
        (disc() * 37.5, AFFINE, "failed", "is it an image?"),
        (np.indices((40, 44, 10))[0].astype(np.float32), AFFINE, "failed", "found 40 values from 0 to 39"),
    ],
)
def test_allowed_and_refused_values_of_a_mask(tmp_path, bids, mask, affine, status, message):
    save(mask_path(bids), mask.astype(np.float32), affine)
    entry = segment(tmp_path, bids, FILES)["01"]
    assert entry["status"] == status
    assert message in " ".join([entry["message"], *entry["warnings"]])
    if status == "ok":
        np.testing.assert_array_equal(entry["data"], disc())


def test_a_changed_mask_is_read_again_whatever_its_date_and_others_are_not(tmp_path, bids):
    for subject in SUBJECTS:
        save(mask_path(bids, subject), disc())
    first = segment(tmp_path, bids, FILES)
    times = {s: e["path"].with_name(e["path"].name).stat().st_mtime_ns for s, e in first.items()}
    older = mask_path(bids, "02").stat().st_mtime_ns - 10**15
    save(mask_path(bids, "02"), disc(7))
    os.utime(mask_path(bids, "02"), ns=(older, older))
    again = segment(tmp_path, bids, FILES)
    np.testing.assert_array_equal(again["02"]["data"], disc(7))
    assert again["01"]["path"].stat().st_mtime_ns == times["01"]


def test_a_mask_added_later_is_read_and_a_removed_one_is_a_failure(tmp_path, bids):
    save(mask_path(bids), disc())
    assert segment(tmp_path, bids, FILES)["02"]["status"] == "failed"
    save(mask_path(bids, "02"), disc())
    assert segment(tmp_path, bids, FILES)["02"]["status"] == "ok"
    mask_path(bids, "02").unlink()
    gone = segment(tmp_path, bids, FILES)["02"]
    assert gone["status"] == "failed"
    assert not gone["path"].exists()


# row: an image or mask without permission to read it | failed, with the reason; processed once it can be read
def test_an_unreadable_file_fails_its_image_only(tmp_path, bids, monkeypatch):
    for subject in SUBJECTS:
        save(mask_path(bids, subject), disc())

    def open_others(path):
        if "sub-01" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return sha256_file(path)

    def load_others(path, **options):
        open_others(path)
        return load_image(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("spineseg.study.segment.sha256_file", open_others)
        patch.setattr("spineseg.methods.segment_file.load_image", load_others)
        before = segment(tmp_path, bids, FILES)
    assert [before[subject]["status"] for subject in SUBJECTS] == ["failed", "ok"]
    assert "Permission denied" in before["01"]["message"]
    assert segment(tmp_path, bids, FILES)["01"]["status"] == "ok"


TOOL = """
import sys, os, nibabel as nib, numpy as np
source, target, threads = sys.argv[1:4]
image = nib.load(source)
print("working", os.environ["OMP_NUM_THREADS"], threads)
if "sub-02" in source:
    print("\\x1b[31mcannot go on: no cord here\\x1b[0m\\n", file=sys.stderr)
    sys.exit(3)
nib.save(nib.Nifti1Image((np.asarray(image.dataobj) > 120).astype(np.uint8), image.affine), target)
"""


def tool(tmp_path, text=TOOL) -> str:
    path = tmp_path / "a tool.py"
    path.write_text(text)
    return f"{sys.executable} '{path}'"


def test_a_program_is_run_on_each_image(tmp_path, bids, capfd):
    method = {"name": "mine", "command": tool(tmp_path) + " {image} {mask} {threads}"}
    entries = segment(tmp_path, bids, method, threads=2)
    np.testing.assert_array_equal(entries["01"]["data"], disc())
    assert entries["01"]["seconds"] > 0
    assert entries["01"]["peak_mb"] > 10
    assert entries["02"]["status"] == "failed"
    assert entries["02"]["message"] == "exit code 3: cannot go on: no cord here"
    assert "working 2 2" in capfd.readouterr().err
    assert not list((tmp_path / "results").rglob("*.txt"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sleep 30; echo {image} {mask}", "took longer than 0.01 min and was ended"),
        ("true {image} {mask}", "wrote no mask"),
        ("cp {image} {folder}/a.nii.gz; cp {image} {folder}/b.nii.gz", "found 2 images (a.nii.gz, b.nii.gz)"),
        ("cp {image} {mask}", "is it an image?"),
        ("echo hello > {mask}; : {image}", "sub-01_T2w_seg.nii.gz: expected a NIfTI image, found another"),
    ],
)
def test_a_failing_program_fails_its_image_only(tmp_path, bids, command, message):
    entries = segment(tmp_path, bids, {"name": "mine", "command": command, "timeout": 0.01})
    assert {entry["status"] for entry in entries.values()} == {"failed"}
    assert message in entries["01"]["message"]
    assert "spineseg-" not in entries["01"]["message"]  # a random name
    assert not list((tmp_path / "results").rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("last_words", "advice"),
    [
        ("cp: error writing 'a': No space left on device", "free space"),
        ("OSError: [Errno 122] Disk quota exceeded", "free space"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "not enough memory"),
        ("MemoryError", "not enough memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "not enough memory"),
    ],
)
# row: a program that reports a full disk or too little memory | its chunk stops; nothing is recorded for the image
def test_a_program_short_of_disk_or_memory_fails_no_image(tmp_path, bids, last_words, advice):
    command = tool(tmp_path, f"import sys; sys.exit({last_words!r})") + " {image} {mask}"
    with pytest.raises(MachineError, match=rf"^sub-01_T2w.nii.gz: .*{advice}"):
        segment(tmp_path, bids, {"name": "mine", "command": command})
    assert not list((tmp_path / "results").rglob("sub-*"))


def test_a_program_may_name_its_mask_itself(tmp_path, bids):
    text = TOOL.replace("target, threads", "folder, threads").replace(
        "image.affine), target", "image.affine), folder + '/out.nii'"
    )
    method = {"name": "mine", "command": tool(tmp_path, text) + " {image} {folder} 1"}
    np.testing.assert_array_equal(segment(tmp_path, bids, method)["01"]["data"], disc())


# row: with `test_several_labels_are_refused_unless_one_is_named`
def test_the_cord_of_a_mask_with_several_labels_is_named(tmp_path, bids):
    two = TOOL.replace(
        "nib.save(", "mask = 4 * (np.asarray(image.dataobj) > 120).astype(np.uint8)\nmask[0, 0, 0] = 7\nnib.save("
    )
    two = two.replace(
        "(np.asarray(image.dataobj) > 120).astype(np.uint8), image.affine), target", "mask, image.affine), target"
    )
    program = {"name": "mine", "command": tool(tmp_path, two) + " {image} {mask} 1"}
    assert "found the labels 4, 7" in segment(tmp_path, bids, program)["01"]["message"]
    np.testing.assert_array_equal(segment(tmp_path, bids, program | {"label": 4})["01"]["data"], disc())
    entry = segment(tmp_path, bids, program | {"label": 5})["01"]
    assert "expected the label 5, found 4, 7" in entry["message"]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "a"}, "'methods.1': 'a' is none of propseg, deepseg; say where its masks come from"),
        ({"name": "a", "fils": "x"}, "config key 'methods.1.fils': no such key; did you mean 'files'"),
        ({"name": "a", "files": "x", "command": "y"}, "expected one of files, command, method; found files and"),
        ({"name": "a", "files": "x/{subjct}"}, "no placeholder {subjct}; did you mean 'subject'"),
        ({"name": "a", "files": "x/{subject"}, "expected placeholders such as {subject}"),
        ({"name": "a", "files": "x.nii.gz"}, "expected a path with {image_id} or {subject}"),
        ({"name": "a", "files": "x/{image_id}.nii.gz"}, "expected masks of the study's images such as"),
        ({"name": "a", "files": "x/{image_id}", "timeout": 3}, "timeout': has no meaning beside files"),
        ({"name": "a", "command": "true {image}"}, "expected {image} and {mask} (or {folder}) in the command"),
        ({"name": "a", "command": "no-such-tool -i {image} -o {mask}"}, "no program 'no-such-tool' was found"),
        (
            {"name": "a", "command": "true '{image} {mask}"},
            "expected placeholders as separate words",
        ),
        ({"name": "a", "command": "true {image} {mask}", "timeout": 0}, "'methods.1.timeout': expected minutes"),
        ({"name": "a/b", "files": "x/{image_id}"}, "'methods.1.name': expected a name of letters"),
        ({"name": "reference", "files": "x/{image_id}"}, "'reference' means something else"),
        ({"name": "both-bad", "files": "x/{image_id}"}, "'both-bad' means something else"),
        ({"name": "deepseg", "files": "x/{image_id}"}, "deepseg is a method of spineseg"),
        ({"name": "PropSeg", "method": "propseg"}, "a second method is named PropSeg"),
        (
            {"name": "d", "method": "deepseg", "options": {"tresh": 0.4}},
            "deepseg: no such option 'tresh'; expected one of",
        ),
        (
            {"name": "d", "method": "deepseg", "options": {"thr": "low"}},
            "'thr': expected a number or null, found",
        ),
        ({"name": "d", "method": "deepseg", "options": {"thr": 4}}, "expected a number between 0 and 1"),
        ({"name": "d", "method": "deepseg", "options": {"weights": "gone.h5"}}, "gone.h5: no such weights"),
        ({"name": "p", "method": "propseg", "options": {"CSF": 1}}, "'CSF': expected true or false, found 1"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(bids, method, message):
    with pytest.raises(InputError) as caught:
        index_images(configure(bids, method), 10)
    assert message in str(caught.value)
    assert "config key 'methods.1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_declarations_pass(bids):
    save(mask_path(bids), disc())
    others = [
        FILES,
        {"name": "mine", "command": "export A=1 && true {image} {mask}", "timeout": 5, "version": "1.0"},
        {"name": "low", "method": "deepseg", "options": {"thr": 0.4}},
        {"name": "wide", "method": "propseg", "options": {"max-area": 150, "radius": 5, "d": 2}},
    ]
    config = configure(bids, others, override={"method": "sct", "reason": "r", "by": "me"})
    check_sources(config)
    images, _ = index_images(config, 10)
    check_declared(config.methods, images)
    check_declared(config.methods, None)
    assert list(config.methods) == ["propseg", "sct", "mine", "low", "wide"]
    prepared = config.methods["wide"].prepare()
    parameters = prepared.made_by.parameters
    assert (prepared.name, parameters["max_area_mm2"], parameters["distance_weight"]) == ("wide", 150, 2)
    assert config.methods["mine"].prepare(threads=3).threads == 3
    with pytest.raises(InputError, match="expected one of methods, found 'sc'; did you mean 'sct'"):
        configure(bids, others, override={"method": "sc", "reason": "r", "by": "me"})


@pytest.mark.parametrize("change", [{"excluded": {"sub-01": "withdrew"}}, {"subjects": ["02"]}])
def test_people_with_all_masks_of_a_method_may_leave_a_started_study(bids, change):
    """A path that was valid stays valid, a wrong one is reported, and no study starts without any mask."""
    save(mask_path(bids), disc())
    pilot = frozenset({"sub-01_T2w"})
    images, _ = index_images(configure(bids, FILES, **change), 10, frozen=pilot)
    assert [image.image_id for image in images if image.included] == ["sub-02_T2w"]
    with pytest.raises(InputError, match=r"found only of images left out, such as sub-01_T2w: (exclude|subj)"):
        index_images(configure(bids, FILES, **change), 10)
    mask_path(bids).unlink()
    with pytest.raises(InputError, match=r"expected masks of the study's images such as .*sub-02_T2w.*, found none"):
        index_images(configure(bids, FILES, **change), 10, frozen=pilot)


def test_a_method_changes_with_its_command_version_and_files(bids):
    def made_by(**keys):
        return configure(bids, {"name": "d"} | keys).methods["d"].made_by()

    def changes(before, after):
        return made_by(**before).changes_to(made_by(**after))

    own, command = {"method": "deepseg"}, {"command": "a {image} {mask}"}
    assert changes(own, own | {"options": {"thr": 0.4}}) == ["thr null, now 0.4"]
    assert changes(command | {"version": "1"}, command | {"version": "2"}) == ['version "1", now "2"']
    assert changes(command | {"timeout": 1}, command | {"timeout": 2}) == []
    assert changes(own, {"method": "propseg"})[0].startswith("code ")


def test_the_command_writes_manifest_and_timings_by_the_configuration_in_the_folder(tmp_path, bids):
    save(mask_path(bids), disc())
    folder, _ = make_index(tmp_path, bids)
    text = str({"dataset": "x", "bids_dir": str(bids), "methods": [FILES]})
    folder.configuration.write_text(text.replace("'", '"'))
    assert main(["segment", "-results", str(folder.root), "-method", "sct", "-chunk", CHUNK]) == 0
    manifest = read_manifest(folder.manifest("sct", CHUNK))
    assert [entry.status for entry in manifest.images] == ["ok", "failed"]
    assert (manifest.dataset, manifest.method, manifest.chunk) == ("x", "sct", CHUNK)
    assert manifest.made_by == configure(bids, FILES).methods["sct"].made_by()
    assert [timing.seconds for timing in read_timings(folder.chunk_timings("sct", CHUNK))] == [None, None]


HOSTILE = [
    "x;touch pwned;.nii.gz", "$(touch pwned).nii.gz", "`touch pwned`.nii.gz", "a'b;touch pwned;'.nii.gz",
    'a"b;touch pwned;".nii.gz', "a\\\\';touch pwned;'.nii.gz", "a b\tc.nii.gz",
    "-rf.nii.gz", "a\n touch pwned\n.nii.gz",
    "${IFS}touch${IFS}pwned|&.nii.gz", "*.nii.gz", "~.nii.gz", "#.nii.gz", "a\udcff.nii.gz", "\x1b[31m.nii.gz",
]  # fmt: skip


@pytest.mark.parametrize("template", ["cp {image} {mask}", "cp -- $(printf %s {image}) {mask} || cp {image} {mask}",
                                      "f() { cp \"$1\" \"$2\"; }; f {image} {mask}", "cat < {image} > {mask}",
                                      "x={image}; cp \"$x\" {mask}", "bash -c 'cp \"$0\" \"$1\"' {image} {mask}",
                                      "cp {image} {folder}/{stem}.nii.gz"])  # fmt: skip
@pytest.mark.parametrize("name", HOSTILE)
# row: a file name as a program's argument | never read as a command; placeholders in quotes are refused
def test_a_file_name_is_never_a_command(tmp_path, monkeypatch, name, template):
    if "$1" in template:  # braces of the shell
        template = template.replace("f() {", "f() {{").replace("; };", "; }};")
    monkeypatch.chdir(tmp_path)
    content = nib.Nifti1Image(disc().astype(np.uint8), AFFINE).to_bytes()
    Path("in").mkdir()
    try:
        Path("in", name).write_bytes(compress(content))
    except (OSError, UnicodeEncodeError):
        pytest.skip("a file system without such names")
    check_command(template)
    command, variables = fill_command(
        template, {"image": f"in/{name}", "mask": "out.nii.gz", "folder": ".", "stem": Path(name).name[:-7]}
    )
    try:
        run_program(command, variables, 60, 1, tmp_path / "log")
    except InputError:
        assert template.startswith("cp {image} {folder}") or "printf" in template
    assert not list(tmp_path.rglob("pwned"))
    assert list(tmp_path.glob("*.nii.gz")), "the mask has arrived"


@pytest.mark.parametrize(
    "command",
    [
        "tool '{image}' {mask}", 'tool "{image}" {mask}', "tool `basename {image}` {mask}", "tool $'{image}' {mask}",
        'tool "$(basename {image})" {mask}', "cat <<EOF\n{image} {mask}\nEOF", "tool \\{image} {mask}",
        "tool ${image} {mask}", "tool {mask} # {image}", "echo $(({image} + 1)) {mask}",
        "bash -c tool\\ {image} {mask}", "sh -lc {image} {mask}", "eval tool {image} {mask}",
        "echo ${{x:-{image}}} {mask}", 'bash -c "tool {image} {mask}"',
        "trap {stem} EXIT; tool {image} {mask}", "ssh host tool {image} {mask}", "sudo su -c {stem} x; tool {mask}",
        "A=1 /usr/bin/perl -we {stem} {mask}", "python3 -c {stem} {mask}", "awk {stem} a; tool {mask}",
        "sed -n -e {stem} {mask}", "[[ {stem} -eq 1 ]]; tool {mask}", "if [ -v {stem} ]; then tool {mask}; fi",
        "tool {mask}; let {stem}", "declare {stem}=1; tool {mask}", "source {image} && tool {mask}",
        "echo {image} | xargs -I% sh -c 'tool %'; tool {mask}", "(. {image}); tool {mask}",
    ],
)  # fmt: skip
# row: with `test_a_file_name_is_never_a_command`
def test_placeholders_that_a_shell_would_read_are_refused(bids, command):
    with pytest.raises(InputError) as caught:
        configure(bids, {"name": "a", "command": command})
    assert "config key 'methods.1.command': expected " in str(caught.value)
    assert "\n" not in str(caught.value)
