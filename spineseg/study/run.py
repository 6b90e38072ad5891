"""Run the workflow for a stage of a study: Snakemake in a separate process, its progress on one line."""

from __future__ import annotations

import fcntl
import getpass
import importlib.util
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
"""Seconds between two updates of the progress on a terminal; looking for 10 000 files takes 0.1 s."""

LINE_S = 60.0
"""Seconds between two lines of progress if the output is not a terminal."""

STEPS = re.compile(r"(\d+) of (\d+) steps \(")
"""Pattern of Snakemake's count of jobs."""

LOCKED = "LockException"
"""Word in Snakemake's message about a folder that another run, or a killed one, has locked."""

OWN_LOG = "snakemake.txt"
"""File with Snakemake's whole output, in the dataset's folder of logs; not .log, because those are the jobs' logs."""

USAGE = re.compile(r"\S+: error: (.+)")
"""Last line that Snakemake prints if it does not understand its options, after pages of help."""

EXECUTOR = re.compile(r"argument --executor/-e: invalid choice: '([\w-]+)'")
"""Message about a profile whose executor is not installed."""

SUBMISSION = re.compile(r"Job submission failed with exception: (.+)")
"""Message about a job that a cluster did not accept; the job's own log is then empty."""

STOPPING = re.compile("on user request|Will exit after finishing")
"""What Snakemake prints when it was told to stop."""

GRACE_S = 5.0
"""Time for Snakemake to notice Ctrl-C by itself: a terminal sends it to both, ``kill -INT`` only to one process."""

HOLDER = Path(".snakemake") / "spineseg" / "holder"
"""File that a run locks, in the configuration's folder; it names the run's process."""

DRY_RUN = frozenset(("-n", "--dry-run", "--dryrun"))
"""Options of Snakemake that only print what would run."""

LAST_LINES = 12
"""Lines of Snakemake's output that are shown if it stopped for a reason that is in no job's log."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run of a stage.

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
    """Return the command that runs a stage with the Python of this process.

    Raises
    ------
    InputError
        If Snakemake is not installed, or there is no such profile.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise InputError(advise_extra("snakemake"))
    command = [sys.executable, "-m", "snakemake", str(stage), "--snakefile", str(workflow_folder() / "Snakefile")]
    # only this file, not the default one if it is in the folder of a workflow
    command += ["--configfile", str(options.config_file), "--replace-workflow-config"]
    if options.profile:
        command += ["--profile", str(find_profile(options.profile, options.config_file.parent))]
        command += ["--workflow-profile", "none"]
    if options.cores:
        command += ["--cores", options.cores]
    return [*command, *options.extra]


def snakemake_environment() -> dict[str, str]:
    """Return Snakemake's environment variables, with a home and a user name if there is none, as in a container.

    Snakemake and its jobs keep settings and caches below the home; its log names the user.
    """
    environment = dict(os.environ)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the system does not know the id of this user
        environment["USER"] = f"user{os.getuid()}"
    try:
        is_usable = os.access(Path.home(), os.W_OK | os.X_OK)
    except RuntimeError:  # no HOME, and the user is not known to the system
        is_usable = False
    if not is_usable:
        home = (Path(".snakemake") / "spineseg" / "home").resolve()
        home.mkdir(parents=True, exist_ok=True)
        environment["HOME"] = str(home)
    return environment


