"""Errors that the package raises; the command line turns them into one line and an exit code."""

from __future__ import annotations

import errno
import os
import re


def one_line(text: object) -> str:
    """Return a message without line breaks and control codes, which file names may contain."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in str(text))


class SpinesegError(Exception):
    """Base class of every error raised on purpose. Its message is one printable line, whatever names it contains."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


class InputError(SpinesegError):
    """A file or an option cannot be used.

    The message is one line: which file or key, what was expected, what was found, what to do.
    """


class GeometryError(InputError):
    """Two images that must share a grid do not, or a grid is unusable."""


class MachineError(SpinesegError):
    """The machine is short of something, such as memory, space or open files.

    It is not an `InputError`: code that records unusable files must let it pass and record nothing.
    """


class KilledError(MachineError):
    """A process of another program ended as it does when memory runs out.

    Parameters
    ----------
    signal_name : str
        The signal that ended it.
    """

    def __init__(self, signal_name: str):
        super().__init__(f"the program was ended by {signal_name}, as when memory runs out; {NO_MEMORY}")
        self.signal_name = signal_name

    def __reduce__(self) -> tuple[type[KilledError], tuple[str]]:
        """Allow pickling, to pass it from one process to another."""
        return type(self), (self.signal_name,)


class OutputError(MachineError):
    """A file cannot be written: the disk is full, or writing to the folder is not allowed."""


class ModelError(InputError):
    """Weights are missing, damaged, or in another format."""


MACHINE_ADVICE = {
    errno.ENOENT: "it has been removed since: go to a folder that exists, or bring it back",
    errno.ESTALE: "it has been removed on another machine: go to a folder that exists, or bring it back",
    errno.ENOMEM: "close other programs, or use another machine",
    errno.EAGAIN: "close other programs, or raise the limit of processes (ulimit -u)",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or choose a place on another disk",
    errno.ENOSPC: "free space, or choose a place on another disk",
    errno.EDQUOT: "free space within your quota, or choose another place",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "change the permissions, or choose a place that you may use",
    errno.EPERM: "change the permissions, or choose a place that you may use",
    errno.EIO: "check the disk",
    errno.ETIMEDOUT: "check the disk and the network",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "correct the links of the path",
    errno.ENOTDIR: "choose a path without a file in the place of a folder",
    errno.EISDIR: "give the name of a file",
}
"""Advice on errors of the machine or of a file's name, which the program does not cause."""


SHORTAGES = frozenset(
    {
        *(errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE),
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EROFS),
    }
)
"""Errors of the system whose cause is not the file at which they occur."""

NO_MEMORY = "not enough memory; close other programs or use another machine"

NO_TEMPORARY_FOLDER = "No usable temporary directory found"
"""Python's message if the disks of all temporary folders are full."""

_SHORT_OF_MEMORY = re.compile(
    r"^MemoryError\b|can(no|')t allocate memory|out of memory|bad[_ ]alloc|failed to map segment"
    r"|can't start new thread|could not (create|execute) a primitive",
    re.IGNORECASE,
)
"""Messages of torch, oneDNN, zlib, CUDA, C++, Python and the dynamic loader about a lack of memory."""

_SHORT_OF_SPACE = re.compile("|".join(re.escape(os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT)))


def find_shortage(error: BaseException) -> MachineError | None:
    """Return an error that says what the machine is short of; None if the error has another cause."""
    if isinstance(error, SpinesegError):
        return error if isinstance(error, MachineError) else None
    if isinstance(error, MemoryError):
        return MachineError(NO_MEMORY)
    if isinstance(error, FileNotFoundError) and NO_TEMPORARY_FOLDER in str(error):
        return MachineError(f"{NO_TEMPORARY_FOLDER}; free space, or let TMPDIR name a folder with space")
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        is_short = error.errno in SHORTAGES
        return MachineError(f"{place}{error.strerror}; {advise(error)}, and repeat the command") if is_short else None
    return read_shortage(str(error))


def read_shortage(text: str) -> MachineError | None:
    """Return what the machine is short of according to a message of a library or program; None if it has another cause.

    Examples
    --------
    >>> read_shortage("cp: error writing 'a': No space left on device")
    MachineError('No space left on device; free space, or choose a place on another disk, and repeat the command')
    >>> read_shortage("CUDA out of memory. Tried to allocate 2 GiB")
    MachineError('not enough memory; close other programs or use another machine')
    >>> read_shortage("this image has no cord")
    """
    if found := _SHORT_OF_SPACE.search(text):
        return MachineError(f"{found[0]}; {MACHINE_ADVICE[errno.ENOSPC]}, and repeat the command")
    return MachineError(NO_MEMORY) if _SHORT_OF_MEMORY.search(text) else None


def advise(error: OSError) -> str:
    """Return advice on an error of the system."""
    return MACHINE_ADVICE.get(error.errno or 0, "choose another place")
