"""Find the people of a study on whom the shipped networks were trained: methods score too well on them."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineseg.provenance import WEIGHTS_DIR
from spineseg.studyfolder.images import StudyImage

TRAINING_IMAGES = WEIGHTS_DIR / "training_images.json"
"""File with a row for each training image: size and checksums of the uncompressed file, and what was trained on the
person. Written by benchmarks/training_images.py."""

LEARNERS = {"deepseg": "deepseg_", "propseg": "optic_"}
"""Method to the start of the names of its trained files."""

PREDICTION = "predicted_dice"

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Taught:
    """People of a study on whose images the shipped networks were trained.

    Parameters
    ----------
    by_method : dict of str to frozenset of str
        Method to subjects.
    prediction : frozenset of str
        Subjects on whom the model of the predicted Dice was fitted.
    """

    by_method: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prediction: frozenset[str] = frozenset()


def find_taught(images: Sequence[StudyImage], weights: Mapping[str, Mapping[str, str]]) -> Taught:
    """Find the people of a study on whom the shipped networks were trained, by the content of their images.

    Parameters
    ----------
    images : sequence of StudyImage
    weights : mapping
        Method to the names of the files that it read and their SHA-256; empty where that is not known. A user's own
        weights have other checksums than the shipped ones, and count as trained on other people.
    """
    by_size = {(row["bytes"], row["crc32"]): row for row in json.loads(TRAINING_IMAGES.read_text())}
    found: dict[str, set[str]] = {}
    for image in images:
        row = _find_row(Path(image.path), by_size)
        for learner in row["taught"] if row else ():
            found.setdefault(learner, set()).add(image.subject)
    shipped = _shipped_weights() if found else {}
    by_method = {
        method: frozenset(found[own])
        for method, files in weights.items()
        if (own := _own_method(method, files, shipped)) in found
    }
    return Taught(by_method, frozenset(found.get(PREDICTION, ())))


def _find_row(path: Path, known: Mapping[tuple[int, str], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of an image with the same content, whatever its name and compression; None where there is none.

    The last bytes of a gzip file are size and checksum of its content, so that only likely files are read whole.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(2) == _GZIP:
                stream.seek(-8, 2)
                crc, size = struct.unpack("<II", stream.read(8))
                row = known.get((size, f"{crc:08x}"))
                return row if row and _digest(gzip.decompress(path.read_bytes())) == row["sha256"] else None
        if path.stat().st_size not in {size for size, _ in known}:
            return None
        content = path.read_bytes()
    except (OSError, EOFError, zlib.error):  # nothing was trained on an unreadable file; segmenting reports the error
        return None
    row = known.get((len(content), f"{zlib.crc32(content):08x}"))
    return row if row and _digest(content) == row["sha256"] else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _shipped_weights() -> dict[str, str]:
    """Return the SHA-256 of each shipped weights file and the shipped method that reads it."""
    lines = (line.split() for line in (WEIGHTS_DIR / "SHA256SUMS").read_text().splitlines())
    return {digest: own for digest, name in lines for own, start in LEARNERS.items() if name.startswith(start)}


def _own_method(name: str, files: Mapping[str, str], shipped: Mapping[str, str]) -> str:
    """Return the shipped method whose weights a method read, or the method's own name where that is not known."""
    read = {shipped[digest] for digest in files.values() if digest in shipped}
    return next(iter(sorted(read)), "" if files else name)
