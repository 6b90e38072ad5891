"""Messages during and after a run, and the README of the results folder."""

import os
import pwd
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_study import CHUNK, study_folder, study_image, write_chunk, write_decision, write_index, write_result

from spineseg.cli import main
from spineseg.study import run
from spineseg.study.configuration import make_configuration
from spineseg.study.describe import write_readme
from spineseg.study.outcome import describe_result
from spineseg.study.pace import PaceWatch
from spineseg.studyfolder.decisions import write_decision as write_decision_record
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.locks import KeptMethods, Lock, write_lock
from spineseg.writing import write_text


@pytest.fixture
def folder(tmp_path):
    return write_index(study_folder(tmp_path), [study_image(f"{n:02d}") for n in (1, 2)])


@pytest.fixture
def config(tmp_path):
    return make_configuration({"dataset": "demo", "bids_dir": str(tmp_path)})


def say(stage):
    return f"run {stage}"


def test_without_a_decision_no_verdict_is_announced(folder, config):
    assert describe_result(folder, config, Stage.PILOT, say) == []


def decide(folder, method, verdict, **more):
    words = {
        "endpoint_words": "Dice",
        "endpoint": "dice",
        "parameters": {"max_fail": 0.1, "prefer": None, "min_participants": 6},
    }
    words |= {"difference": 0.02, "margin": 0.01, "ci90": [-0.01, 0.05], "references": {"n_participants": 2}}
    document = write_decision(folder, method, verdict).document
    write_decision_record(folder.decision, {**document, **words, **more})


@pytest.mark.parametrize(
    ("method", "verdict", "basis", "words"),
    [
        ("propseg", "clear", "endpoint", ["next:    run study   (every image by propseg)"]),
        ("propseg", "undecided", "endpoint", ["next:    run study   (every image by propseg)"]),
        ("propseg", "undecided", "triage", ["compare blind", "run pilot", "or:      run study"]),
        (None, "none", "failures", ["no method is good enough"]),
    ],
)
def test_a_pilot_ends_with_verdict_pages_and_the_next_command(folder, config, method, verdict, basis, words):
    computed = {"method": method, "verdict": verdict, "basis": basis}
    decide(folder, method, verdict, computed=computed, n_images=2, best="propseg", runner_up="deepseg")
    write_text(folder.report(Stage.PILOT), "")
    lines = describe_result(folder, config, Stage.PILOT, say)
    assert lines[0].startswith("verdict: Keep ")
    assert lines[1] == f"report:  {folder.report(Stage.PILOT)}"  # the page is not there, so it is not named
    assert all(word in "\n".join(lines[2:]) for word in words)
    write_text(folder.qc(Stage.PILOT) / "index.html", "")
    assert f"look at: {folder.qc(Stage.PILOT) / 'index.html'}" in describe_result(folder, config, Stage.PILOT, say)[1]


def test_a_pilot_beside_a_started_study_changes_nothing(folder, config):
    write_lock(folder, Lock(KeptMethods("propseg"), {"propseg": config.methods["propseg"].made_by()}))
    override = {"method": "propseg", "by": "AB", "reason": "a test"}
    decide(folder, "propseg", "override", override=override, computed={"method": None})
    assert describe_result(folder, config, Stage.PILOT, say) == []  # the study's decision is not the preview's
    folder.preview.parent.mkdir()
    folder.decision.rename(folder.preview)
    assert "this was a preview" in describe_result(folder, config, Stage.PILOT, say)[-1]


@pytest.mark.parametrize(("action", "code"), [("status", 0), ("pilot", 0), ("pilot", 1)])
def test_warnings_come_before_the_verdict(folder, tmp_path, monkeypatch, capsys, action, code):
    for n in (1, 2):
        write_text(tmp_path / "bids" / f"sub-{n:02d}" / "anat" / f"sub-{n:02d}_T2w.nii.gz", "x")
    write_text(tmp_path / "study.yaml", "dataset: demo\nbids_dir: bids\n")
    write_text(folder.kept_mask(study_image("01")), "no mask")
    computed = {"method": "propseg", "verdict": "undecided", "basis": "endpoint"}
    decide(folder, "propseg", "undecided", computed=computed, n_images=2, best="propseg", runner_up="deepseg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_stage", lambda *args, **more: run.RunEnd(code))
    assert main(["study", action]) == code
    printed = capsys.readouterr()
    said = printed.err if code else printed.out
    assert "a corrected mask cannot be used" in said
    if action == "pilot" and code == 0:
        assert said.index("a corrected mask cannot be used") < said.index("verdict: ")
    if action == "status":  # if the study is locked to other code, this replaces the next command
        assert "next:    spineseg study" in said
        made_by = replace(
            make_configuration({"dataset": "demo"}).methods["propseg"].made_by(), code="of another version"
        )
        write_lock(folder, Lock(KeptMethods("propseg"), {"propseg": made_by}))
        assert main(["study", action]) == 0
        after = capsys.readouterr().out.partition("next:")[2]
        assert after.startswith("    nothing can run until this is resolved: ")
        assert "the study was started with another setup (code" in after


