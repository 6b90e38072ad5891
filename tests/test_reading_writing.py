"""Files appear complete or not at all, with the same bytes everywhere; a failed write is one line."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import tempfile
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main
from spineseg.errors import MachineError, OutputError
from spineseg.methods import segment_file
from spineseg.methods.segment_file import ImageTask
from spineseg.progress import Progress
from spineseg.study.configuration import make_configuration
from spineseg.writing import check_writable, compress, open_whole, sweep, write_bytes, write_text


def test_compressed_bytes_are_pinned():
    content = bytes(range(256)) * 100
    assert gzip.decompress(compress(content)) == content
    assert compress(content)[:10].hex() == "1f8b0800000000000003"
    assert hashlib.sha256(compress(content)).hexdigest() == (
        "5d84b47f4d09d2145e97930da3ca8903b93d16e4d7a1d3a04cc23a828b544107"
    )


@pytest.mark.parametrize("n", [0, 1, 70_000, 3_000_000])
def test_compressed_content_comes_back(n):
    content = np.random.default_rng(n).integers(0, 9, n).astype(np.uint8).tobytes()
    assert gzip.decompress(compress(content)) == content


STEPS = {"making the folder": (Path, "mkdir"), "opening": (tempfile, "mkstemp"), "flushing": (os, "fsync"),
         "rights": (Path, "chmod"), "renaming": (Path, "replace")}  # fmt: skip


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", STEPS)
# row: disk full or no permission at any step | one line; no partial file is left
def test_a_failure_at_any_step_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, step, code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*STEPS[step], fail)
    path = tmp_path / "a" / "b" / "m.nii.gz"
    with pytest.raises(OutputError) as caught:
        write_bytes(path, b"x" * 100)
    assert str(caught.value).startswith(f"{path}: cannot be written ({os.strerror(code)}); ")
    assert caught.value.__cause__.errno == code
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for owner, name in ((os, "fsync"), (Path, "replace")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, _name=name, _real=real: (calls.append(_name), _real(*a))[1])
    write_bytes(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_full_while_writing(tmp_path, monkeypatch):
    def full(**_):
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "unused")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_bytes(tmp_path / "m.json", b"x")


# row: a file exists and the new one cannot be written | the old one stays
def test_an_existing_file_stays_if_a_write_fails(tmp_path, monkeypatch):
    path = tmp_path / "m"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OutputError):
        write_bytes(path, b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_trial_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "a" / "b" / "m.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n" * 240 + ".nii.gz", "ü" * 110 + ".nii.gz"])
# row: names of 240 characters | written; an image of a study whose masks' names would be too long is left out with
#   the reason
def test_long_names_are_written(tmp_path, name):
    write_bytes(tmp_path / name, b"x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.fixture
def image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = np.random.default_rng(0).normal(100, 10, (30, 30, 5)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([-1, 1, 5, 1.0])), tmp_path / "i.nii.gz")
    nib.save(nib.Nifti1Image((data > 130).astype(np.uint8), np.diag([-1, 1, 5, 1.0])), tmp_path / "m.nii.gz")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    return "i.nii.gz"


WAYS = [["-o", "folder"], ["-o", "file/m.nii.gz"], ["-ofolder", "file"], ["-o", "/proc/spineseg/m.nii.gz"]]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
@pytest.mark.parametrize("command", ["propseg", "deepseg", "centerline"])
# row: `-o` names a folder, or a place that cannot be written | refused before an image is read
def test_an_unwritable_output_is_refused_before_the_work(image, capsys, monkeypatch, command, way):
    def fail(*_, **__):
        raise AssertionError("an image was read")

    monkeypatch.setattr(segment_file, "load_image", fail)
    monkeypatch.setattr("spineseg.volume.load_image", fail)
    assert main([command, "-i", image, "-c", "t2", *way]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert way[1].split("/")[0] in errors[0]
    assert sorted(p.name for p in Path.cwd().rglob("*")) == ["file", "folder", "i.nii.gz", "m.nii.gz"]


# row: with `test_an_unwritable_output_is_refused_before_the_work`
def test_dice_refuses_an_unwritable_output_too(image, capsys):
    assert main(["dice", "-i", "m.nii.gz", "-d", "m.nii.gz", "-o", "folder"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "folder: expected the name of a file, found a folder" in captured.err


# row: with `test_a_failure_at_any_step_is_one_line_and_leaves_nothing`
def test_a_full_disk_of_any_command_is_one_line(image, capsys, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    assert main(["propseg", "-i", image, "-c", "t2", "-v", "0"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if "No space left on device" in line]) == 1
    assert not list(Path.cwd().glob("*seg*"))


@pytest.mark.parametrize("full_from", [1, 2])
# row: disk full between mask, by-products and sidecar | one line; all files of the previous run stay
def test_a_disk_that_fills_up_leaves_the_previous_result(image, capsys, monkeypatch, full_from):
    command = ["propseg", "-i", image, "-c", "t2", "-v", "0", "-o", "r/s.nii.gz"]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in Path("r").iterdir()}
    assert {"s.nii.gz", "s.json"} == before.keys()
    real, calls = os.fsync, []

    def sometimes(handle):
        calls.append(handle)
        if len(calls) >= full_from:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", sometimes)
    assert main([*command, "-radius", "5", "-overwrite", "1"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("r").iterdir()} == before


def test_the_two_files_of_a_centerline_appear_together(image, capsys, monkeypatch):
    real, calls = os.fsync, []

    def first_alone(handle):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", first_alone)
    assert main(["centerline", "-i", "m.nii.gz", "-method", "fitseg", "-o", "r/c.nii.gz"]) == 2
    assert len(calls) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(Path("r").glob("*"))


# row: too little memory | one line, exit code 2
def test_short_memory_is_one_line(image, capsys, monkeypatch):
    monkeypatch.setattr("spineseg.volume.load_mask", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    assert main(["dice", "-i", "m.nii.gz", "-d", "m.nii.gz"]) == 2
    assert capsys.readouterr().err == (
        "spineseg dice: error: not enough memory; close other programs or use another machine\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("could not create a primitive"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        zlib.error("Error -4 while decompressing data: out of memory"),
        OSError(errno.EMFILE, "Too many open files"),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"),
    ],
    ids=["torch", "oneDNN", "thread", "loader", "zlib", "files", "temporary"],
)
# row: too little memory, reported by a library instead of Python | one line, exit code 2; a study records nothing
def test_a_shortage_of_the_machine_is_not_a_failure_of_the_image(image, capsys, monkeypatch, error):
    monkeypatch.setattr("spineseg.methods.segment_file._read_input", lambda *_: (_ for _ in ()).throw(error))
    method = make_configuration({"dataset": "x", "bids_dir": "."}).methods["propseg"].prepare()
    with pytest.raises(MachineError):
        segment_file.segment_or_explain(ImageTask(Path(image), Path("r/s.nii.gz"), "t2"), method, Progress(1))
    assert not Path("r").exists()
    assert main(["propseg", "-i", image, "-c", "t2", "-v", "0"]) == 2
    assert "Traceback" not in (errors := capsys.readouterr().err)
    assert "spineseg propseg: error: " in errors.splitlines()[-1]


# row: names with line breaks and escape codes | escaped in messages and tables
def test_names_with_line_breaks_and_codes_stay_one_line(image, capsys):
    assert main(["dice", "-i", "no\nsuch\x1b[31m.nii", "-d", "m.nii.gz"]) == 2
    assert capsys.readouterr().err == "spineseg dice: error: no\\nsuch\\x1b[31m.nii: no such file\n"


# row: temporary files of a killed run | deleted when the study continues, if the process that wrote them is gone
def test_only_temporary_files_of_killed_runs_are_deleted(tmp_path, monkeypatch):
    with open_whole(tmp_path / "live") as stream:  # its writer is still running, although the file is old
        stream.write(b"x")
        stream.flush()
        live = next(tmp_path.glob(".live*-tmp"))
        dead = tmp_path / live.name.replace("live", "dead")
        dead.write_bytes(b"x")
        other = tmp_path / re.sub(r"[.][A-Za-z0-9]+-", ".otherhost-", dead.name, count=1)
        other.write_bytes(b"x")
        ancient = tmp_path / other.name.replace("dead", "ancient")
        ancient.write_bytes(b"x")
        (tmp_path / ".mine.tmp").write_bytes(b"x")
        assert sweep(tmp_path) == 0  # too young
        old = time.time() - 60
        for file in tmp_path.iterdir():
            os.utime(file, (old, old))
        os.utime(ancient, (old - 8 * 86400, old - 8 * 86400))
        assert sweep(tmp_path) == 2
        assert {p.name for p in tmp_path.iterdir()} == {live.name, other.name, ".mine.tmp"}
    assert (tmp_path / "live").read_bytes() == b"x"
    assert sweep(tmp_path / "gone") == 0


def test_the_next_run_deletes_temporary_files(image):
    with open_whole("r/d.tsv") as stream:
        stream.write(b"x")
        stream.flush()
        left = Path("r") / next(Path("r").iterdir()).name.replace("d.tsv", "c.tsv")
        left.write_bytes(b"x")
    old = time.time() - 60
    os.utime(left, (old, old))
    assert main(["dice", "-i", "m.nii.gz", "-d", "m.nii.gz", "-o", "r/d.tsv"]) == 0
    assert [path.name for path in Path("r").iterdir()] == ["d.tsv"]


def test_rows_that_cannot_be_added_leave_the_table_whole(image, capsys, monkeypatch):
    assert main(["csa", "-i", "m.nii.gz", "-o", "t.csv", "-append", "1"]) == 0
    before = Path("t.csv").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    assert main(["csa", "-i", "m.nii.gz", "-o", "t.csv", "-append", "1"]) == 2
    assert Path("t.csv").read_bytes() == before
    assert "No space left" in capsys.readouterr().err


def test_a_label_is_named_for_csa_and_qc(image, capsys):
    data = np.zeros((30, 30, 5), np.uint8)
    data[5:15, 5:15], data[20:25, 20:25] = 1, 2
    nib.save(nib.Nifti1Image(data, np.diag([-1, 1, 5, 1.0])), "l.nii.gz")
    assert main(["csa", "-i", "l.nii.gz"]) == 2
    assert main(["csa", "-i", "l.nii.gz", "-label", "2"]) == 0
    assert main(["qc", "-i", image, "-s", "l.nii.gz", "-c", "t2", "-label", "2"]) == 0
    assert main(["qc", "-i", image, "-s", "l.nii.gz", "-c", "t2"]) == 2
    Path("bad.nii.gz").write_bytes(b"x")
    assert main(["qc", "-i", image, "-s", "l.nii.gz", "-c", "t2", "-label", "2", "-d", "bad.nii.gz"]) == 2
    assert "bad.nii.gz" in capsys.readouterr().err


# row: with `test_names_with_line_breaks_and_codes_stay_one_line`
def test_names_with_codes_are_escaped_on_terminals_and_in_tables(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "m\n\x1b[31m'b.nii.gz"
    mask = np.zeros((20, 20, 6), np.uint8)
    mask[8:12, 8:12] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([-1, 1, 4, 1.0])), name)
    assert main(["csa", "-i", name]) == 0
    assert main(["csa", "-i", name, "-o", "t.tsv"]) == 0
    assert main(["centerline", "-i", name, "-method", "fitseg"]) == 0
    assert main(["propseg", "-i", name, "-c", "t2", "-o", "o.nii.gz"]) == 0
    shown = capfd.readouterr()
    for text in (shown.out, shown.err, (tmp_path / "t.tsv").read_text()):
        assert text.replace("\n", "").replace("\t", "").isprintable()
    assert "fsleyes $'m\\n\\x1b[31m\\'b.nii.gz' -cm" in shown.out


# row: with `test_names_with_line_breaks_and_codes_stay_one_line`
def test_a_name_that_is_not_utf_8_is_escaped(tmp_path):
    write_text(tmp_path / "t", os.fsdecode(b"x\xff"))
    assert (tmp_path / "t").read_text() == "x\\udcff"
