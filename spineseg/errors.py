"""Errors that the package raises; the command line turns them into one line and an exit code."""


class SpinesegError(Exception):
    """Base of every error raised on purpose; its message is one printable line, whatever names are in it."""

    def __init__(self, message: object = ""):
        text = " ".join(str(message).split("\n"))
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


class InputError(SpinesegError):
    """A file or an option cannot be used.

    The message is one line: which file or key, what was expected, what was found, what to do.
    """


class GeometryError(InputError):
    """Two images that must share a grid do not, or a grid is unusable."""


class ModelError(InputError):
    """Weights are missing, damaged, or of another format."""