@contextmanager
def hold_folder() -> Iterator[int | None]:
    """Hold the current folder for one run, until the run and its Snakemake have ended.

    Snakemake has a lock of its own, but that also remains after a crash and does not tell the two cases apart.

    Yields
    ------
    descriptor : int or None
        To be inherited by Snakemake; None on a file system without locks.

    Raises
    ------
    InputError
        If another run on this machine holds the folder.
    """
    with ExitStack() as stack:
        descriptor = None
        try:
            HOLDER.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(HOLDER.open("a+", encoding="utf-8"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            descriptor = stream.fileno()
        except BlockingIOError as error:
            stream.seek(0)
            raise InputError(
                f"{Path.cwd()}: another run is using this folder ({stream.read()[:40].strip() or 'just started'});"
                " wait until it has ended, or stop it"
            ) from error
        except OSError:  # whoever writes next reports a folder that cannot be written to
            pass
        yield descriptor


def _name_holder(descriptor: int | None, process: subprocess.Popen[bytes]) -> None:
    """Write the process of a run into the file that it holds."""
    if descriptor is not None:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {process.pid}".encode())


@dataclass(frozen=True)
class RunEnd:
    """The end of a run.

    Parameters
    ----------
    code : int
        Exit code of Snakemake.
    is_locked : bool
        Whether the folder is locked by another run, or by one that was killed.
    is_stopped : bool
        Whether a person has stopped it.
    last_lines : tuple of str
        The last lines that Snakemake printed.
    refusal : str
        Why a cluster did not accept a job; empty if it accepted all.
    """

    code: int
    is_locked: bool = False
    is_stopped: bool = False
    last_lines: tuple[str, ...] = ()
    refusal: str = ""


def run_stage(
    stage: Stage,
    options: RunOptions,
    folder: StudyFolder,
    config: StudyConfig,
    *,
    verbosity: int = 1,
    holder: int | None = None,
) -> RunEnd:
    """Run a stage, showing images done, rate and time left.

    Parameters
    ----------
    stage : Stage
    options : RunOptions
    folder : StudyFolder
    config : StudyConfig
    verbosity : {0, 1, 2}
        0 shows nothing, 1 the progress, 2 the output of Snakemake.
    holder : int, optional
        From `hold_folder`.

    Raises
    ------
    InputError
        If Snakemake is not installed, or there is no such profile, executor or option.
    """
    log = Path("logs") / config.dataset / OWN_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    command = snakemake_command(stage, options)
    kept = () if holder is None else (holder,)
    if verbosity == 2:
        with _passing_on_signals() as child:
            child.append(process := subprocess.Popen(command, env=snakemake_environment(), pass_fds=kept))
            _name_holder(holder, process)
            is_stopped = _wait(process, None)
        return RunEnd(process.returncode, is_stopped=is_stopped)
    with log.open("w", encoding="utf-8") as output, _passing_on_signals() as child:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=snakemake_environment(), pass_fds=kept
        )
        child.append(process)
        _name_holder(holder, process)
        is_stopped = _wait(
            process, ProgressLine(PaceWatch(folder, config, stage), log, sys.stderr) if verbosity else None, log
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    _check_usage(lines[-1] if process.returncode and lines else "")
    refusals = SUBMISSION.findall(text)
    last = tuple(lines[-LAST_LINES:])
    return RunEnd(process.returncode, LOCKED in text, is_stopped, last, refusals[-1] if refusals else "")


def _check_usage(last_line: str) -> None:
    """Refuse options that Snakemake refuses, from the command line or from a profile.

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
    """Unlock the folder that a killed run has left locked.

    Raises
    ------
    InputError
        If Snakemake cannot unlock it.
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
        """Check the files and print the line."""
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
        """Return Snakemake's last count of finished jobs and of all jobs."""
        with self._log.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(self._read)
            for found in STEPS.finditer(stream.read()):
                self._jobs = (int(found[1]), int(found[2]))
            self._read = stream.tell()
        return self._jobs


def _wait(process: subprocess.Popen[bytes], line: ProgressLine | None, log: Path | None = None) -> bool:
    """Wait for Snakemake to end and show the progress; return whether a person has stopped it."""
    is_stopped = False
    pass_on_at = math.inf
    while True:
        try:
            if _has_ended(process):
                break
            if line:
                line.show()
            if log and time.monotonic() >= pass_on_at:
                pass_on_at = math.inf
                if not STOPPING.search(log.read_text(encoding="utf-8", errors="replace")):
                    process.send_signal(signal.SIGINT)
        except KeyboardInterrupt:  # from a terminal Snakemake gets it too, and ends its jobs
            is_stopped, pass_on_at = True, time.monotonic() + GRACE_S
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
    """Pass signals to end on to Snakemake, so that it does not continue alone."""
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
