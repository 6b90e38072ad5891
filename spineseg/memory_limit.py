"""Memory of a process: its limit (``ulimit -v``), how it ends when memory runs out, and freed memory that it keeps."""

from __future__ import annotations

import ctypes
import resource
import signal

from spineseg.errors import MachineError

SHELL_SIGNAL = 128
"""Number that a shell adds to that of the signal which ended a program."""


KEPT_BYTES = 128 << 20
"""Freed memory that a process keeps for its next arrays: more than one image of a study allocates and frees."""

LARGE_BYTES = 32 << 20
"""Size from which on arrays are returned to the system at once; the largest value that glibc accepts."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of mallopt in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the C library keep freed memory, because allocating it again takes 2 to 5 % of an image's time.

    This has no effect if the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


def address_limit_mib() -> int | None:
    """Return the limit of this process's address space, MiB; None if there is none."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit >> 20


def check_address_limit(needed_mib: int, what: str) -> None:
    """Refuse a limit under which a library would hang or abort, because it cannot handle a lack of memory at start.

    Raises
    ------
    MachineError
    """
    limit = address_limit_mib()
    if limit is not None and limit < needed_mib:
        raise MachineError(
            f"{what} needs a limit of memory of {needed_mib} MiB at least, found {limit} MiB; raise it (ulimit -v), or"
            " ask the batch system for more"
        )


def ended_for_memory(code: int) -> str:
    """Return the signal if a process ended as it does when memory runs out; empty if it ended otherwise.

    The system kills such a process. Under a limit of the address space, a library that cannot handle the lack of memory
    may also abort or crash.

    Parameters
    ----------
    code : int
        Exit code as in Python or in a shell: the negative number of the signal, or 128 plus that number.

    Examples
    --------
    >>> [ended_for_memory(code) for code in (-9, 137, 1, 0, -15)]
    ['SIGKILL', 'SIGKILL', '', '', '']
    """
    number = -code if code < 0 else code - SHELL_SIGNAL
    fatal = {signal.SIGKILL}
    if address_limit_mib() is not None:
        fatal |= {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS}
    return signal.Signals(number).name if number in fatal else ""
