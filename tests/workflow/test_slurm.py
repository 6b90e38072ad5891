"""The SLURM profile on a real SLURM of one node. Skipped without slurm-wlm or without root."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from one_node_slurm import OneNodeSlurm, why_not
from run_workflow import ROOT, Study, clean_environment

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

OPTIONS = (
    *("--profile", str(ROOT / "profiles" / "slurm")),
    # a site's own settings: partition, and short waits for a short test
    *("--default-resources", "slurm_partition=main", "mem_mb=1000", "runtime=10"),
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with OneNodeSlurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def queue() -> str:
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True, timeout=30, check=True).stdout


def drawn(people: Path) -> str:
    """The command that takes the reference as the mask."""
    labels = people / "derivatives" / "labels"
    return f"cp {labels}/{{subject}}/anat/{{image_id}}_label-SC_seg.nii.gz {{mask}}"


def wait_for(path: Path, seconds: float = 300) -> str:
    """Return a file's content once there is some."""
    deadline = time.monotonic() + seconds
    while not (path.is_file() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"{path} has not appeared"
        time.sleep(0.2)
    return path.read_text()


def test_a_pilot_on_slurm(people, make_study, slurm):
    study = make_study(bids_dir=str(people), contrasts=["T2star"])
    printed = study.run("pilot", options=OPTIONS)
    assert printed.count("has been submitted with SLURM jobid") == 5  # two chunks, measures, pictures, report
    rows = study.table("metrics.tsv", "pilot")
    assert len(rows) == 4
    assert {row["status"] for row in rows} <= {"ok", "partial", "empty"}
    assert json.loads((study.results / "decision.json").read_text())["n_images"] == 2
    assert queue() == ""


# row: a SLURM job is cancelled, out of memory, or over time | submitted again with what it lacked
def test_a_job_cancelled_one_out_of_memory_and_one_over_time(people, make_study, slurm, tmp_path):
    """Each is submitted again with what it lacked, and the pilot is finished."""
    attempts, job = tmp_path / "attempts", tmp_path / "job"
    hungry = "python3 -c \"import time; held = b'1' * 1_500_000_000; time.sleep(4)\""
    methods = {
        "hungry": f"echo hungry $SLURM_JOB_ID >> {attempts}; {hungry} && {drawn(people)}",
        "slow": f"echo slow $SLURM_JOB_ID >> {attempts}; sleep 100; {drawn(people)}",
        "cancelled": f"echo cancelled $SLURM_JOB_ID >> {attempts}; test -e {job} && exec {drawn(people)};"
        f" echo $SLURM_JOB_ID > {job}; sleep 600",
    }
    study = make_study(
        bids_dir=str(people),
        contrasts=["T2star"],
        subjects=["01"],
        methods=[{"name": name, "command": command, "version": "1"} for name, command in methods.items()],
    )
    cancel = threading.Thread(target=lambda: subprocess.run(["scancel", wait_for(job).strip()], check=True))
    cancel.start()
    resources = ("segment_chunk:mem_mb=1000*attempt", "segment_chunk:runtime=3*attempt-2")  # 1 GB, 1 min, then more
    printed = study.run("pilot", options=(*OPTIONS, "--set-resources", *resources))
    cancel.join()
    assert {row["method"]: row["status"] for row in study.table("metrics.tsv", "pilot")} == dict.fromkeys(methods, "ok")
    assert printed.count("Trying to restart job") == 3
    tried = [line.split() for line in attempts.read_text().splitlines()]
    for method in methods:
        jobs = [number for name, number in tried if name == method]
        assert len(jobs) == len(set(jobs)) == 2, f"{method} was repeated inside its allocation: {tried}"
    assert queue() == ""


# row: `snakemake` is killed while its jobs continue | nothing is segmented twice
def test_after_a_killed_controller_nothing_is_segmented_twice(people, make_study, slurm, tmp_path):
    started, go = tmp_path / "started", tmp_path / "go"
    command = f"echo {{image_id}} >> {started}; while ! test -e {go}; do sleep 0.2; done; {drawn(people)}"
    study: Study = make_study(
        bids_dir=str(people), contrasts=["T2star"], methods=[{"name": "held", "command": command, "version": "1"}]
    )
    first = subprocess.Popen(
        study.command("pilot", options=OPTIONS),
        cwd=study.folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(started)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert len(queue().splitlines()) == 1  # it continues
    study.run(options=("--unlock",))
    log = study.folder / "logs" / "tiny" / "segment" / "held" / "pilot-0001.log"

    def let_go() -> None:
        deadline = time.monotonic() + 200
        while "another job is working on this" not in log.read_text(errors="replace") and time.monotonic() < deadline:
            time.sleep(0.2)
        go.touch()

    helper = threading.Thread(target=let_go)
    helper.start()
    study.run("pilot", options=OPTIONS)
    helper.join()
    assert "another job is working on this" in log.read_text(errors="replace")
    assert sorted(started.read_text().split()) == ["sub-01_T2star", "sub-02_T2star"]
    assert {row["status"] for row in study.table("metrics.tsv", "pilot")} == {"ok"}
    assert not list(study.results.rglob("*.claim"))
