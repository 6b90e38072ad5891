"""Download a public dataset: resume an interrupted download, check it, and unpack it as a whole. Only at request."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.writing import write_json

TIMEOUT_S = 30.0
"""Seconds without a byte after which the connection counts as lost; the part that was received is kept."""

BLOCK_BYTES = 1 << 18
"""Bytes that are read at a time: few enough that the progress moves on a slow connection."""

LARGEST_BYTES = 8 << 30
"""Largest archive, packed or unpacked: ten times the full tutorial dataset."""

RECORD = "download.json"
"""File in the unpacked folder with the address and the checksum of the archive."""


@dataclass(frozen=True)
class Dataset:
    """A public archive.

    Parameters
    ----------
    address : str
        Address of the zip file.
    page : str
        Page on which a person finds it if the address has changed.
    holds : str
        Description of its content.
    licence : str
    sha256 : str, optional
        Checksum as published by its makers; None if they publish none.
    """

    address: str
    page: str
    holds: str
    licence: str
    sha256: str | None = None


_SCT = "https://github.com/spinalcordtoolbox/sct_tutorial_data"

DATASETS = {
    "sct-tutorial": Dataset(
        f"{_SCT}/releases/download/r20260508/data_spinalcord-segmentation.zip",
        _SCT,
        "one person, T1w and T2w: single_subject/data/t1/t1.nii.gz and t2/t2.nii.gz",
        "MIT, (c) 2018 NeuroPoly",
    ),
    "sct-course-2020": Dataset(
        "https://osf.io/bze7v/?action=download",
        "https://spinalcordtoolbox.com",
        "one person in six contrasts and several people: single_subject, multi_subject",
        "see LICENSE.txt in it",
    ),
}
"""Name to archive. The addresses are those in SCT's documentation as of 28 November 2026; they could not be tried,
because there was no network. Their makers publish no checksum; the checksums inside the archive are verified, and its
SHA-256 is printed."""


Report = Callable[[int, int | None], None]
"""Function of the number of bytes received and, if the server states it, the total number."""


def fetch_dataset(
    name: str, folder: Path, *, address: str = "", sha256: str | None = None, report: Report | None = None
) -> Path:
    """Download and unpack a dataset.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    folder : Path
        Folder in which the dataset becomes the folder `name`.
    address : str, optional
        Address of a mirror.
    sha256 : str, optional
        Expected SHA-256 of the archive, such as that of a colleague's download.
    report : callable, optional
        Called with the progress.

    Returns
    -------
    Path
        The unpacked folder; nothing is downloaded if it exists already.

    Raises
    ------
    InputError
        If there is no such dataset or no network, the server refuses, or the file is not the archive.
    """
    if name not in DATASETS:
        raise InputError(f"expected one of {', '.join(DATASETS)}, found {name!r}")
    dataset = DATASETS[name]
    target = folder / name
    if (target / RECORD).is_file():
        return target
    if target.exists():
        raise InputError(f"{target}: expected no such folder, or one of an earlier download; name another by -o")
    address, sha256 = address or dataset.address, sha256 or dataset.sha256
    if not address.lower().startswith(("https://", "http://")):
        raise InputError(f"{address}: expected an address that begins with https://")
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"SHA-256 {sha256}: expected 64 of the characters 0-9 and a-f, found {len(sha256)}")
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}.zip.part"
    by_hand = f"or fetch the archive from {dataset.page} with a browser and unpack it"
    _fetch(address, archive, by_hand, report or (lambda done, total: None))
    found = _hash(archive)
    if sha256 and found != sha256.lower():
        _discard(archive)
        raise InputError(f"{address}: expected SHA-256 {sha256}, found {found}; it is another file: nothing was kept")
    _unpack(archive, target, {"Address": address, "SHA256": found, "Bytes": archive.stat().st_size})
    _discard(archive)
    return target


def _discard(archive: Path) -> None:
    """Delete a partly downloaded archive."""
    archive.unlink(missing_ok=True)
    _etag_file(archive).unlink(missing_ok=True)


def _fetch(address: str, archive: Path, by_hand: str, report: Report) -> None:
    """Download a file; continue an earlier try if the server still has the same file."""
    start = archive.stat().st_size if archive.is_file() else 0
    tag = _etag_file(archive).read_text() if _etag_file(archive).is_file() else ""
    headers = {"User-Agent": "spineseg"}
    if start and tag:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                _discard(archive)
                raise InputError(f"{address}: the server sent another part than asked for; repeat the command")
            start = start if goes_on else 0
            _etag_file(archive).write_text(_strong_tag(answer))
            length = answer.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            with archive.open("ab" if goes_on else "wb") as stream:
                while block := answer.read(BLOCK_BYTES):
                    stream.write(block)
                    report(stream.tell(), total)
                    if stream.tell() > LARGEST_BYTES:
                        _discard(archive)
                        raise InputError(f"{address}: sends more than {LARGEST_BYTES} bytes; it is another file")
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # the file was complete already
            return
        said = str(error.reason).partition("\n")[0]  # Python's message about an endless redirect has several lines
        raise InputError(f"{address}: the server answered {error.code} {said}; try later, {by_hand}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{address}: no connection ({reason}); check network and proxy and repeat the same command, {by_hand}"
        ) from error
    except ValueError as error:  # urllib accepts only ASCII and short host names
        raise InputError(f"{address}: expected a web address as a browser shows it when copied ({error})") from error
    size = archive.stat().st_size
    if total is not None and size != total:
        raise InputError(f"{address}: expected {total} bytes, {size} came; repeat the same command to continue")


def _strong_tag(answer: Any) -> str:
    """Return an identifier of this version of the file: a strong ETag, or its date; empty if there is neither."""
    tag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _etag_file(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.tag")


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unpack(archive: Path, target: Path, record: dict[str, Any]) -> None:
    """Unpack an archive into a folder, which appears only when complete.

    Raises
    ------
    InputError
        If it is not a zip file, is damaged, would write outside of the folder, or is far too large. The archive is
        removed.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        inside = Path(work) / "unpacked"
        try:
            with zipfile.ZipFile(archive) as stored:
                _check_members(stored, inside)
                stored.extractall(inside)  # verifies the checksum of each file
        except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeError) as error:
            _discard(archive)
            raise InputError(
                f"{record['Address']}: expected a zip file, found {error}; it was removed, repeat the command"
            ) from error
        write_json(inside / RECORD, record)
        shutil.move(inside, target)


def _check_members(stored: zipfile.ZipFile, inside: Path) -> None:
    """Raise BadZipFile for an archive that would write outside of the folder or fill the disk."""
    size = sum(member.file_size for member in stored.infolist())
    if size > LARGEST_BYTES:
        raise zipfile.BadZipFile(f"{size} bytes inside, more than {LARGEST_BYTES}")
    for member in stored.infolist():
        if not (inside / member.filename).resolve().is_relative_to(inside.resolve()):
            raise zipfile.BadZipFile(f"a file outside of it, {member.filename}")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of the origin of a downloaded folder."""
    return json.loads((folder / RECORD).read_text())
