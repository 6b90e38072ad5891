"""How much memory a process may have (``ulimit -v``), how it ends when that runs out, and what it keeps once freed."""

from __future__ import annotations

import ctypes
import resource
import signal

from spineseg.errors import MachineError

SHELL_SIGNAL = 128
"""What a shell adds to the number of the signal that has ended a program."""


KEPT_BYTES = 128 << 20
"""Freed memory that a process keeps for its next arrays: more than one image of a study asks for and gives back."""

LARGE_BYTES = 32 << 20
"""Arrays from this size on are given back at once, whatever is kept; the largest size that glibc takes."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the C library keep freed memory: asking the system for it again takes 2 to 5 % of an image's time.

    Where the C library is not glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


def address_limit_mib() -> int | None:
    """Return the limit of this process's address space, MiB; None where there is none."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit >> 20


def check_address_limit(needed_mib: int, what: str) -> None:
    """Refuse a limit under which a library would hang or abort: it cannot handle a lack of memory while it loads.

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
    """Return the signal by which a process ended as it does when memory runs out; empty where it ended otherwise.

    The system kills it; under a limit of its address space, a library that cannot handle the lack may abort or crash.

    Parameters
    ----------
    code : int
        As Python and shells have it: a negative signal, or one more than 128.

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
