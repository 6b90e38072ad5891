"""Checksums of files, computed again only if a file has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from spineseg.provenance import sha256_file, sha256_json
from spineseg.writing import write_json

Stamp = list[int]
"""Size, time of the last write (ns), time of the last change of name or permissions (ns), inode."""

POINTER_BYTES = 2000
"""Size up to which a file may be a pointer to content elsewhere; git-annex writes about 100 bytes, Git LFS 130."""

_POINTERS = {b"/annex/objects/": "datalad get fetches it", b"version https://git-lfs": "git lfs pull fetches it"}


class FileDigests:
    """SHA-256 of files by path, kept between runs.

    Parameters
    ----------
    path : path, optional
        File with the checksums of an earlier run. A missing or damaged file counts as empty, because all checksums can
        be computed again.
    """

    def __init__(self, path: str | Path | None = None):
        self._known: dict[str, tuple[Stamp, str]] = {}
        if path is not None:
            try:
                content = json.loads(Path(path).read_text(encoding="utf-8"))
                self._known = {name: (list(stamp), str(digest)) for name, (stamp, digest) in content.items()}
            except (OSError, ValueError, TypeError, AttributeError, RecursionError):
                pass

    def digest(self, path: str | Path) -> str:
        """Return the SHA-256 of a file's content; empty if there is no file."""
        stamp = stamp_of(path)
        if stamp is None:
            return ""
        known = self._known.get(str(path))
        if known is None or known[0] != stamp:
            try:
                known = (stamp, sha256_file(path))
            except OSError:  # removed meanwhile, or not readable; reported by the code that needs it
                return ""
            self._known[str(path)] = known
        return known[1]

    def digest_all(self, paths: Iterable[str | Path]) -> str:
        """Return one digest of the content of several files, which depends on their order."""
        return sha256_json([self.digest(path) for path in paths])

    def save(self, path: str | Path, keep: Iterable[str | Path]) -> None:
        """Write the known checksums of the files in `keep`."""
        names = dict.fromkeys(map(str, keep))
        write_json(path, {name: self._known[name] for name in names if name in self._known})


def stamp_of(path: str | Path) -> Stamp | None:
    """Return a stamp that changes when a file is replaced or written to, whatever its date; None if there is no file.

    Links are followed, so that the stamp also changes when the content behind a link appears or disappears.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  for thousands of files creating a Path each is slow
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def stamps_of(path: str | Path | None) -> tuple[tuple[int, ...], ...]:
    """Return the stamps of a file, or of the files in a folder, as keys of what was read from them into memory.

    Empty for None, which stands for files that are shipped with the package.
    """
    if path is None:
        return ()
    files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [path]
    return tuple(tuple(stamp_of(file) or ()) for file in files)


def absent_content(path: str | Path) -> str:
    """Say why a file has no content here, and how to fetch it; empty if it has content.

    This finds broken links, locked or not, and the pointers that git-annex and Git LFS leave in place of a file.
    """
    stamp = stamp_of(path)
    if stamp is None:
        if Path(path).is_symlink():
            return "broken link: its content is elsewhere (datalad get fetches it)"
        return "no such file"
    if 0 < stamp[0] <= POINTER_BYTES:
        try:
            start = Path(path).read_bytes()
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        for mark, advice in _POINTERS.items():
            if start.startswith(mark):
                return f"pointer without content: it is elsewhere ({advice})"
    return ""
