"""The SLURM profile on a real SLURM of one node. Skipped where there is no slurm-wlm, or no root."""

import json
import subprocess

import pytest
from one_node_slurm import OneNodeSlurm, why_not
from run_workflow import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with OneNodeSlurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def test_a_pilot_on_slurm(people, make_study, slurm):
    study = make_study(bids_dir=str(people), contrasts=["T2star"])
    options = (
        *("--profile", str(ROOT / "profiles" / "slurm")),
        # a site's own settings: partition, and short waits for a short test
        *("--default-resources", "slurm_partition=main", "mem_mb=1000", "runtime=10"),
        *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
    )
    printed = study.run("pilot", options=options)
    assert printed.count("has been submitted with SLURM jobid") == 3  # two methods' chunk and its measures
    rows = study.table("metrics.tsv", "pilot")
    assert len(rows) == 4
    assert {row["status"] for row in rows} <= {"ok", "partial", "empty"}
    assert json.loads((study.results / "decision.json").read_text())["n_images"] == 2
    queue = subprocess.run(["squeue", "-h"], capture_output=True, text=True, timeout=30, check=True)
    assert queue.stdout == ""
