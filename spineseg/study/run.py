"""Run the workflow for a stage of a study: Snakemake in a separate process, its progress on one line."""

from __future__ import annotations

import getpass
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from spineseg.errors import InputError
from spineseg.extras import advise_extra
from spineseg.study.configuration import StudyConfig
from spineseg.study.pace import PaceWatch
from spineseg.study.workflow_files import find_profile, workflow_folder
from spineseg.studyfolder.layout import Stage, StudyFolder

POLL_S = 2.0
"""Between two looks at a terminal's progress; looking for 10 000 files takes 0.1 s."""

LINE_S = 60.0
"""Between two lines of progress where nobody watches a terminal."""

STEPS = re.compile(r"(\d+) of (\d+) steps \(")
"""As Snakemake counts its jobs."""

LOCKED = "LockException"
"""What Snakemake says in a folder that another run has locked, or one that was killed."""

OWN_LOG = "snakemake.txt"
"""All that Snakemake printed, in the dataset's folder of logs; no .log, for those are the jobs'."""

USAGE = re.compile(r"\S+: error: (.+)")
"""The last line that Snakemake prints where it does not understand its options, after pages of them."""

EXECUTOR = re.compile(r"argument --executor/-e: invalid choice: '([\w-]+)'")
"""Said of a profile whose executor is not installed."""

SUBMISSION = re.compile(r"Job submission failed with exception: (.+)")
"""Said of a job that a cluster did not take; the job's own log is empty then."""

DRY_RUN = frozenset(("-n", "--dry-run", "--dryrun"))
"""Options of Snakemake that only print what would run."""

LAST_LINES = 12
"""Of Snakemake's output, shown where it stopped for a reason that no job's log tells."""


@dataclass(frozen=True)
class RunOptions:
    """How a stage is run.

    Parameters
    ----------
    config_file : Path
        The process runs in its folder.
    cores : str
        A number or ``all``; empty leaves it to the profile.
    profile : str
        Name or path; empty takes the default profile.
    extra : tuple of str
        More options for Snakemake.
    """

    config_file: Path
    cores: str = ""
    profile: str = ""
    extra: tuple[str, ...] = ()


def snakemake_command(stage: Stage, options: RunOptions) -> list[str]:
    """Return the command that runs a stage, by the Python of this process.

    Raises
    ------
    InputError
        If Snakemake is not installed, or there is no such profile.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise InputError(advise_extra("snakemake"))
    command = [sys.executable, "-m", "snakemake", str(stage), "--snakefile", str(workflow_folder() / "Snakefile")]
    # this file alone: not the default one of a workflow in whose folder it happens to lie
    command += ["--configfile", str(options.config_file), "--replace-workflow-config"]
    if options.profile:
        command += ["--profile", str(find_profile(options.profile, options.config_file.parent))]
        command += ["--workflow-profile", "none"]
    if options.cores:
        command += ["--cores", options.cores]
    return [*command, *options.extra]


def snakemake_environment() -> dict[str, str]:
    """Return Snakemake's environment, with a home and a user's name where there is none, as in a container.

    Snakemake and its jobs keep settings and what can be computed again below the home; its log names the user.
    """
    environment = dict(os.environ)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the system does not know the number of this user
        environment["USER"] = f"user{os.getuid()}"
    try:
        is_usable = os.access(Path.home(), os.W_OK | os.X_OK)
    except RuntimeError:  # no HOME, and no entry among the users of the system
        is_usable = False
    if not is_usable:
        home = (Path(".snakemake") / "spineseg" / "home").resolve()
        home.mkdir(parents=True, exist_ok=True)
        environment["HOME"] = str(home)
    return environment


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Parameters
    ----------
    code : int
        That of Snakemake.
    is_locked : bool
        The folder is locked by another run, or by one that was killed.
    is_stopped : bool
        A person has stopped it.
    last_lines : tuple of str
        The end of what Snakemake printed.
    refusal : str
        Why a cluster did not take a job; empty where it took all.
    """

    code: int
    is_locked: bool = False
    is_stopped: bool = False
    last_lines: tuple[str, ...] = ()
    refusal: str = ""