@pytest.mark.parametrize(
    ("prints", "code", "message"),
    [
        (
            "usage: ...\nsnakemake: error: argument --executor/-e: invalid choice: 'slurm' (choose from 'local')",
            2,
            "executor slurm: expected one that is installed, found none; snakemake_executor_plugin_slurm is not"
            " installed; pip install 'spineseg[cluster]' brings it",
        ),
        (
            "usage: ...\nsnakemake: error: argument --executor/-e: invalid choice: 'lsf' (choose from 'local')",
            2,
            "executor lsf: expected one that is installed, found none; pip install snakemake-executor-plugin-lsf",
        ),
        ("usage: ...\n__main__.py: error: unrecognized arguments: --bogus", 2, "unrecognized arguments: --bogus"),
        (
            "    message: Job submission failed with exception: invalid partition\nAt least one job failed.",
            1,
            "the cluster did not take the jobs: invalid partition",
        ),
    ],
)
def test_errors_of_snakemake_or_a_cluster_are_one_line(tmp_path, monkeypatch, capsys, prints, code, message):
    write_text(tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz", "x")
    write_text(tmp_path / "study.yaml", "dataset: demo\nbids_dir: bids\n")
    monkeypatch.chdir(tmp_path)
    fails = [sys.executable, "-c", f"print({prints!r}); raise SystemExit(1)"]
    monkeypatch.setattr(run, "snakemake_command", lambda *args: fails)
    assert main(["study", "pilot", "-v", "0"]) == code
    said = capsys.readouterr().err
    assert message in said
    assert "usage" not in said


def test_a_dry_run_shows_what_snakemake_prints_and_no_verdict(folder, tmp_path, monkeypatch, capfd):
    write_text(tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz", "x")
    write_text(tmp_path / "study.yaml", "dataset: demo\nbids_dir: bids\n")
    decide(folder, "propseg", "undecided", computed={"method": "propseg", "verdict": "undecided", "basis": "endpoint"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "snakemake_command", lambda *args: [sys.executable, "-c", "print('would run this')"])
    assert main(["study", "pilot", "--", "-n"]) == 0
    assert capfd.readouterr().out == "would run this\n"


def finish(folder, config, image, method):
    return write_result(folder, image, method, None, message="x", made_by=config.methods[method].made_by())


def test_the_rate_counts_images_finished_by_this_run(folder, config):
    images = read_images(folder.images)
    finish(folder, config, images[0], "propseg")
    write_result(folder, images[1], "propseg", None, message="made by other code")
    for path in folder.root.rglob("*.json"):
        os.utime(path, ns=(1, 1))
    watch = PaceWatch(folder, config, Stage.ALL)
    pace = watch.measure()
    assert (pace.done, pace.total, pace.steps_done, pace.steps_left) == (0, 2, 0, 3)
    assert pace.words() == "0 of 2 images segmented"
    finish(folder, config, images[0], "deepseg")
    pace = watch.measure()
    assert (pace.done, pace.steps_done, pace.steps_left) == (1, 1, 2)
    assert re.fullmatch(r"1 of 2 images segmented, \d+[.]\d a minute, about \d+ min left", pace.words())
    for method in ("propseg", "deepseg"):
        finish(folder, config, images[1], method)
    assert watch.measure().words() == "2 of 2 images segmented"


def test_an_image_is_done_when_its_sidecar_is_written(folder, config):
    made_by = config.methods["deepseg"].made_by()
    by_image = replace(made_by, parameters=dict(made_by.parameters) | {"thr": 0.45, "mirror": True})
    for image in read_images(folder.images):
        finish(folder, config, image, "propseg")
        write_result(folder, image, "deepseg", None, message="x", made_by=by_image)
    for path in folder.root.rglob("*.json"):
        os.utime(path, ns=(1, 1))
    assert PaceWatch(folder, config, Stage.ALL).measure().words() == "2 of 2 images segmented"


def test_no_rate_is_shown_before_the_first_image(tmp_path, config):
    assert PaceWatch(study_folder(tmp_path), config, Stage.PILOT).measure() is None


def test_the_readme_names_what_exists_and_nothing_else(folder, config):
    def listed():
        write_readme(folder, config, read_images(folder.images))
        lines = folder.readme.read_text().splitlines()[3:]
        return [line.split("  ")[0] for line in lines if re.match(r"[\w*/,. -]+  ", line)]

    assert listed() == ["images.tsv", "chunks/"]
    write_chunk(folder, "propseg", [], CHUNK)
    write_text(folder.report(Stage.PILOT), "")
    write_text(folder.kept(Stage.STUDY), "")
    write_decision(folder, "propseg")
    assert listed() == ["images.tsv", "decision.json, decision.md", "chunks/", "pilot/report.html", "study/tables/"]
    assert "study/tables/                kept.tsv" in folder.readme.read_text()
    assert "Every image by every method" not in folder.readme.read_text()


@pytest.mark.parametrize("home", ["", "/nonexistent", "file", "usable"])
def test_an_unusable_home_folder_is_replaced_by_a_folder_of_the_study(home, tmp_path, monkeypatch):
    """As in a container that runs as a user unknown to its system."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "usable").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / home) if home else "")
    if not home:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    found = Path(run.snakemake_environment()["HOME"])
    assert found == (tmp_path / "usable" if home == "usable" else tmp_path / ".snakemake" / "spineseg" / "home")
    assert found.is_dir()


def test_a_user_unknown_to_the_system_gets_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert "USER" not in run.snakemake_environment()
    monkeypatch.setattr(pwd, "getpwuid", lambda _: (_ for _ in ()).throw(KeyError("uid not found")))
    assert run.snakemake_environment()["USER"] == f"user{os.getuid()}"


def test_ctrl_c_while_progress_is_shown(monkeypatch, capsys):
    """Whenever Ctrl-C is pressed, the command waits for Snakemake and reports that it was stopped."""

    class Line:
        looks = 0

        def show(self, *, is_last=False):
            self.looks += 1
            if self.looks == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(run, "POLL_S", 0.05)
    line = Line()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.4)"]) as process:
        assert run._wait(process, line)
    assert process.returncode == 0
    assert line.looks > 1
    assert "stopping the jobs" in capsys.readouterr().err
