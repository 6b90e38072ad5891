"""Name files, and write them so that they appear only when whole."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from spineseg.errors import InputError


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` under a temporary name beside `path`, then rename.

    Raises
    ------
    InputError
        If the folder cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o666 & ~_umask())  # mkstemp makes files that only the owner can read
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; a path ending in ``.gz`` is compressed, without a time stamp."""
    content = text.encode()
    write_bytes(path, compress(content) if str(path).endswith(".gz") else content)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, with a final newline; NaN is refused because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def compress(content: bytes) -> bytes:
    """Gzip without name or time, so that equal content gives equal bytes."""
    packed = gzip.compress(content, compresslevel=6, mtime=0)
    return packed[:9] + b"\x03" + packed[10:]  # the system: Unix; from Python 3.13 on it would be "unknown"


def file_stem(path: str | Path) -> str:
    """Return the file's name without folder and without ``.nii`` or ``.nii.gz``."""
    return Path(path).name.removesuffix(".gz").removesuffix(".nii")