def run_stage(
    stage: Stage, options: RunOptions, folder: StudyFolder, config: StudyConfig, *, verbosity: int = 1
) -> RunEnd:
    """Run a stage, showing images done, rate and time left.

    Parameters
    ----------
    stage : Stage
    options : RunOptions
    folder : StudyFolder
    config : StudyConfig
    verbosity : {0, 1, 2}
        0 shows nothing, 2 what Snakemake prints.

    Raises
    ------
    InputError
        If Snakemake is not installed, or there is no such profile, executor or option.
    """
    log = Path("logs") / config.dataset / OWN_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    command = snakemake_command(stage, options)
    if verbosity == 2:
        with _passing_on_signals() as child:
            child.append(process := subprocess.Popen(command, env=snakemake_environment()))
            is_stopped = _wait(process, None)
        return RunEnd(process.returncode, is_stopped=is_stopped)
    with log.open("w", encoding="utf-8") as output, _passing_on_signals() as child:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=snakemake_environment())
        child.append(process)
        is_stopped = _wait(
            process, ProgressLine(PaceWatch(folder, config, stage), log, sys.stderr) if verbosity else None
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    _check_usage(lines[-1] if process.returncode and lines else "")
    refusals = SUBMISSION.findall(text)
    last = tuple(lines[-LAST_LINES:])
    return RunEnd(process.returncode, LOCKED in text, is_stopped, last, refusals[-1] if refusals else "")


def _check_usage(last_line: str) -> None:
    """Refuse what Snakemake refuses among its options, from the command line or from a profile.

    Raises
    ------
    InputError
    """
    if not (said := USAGE.fullmatch(last_line)):
        return
    if executor := EXECUTOR.match(said[1]):
        plugin = f"snakemake-executor-plugin-{executor[1]}"
        advice = advise_extra(plugin.replace("-", "_")) or f"pip install {plugin}"
        raise InputError(f"executor {executor[1]}: expected one that is installed, found none; {advice}")
    raise InputError(f"Snakemake does not take its options (those after --, or of the profile): {said[1]}")


def unlock(stage: Stage, options: RunOptions) -> None:
    """Free the folder that a killed run has left locked.

    Raises
    ------
    InputError
        If Snakemake cannot.
    """
    command = [*snakemake_command(stage, options), "--unlock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=snakemake_environment())
    if done.returncode:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise InputError(f"{Path.cwd()}: cannot be unlocked: {' '.join(last)}")


class ProgressLine:
    """Images done, rate, time left and jobs: one line that changes on a terminal, a line a minute elsewhere."""

    def __init__(self, watch: PaceWatch, log: Path, stream: TextIO):
        self._watch, self._log, self._stream = watch, log, stream
        self._read = 0
        self._jobs: tuple[int, int] | None = None
        self._shown = (0.0, "")

    def show(self, *, is_last: bool = False) -> None:
        """Look at the files and print."""
        text = self.text()
        if self._stream.isatty():
            print(f"\r\033[K{text}", end="\n" if is_last else "", file=self._stream, flush=True)
            return
        when, shown = self._shown
        if text != shown and (is_last or time.monotonic() - when >= LINE_S):
            print(text, file=self._stream, flush=True)
            self._shown = (time.monotonic(), text)

    def text(self) -> str:
        """Return the line."""
        pace, jobs = self._watch.measure(), self._read_jobs()
        parts = ["looking at the dataset" if pace is None else pace.words()]
        if pace and not pace.steps_left and not (jobs and jobs[0] == jobs[1]):
            parts.append("measuring and drawing")
        return ", ".join(parts + ([f"jobs {jobs[0]}/{jobs[1]}"] if jobs else []))

    def _read_jobs(self) -> tuple[int, int] | None:
        """Return how many jobs are done, and of how many, as Snakemake last said."""
        with self._log.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(self._read)
            for found in STEPS.finditer(stream.read()):
                self._jobs = (int(found[1]), int(found[2]))
            self._read = stream.tell()
        return self._jobs


def _wait(process: subprocess.Popen[bytes], line: ProgressLine | None) -> bool:
    """Wait for Snakemake to end, showing progress; return whether a person has stopped it."""
    is_stopped = False
    while True:
        try:
            if _has_ended(process):
                break
            if line:
                line.show()
        except KeyboardInterrupt:  # while waiting or looking; Snakemake gets it too, and ends its jobs
            is_stopped = True
            print("\nstopping the jobs", file=sys.stderr, flush=True)
    if line:
        line.show(is_last=True)
    return is_stopped


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait for a while; return whether a process has ended."""
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _passing_on_signals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Pass a request to end on to Snakemake, so that it is not left behind."""
    children: list[subprocess.Popen[bytes]] = []

    def end(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield children
    finally:
        signal.signal(signal.SIGTERM, before)
