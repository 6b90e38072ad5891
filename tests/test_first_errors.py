"""The first errors of docs/start.md end as the page says: one line, exit code 2, nothing written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spineseg.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "start.md"
ROWS = re.findall(r"^\| `spineseg ([^`]+)` \| (.*?) \| .* \|$", PAGE.read_text(), re.MULTILINE)
FILES = {
    "typo.yaml": "dataset: x\nbids_dir: bids\ncontrast: [T2w]\n",
    "contrast.yaml": "dataset: x\nbids_dir: bids\ncontrasts: [T2w, T3w]\n",
    "folder.yaml": "dataset: x\nbids_dir: nowhere\n",
    "file.yaml": "dataset: x\nbids_dir: typo.yaml\n",
    "broken.yaml": "dataset: x\n  bids_dir: [bids\n",
    "list.yaml": "- dataset\n",
    "home.yaml": "dataset: x\nbids_dir: ~/bids\n",
    "good.yaml": "dataset: x\nbids_dir: bids\n",
}


@pytest.mark.parametrize(("command", "message"), ROWS, ids=[row[0] for row in ROWS])
def test_a_first_error_is_one_line_that_helps(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "bids/sub-01/anat"):
        Path(folder).mkdir(parents=True)
    Path("bids/sub-01/anat/sub-01_T2w.nii.gz").write_text("not read")
    for name, text in FILES.items():
        Path(name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    try:
        code = main(command.split())
    except SystemExit as error:
        code = error.code
    assert code == 2
    said = capsys.readouterr().err
    assert message.removesuffix(".") in said
    assert len([line for line in said.splitlines() if "error" in line]) == 1
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--configfile", "typo.yaml", "study"], "targets go before it: snakemake study --configfile FILE"),
        (
            ["-n", "--configfiles", "gone.yaml"],
            "gone.yaml: expected a configuration file after --configfile",
        ),
        (["study", "--configfile=gone.yaml"], "gone.yaml: expected a configuration file after --configfile"),
        (["study", "--configfile", "broken.yaml"], "broken.yaml, line 2: not a YAML file (mapping values"),
        (
            ["study", "--configfile", "list.yaml"],
            "list.yaml: expected keys and values, such as dataset: my-study, found",
        ),
        (["study", "--configfile", "typo.yaml", "--cores", "2"], None),
        (["--cores", "2", "study"], None),
    ],
)
def test_a_mistake_after_configfile_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    yte = pytest.importorskip("yte")
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    monkeypatch.setattr("sys.argv", ["snakemake", *words])
    profile = (PAGE.parents[1] / "profiles" / "default" / "profile.yaml").read_text()
    if message is None:
        assert yte.process_yaml(profile, require_use_yte=True)["cores"] == "all"
        return
    with pytest.raises(SystemExit) as stopped:
        yte.process_yaml(profile, require_use_yte=True)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


def test_the_page_lists_at_least_ten_errors():
    assert len(ROWS) >= 10


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("spineseg -i t2.nii.gz propseg", "options follow the command: spineseg propseg -i ..."),
        ("spineseg study -config good.yaml plan", "options follow the command: spineseg study plan -config ..."),
        ("spineseg study Plan", "expected one of init, plan, pilot, run, status, report; found 'Plan'; did you mean"),
        ("spineseg study plan good.yaml", "expected no word 'good.yaml'; give each file by its option"),
        ("spineseg study pilot good.yaml", "good.yaml: expected no word here; name a configuration by -config"),
        ("spineseg study run -n", "no option -n; options of Snakemake go after --: spineseg study run -- -n"),
        ("spineseg study run --forcerun x", "options of Snakemake go after --: spineseg study run -- --forcerun"),
        ("spineseg propseg -i a.nii.gz -c", "-c: expected a value after it, found none"),
        ("spineseg propseg -i -c t2", "-i: expected a value after it, found none"),
        ("spineseg propseg -i a.nii.gz -c t2 b.nii.gz", "expected no word 'b.nii.gz'"),
        ("spineseg propseg -i a.nii.gz -c t2 -radius wide", "-radius: expected a number, found 'wide'"),
        ("spineseg phantom people --seed 1.5", "--seed/-seed: expected a whole number, found '1.5'"),
        ("spineseg csa -i a.nii.gz -perlevel 2", "-perlevel: expected one of 0, 1; found 2"),
    ],
)
def test_a_mistyped_command_is_one_line_in_our_words(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(command.split()[1:])
    except SystemExit as error:
        code = error.code
    assert code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pilot: {n: 3}", "mine.yaml: config key 'pilot.n': no such key; 'n' stands under pilot.subjects;"),
        ("aim: change", "mine.yaml: config key 'aim': no such key; 'aim' stands under decision;"),
        ("cores: 4", "config key 'cores': no such key; processors, memory and profile are options of the command"),
        ("contrasts: [T1w]", "mine.yaml: config key 'contrasts': the dataset has no such suffix 'T1w'"),
        ("levels: C2-C3", "mine.yaml: config key 'levels': expected a list such as [C2-C3, C4-C7, C2/C3]"),
        ("excluded: [sub-77]", "'sub-77' fits no subject, session or image of the study; correct it"),
        ("subjects: {participants: 'age > 30'}", "compares '31,5' with the number 30; write decimals with a point"),
    ],
)
def test_a_mistake_in_a_configuration_names_its_file_and_what_was_meant(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image = Path("bids/sub-01/anat/sub-01_T2w.nii.gz")
    image.parent.mkdir(parents=True)
    image.write_text("not read")
    Path("bids/participants.tsv").write_text("participant_id\tage\nsub-01\t31,5\n")
    Path("mine.yaml").write_text(f"dataset: x\nbids_dir: bids\n{text}\n")
    assert main(["study", "plan", "-config", "mine.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        (["scan/IM0001"], ".", "found DICOM files; convert them to BIDS first"),
        (["t2.nii.gz"], ".", "found images outside of such folders; a dataset in another form needs a table"),
        (["sub-01/anat/t2.nii.gz"], ".", "most often: its name does not follow BIDS, such as"),
        (["sub-01/sub-01_T2w.nii.gz"], ".", "most often: in none of the folders anat, dwi, func, such as"),
        (["sub-01/anat/sub-02_T2w.nii.gz"], ".", "most often: its name is of another subject"),
        (["sub-01/anat/sub-01_T2.nii.gz"], ".", "found T2; for another suffix"),
        (
            ["sub-01/anat/sub-01_T2w.nii.gz"],
            "sub-01/anat",
            "expected a BIDS dataset with folders sub-*, found none; did",
        ),
        (["notes.txt"], ".", "found none; a dataset in another form needs a table with the columns subject"),
    ],
)
def test_a_folder_that_is_no_dataset_is_described(files, given, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = Path("data") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(128) + (b"DICM" if "IM" in name else b""))
    assert main(["study", "init", str(Path("data") / given)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not Path("study.yaml").exists()
