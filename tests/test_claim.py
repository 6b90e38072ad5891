"""Claims: one job at a time works on a chunk, and a dead job blocks no other."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from spineseg.study import claim
from spineseg.study.claim import claimed


def hold(path: Path, log: Path, seconds: float) -> None:
    """Hold a claim for a while."""
    with claimed(path, poll_s=0.02):
        with log.open("a") as stream:
            stream.write("begin\n")
        time.sleep(seconds)
        with log.open("a") as stream:
            stream.write("end\n")


def start(*args) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=hold, args=args)
    process.start()
    return process


def wait_for(log: Path) -> None:
    deadline = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_process_works_and_the_others_wait(tmp_path):
    log = tmp_path / "log"
    for process in [start(tmp_path / "claim", log, 0.3) for _ in range(3)]:
        process.join()
        assert process.exitcode == 0
    assert log.read_text() == "begin\nend\n" * 3
    assert list(tmp_path.iterdir()) == [log]


def test_a_killed_holder_on_this_machine_is_noticed_at_once(tmp_path):
    path, log = tmp_path / "claim", tmp_path / "log"
    process = start(path, log, 600)
    wait_for(log)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert path.exists()
    before = time.monotonic()
    hold(path, log, 0)
    assert time.monotonic() - before < 10
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}'])
def test_a_holder_on_another_machine_loses_its_claim_when_it_goes_silent(tmp_path, content):
    path = tmp_path / "claim"
    other = {"host": "node7", "pid": os.getpid(), "start": "another-boot pid:[1] 5", "id": "x"}
    path.write_text(content or json.dumps(other))
    before = time.monotonic()
    with claimed(path, stale_s=0.5, poll_s=0.02):
        assert time.monotonic() - before >= 0.5
    assert not path.exists()


def test_a_holder_renews_its_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    path = tmp_path / "claim"
    with claimed(path):
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_claim_is_released_after_an_error(tmp_path):
    path = tmp_path / "chunks" / "claim"
    with pytest.raises(ValueError, match="no"), claimed(path):
        raise ValueError("no")
    assert list(path.parent.iterdir()) == []
