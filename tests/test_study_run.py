"""One run at a time in a folder, and a request to stop reaches Snakemake even if only one process got it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spineseg.errors import InputError
from spineseg.study import run

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_second_run_is_refused_until_the_first_and_its_snakemake_have_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with run.hold_folder() as holder:
        assert holder is not None
        snakemake = subprocess.Popen(SLEEP, pass_fds=(holder,))
        run._name_holder(holder, snakemake)
        with pytest.raises(InputError, match=rf"another run is using this folder \(process {snakemake.pid}\)"):
            run.hold_folder().__enter__()
    with pytest.raises(InputError, match="wait until it has ended, or stop it"):  # left behind by a killed run
        run.hold_folder().__enter__()
    snakemake.kill()
    snakemake.wait()
    with run.hold_folder() as holder:
        assert holder is not None


class Interrupted:
    """Progress during which Ctrl-C reaches our process alone."""

    def __init__(self):
        self.shown = 0

    def show(self, *, is_last: bool = False) -> None:
        self.shown += 1
        if self.shown == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("said", "is_passed_on"), [("", True), ("Terminating processes on user request", False)])
def test_ctrl_c_is_passed_on_where_snakemake_did_not_get_it(said, is_passed_on, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "POLL_S", 0.1)
    monkeypatch.setattr(run, "GRACE_S", 0.2)
    log = tmp_path / "log.txt"
    log.write_text(said)
    sent = []
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])
    monkeypatch.setattr(process, "send_signal", sent.append)
    assert run._wait(process, Interrupted(), Path(log))
    assert bool(sent) == is_passed_on
    assert len(sent) <= 1
