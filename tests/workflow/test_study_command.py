"""``spineseg study``: from a dataset to its report, from any folder, and common mistakes."""

from __future__ import annotations

import html
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from run_workflow import ROOT, clean_environment


def study(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command in a folder, with this checkout's package."""
    return subprocess.run(
        [sys.executable, "-m", "spineseg", "study", *words],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def edit(config: Path, **keys: object) -> None:
    """Change keys of a configuration, as a person would."""
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | keys))


def test_a_study_from_its_dataset_to_its_report(people, tmp_path):
    home, elsewhere = tmp_path / "my study", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    shutil.copytree(people, home / "bids")

    done = study(home, "init", "bids")
    assert done.returncode == 0, done.stderr
    assert "2 people" in done.stdout
    assert "4 masks in derivatives/labels" in done.stdout
    config = home / "study.yaml"
    drafted = yaml.safe_load(config.read_text())
    assert drafted["bids_dir"] == "bids"  # the folder can move as a whole
    assert drafted["contrasts"] == ["T2w", "T2star"]
    assert drafted["pilot"] == {"subjects": "all"}
    edit(config, contrasts=["T2star"], override={"method": "propseg", "reason": "a test", "by": "the test"})

    plan = study(home, "plan", "-pilot").stdout
    assert "images: 2; masks: 4 (0 done, 4 to make)" in plan
    assert not (home / "results").exists()

    # from another folder
    (elsewhere / "config").mkdir()
    (elsewhere / "config" / "config.yaml").write_text("someone: else\n")
    named = ("-config", str(config))
    done = study(elsewhere, "pilot", *named, "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in elsewhere.iterdir()) == ["config"]
    assert (home / "results" / "bids" / "decision.json").is_file()
    assert "2 of 2 images segmented" in done.stderr
    said = done.stdout.splitlines()
    assert any(line.startswith("verdict: ") for line in said)
    assert f"spineseg study run -config '{config}' -cores 2" in done.stdout  # the next command, as it is typed
    page = home / "results" / "bids" / "pilot" / "qc" / "index.html"
    assert page.is_file()
    assert str(page) in done.stdout
    pilot = html.unescape((home / "results" / "bids" / "pilot" / "report.html").read_text())
    assert f"Run spineseg study run -config '{config}' to" in pilot  # not Snakemake's

    status = study(home, "status").stdout
    assert "pilot: 4 of 4 masks" in status
    assert "spineseg study run" in status

    done = study(home, "run", "-cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    report = home / "results" / "bids" / "study" / "report.html"
    assert str(report.relative_to(home)) in done.stdout
    before = report.stat().st_mtime_ns
    assert study(home, "report").returncode == 0
    assert report.stat().st_mtime_ns == before


def test_a_stopped_run_says_how_to_resume_and_a_killed_one_how_to_unlock(people, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    assert study(home, "init", str(people)).returncode == 0
    edit(home / "study.yaml", methods=[{"name": "slow", "command": "sleep 60; cp {image} {mask}"}])
    command = [sys.executable, "-m", "spineseg", "study", "pilot", "-cores", "1"]
    for kind in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            command,
            cwd=home,
            env=clean_environment() | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if tests run in the background
        )
        deadline = time.monotonic() + 200
        while not list(home.glob("logs/*/segment/*/*.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, kind)
        said, _ = process.communicate(timeout=120)
        if kind == signal.SIGINT:
            assert process.returncode == 130
            assert "Repeat the command to continue" in said
        for log in home.glob("logs/*/segment/*/*.log"):
            log.unlink()
    done = study(home, "pilot", "-cores", "1")
    assert done.returncode == 2
    assert "spineseg study pilot -cores 1 -unlock" in done.stderr.splitlines()[-1]


@pytest.fixture
def home(people, tmp_path) -> Path:
    """A folder with a configuration."""
    folder = tmp_path / "home"
    folder.mkdir()
    assert study(folder, "init", str(people)).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("keys", "words", "message"),
    [
        ({"contrast": ["T2w"]}, ("pilot",), "config key 'contrast': no such key; did you mean 'contrasts'?"),
        ({"bids_dir": "nowhere"}, ("pilot",), "config key 'bids_dir': expected a folder, found none at nowhere"),
        ({"contrasts": ["T1w"]}, ("pilot",), "config key 'contrasts': the dataset has no such suffix 'T1w'"),
        ({}, ("pilot", "-config", "mine.yaml"), "mine.yaml: expected the study's configuration, found none"),
        ({}, ("pilot", "-cores", "many"), "-cores: expected a number of processors or all, found 'many'"),
        (
            {},
            ("pilot", "-profile", "slrum"),
            "-profile slrum: expected default, slurm, or a folder with a",
        ),
        ({}, ("init", "nowhere", "-o", "x.yaml"), "nowhere: expected the folder of a BIDS dataset, found none"),
        ({}, ("init", "."), "study.yaml: exists already"),
        ({}, ("pilot", "bids"), "bids: expected no word here; name a configuration by -config"),
        ({"dataset": "old"}, ("run",), "results/old/study/lock.json: "),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(home, keys, words, message):
    edit(home / "study.yaml", **keys)
    if keys.get("dataset") == "old":  # of an older version
        (home / "results" / "old" / "study").mkdir(parents=True)
        (home / "results" / "old" / "study" / "lock.json").write_text('{"method": "propseg", "version": "0.0.1"}')
    done = study(home, *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("spineseg study: error: ")
    assert message in line
    assert not list(home.glob("results/*/images.tsv"))
