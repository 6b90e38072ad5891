"""Call `spineseg` in a new process, as a user starts it, and measure time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """Wall and CPU seconds and peak MiB of a finished process, and seconds by stage of its (only) image."""

    wall: float
    cpu: float
    peak_mib: float
    stages: dict[str, float]


def call_spineseg(arguments: list[str], sidecar: Path | None = None) -> Call:
    """Run ``spineseg ARGUMENTS``; start-up is the wall time less the stages in the sidecar."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "spineseg", *arguments, "-v", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    stages = json.loads(sidecar.read_text())["StageSeconds"] if sidecar else {}
    stages = {"start-up": wall - sum(stages.values())} | stages
    return Call(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, stages)
