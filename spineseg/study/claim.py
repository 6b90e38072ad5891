"""Let one job at a time work on a chunk: after a controller was killed, a second job may start while the first runs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_S = 10.0
"""Seconds between two signs of life of the job that holds a claim."""

STALE_S = 180.0
"""Seconds without a sign of life after which the holder counts as dead: network file systems show new times up to 60 s
late, and a busy node may miss some beats."""


@contextmanager
def claimed(path: Path, *, stale_s: float = STALE_S, poll_s: float = 1.0) -> Iterator[None]:
    """Hold a claim file while working; wait for another job that holds it.

    A holder that died on this machine is noticed at once, one on another machine after `stale_s` without a sign of
    life. The method compares no clocks and needs no file locks, which cluster file systems may lack.

    Parameters
    ----------
    path : Path
        The claim file, on a file system that all jobs share.
    stale_s, poll_s : float, seconds
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    me = _identity()
    seen: tuple[object, ...] | None = None
    since = time.monotonic()
    while not _create(path, me):
        state = _state(path)
        if state != seen:
            if seen is None and state is not None:
                print(f"{path}: another job is working on this ({state[1]}); waiting", file=sys.stderr, flush=True)
            seen, since = state, time.monotonic()
        if state is not None and (_is_dead(str(state[1])) or time.monotonic() - since > stale_s):
            _remove(path, state)
            continue
        time.sleep(poll_s)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, me, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _content(path) == me:
            path.unlink(missing_ok=True)


def _identity() -> str:
    """Return a text that identifies this process among those of all machines."""
    pid = os.getpid()
    return json.dumps({"host": os.uname().nodename, "pid": pid, "start": _start(pid), "id": uuid.uuid4().hex})


def _start(pid: int) -> str:
    """Return boot, process namespace and start time of a process on this machine; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] in "ZX" else f"{boot} {os.readlink('/proc/self/ns/pid')} {fields[19]}"  # noqa: PTH115
    except OSError:
        return ""


def _is_dead(content: str) -> bool:
    """Whether the holder ran on this machine, in this boot, and is gone."""
    try:
        holder = json.loads(content)
        where, mine = holder["start"].rpartition(" ")[0], _start(os.getpid()).rpartition(" ")[0]
        return bool(where) and where == mine and holder["start"] != _start(int(holder["pid"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # it is being written, or is another program's; only its age decides then


def _create(path: Path, content: str) -> bool:
    """Create the claim file unless there is one; it appears with its whole content at once."""
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    own.write_text(content)
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links here
        try:
            with path.open("x") as stream:
                stream.write(content)
        except FileExistsError:
            return False
    finally:
        own.unlink(missing_ok=True)
    return True


def _content(path: Path) -> str | None:
    """Return a claim file's content; None if there is none."""
    try:
        return path.read_text()
    except OSError:
        return None


def _state(path: Path) -> tuple[object, ...] | None:
    """Return what changes with each sign of life, together with the content."""
    try:
        return path.stat().st_mtime_ns, path.read_text()
    except OSError:
        return None


def _remove(path: Path, state: tuple[object, ...]) -> None:
    """Remove a dead holder's claim file, unless another job was faster and holds it now."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if aside.read_text() != state[1]:
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)


def _beat(path: Path, content: str, stop: threading.Event) -> None:
    """Give signs of life until told to stop."""
    while not stop.wait(BEAT_S):
        if _content(path) == content:
            with suppress(OSError):
                os.utime(path)
