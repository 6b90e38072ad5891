"""Errors that the package raises; the command line turns them into one line and an exit code."""

import errno


def one_line(text: object) -> str:
    """Return a message without line breaks and control codes, which names of files may bring along."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in str(text))


class SpinesegError(Exception):
    """Base of every error raised on purpose; its message is one printable line, whatever names are in it."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


class InputError(SpinesegError):
    """A file or an option cannot be used.

    The message is one line: which file or key, what was expected, what was found, what to do.
    """


class GeometryError(InputError):
    """Two images that must share a grid do not, or a grid is unusable."""


class OutputError(InputError):
    """A file cannot be written: the disk is full, or the folder is not ours. It is no fault of an image."""


class ModelError(InputError):
    """Weights are missing, damaged, or of another format."""


MACHINE_ADVICE = {
    errno.ENOENT: "it went away meanwhile: go to a folder that exists, or bring it back",
    errno.ESTALE: "it went away meanwhile on another machine: go to a folder that exists, or bring it back",
    errno.ENOMEM: "close other programs, or use another machine",
    errno.EAGAIN: "close other programs, or raise the limit of processes (ulimit -u)",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or choose a place on another disk",
    errno.ENOSPC: "free space, or choose a place on another disk",
    errno.EDQUOT: "free space within your quota, or choose another place",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "change the permissions, or choose a place that you may use",
    errno.EPERM: "change the permissions, or choose a place that you may use",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "correct the links of the path",
    errno.ENOTDIR: "choose a path without a file in the place of a folder",
    errno.EISDIR: "give the name of a file",
}
"""What to do about errors of the machine or of a file's name, which are no fault of the program."""


def advise(error: OSError) -> str:
    """Return what to do about an error of the system."""
    return MACHINE_ADVICE.get(error.errno or 0, "choose another place")
