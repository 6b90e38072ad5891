"""Name files, and write them so that they appear only when complete."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from spineseg.errors import InputError, OutputError, advise, one_line

TEMPORARY_NAME_BYTES = 100
"""Bytes of the file's own name that its temporary name repeats: file systems allow 255 bytes, and some are added."""

SUFFIX = ".spineseg-tmp"
_TEMPORARY_NAME = re.compile(rf"^\..+\.[A-Za-z0-9]+-[^.]+{re.escape(SUFFIX)}$")

OLD_SECONDS, STALE_SECONDS = 5.0, 7 * 86400.0
"""Age of a temporary file, s: a writer takes its lock within the first, and no file takes the second (a week) to
write."""

GZIP_HEADER = bytes.fromhex("1f8b0800000000000003")
"""Header with no name, no time and a Unix system; Python's own header differs between versions."""


_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("_waiting", default=None)
"""Temporary and final names of files that wait for the others of an `all_or_none`."""


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` as `open_whole` does."""
    with open_whole(path) as stream:
        stream.write(content)


@contextmanager
def open_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing under a temporary name beside `path`; at the end flush it to the disk, then rename.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to, the disk is full, or `path` is a folder. No file is left then.
        The error's cause is the system's OSError.
    """
    path = Path(path)
    with _temporary_beside(path) as (handle, name), os.fdopen(handle, "wb") as stream:
        with suppress(OSError):  # a file system without locks; `sweep` then uses only host and age
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
        Path(name).chmod(0o666 & ~_umask())  # mkstemp creates files that only the owner can read
        waiting = _waiting.get()
        if waiting is None:
            Path(name).replace(path)
        else:
            waiting.append((Path(name), path))


@contextmanager
def all_or_none(*outdated: Path) -> Iterator[None]:
    """Give the files that are written within this context their names together at the end, or none of them.

    Parameters
    ----------
    outdated : Path
        Files that are deleted just before, so that they are never beside newer files that they do not fit.

    Raises
    ------
    OutputError
        If one of them cannot get its name.
    """
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    try:
        yield
        for path in outdated:
            path.unlink(missing_ok=True)
        while waiting:
            name, path = waiting[0]
            name.replace(path)
            del waiting[0]
    except OSError as error:
        raise OutputError(
            f"{error.filename}: cannot be written ({error.strerror or error}); {advise(error)}"
        ) from error
    finally:
        _waiting.reset(token)
        for name, _ in waiting:
            name.unlink(missing_ok=True)


def sweep(folder: str | Path) -> int:
    """Delete the temporary files that killed runs have left in a folder, not in its sub-folders; return their number.

    Only files with names of this module are deleted, and only if nobody can be writing them. That is so if this host
    made the file, its lock is free, and it has not changed for `OLD_SECONDS`; or if it has not changed for
    `STALE_SECONDS`, whichever host made it.
    """
    swept = 0
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _TEMPORARY_NAME.search(entry.name)]
    except OSError:
        return 0
    for entry in found:
        with suppress(OSError):  # removed meanwhile, or deleting it is not allowed
            if not entry.is_file(follow_symlinks=False):
                continue
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age > STALE_SECONDS or (age > OLD_SECONDS and f".{_host()}-" in entry.name and _is_unlocked(entry.path)):
                Path(entry.path).unlink()
                swept += 1
    return swept


def _is_unlocked(path: str) -> bool:
    """Whether no process holds the lock of a file that is being written."""
    with Path(path).open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _host() -> str:
    """Return this machine's name in the form of temporary names."""
    return re.sub(r"[^A-Za-z0-9]", "", os.uname().nodename)[:20] or "host"


def check_writable(path: str | Path, *inputs: Path | None) -> None:
    """Check that a file can be written, before the work whose result it will hold, and `sweep` its folder.

    Parameters
    ----------
    path : str or Path
    inputs : Path or None
        Files that are read, and so must not be written.

    Raises
    ------
    InputError
        If `path` is a folder or one of the inputs, or its folder cannot be created or written to. The check leaves no
        file in any case.
    """
    path = Path(path)
    if path.exists() and any(one is not None and one.exists() and path.samefile(one) for one in inputs):
        raise InputError(f"{path}: is one of the files that are read; choose another name")
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file, found a folder; add a name, or use -ofolder")
    with _temporary_beside(path) as (handle, name):
        os.close(handle)
        Path(name).unlink()
        sweep(path.parent)
        raise _Undo


class _Undo(Exception):
    """Raised to leave the folders as they were."""


@contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[int, str]]:
    """Create a temporary file in `path`'s folder; on an error remove it and the folders created for it."""
    missing: list[Path] = []
    name = None
    try:
        missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        own_name = os.fsencode(path.name)[:TEMPORARY_NAME_BYTES].decode(sys.getfilesystemencoding(), "ignore")
        handle, name = tempfile.mkstemp(prefix=f".{own_name}.{_host()}-", suffix=SUFFIX, dir=path.parent)
        yield handle, name
    except BaseException as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        for folder in missing:
            with suppress(OSError):  # not created, or in use by now
                folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise OutputError(f"{path}: cannot be written ({reason}); {advise(error)}") from error
        if not isinstance(error, _Undo):
            raise


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; a path ending in ``.gz`` is compressed, without a time stamp."""
    content = text.encode(errors="backslashreplace")  # for names that are not UTF-8
    write_bytes(path, compress(content) if str(path).endswith(".gz") else content)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, with a final newline; NaN is refused because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def compress(content: bytes) -> bytes:
    """Compress by gzip without name or time, so that equal content gives equal bytes with every version of Python."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    length = (len(content) & 0xFFFFFFFF).to_bytes(4, "little")
    checksum = zlib.crc32(content).to_bytes(4, "little")
    return GZIP_HEADER + deflate.compress(content) + deflate.flush() + checksum + length


def file_stem(path: str | Path) -> str:
    """Return the file's name without folder and without ``.nii`` or ``.nii.gz``."""
    return Path(path).name.removesuffix(".gz").removesuffix(".nii")


def shell_word(path: str | Path) -> str:
    r"""Return a file's name as one word for a shell; line breaks and control codes in it are escaped.

    Examples
    --------
    >>> shell_word("a.nii"), shell_word("a b"), shell_word("it's" + chr(10))
    ('a.nii', "'a b'", "$'it\\'s\\n'")
    """
    text = str(path)
    if text.isprintable():
        return shlex.quote(text)
    text = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{one_line(text)}'"
