"""The command line: help, one-line errors, exit codes and `spineseg doctor`."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import COMMANDS, build_parser, doctor, main
from spineseg.errors import MachineError
from spineseg.methods.registry import own_method

EMPTY_DIGEST = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
"""SHA-256 of nothing, as pip writes it."""


def test_python_looks_for_no_unused_objects_when_it_ends():
    said = "atexit.register(lambda: print(gc.get_freeze_count() > 0, gc.isenabled()))"
    code = f"import atexit, gc; {said}; from spineseg.cli import main; main(['nothing']); main(['nothing'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True True"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser(command).parse_args(["-h"])
    assert caught.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"), [(["help"], "commands:"), (["help", "csa"], "usage: spineseg csa"), (["version"], "spineseg 0")]
)
def test_help_and_version_as_words(argv, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    assert words in capsys.readouterr().out


def test_no_arguments_prints_the_commands_and_exits_2(capsys):
    assert main([]) == 2
    assert "propseg" in capsys.readouterr().out


WRITING = (
    ["propseg", "-i", "x.nii", "-c", "t2"],
    ["deepseg", "-i", "x.nii", "-c", "t2"],
    ["centerline", "-i", "x.nii", "-c", "t2"],
    ["csa", "-i", "x.nii"],
    ["dice", "-i", "x.nii", "-d", "y.nii"],
    ["levels", "-i", "x.nii", "-levels", "x.json"],
    ["report", "-results", "x"],
)
LONG = "n" * 300
LONG_NAMES = (
    ["propseg", "-i", f"{LONG}.nii.gz", "-c", "t2"],
    ["centerline", "-i", f"{LONG}.nii.gz", "-c", "t2"],
    ["csa", "-i", "x.nii", "-o", f"{LONG}.csv"],
    ["dice", "-i", f"{LONG}.nii", "-d", "x.nii"],
    ["qc", "-i", f"{LONG}.nii", "-s", "x.nii", "-c", "t2"],
    ["report", "-results", LONG],
)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["segmentate"], "no command 'segmentate'"),
        (["propseg", "-i", "x.nii.gz"], "required: -c"),
        (["propseg", "-i", "x.nii.gz", "-c", "t3"], "expected one of t1, t2, t2s, dwi"),
        (["propseg", "-i", "nowhere/x.nii.gz", "-c", "t2"], "nowhere/x.nii.gz: no such file"),
        (["propseg", "-i", "a.nii", "b.nii", "-c", "t2", "-o", "c.nii"], "use -ofolder"),
        (["propseg", "-i", "a/x.nii", "b/x.nii", "-c", "t2"], "two of the images"),
        (["propseg", "-i", "x.nii", "-c", "t2", "-threads", "-3"], "-threads"),
        (["deepseg", "-i", "x.nii", "-centerline-soft"], "no option -centerline-soft; did you mean -centerline"),
        (["dice", "-i", "x.nii", "-d", "y.nii", "-output.txt"], "no option -output.txt"),
        (["dice", "-i", "x.nii", "-d", "y.nii", "-toler", "1"], "no option -toler; did you mean -tolerance"),
        (["propseg", "-i", "x.nii", "-ct2"], "no option -ct2"),
        (["centerline", "-i", "x.nii", "-c", "t2", "-ofold", "y"], "no option -ofold; did you mean -ofolder"),
        (["train", "optic", "-dat", "x"], "no option -dat; did you mean -data"),
        (["dice", "-i", "x.nii", "-d", "y.nii", "--jso"], "no option --jso; did you mean --json"),
        (["dice", "-i", "x.nii", "-d", "y\n.nii"], "x.nii: no such file"),
        *((command, "File name too long") for command in LONG_NAMES),
        *(([*command, "-o", name], "found a folder") for command in WRITING for name in (".", "/", "..", "made/")),
        *(([*command, "-o", ""], "-o: expected a value, found nothing") for command in WRITING),
        (["propseg", "-i", "", "-c", "t2"], "-i: expected a value, found nothing"),
        (["propseg", "-i", "x.nii", "-c", "dwi", "-bval", "x.bval"], "x.bval: no such b-values file"),
        (["centerline", "-i", "x.nii", "-c", "t2", "-smooth", "nan"], "-smooth: expected a finite number, found nan"),
        (["dice", "-i", "x.nii", "-d", "y.nii", "-tolerance", "inf"], "-tolerance: expected a finite number"),
        (["csa", "-i", "x.nii", "-label", "9" * 400], "-label: expected at most 2147483647, found 999999999999 ..."),
    ],
)
# row: with `test_anything_but_a_file_is_refused`
# row: an option without a value, with a number that is not finite, or with 400 digits | refused; the option is named
# row: `-output.txt`, `-centerline-soft`, `-ct2`, `-ofold` | no such option; the closest is named
def test_bad_usage_is_one_line_and_exit_2(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert words in lines[0]
    assert not list(tmp_path.iterdir())


def test_a_bad_image_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    noise = np.random.default_rng(0).normal(100, 10, (40, 40, 6)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.diag([-1, 1, 5, 1.0])), tmp_path / "noise.nii.gz")
    code = main(["propseg", "-i", "bad.nii.gz", "noise.nii.gz", "-c", "t2", "--json", "-v", "0"])
    bad, noise_result = json.loads(capsys.readouterr().out)
    assert code == 2
    assert bad["status"] == "failed"
    assert noise_result["status"] in ("ok", "partial", "empty")
    assert not (tmp_path / "bad_seg.nii.gz").exists()
    assert (tmp_path / "noise_seg.nii.gz").exists()
    sidecar = json.loads((tmp_path / "noise_seg.json").read_text())
    for key in ("Sources", "GeneratedBy", "Method", "Contrast", "Status", "Parameters", "Seconds", "PeakMB", "Device"):
        assert key in sidecar


def test_doctor_reports_versions_and_weights(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["problems"] == []
    assert facts["propseg weights"]
    assert facts["deepseg weights"]


@pytest.mark.parametrize("command", COMMANDS)
# row: with `test_bad_usage_is_one_line_and_exit_2`
def test_no_command_reads_the_rest_of_a_word_as_a_value(command, capsys):
    parser = build_parser(command)
    if parser._subparsers is not None:
        pytest.skip("its sub-commands are parsers of their own")
    short = [option for option in parser._option_string_actions if len(option) == 2 and option != "-h"]
    for option in [*short, "-h"]:
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([f"{option}zzz.txt"])
        assert caught.value.code == 2
        assert f"no option {option}zzz.txt" in capsys.readouterr().err


def test_negative_numbers_and_equal_signs_are_values():
    args = build_parser("propseg").parse_args(["-i", "x.nii", "-c=t2", "-init", "-0.5", "-d", "-3"])
    assert (args.c, args.init, args.distance_weight) == ("t2", -0.5, -3)


def run_doctor(capsys, *options):
    code = main(["doctor", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_doctor_runs_both_methods(capsys):
    code, facts = run_doctor(capsys)
    assert (code, facts["problems"]) == (0, [])
    for name in ("propseg", "deepseg"):
        assert float(facts[name].split()[1]) > 0.85


# row: a full disk, a quota, a folder that is gone or cannot be written, a `TMPDIR` that cannot be used | `spineseg
#   doctor [FOLDER ...]` names it
def test_doctor_finds_a_full_disk(capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1 << 40, used=1 << 40, free=3 << 20))
    code, facts = run_doctor(capsys)
    assert code == 2
    assert "has 3 MiB left" in facts["problems"][0]


# row: shipped weights that are missing, changed, or not listed | `spineseg doctor` names them
def test_doctor_finds_wrong_and_missing_weights(capsys, monkeypatch, tmp_path):
    from spineseg import provenance

    for file in provenance.WEIGHTS_DIR.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    wrong = tmp_path / "optic_t1.safetensors"
    wrong.write_bytes(wrong.read_bytes()[:-1] + b"x")
    (tmp_path / "quality.json").unlink()
    monkeypatch.setattr(provenance, "WEIGHTS_DIR", tmp_path)
    code, facts = run_doctor(capsys, "-quick")
    assert code == 2
    assert "weights optic_t1.safetensors are not those that were shipped: install spineseg again" in facts["problems"]
    assert "weights quality.json are missing: install spineseg again" in facts["problems"]


@pytest.mark.parametrize("text", [None, "", "gone"], ids=["missing", "empty", "other text"])
# row: with `test_doctor_finds_wrong_and_missing_weights`
def test_doctor_needs_the_list_of_weights(capsys, monkeypatch, tmp_path, text):
    from spineseg import provenance

    if text is not None:
        (tmp_path / "SHA256SUMS").write_text(text)
    monkeypatch.setattr(provenance, "WEIGHTS_DIR", tmp_path)
    assert len(doctor._check_weights({})) == 1


# row: with `test_doctor_finds_wrong_and_missing_weights`
def test_doctor_finds_weights_that_are_not_listed(monkeypatch, tmp_path):
    from spineseg import provenance

    (tmp_path / "other.safetensors").write_bytes(b"")
    (tmp_path / "SHA256SUMS").write_text("0  optic_t1.safetensors\n")
    monkeypatch.setattr(provenance, "WEIGHTS_DIR", tmp_path)
    assert len(doctor._check_weights({})) == 2


# row: with `test_doctor_finds_a_full_disk`
def test_doctor_finds_folders_that_cannot_be_used(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    place, working, further = doctor._check_places({}, [str(tmp_path / "further")])
    assert place.startswith(f"TMPDIR is {tmp_path}/none, which cannot be used")
    assert working.startswith("the working folder: cannot be written (No such file")
    assert further.startswith(f"{tmp_path}/further: cannot be written (No such file")


# row: with `test_doctor_finds_a_full_disk`
def test_doctor_finds_a_quota(monkeypatch, tmp_path):
    def refuse(*_args):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.chdir(tmp_path)
    assert "Disk quota exceeded" in doctor._check_places({}, [])[0]


@pytest.mark.parametrize("limit", [500, 700])
# row: a memory limit (`ulimit -v`) under which torch would abort or hang | one line, exit code 2; `spineseg doctor`
#   names the limit, and no library
def test_a_limit_of_memory_that_is_too_low_is_one_line(limit, monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit << 20, limit << 20))
    monkeypatch.chdir(tmp_path)
    problems = doctor.collect_facts()["problems"]
    assert len(problems) == 1
    assert f"at least, found {limit} MiB; raise it (ulimit -v)" in problems[0]
    with pytest.raises(MachineError, match=f"deepseg needs a limit of memory of 900 MiB at least, found {limit} MiB"):
        own_method("deepseg").load_adapter()
    assert own_method("propseg").load_adapter()


# row: with `test_a_library_that_does_not_load_is_one_line_and_a_bug_of_ours_is_not`
def test_doctor_compares_the_package_with_what_was_installed(monkeypatch):
    from importlib import metadata

    package = Path(doctor.__file__).parents[1]

    def entry(name, digest):
        return SimpleNamespace(locate=lambda: package / name, hash=SimpleNamespace(mode="sha256", value=digest))

    files = [entry("py.typed", EMPTY_DIGEST), entry("errors.py", EMPTY_DIGEST), entry("gone.py", EMPTY_DIGEST)]
    monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(files=files))
    changed, missing = doctor._check_own_files()
    assert changed.startswith(f"{package}/errors.py is not as it was installed")
    assert missing.startswith(f"{package}/gone.py is missing")


@pytest.mark.parametrize("name", ["numpy", "torch._C", "spineseg.volume"])
# row: a library or a part of the package that is missing or does not load | one line, exit code 2; `spineseg doctor`
#   names it
def test_a_library_that_does_not_load_is_one_line_and_a_bug_of_ours_is_not(monkeypatch, capsys, name):
    def run(_args):
        raise ImportError("libgone.so.3: no such file", name=name)

    monkeypatch.setattr("spineseg.cli.dice.run", run)
    arguments = ["dice", "-i", "a.nii.gz", "-d", "b.nii.gz"]
    if name.startswith("spineseg"):
        with pytest.raises(ImportError):
            main(arguments)
        return
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"spineseg dice: error: {name.partition('.')[0]} cannot be loaded (libgone.so.3: no such file); "
        "install spineseg again, 'spineseg doctor' checks it\n"
    )


@pytest.mark.parametrize("package", ["torch", "h5py"])
# row: with `test_a_library_that_does_not_load_is_one_line_and_a_bug_of_ours_is_not`
def test_doctor_finds_a_broken_library(capsys, monkeypatch, package):
    import importlib

    real = importlib.import_module

    def load(name, *rest):
        if name == package:
            raise ImportError("libsomething.so.3: no such file")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", load)
    code, facts = run_doctor(capsys, "-quick")
    assert code == 2
    assert facts["problems"] == [
        f"{package} does not work (ImportError: libsomething.so.3: no such file): install spineseg again"
    ]


def test_every_shipped_weight_has_its_checksum():
    from spineseg.provenance import WEIGHTS_DIR

    listed = {line.partition("  ")[2] for line in (WEIGHTS_DIR / "SHA256SUMS").read_text().splitlines()}
    assert listed == {file.name for file in WEIGHTS_DIR.iterdir() if file.suffix in (".safetensors", ".json")}


def save_mask(path: Path) -> None:
    mask = np.zeros((12, 12, 6), np.uint8)
    mask[4:8, 4:8] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([-1, 1, 5, 1.0])), path)


CLOSED = {
    "output": ("csa -i m.nii.gz >&-", 0),
    "all three": ("csa -i m.nii.gz -o m.csv <&- >&- 2>&-", 0),
    "errors to a full disk": ("csa -i none.nii.gz 2>/dev/full", 2),
    "an ASCII terminal": ("dice -i m.nii.gz -d m.nii.gz", 0),
    "a working folder that is gone": ("qc -i m.nii.gz -s m.nii.gz", 2),
}


# row: standard output or error closed, on a full disk, or in another encoding; working folder deleted | exit code 0 or
#   2, and one line if it can be shown
def test_odd_terminals(tmp_path):
    save_mask(tmp_path / "m.nii.gz")
    calls = []
    for name, (call, _) in CLOSED.items():
        away = "mkdir away && cd away && rmdir ../away && " if "gone" in name else ""
        here = call.replace("m.nii.gz", f"{tmp_path}/m.nii.gz") if away else call
        calls.append(f"({away}PYTHONIOENCODING=ascii {sys.executable} -m spineseg {here}); echo $? >> codes")
    printed = subprocess.run("\n".join(calls), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [int(code) for code in (tmp_path / "codes").read_text().split()] == [code for _, code in CLOSED.values()]
    assert "Traceback" not in printed.stderr
    assert "mm\\xb2 = 0.0000" in printed.stdout
    assert "qc: No such file or directory; it has been removed since" in printed.stderr
    assert (tmp_path / "m.csv").read_text().startswith("file,")


# row: a name that is not UTF-8, with a quality-control page | drawn
def test_a_name_that_is_not_utf_8_has_a_page(tmp_path):
    name = os.fsdecode(b"\xe9.nii.gz")
    save_mask(tmp_path / name)
    assert main(["qc", "-i", str(tmp_path / name), "-s", str(tmp_path / name), "-qc", str(tmp_path / "qc")]) == 0
    assert (tmp_path / "qc" / "index.html").is_file()
