"""Errors that the package raises; the command line turns them into one line and an exit code."""


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
