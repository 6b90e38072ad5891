"""The content of files, as checksums that are computed again only where a file has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from spineseg.provenance import sha256_file, sha256_json
from spineseg.writing import write_json

Stamp = list[int]
"""Size, time of change (ns), time of the last change of name or rights (ns), inode."""

POINTER_BYTES = 2000
"""Longest file that may stand for content elsewhere; git-annex writes about 100 bytes, Git LFS 130."""

_POINTERS = {b"/annex/objects/": "datalad get fetches it", b"version https://git-lfs": "git lfs pull fetches it"}


class FileDigests:
    """SHA-256 of files by path, kept between runs.

    Parameters
    ----------
    path : path, optional
        Where an earlier run has kept them. A missing or damaged file counts as empty: all can be computed again.
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
        """Return the SHA-256 of a file's content; an empty string for one that is not there."""
        stamp = stamp_of(path)
        if stamp is None:
            return ""
        known = self._known.get(str(path))
        if known is None or known[0] != stamp:
            try:
                known = (stamp, sha256_file(path))
            except OSError:  # gone meanwhile, or not ours to read; whoever needs it says so
                return ""
            self._known[str(path)] = known
        return known[1]

    def digest_all(self, paths: Iterable[str | Path]) -> str:
        """Return one digest of the content of several files, in their order."""
        return sha256_json([self.digest(path) for path in paths])

    def save(self, path: str | Path, keep: Iterable[str | Path]) -> None:
        """Write the checksums of the files in `keep` that are known."""
        names = dict.fromkeys(map(str, keep))
        write_json(path, {name: self._known[name] for name in names if name in self._known})


def stamp_of(path: str | Path) -> Stamp | None:
    """Return what changes when a file is replaced or written to, whatever its date; None where there is no file.

    Links are followed, so that content that comes or goes is seen.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  thousands of files: no Path for each
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def stamps_of(path: str | Path | None) -> tuple[tuple[int, ...], ...]:
    """Return the stamps of a file, or of those in a folder, by which what was read of them is kept in memory.

    Nothing for None, which stands for files that are shipped with the package.
    """
    if path is None:
        return ()
    files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [path]
    return tuple(tuple(stamp_of(file) or ()) for file in files)


def absent_content(path: str | Path) -> str:
    """Say why a file that is named has no content here, and what fetches it; an empty string where it has.

    Broken links, locked or not, and the pointers that git-annex and Git LFS leave in place of a file.
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
